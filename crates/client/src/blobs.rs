//! The blob seam as a worker has it: parts are stored below the prefix of a held lease, and objects of that job are read,
//! both through signed requests.

use crate::calls::bare_http;
use crate::client::{Client, ClientError, chance};
use crate::held::{Held, HeldLease};
use crate::retry::{Outcome, pause};
use crate::types::{ObjectToStore, ObjectsToRead, ObjectsToStore};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Body, Response, StatusCode};
use splitreel_backend::blob::{BlobError, BlobReader, PartWriter, check_key};
use splitreel_backend::cache::Cache;
use splitreel_backend::grants::SignedRequest;
use splitreel_telemetry::labels::{S3Operation, S3Outcome};
use splitreel_telemetry::record;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

/// Tries of one transfer.
const MAX_TRIES: u32 = 5;
/// A transfer without a byte for this long is aborted.
const STALL: Duration = Duration::from_secs(20);
/// Time for an upload: a fixed part and one by size, at 256 KiB/s.
const UPLOAD_FIXED: Duration = Duration::from_secs(30);
const UPLOAD_BYTES_PER_SECOND: u64 = 256 << 10;
/// Age up to which a signed request is used again, in milliseconds; it is valid for longer.
const REUSED_FOR_MS: i64 = 60_000;
/// Number of signed requests held for reading.
const MAX_READS: usize = 1024;

/// Objects through signed requests.
#[derive(Debug)]
pub struct RemoteBlobs {
    client: Client,
    held: Arc<Held>,
    bare: reqwest::Client,
    reads: Cache<String, SignedRequest>,
    started: Instant,
}

/// What is sent.
enum Content<'a> {
    Bytes(&'a Bytes),
    File(&'a Path, u64),
}

impl Content<'_> {
    fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, len) => *len,
        }
    }

    async fn body(&self) -> io::Result<Body> {
        Ok(match self {
            Content::Bytes(bytes) => Body::from((*bytes).clone()),
            Content::File(path, _) => Body::wrap_stream(ReaderStream::new(tokio::fs::File::open(path).await?)),
        })
    }
}

