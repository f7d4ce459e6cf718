//! Uploads of clients in pieces of any size: a multipart upload, and beside it one object that says which of its parts
//! count and holds the bytes that do not fill one yet. Nothing is kept in memory between two pieces, so that any process
//! can take the next one; no list of parts is asked for, since servers differ in what they list.

use super::body::Reading;
use super::connection::S3Connection;
use super::failure::{S3Error, failed};
use super::head::look;
use super::locator::S3Locator;
use super::multipart;
use super::parts::MAX_PARTS;
use super::sources::S3Sources;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use splitreel_backend::grants::SignedRequest;
use std::io;
use std::time::Duration;
use uuid::Uuid;

/// Where finished uploads lie, below the connection's key prefix.
pub const UPLOADS_PREFIX: &str = "uploads/";
/// Where unfinished ones keep how far they are.
pub const OPEN_UPLOADS_PREFIX: &str = "uploads-open/";
/// Parts that clients put themselves are not smaller: fewer requests to sign.
const DIRECT_PART_BYTES: u64 = 16 << 20;
/// How the object that says how far an upload is begins: number of parts, length of their tags, both big-endian.
const HEAD_BYTES: u64 = 16;

/// Why an upload did not go on.
#[derive(Debug, thiserror::Error)]
pub enum S3UploadError {
    /// The piece begins elsewhere than where the upload ends.
    #[error("{stored} bytes are stored")]
    Offset {
        /// How many bytes are stored.
        stored: u64,
    },
    /// The piece goes beyond the size of the upload.
    #[error("the piece goes beyond the end of the upload")]
    TooLong,
    /// The named parts differ from the stored parts, or do not make up the object.
    #[error("the parts do not make up the upload")]
    Parts,
    /// The server failed, or knows nothing of the upload.
    #[error(transparent)]
    S3(#[from] S3Error),
}

/// An upload as its owner keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Upload {
    /// Its id.
    pub id: Uuid,
    /// What `begin` or `begin_direct` answered.
    pub handle: String,
    /// Size when it is complete.
    pub bytes: u64,
}

/// Part size, and the id of the multipart upload; none when everything fits into one request.
struct Handle {
    part_bytes: u64,
    multipart: Option<String>,
}

impl Handle {
    fn write(&self) -> String {
        format!("{} {}", self.part_bytes, self.multipart.as_deref().unwrap_or_default())
    }

    fn read(text: &str) -> Option<Self> {
        let (part_bytes, id) = text.split_once(' ')?;
        let part_bytes = part_bytes.parse().ok().filter(|bytes| *bytes > 0)?;
        Some(Handle { part_bytes, multipart: Some(id.to_owned()).filter(|id| !id.is_empty()) })
    }
}

/// How far an upload is: entity tags of the parts that count, and bytes after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    parts: Vec<String>,
    open: Bytes,
}

impl Progress {
    fn stored(&self, part_bytes: u64) -> u64 {
        (self.parts.len() as u64).saturating_mul(part_bytes).saturating_add(self.open.len() as u64)
    }

    fn write(parts: &[String], open: &[u8]) -> Bytes {
        let tags = parts.join("\n");
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES as usize + tags.len() + open.len());
        bytes.extend_from_slice(&(parts.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&(tags.len() as u64).to_be_bytes());
        bytes.extend_from_slice(tags.as_bytes());
        bytes.extend_from_slice(open);
        bytes.freeze()
    }

    fn read(mut bytes: Bytes) -> Option<Self> {
        let (count, len) = head_of(&bytes)?;
        let mut rest = bytes.split_off(HEAD_BYTES as usize);
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len())?;
        let open = rest.split_off(len);
        let tags = std::str::from_utf8(&rest).ok()?;
        let parts: Vec<String> = if count == 0 { Vec::new() } else { tags.split('\n').map(str::to_owned).collect() };
        (parts.len() as u64 == count).then_some(Progress { parts, open })
    }
}

/// Number of parts, and length of their tags.
fn head_of(bytes: &[u8]) -> Option<(u64, u64)> {
    let number = |at| bytes.get(at..).and_then(<[u8]>::first_chunk).map(|number| u64::from_be_bytes(*number));
    number(0).zip(number(8))
}

