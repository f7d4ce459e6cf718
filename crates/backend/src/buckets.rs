//! The bucket seam: listings of source buckets, for stores that send no events.

use async_trait::async_trait;

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Key of the object.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Entity tag; empty when the store lists none.
    pub etag: String,
    /// When the object was written by the store's clock, milliseconds since the epoch. Stores may report the time at which
    /// a multipart upload started.
    pub modified_ms: i64,
}

/// A bucket could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("the bucket {bucket} cannot be listed")]
pub struct ListError {
    /// The bucket.
    pub bucket: String,
    /// The reason.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Lists source buckets.
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Objects whose keys start with `prefix` and follow `after` in byte order, at most `limit`, in that order. Fewer than
    /// `limit` means that no more exist.
    async fn list(&self, bucket: &str, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, ListError>;
}