fn unavailable(key: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BlobError {
    BlobError::Unavailable { key: key.to_owned(), source: io::Error::other(why) }
}

impl RemoteBlobs {
    pub(crate) fn new(client: Client, held: Arc<Held>) -> Result<Self, ClientError> {
        let bare = bare_http(client.config().connect_timeout)?;
        let reads = Cache::new(MAX_READS).max_age_ms(REUSED_FOR_MS);
        Ok(RemoteBlobs { client, held, bare, reads, started: Instant::now() })
    }

    async fn grant_to_store(&self, key: &str, bytes: u64) -> Result<SignedRequest, BlobError> {
        let lease =
            self.held.of_attempt(key).ok_or_else(|| unavailable(key, "the lease of its attempt is not held"))?;
        let HeldLease { task, lease, attempt, ticket, .. } = lease;
        let objects = vec![ObjectToStore { key: key.to_owned(), bytes }];
        let grants = self
            .client
            .objects(task, lease, &ObjectsToStore { attempt, ticket, objects })
            .await
            .map_err(|e| unavailable(key, e))?;
        grants.grants.into_iter().next().ok_or_else(|| unavailable(key, "no grant was given"))
    }

    async fn store(&self, key: &str, content: Content<'_>) -> Result<(), BlobError> {
        check_key(key)?;
        let len = content.len();
        let limit = UPLOAD_FIXED + Duration::from_secs(len / UPLOAD_BYTES_PER_SECOND);
        let mut tried = 0;
        loop {
            tried += 1;
            // A fresh grant each time: the last one may have expired meanwhile.
            let grant = self.grant_to_store(key, len).await?;
            let body = content.body().await.map_err(|source| BlobError::Unavailable { key: key.to_owned(), source })?;
            let mut headers = headers_of(&grant, key)?;
            headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
            let request =
                self.bare.request(method_of(&grant, key)?, &grant.url).headers(headers).body(body).timeout(limit);
            let started = Instant::now();
            let sent = request.send().await;
            record::s3_request(S3Operation::Put, outcome_of(&sent), started.elapsed(), len);
            let (why, outcome) = match sent {
                Ok(r) if r.status().is_success() => return Ok(()),
                Ok(r) if r.status() == StatusCode::INSUFFICIENT_STORAGE => {
                    return Err(BlobError::NoSpace { key: key.to_owned() });
                }
                Ok(r) => (format!("status {}", r.status()), transfer_outcome(r.status())),
                Err(e) => (e.without_url().to_string(), Outcome::NoAnswer),
            };
            let Some(pause) = pause(outcome, tried, MAX_TRIES, chance()) else { return Err(unavailable(key, why)) };
            tracing::debug!(key, tried, why, "object not stored; retrying");
            tokio::time::sleep(pause).await;
        }
    }

    async fn grant_to_read(&self, key: &str, fresh: bool) -> Result<SignedRequest, BlobError> {
        let now_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        if let Some(grant) = self.reads.get(key, now_ms).filter(|_| !fresh) {
            return Ok(grant);
        }
        let lease = self.held.of_job(key).ok_or_else(|| unavailable(key, "no lease of its job is held"))?;
        let HeldLease { task, lease, attempt, ticket, .. } = lease;
        let grants = self
            .client
            .reads(task, lease, &ObjectsToRead { attempt, ticket, keys: vec![key.to_owned()] })
            .await
            .map_err(|e| unavailable(key, e))?;
        let grant = grants.grants.into_iter().next().ok_or_else(|| unavailable(key, "no grant was given"))?;
        self.reads.put(key.to_owned(), grant.clone(), now_ms);
        Ok(grant)
    }

    /// A successful answer (200, 206) or 416; the body is yet to be read.
    async fn fetch(&self, key: &str, range: Option<(u64, u64)>) -> Result<Response, BlobError> {
        check_key(key)?;
        let (mut tried, mut fresh) = (0, false);
        loop {
            tried += 1;
            let grant = self.grant_to_read(key, fresh).await?;
            let mut headers = headers_of(&grant, key)?;
            if let Some((first, last)) = range {
                let value = HeaderValue::from_str(&format!("bytes={first}-{last}")).map_err(|e| unavailable(key, e))?;
                headers.insert(RANGE, value);
            }
            let request = self.bare.request(method_of(&grant, key)?, &grant.url).headers(headers);
            let started = Instant::now();
            let sent = tokio::time::timeout(STALL, request.send()).await;
            let outcome = sent.as_ref().map_or(S3Outcome::TimedOut, outcome_of);
            let bytes = sent.as_ref().ok().and_then(|s| s.as_ref().ok()?.content_length()).unwrap_or(0);
            record::s3_request(S3Operation::Get, outcome, started.elapsed(), bytes);
            let (why, outcome) = match sent {
                Ok(Ok(r)) if r.status().is_success() || r.status() == StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Ok(r);
                }
                Ok(Ok(r)) if r.status() == StatusCode::NOT_FOUND => {
                    return Err(BlobError::NotFound { key: key.to_owned() });
                }
                Ok(Ok(r)) => (format!("status {}", r.status()), transfer_outcome(r.status())),
                Ok(Err(e)) => (e.without_url().to_string(), Outcome::NoAnswer),
                Err(_) => ("stalled".to_owned(), Outcome::NoAnswer),
            };
            fresh = true;
            let Some(pause) = pause(outcome, tried, MAX_TRIES, chance()) else { return Err(unavailable(key, why)) };
            tokio::time::sleep(pause).await;
        }
    }
}

fn outcome_of(sent: &reqwest::Result<Response>) -> S3Outcome {
    match sent {
        Ok(response) => S3Outcome::of_status(response.status().as_u16()),
        Err(error) if error.is_timeout() => S3Outcome::TimedOut,
        Err(_) => S3Outcome::Failed,
    }
}

/// An expired signature is answered with 400 or 403: a new grant mends it. 5xx pass.
fn transfer_outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        400 | 403 | 408 | 429 | 500..=599 => Outcome::NoAnswer,
        other => Outcome::Status(other, None),
    }
}