fn unreadable(object: &S3Locator) -> S3Error {
    S3Error::other("read", object, "it does not say how far the upload is")
}

/// Uploads in the work bucket of a connection.
#[derive(Clone, Debug)]
pub struct S3Uploads {
    connection: S3Connection,
    public: S3Sources,
}

impl S3Uploads {
    /// Uploads through one connection; requests for clients are signed for the address of the other.
    pub fn new(connection: S3Connection, public: S3Connection) -> Self {
        S3Uploads { connection, public: S3Sources::new(public) }
    }

    fn within(&self, prefix: &str, id: Uuid) -> S3Locator {
        let options = self.connection.options();
        S3Locator { bucket: options.bucket.clone(), key: format!("{}{prefix}{}", options.key_prefix, id.simple()) }
    }

    /// Where the finished object is.
    pub fn object(&self, id: Uuid) -> S3Locator {
        self.within(UPLOADS_PREFIX, id)
    }

    fn progress_object(&self, id: Uuid) -> S3Locator {
        self.within(OPEN_UPLOADS_PREFIX, id)
    }

    fn handle(&self, upload: &S3Upload) -> Result<Handle, S3Error> {
        let object = self.object(upload.id);
        Handle::read(&upload.handle).ok_or_else(|| S3Error::other("use", &object, "an upload without a part size"))
    }

