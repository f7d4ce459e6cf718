//! Multipart uploads: making an object from parts, and leaving nothing behind when that fails.
//!
//! Each upload carries a random mark in the object's metadata. When the answer to its completion is lost, the mark
//! on the stored object shows whether the upload was completed.

use super::body::Reading;
use super::connection::S3Connection;
use super::failure::{S3Error, failed};
use super::head::{MARK, look};
use super::locator::S3Locator;
use super::parts::{self, Limits, MAX_COPY_BYTES, MAX_PARTS, Origin, Part, Span};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

const STORE: &str = "store";

/// An object that is being made.
#[derive(Clone)]
pub(super) struct Making {
    pub connection: S3Connection,
    pub object: S3Locator,
    pub content_type: Option<String>,
    pub origins: Arc<[Origin]>,
    /// For [`Origin::File`].
    pub file: Option<Arc<File>>,
}

impl Making {
    /// Makes the object and answers its size, which is that of the origins.
    pub async fn run(self) -> Result<u64, S3Error> {
        let options = self.connection.options();
        let mut limits = Limits {
            part: options.part_bytes,
            can_copy: self.connection.can_copy(),
            max_copy: options.single_copy_bytes.clamp(2 * parts::MIN_PART_BYTES, MAX_COPY_BYTES),
            max_parts: MAX_PARTS,
        };
        self.check_unread().await?;
        match self.attempt(&limits).await {
            Err(S3Error::Unsupported { operation, object }) if limits.can_copy => {
                tracing::warn!(%object, operation, "the server copies no parts: bytes are moved instead");
                self.connection.copies_not();
                limits.can_copy = false;
                self.attempt(&limits).await
            }
            made => made,
        }
    }

    fn total(&self) -> u64 {
        self.origins.iter().map(Origin::bytes).sum()
    }

    /// Objects that may not be read on the way are looked at, so that a missing or damaged one is noticed.
    async fn check_unread(&self) -> Result<(), S3Error> {
        let can_copy = self.connection.can_copy();
        let unread: Vec<(S3Locator, u64)> = self
            .origins
            .iter()
            .filter_map(|origin| match origin {
                Origin::Object { from, bytes } if *bytes == 0 || (can_copy && *bytes >= parts::MIN_PART_BYTES) => {
                    Some((from.clone(), *bytes))
                }
                _ => None,
            })
            .collect();
        let connection = &self.connection;
        stream::iter(unread.into_iter().map(Ok))
            .try_for_each_concurrent(connection.options().parallel, |(from, bytes)| async move {
                let found = look(connection, &from, None).await?.bytes;
                if found == bytes { Ok(()) } else { Err(wrong_size(&from, found, bytes)) }
            })
            .await
    }