fn method_of(grant: &SignedRequest, key: &str) -> Result<reqwest::Method, BlobError> {
    reqwest::Method::from_str(&grant.method).map_err(|e| unavailable(key, e))
}

fn headers_of(grant: &SignedRequest, key: &str) -> Result<HeaderMap, BlobError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &grant.headers {
        // The connection says by itself whom it talks to.
        if name == "host" {
            continue;
        }
        let name = HeaderName::from_str(name).map_err(|e| unavailable(key, e))?;
        headers.insert(name, HeaderValue::from_str(value).map_err(|e| unavailable(key, e))?);
    }
    Ok(headers)
}

/// Reads a body of at most `limit` bytes.
async fn body_of(key: &str, response: Response, limit: usize) -> Result<Bytes, BlobError> {
    let mut body = response.bytes_stream();
    let mut whole = BytesMut::new();
    loop {
        match tokio::time::timeout(STALL, body.next()).await {
            Ok(Some(Ok(piece))) => {
                whole.extend_from_slice(&piece);
                if whole.len() > limit {
                    return Err(unavailable(key, "more was sent than asked for"));
                }
            }
            Ok(Some(Err(e))) => return Err(unavailable(key, e.without_url())),
            Ok(None) => return Ok(whole.freeze()),
            Err(_) => return Err(unavailable(key, "the transfer stalled")),
        }
    }
}

#[async_trait]
impl BlobReader for RemoteBlobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let last = offset.saturating_add(len as u64 - 1);
        let response = self.fetch(key, Some((offset, last))).await?;
        match response.status() {
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Bytes::new()),
            StatusCode::PARTIAL_CONTENT => body_of(key, response, len).await,
            // The range was ignored: only harmless when it is the beginning of something small.
            _ if offset == 0 && response.content_length().is_some_and(|n| n <= len as u64) => {
                body_of(key, response, len).await
            }
            status => Err(unavailable(key, format!("status {status} to a range"))),
        }
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        // The request is signed for GET: the answer to a range of one byte states the size.
        let response = self.fetch(key, Some((0, 0))).await?;
        let total = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.rsplit_once('/'))
            .and_then(|(_, total)| total.parse().ok());
        match (response.status(), total) {
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, Some(total)) => Ok(total),
            (StatusCode::OK, _) => {
                response.content_length().ok_or_else(|| unavailable(key, "the answer states no size"))
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, None) => Ok(0),
            (status, _) => Err(unavailable(key, format!("status {status} to a range"))),
        }
    }

    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        let response = self.fetch(key, None).await?;
        if !response.status().is_success() {
            return Err(unavailable(key, format!("status {}", response.status())));
        }
        let expected = response.content_length();
        let failed = |source| BlobError::Unavailable { key: key.to_owned(), source };
        let mut file = tokio::fs::File::create_new(target).await.map_err(failed)?;
        let unfinished = RemoveOnDrop(Some(target.to_owned()));
        let mut body = response.bytes_stream();
        let mut written = 0u64;
        loop {
            match tokio::time::timeout(STALL, body.next()).await {
                Ok(Some(Ok(piece))) => {
                    written = written.saturating_add(piece.len() as u64);
                    file.write_all(&piece).await.map_err(failed)?;
                }
                Ok(Some(Err(e))) => return Err(unavailable(key, e.without_url())),
                Ok(None) => break,
                Err(_) => return Err(unavailable(key, "the transfer stalled")),
            }
        }
        if expected.is_some_and(|n| n != written) {
            return Err(unavailable(key, "the transfer was cut off"));
        }
        file.sync_all().await.map_err(failed)?;
        unfinished.keep();
        Ok(())
    }
}

#[async_trait]
impl PartWriter for RemoteBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.store(key, Content::Bytes(&bytes)).await
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        let meta =
            tokio::fs::metadata(path).await.map_err(|source| BlobError::Unavailable { key: key.to_owned(), source })?;
        self.store(key, Content::File(path, meta.len())).await
    }
}

/// Removes a half-written file.
struct RemoveOnDrop(Option<PathBuf>);

impl RemoveOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}
