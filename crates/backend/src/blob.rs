//! The blob seam: immutable objects under keys. An object is invisible until a row names it. Three traits by who may do
//! what: readers, writers of parts, and holders of the store itself.

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Why a blob operation failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No object has this key (yet: some stores show new objects late).
    #[error("no object {key}")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The key is not of the allowed form.
    #[error("{key:?} is not a valid object key")]
    BadKey {
        /// The key.
        key: String,
    },
    /// No space is left, or a quota is reached.
    #[error("no space left to store {key}")]
    NoSpace {
        /// The key.
        key: String,
    },
    /// Any other failure: try again.
    #[error("the blob store failed on {key}")]
    Unavailable {
        /// The key.
        key: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

/// A piece of an object that is put together from others.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Literal bytes.
    Bytes(Bytes),
    /// A whole stored object.
    Object {
        /// Its key.
        key: String,
        /// Its size.
        bytes: u64,
    },
}

/// Reads immutable objects. Keys are `/`-separated segments of `[A-Za-z0-9._-]`, no empty, `.` or `..` segment, at most
/// 512 bytes.
#[async_trait]
pub trait BlobReader: Send + Sync {
    /// Reads at most `len` bytes from `offset`; fewer at the end of the object.
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError>;
    /// Size of an object in bytes.
    async fn size(&self, key: &str) -> Result<u64, BlobError>;
    /// Makes an object appear as a local file: linked where possible, else copied. The target must not exist.
    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError>;
}

/// Stores the parts of an attempt. Storing a key twice replaces the object atomically; keys carry attempt and lease, so
/// that no two attempts store the same one.
#[async_trait]
pub trait PartWriter: Send + Sync {
    /// Stores bytes. Durable (synced) when it returns.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError>;
    /// Stores a local file, which may be moved away or linked. Durable when it returns.
    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError>;
}

/// What only holders of the store itself may do: not offered to workers that hold signed requests.
#[async_trait]
pub trait BlobAdmin: Send + Sync {
    /// Stores the concatenation of pieces, moving as few bytes as the store allows; bounded memory. Answers the size.
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError>;
    /// Keys that start with `prefix` (which ends at a `/` or is empty), sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError>;
    /// Deletes an object; deleting a missing one is fine.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;
}

/// A store of immutable objects, with everything that it can do.
pub trait BlobStore: BlobReader + PartWriter + BlobAdmin {}

impl<T: BlobReader + PartWriter + BlobAdmin> BlobStore for T {}

/// Bytes of a stream that are read at a time.
const STREAM_STEP: u64 = 1 << 20;

/// Bytes `range` of an object, in order and in bounded pieces. Ends after the first error; an object that ends before the
/// range does is one.
pub fn stream(
    blobs: Arc<dyn BlobReader>,
    key: String,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + use<> {
    futures::stream::try_unfold((blobs, key, range.start), move |(blobs, key, at)| async move {
        let len = range.end.saturating_sub(at).min(STREAM_STEP);
        if len == 0 {
            return Ok(None);
        }
        let piece = blobs.read(&key, at, usize::try_from(len).unwrap_or(usize::MAX)).await?;
        if piece.is_empty() {
            return Err(BlobError::Unavailable { key, source: std::io::ErrorKind::UnexpectedEof.into() });
        }
        let next = at.saturating_add(piece.len() as u64);
        Ok(Some((piece, (blobs, key, next))))
    })
}

/// Checks the form of a key.
///
/// # Errors
/// [`BlobError::BadKey`].
pub fn check_key(key: &str) -> Result<(), BlobError> {
    let good = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    if key.len() <= 512 && key.split('/').all(good) { Ok(()) } else { Err(BlobError::BadKey { key: key.to_owned() }) }
}

/// Checks the form of a prefix: empty, or a key and a `/`.
///
/// # Errors
/// [`BlobError::BadKey`].
pub fn check_prefix(prefix: &str) -> Result<(), BlobError> {
    let bad = || BlobError::BadKey { key: prefix.to_owned() };
    match prefix.strip_suffix('/') {
        Some(key) => check_key(key).map_err(|_| bad()),
        None if prefix.is_empty() => Ok(()),
        None => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBlobs;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn a_stream_has_the_bytes_of_its_range() {
        let content: Bytes = (0..3_u32 << 20).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>().into();
        let blobs = Arc::new(MemoryBlobs::new());
        blobs.put("a", content.clone()).await.unwrap();
        let len = content.len();
        for (start, end) in [(0, len), (1, len), (7, 1 << 20), (5, 5), (len, len), (len - 1, len)] {
            let pieces = stream(Arc::clone(&blobs) as _, "a".to_owned(), start as u64..end as u64);
            let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
            assert!(pieces.iter().all(|piece| piece.len() as u64 <= STREAM_STEP));
            assert!(pieces.concat() == content[start..end], "{start}..{end}");
        }
    }

    #[tokio::test]
    async fn a_stream_beyond_the_end_or_of_nothing_fails() {
        let blobs = Arc::new(MemoryBlobs::new());
        blobs.put("a", Bytes::from_static(b"abc")).await.unwrap();
        for key in ["a", "b"] {
            let pieces = stream(Arc::clone(&blobs) as _, key.to_owned(), 1..9);
            assert!(pieces.try_collect::<Vec<_>>().await.is_err(), "{key}");
        }
    }
}