    /// Begins an upload of `bytes` bytes. Answers its handle.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn begin(&self, id: Uuid, bytes: u64) -> Result<String, S3Error> {
        let part_bytes = part_bytes(self.connection.options().part_bytes, bytes);
        let multipart = match bytes > part_bytes {
            true => Some(multipart::begin(&self.connection, &self.object(id), None, None).await?),
            false => None,
        };
        // An upload exists from here on, before its first byte: without this object it is unknown or was aborted.
        self.save(id, &[], &[]).await?;
        Ok(Handle { part_bytes, multipart }.write())
    }

    /// How many bytes from the start on are stored.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn stored(&self, upload: &S3Upload) -> Result<u64, S3Error> {
        let part_bytes = self.handle(upload)?.part_bytes;
        let at = self.progress_object(upload.id);
        let mut reading = Reading::new(&self.connection, &at, 0, HEAD_BYTES);
        match reading.all().await {
            Ok(head) => {
                let (parts, tags) = head_of(&head).ok_or_else(|| unreadable(&at))?;
                let open = reading.total().unwrap_or_default().saturating_sub(HEAD_BYTES).saturating_sub(tags);
                Ok(parts.saturating_mul(part_bytes).saturating_add(open))
            }
            // A finished upload has its object only; of an aborted one that is missing, too.
            Err(S3Error::NotFound { .. }) => Ok(look(&self.connection, &self.object(upload.id), None).await?.bytes),
            Err(error) => Err(error),
        }
    }

    async fn progress(&self, id: Uuid) -> Result<Progress, S3Error> {
        let at = self.progress_object(id);
        let bytes = Reading::new(&self.connection, &at, 0, u64::MAX).all().await?;
        Progress::read(bytes).ok_or_else(|| unreadable(&at))
    }

    async fn save(&self, id: Uuid, parts: &[String], open: &[u8]) -> Result<(), S3Error> {
        multipart::put(&self.connection, &self.progress_object(id), Progress::write(parts, open), None).await
    }

    /// Stores a piece that begins at `offset`, which must be what is stored. Answers how much is stored, and whether the
    /// stream broke. What came before a break is kept, unless the piece is kept `whole` or not at all. Memory is bounded
    /// by one part.
    ///
    /// # Errors
    /// [`S3UploadError`]; some of the piece may be stored unless it is kept whole.
    pub async fn append(
        &self,
        upload: &S3Upload,
        offset: u64,
        mut piece: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
        whole: bool,
    ) -> Result<(u64, bool), S3UploadError> {
        let Handle { part_bytes, multipart } = self.handle(upload)?;
        let progress = self.progress(upload.id).await?;
        let stored = progress.stored(part_bytes);
        if stored != offset {
            return Err(S3UploadError::Offset { stored });
        }
        let Progress { mut parts, open } = progress;
        let mut open = BytesMut::from(open);
        let (mut end, mut is_broken) = (offset, false);
        while let Some(bytes) = piece.next().await {
            let Ok(mut bytes) = bytes else {
                is_broken = true;
                break;
            };
            end = end.saturating_add(bytes.len() as u64);
            if end > upload.bytes {
                return Err(S3UploadError::TooLong);
            }
            while !bytes.is_empty() {
                let room = usize::try_from(part_bytes).unwrap_or(usize::MAX).saturating_sub(open.len());
                open.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
                if let Some(id) = multipart.as_deref().filter(|_| open.len() as u64 == part_bytes) {
                    parts.push(self.put_part(upload, id, parts.len() + 1, open.split().freeze()).await?);
                    // Parts count only when they are said to: of a piece that is not kept, none ever does.
                    if !whole {
                        self.save(upload.id, &parts, &[]).await?;
                    }
                }
            }
        }
        if whole && is_broken {
            return Ok((offset, true));
        }
        if end > offset {
            self.save(upload.id, &parts, &open).await?;
        }
        Ok((end, is_broken))
    }

    async fn put_part(&self, upload: &S3Upload, id: &str, number: usize, bytes: Bytes) -> Result<String, S3Error> {
        let object = self.object(upload.id);
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let request = self.connection.client().upload_part().bucket(&object.bucket).key(&object.key);
        let request = request.upload_id(id).part_number(number).body(ByteStream::from(bytes));
        let answer = Box::pin(request.send()).await.map_err(failed("store", &object))?;
        answer.e_tag.ok_or_else(|| S3Error::other("store", &object, "a part without an entity tag"))
    }

    /// Makes an upload that is complete an object. Safe to repeat.
    ///
    /// # Errors
    /// [`S3UploadError`].
    pub async fn finish(&self, upload: &S3Upload) -> Result<S3Locator, S3UploadError> {
        let object = self.object(upload.id);
        match look(&self.connection, &object, None).await {
            // Nothing else writes under a key that holds the upload's id.
            Ok(found) if found.bytes == upload.bytes => {}
            Ok(_) => return Err(S3UploadError::Parts),
            Err(S3Error::NotFound { .. }) => self.make(upload, &object).await?,
            Err(error) => return Err(error.into()),
        }
        multipart::remove(&self.connection, &self.progress_object(upload.id)).await?;
        Ok(object)
    }

    async fn make(&self, upload: &S3Upload, object: &S3Locator) -> Result<(), S3UploadError> {
        let Handle { part_bytes, multipart } = self.handle(upload)?;
        let progress = self.progress(upload.id).await?;
        let stored = progress.stored(part_bytes);
        if stored != upload.bytes {
            return Err(S3UploadError::Offset { stored });
        }
        let Progress { mut parts, open } = progress;
        let Some(id) = multipart else {
            return Ok(multipart::put(&self.connection, object, open, None).await?);
        };
        if !open.is_empty() {
            parts.push(self.put_part(upload, &id, parts.len() + 1, open).await?);
        }
        let parts: Vec<(i32, String)> = (1..).zip(parts).collect();
        let sources = S3Sources::new(self.connection.clone());
        sources.complete_upload(object, &id, &parts, upload.bytes).await?;
        Ok(())
    }

    /// Deletes what there is of an upload, finished or not.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn abort(&self, upload: &S3Upload) -> Result<(), S3Error> {
        let object = self.object(upload.id);
        if let Some(id) = self.handle(upload)?.multipart {
            multipart::abort(&self.connection, &object, &id).await?;
        }
        multipart::remove(&self.connection, &self.progress_object(upload.id)).await?;
        multipart::remove(&self.connection, &object).await
    }

    /// Begins an upload whose parts a client puts itself. Answers handle and part size.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn begin_direct(&self, id: Uuid, bytes: u64) -> Result<(String, u64), S3Error> {
        let part_bytes = part_bytes(DIRECT_PART_BYTES, bytes);
        let multipart = multipart::begin(&self.connection, &self.object(id), None, None).await?;
        Ok((Handle { part_bytes, multipart: Some(multipart) }.write(), part_bytes))
    }

    /// The rights to put parts `first` (from 1) to `first + count - 1` of a direct upload.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn sign_parts(
        &self,
        upload: &S3Upload,
        first: u32,
        count: u32,
        ttl: Duration,
    ) -> Result<Vec<SignedRequest>, S3Error> {
        let (object, Handle { part_bytes, multipart }) = (self.object(upload.id), self.handle(upload)?);
        let id = multipart.unwrap_or_default();
        let mut signed = Vec::new();
        for number in first..first.saturating_add(count) {
            let before = u64::from(number.saturating_sub(1)).saturating_mul(part_bytes);
            let bytes = upload.bytes.saturating_sub(before).min(part_bytes);
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            signed.push(self.public.presign_part(&object, &id, number, bytes, ttl).await?);
        }
        Ok(signed)
    }

    /// Makes the parts of a direct upload (number from 1, entity tag) an object. Safe to repeat.
    ///
    /// # Errors
    /// [`S3UploadError`].
    pub async fn complete(&self, upload: &S3Upload, parts: &[(u32, String)]) -> Result<S3Locator, S3UploadError> {
        let (object, id) = (self.object(upload.id), self.handle(upload)?.multipart.unwrap_or_default());
        let parts: Vec<(i32, String)> =
            parts.iter().map(|(number, etag)| (i32::try_from(*number).unwrap_or(i32::MAX), etag.clone())).collect();
        let sources = S3Sources::new(self.connection.clone());
        match sources.complete_upload(&object, &id, &parts, upload.bytes).await {
            Ok(_) => Ok(object),
            Err(S3Error::Parts { .. }) => Err(S3UploadError::Parts),
            Err(error) => match look(&self.connection, &object, None).await {
                // Completed, but not to what was announced.
                Ok(found) if found.bytes != upload.bytes => Err(S3UploadError::Parts),
                _ => Err(error.into()),
            },
        }
    }
}