    async fn attempt(&self, limits: &Limits) -> Result<u64, S3Error> {
        let parts = parts::plan(&self.origins, limits);
        let is_small = matches!(parts.as_slice(), [] | [Part::Send(_)]);
        if is_small {
            let spans = match parts.into_iter().next() {
                Some(Part::Send(spans)) => spans,
                _ => Vec::new(),
            };
            let bytes = self.clone().gather(spans).await?;
            let size = bytes.len() as u64;
            put(&self.connection, &self.object, bytes, self.content_type.as_deref()).await?;
            return Ok(size);
        }
        let mark = Uuid::new_v4().simple().to_string();
        let upload = Upload::begin(&self.connection, &self.object, self.content_type.as_deref(), &mark).await?;
        match self.fill(&upload, parts).await {
            Ok(parts) => upload.finish(parts, self.total(), &mark).await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn fill(&self, upload: &Upload, parts: Vec<Part>) -> Result<Vec<CompletedPart>, S3Error> {
        // Each part owns what it needs, so that the future is free of borrowed lifetimes.
        let jobs = (1i32..).zip(parts).map(|(number, part)| {
            let (making, id) = (self.clone(), upload.id.clone());
            async move { Box::pin(making.part(id, number, part)).await }
        });
        let all: Vec<_> = jobs.collect();
        stream::iter(all).buffered(self.connection.options().parallel).try_collect().await
    }

    async fn part(self, upload: String, number: i32, part: Part) -> Result<CompletedPart, S3Error> {
        let etag = match part {
            Part::Copy(span) => self.copy(upload, number, span).await?,
            Part::Send(spans) => {
                let bytes = self.clone().gather(spans).await?;
                let request = self.connection.client().upload_part().bucket(&self.object.bucket).key(&self.object.key);
                let request = request.upload_id(upload).part_number(number).body(ByteStream::from(bytes));
                request.send().await.map_err(storing(STORE, &self.object, "there is no such upload"))?.e_tag
            }
        };
        Ok(CompletedPart::builder().part_number(number).set_e_tag(etag).build())
    }

    async fn copy(&self, upload: String, number: i32, span: Span) -> Result<Option<String>, S3Error> {
        let Some(Origin::Object { from, bytes }) = self.origins.get(span.origin) else {
            return Err(S3Error::other(STORE, &self.object, "a part without an origin"));
        };
        let request = self.connection.client().upload_part_copy().bucket(&self.object.bucket).key(&self.object.key);
        let mut request = request.upload_id(upload).part_number(number).copy_source(from.encoded());
        if span.len < *bytes {
            let last = span.offset + span.len.saturating_sub(1);
            request = request.copy_source_range(format!("bytes={}-{last}", span.offset));
        }
        let sent = request.customize().config_override(self.connection.slow()).send().await;
        let answer = sent.map_err(failed("copy", from))?;
        Ok(answer.copy_part_result.and_then(|result| result.e_tag))
    }

    /// The bytes of a part.
    async fn gather(self, spans: Vec<Span>) -> Result<Bytes, S3Error> {
        let mut whole = BytesMut::new();
        let num = spans.len();
        for span in spans {
            let bytes = match self.origins.get(span.origin) {
                Some(Origin::Bytes(bytes)) => slice(bytes, &span),
                Some(Origin::Object { from, bytes }) => {
                    let mut reading = Reading::new(&self.connection, from, span.offset, span.offset + span.len);
                    let read = reading.all().await?;
                    if let Some(found) = reading.total().filter(|total| total != bytes) {
                        return Err(wrong_size(from, found, *bytes));
                    }
                    read
                }
                Some(Origin::File { .. }) => self.read_file(&span).await?,
                None => Bytes::new(),
            };
            if bytes.len() as u64 != span.len {
                let why = format!("{} bytes where {} were expected", bytes.len(), span.len);
                return Err(S3Error::other(STORE, &self.object, why));
            }
            if num == 1 {
                return Ok(bytes);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    async fn read_file(&self, span: &Span) -> Result<Bytes, S3Error> {
        let (file, span) = (self.file.clone(), span.clone());
        let read = tokio::task::spawn_blocking(move || {
            let file = file.ok_or(std::io::ErrorKind::NotFound)?;
            let mut buffer = vec![0; usize::try_from(span.len).map_err(std::io::Error::other)?];
            file.read_exact_at(&mut buffer, span.offset)?;
            Ok(Bytes::from(buffer))
        });
        let read = read.await.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)));
        read.map_err(|error| S3Error::io(STORE, &self.object, error))
    }
}

fn slice(bytes: &Bytes, span: &Span) -> Bytes {
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(span.offset)..at(span.offset + span.len))
}

fn wrong_size(object: &S3Locator, found: u64, expected: u64) -> S3Error {
    S3Error::other("use", object, format!("{found} bytes long, not {expected}"))
}

/// What is not there when something is stored is not the object that was asked for.
fn absent(operation: &'static str, object: &S3Locator, why: &str, error: S3Error) -> S3Error {
    match error {
        S3Error::NotFound { .. } => S3Error::other(operation, object, why),
        error => error,
    }
}

fn storing<E>(
    operation: &'static str,
    object: &S3Locator,
    why: &'static str,
) -> impl Fn(SdkError<E, HttpResponse>) -> S3Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    move |error| absent(operation, object, why, failed(operation, object)(error))
}

/// Stores bytes by one request.
pub(super) async fn put(
    connection: &S3Connection,
    object: &S3Locator,
    bytes: Bytes,
    content_type: Option<&str>,
) -> Result<(), S3Error> {
    let request = connection.client().put_object().bucket(&object.bucket).key(&object.key);
    let request = request.set_content_type(content_type.map(str::to_owned)).body(ByteStream::from(bytes));
    Box::pin(request.send()).await.map(|_| ()).map_err(storing(STORE, object, "there is no such bucket"))
}

/// An upload that is under way. Dropped without an end, it aborts itself in the background.
struct Upload {
    connection: S3Connection,
    object: S3Locator,
    id: String,
    is_open: bool,
}

impl Upload {
    async fn begin(
        connection: &S3Connection,
        object: &S3Locator,
        content_type: Option<&str>,
        mark: &str,
    ) -> Result<Self, S3Error> {
        let id = begin(connection, object, content_type, Some(mark)).await?;
        Ok(Upload { connection: connection.clone(), object: object.clone(), id, is_open: true })
    }

