//! The blob seam: immutable objects under keys. An object is invisible until a row names it.

use async_trait::async_trait;
use bytes::Bytes;
use std::path::Path;

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

/// Immutable objects. Keys are `/`-separated segments of `[A-Za-z0-9._-]`, no empty, `.` or `..` segment,
/// at most 512 bytes. Writing a key twice replaces it atomically; keys carry attempt and lease, so nobody does.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores bytes. Durable (synced) when it returns.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError>;
    /// Stores a local file, which may be moved away or linked. Durable when it returns.
    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError>;
    /// Stores the concatenation of pieces, moving as few bytes as the store allows; bounded memory.
    /// Answers the size.
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError>;
    /// Reads at most `len` bytes from `offset`; fewer at the end of the object.
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError>;
    /// Size of an object.
    async fn size(&self, key: &str) -> Result<u64, BlobError>;
    /// Makes the object appear as a local file: linked where possible, else copied. The target must not exist.
    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError>;
    /// Keys that start with `prefix` (which ends at a `/` or is empty), sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError>;
    /// Deletes an object; deleting what is not there is fine.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;
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