/// The smallest part size, in whole MiB from `least` on, by which an upload has no more parts than allowed.
fn part_bytes(least: u64, bytes: u64) -> u64 {
    let mib = 1 << 20;
    bytes.div_ceil(MAX_PARTS as u64).div_ceil(mib).saturating_mul(mib).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_enough_and_large_enough() {
        let mib = 1 << 20;
        assert_eq!(part_bytes(8 * mib, 0), 8 * mib);
        assert_eq!(part_bytes(8 * mib, 80_000 * mib), 8 * mib);
        assert_eq!(part_bytes(8 * mib, 80_000 * mib + 1), 9 * mib);
        let most = 1 << 40;
        assert!(most / part_bytes(8 * mib, most) <= 10_000 && part_bytes(8 * mib, most) < 110 * mib);
    }

    #[test]
    fn handles_are_read_as_they_were_written() {
        for multipart in [None, Some("id with spaces".to_owned())] {
            let read = Handle::read(&Handle { part_bytes: 7, multipart: multipart.clone() }.write()).unwrap();
            assert_eq!((read.part_bytes, read.multipart), (7, multipart));
        }
        for bad in ["", "7", "x id", "0 id"] {
            assert!(Handle::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn progress_is_read_as_it_was_written() {
        for (parts, open) in [(0, ""), (0, "tail"), (1, ""), (3, "\n\n")] {
            let parts: Vec<String> = (0..parts).map(|n| format!("\"etag-{n}\"")).collect();
            let written = Progress::write(&parts, open.as_bytes());
            let (count, tags) = head_of(&written).unwrap();
            assert_eq!(count, parts.len() as u64);
            assert_eq!(written.len() as u64 - HEAD_BYTES - tags, open.len() as u64);
            assert_eq!(Progress::read(written).unwrap(), Progress { parts, open: open.into() });
        }
        for bad in [&b""[..], &[0; 15], &[1; 16], &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, b'x']] {
            assert_eq!(Progress::read(Bytes::copy_from_slice(bad)), None);
        }
    }
}