    /// Completes, and believes only what the key then holds.
    async fn finish(mut self, parts: Vec<CompletedPart>, total: u64, mark: &str) -> Result<u64, S3Error> {
        let told = complete(&self.connection, &self.object, &self.id, parts).await;
        let found = look(&self.connection, &self.object, None).await;
        match (told, found) {
            (Err(told), Ok(found)) if found.mark.as_deref() != Some(mark) => {
                self.abort().await;
                Err(told)
            }
            (Err(told), Err(_)) => {
                self.abort().await;
                Err(told)
            }
            (_, Ok(found)) => {
                self.is_open = false;
                if found.bytes == total {
                    return Ok(total);
                }
                // It is ours and wrong: a key holds the whole or nothing.
                let _ = remove(&self.connection, &self.object).await;
                Err(wrong_size(&self.object, found.bytes, total))
            }
            (Ok(()), Err(error)) => {
                self.is_open = false;
                Err(absent("complete", &self.object, "it was completed and is not there", error))
            }
        }
    }

    async fn abort(mut self) {
        self.is_open = false;
        if let Err(error) = abort(&self.connection, &self.object, &self.id).await {
            tracing::warn!(object = %self.object, %error, "an upload could not be aborted: it is left to the sweep");
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_open {
            let (connection, object, id) = (self.connection.clone(), self.object.clone(), self.id.clone());
            runtime.spawn(async move { abort(&connection, &object, &id).await });
        }
    }
}

pub(super) async fn begin(
    connection: &S3Connection,
    object: &S3Locator,
    content_type: Option<&str>,
    mark: Option<&str>,
) -> Result<String, S3Error> {
    let request = connection.client().create_multipart_upload().bucket(&object.bucket).key(&object.key);
    let mut request = request.set_content_type(content_type.map(str::to_owned));
    if let Some(mark) = mark {
        request = request.metadata(MARK, mark);
    }
    let sent = Box::pin(request.send()).await;
    let answer = sent.map_err(storing(STORE, object, "there is no such bucket"))?;
    answer.upload_id.ok_or_else(|| S3Error::other(STORE, object, "an upload without an id"))
}

pub(super) async fn complete(
    connection: &S3Connection,
    object: &S3Locator,
    id: &str,
    parts: Vec<CompletedPart>,
) -> Result<(), S3Error> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let request = connection.client().complete_multipart_upload().bucket(&object.bucket).key(&object.key);
    let request = request.upload_id(id).multipart_upload(parts).customize().config_override(connection.slow());
    Box::pin(request.send()).await.map(|_| ()).map_err(storing("complete", object, "there is no such upload"))
}

/// Aborts an upload; one that is gone is fine.
pub(super) async fn abort(connection: &S3Connection, object: &S3Locator, id: &str) -> Result<(), S3Error> {
    let request = connection.client().abort_multipart_upload().bucket(&object.bucket).key(&object.key);
    match Box::pin(request.upload_id(id).send()).await.map_err(failed("abort", object)) {
        Err(S3Error::NotFound { .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes an object; one that is gone is fine.
pub(super) async fn remove(connection: &S3Connection, object: &S3Locator) -> Result<(), S3Error> {
    let request = connection.client().delete_object().bucket(&object.bucket).key(&object.key);
    match Box::pin(request.send()).await.map_err(failed("delete", object)) {
        Err(S3Error::NotFound { .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Aborts uploads of a bucket whose keys start with the prefix and that began longer ago than `older_than`, by the
/// server's clock against ours. Answers how many.
pub(super) async fn abort_all(
    connection: &S3Connection,
    bucket: &str,
    prefix: &str,
    older_than: Duration,
) -> Result<usize, S3Error> {
    let whole = S3Locator { bucket: bucket.to_owned(), key: prefix.to_owned() };
    let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut markers, mut num) = (None, 0);
    loop {
        let mut request = connection.client().list_multipart_uploads().bucket(bucket).prefix(prefix);
        if let Some((key, id)) = &markers {
            request = request.key_marker(key).upload_id_marker(id);
        }
        let page = Box::pin(request.send()).await.map_err(failed("list uploads of", &whole))?;
        for upload in page.uploads() {
            let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
            let began = upload.initiated().and_then(|at| SystemTime::try_from(*at).ok());
            // Without a time it is as old as need be: a server that gives none gives none to any.
            if key.starts_with(prefix) && (older_than.is_zero() || began.is_none_or(|began| began < before)) {
                let object = S3Locator { bucket: bucket.to_owned(), key: key.to_owned() };
                abort(connection, &object, id).await?;
                num += 1;
            }
        }
        let next = page.next_key_marker.zip(page.next_upload_id_marker);
        if !page.is_truncated.unwrap_or(false) || next.is_none() || next == markers {
            return Ok(num);
        }
        markers = next;
    }
}
