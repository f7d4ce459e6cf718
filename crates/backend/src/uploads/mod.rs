//! The seam between uploads and where their bytes go: a local directory, or a multipart upload of an object store.
//!
//! # How the implementation over S3 multipart works
//! - `begin` creates the multipart upload and answers part size and upload id as the handle. Nothing is held in memory
//!   between two pieces, so that any coordinator can take the next one.
//! - Parts but the last have at least 5 MiB and one size, pieces of a client any. An object beside the upload says how
//!   many parts count, with their tags, and holds the bytes after them (less than one part). `append` reads it, continues from there, puts
//!   parts, and writes it again. Memory is bounded by one part.
//! - With a checksum that object is written after the match only: parts that were put before it do not count, and the
//!   next piece overwrites them. So a piece may be longer than what can be held back.
//! - `stored` reads the beginning of that object.
//! - `finish` puts the rest as the last part, completes, and deletes the object. Repeated after an unknown outcome it
//!   finds the finished object by its size and answers the same.
//! - `abort` aborts the multipart upload, and deletes both objects.

mod checksum;

pub use checksum::{ALGORITHMS, Checksum, ChecksumError, ChecksumHasher, decode_base64};

use crate::grants::SignedRequest;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::io;
use uuid::Uuid;

/// The bytes of a request.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Names an upload to its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRef {
    /// Its id.
    pub id: Uuid,
    /// Answer of `begin` or `begin_direct`.
    pub handle: String,
    /// Size of the complete upload in bytes.
    pub bytes: u64,
}

/// Result of an `append`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Number of bytes that are stored durably, from the start of the upload.
    pub offset: u64,
    /// The stream ended with an error; the bytes before it are stored.
    pub is_broken: bool,
}

/// A direct upload that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectUpload {
    /// Identifies the upload to the storage.
    pub handle: String,
    /// Size of each part but the last.
    pub part_bytes: u64,
}

/// A part that the client has put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutPart {
    /// From 1.
    pub number: u32,
    /// The entity tag that storage answered with.
    pub etag: String,
}

/// Why the storage refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadStorageError {
    /// Another request is writing to this upload.
    #[error("the upload is being written to")]
    Busy,
    /// The piece does not start at the stored offset.
    #[error("{stored} bytes are stored")]
    Offset {
        /// How many bytes are stored.
        stored: u64,
    },
    /// The piece goes beyond the size of the upload; nothing beyond it was stored.
    #[error("the piece goes beyond the end of the upload")]
    TooLong,
    /// The piece does not hash to its checksum; nothing of it was stored.
    #[error("the piece does not match its checksum")]
    Checksum,
    /// Nothing is stored of this upload.
    #[error("nothing is stored of this upload")]
    NotFound,
    /// The named parts differ from the stored ones, or do not add up to the object.
    #[error("the parts do not add up to the upload")]
    Parts,
    /// No space is left.
    #[error("no space is left for uploads")]
    NoSpace,
    /// This storage offers no direct uploads.
    #[error("direct uploads are not enabled")]
    Unsupported,
    /// Any other failure: try again.
    #[error("the upload storage failed")]
    Unavailable(#[source] io::Error),
}

/// Keeps the bytes of uploads. An upload is invisible under its locator until `finish`.
#[async_trait]
pub trait UploadStorage: Send + Sync {
    /// Starts an upload of `bytes` bytes; answers the handle. Safe to repeat.
    async fn begin(&self, id: Uuid, bytes: u64) -> Result<String, UploadStorageError>;
    /// Number of bytes that are stored durably, from the start of the upload.
    async fn stored(&self, upload: &UploadRef) -> Result<u64, UploadStorageError>;
    /// Stores a piece that starts at `offset`, which must equal the number of stored bytes. Durable when it returns. The
    /// caller ensures one writer at a time; an implementation that notices a second one answers `Busy`. With a checksum,
    /// a piece is stored whole or not at all, also when the stream breaks. Memory is bounded for any length.
    async fn append(
        &self,
        upload: &UploadRef,
        offset: u64,
        piece: ByteStream,
        checksum: Option<Checksum>,
    ) -> Result<Appended, UploadStorageError>;
    /// Turns a complete upload into an object; answers its locator. Safe to repeat.
    async fn finish(&self, upload: &UploadRef) -> Result<String, UploadStorageError>;
    /// Deletes the upload, finished or not. Safe to repeat.
    async fn abort(&self, upload: &UploadRef) -> Result<(), UploadStorageError>;

    /// Starts an upload whose parts the client puts into storage itself.
    async fn begin_direct(&self, _id: Uuid, _bytes: u64) -> Result<DirectUpload, UploadStorageError> {
        Err(UploadStorageError::Unsupported)
    }
    /// Signed requests to put `count` parts, numbered from `first` ≥ 1.
    async fn sign_parts(
        &self,
        _upload: &UploadRef,
        _first: u32,
        _count: u32,
        _ttl_ms: i64,
    ) -> Result<Vec<SignedRequest>, UploadStorageError> {
        Err(UploadStorageError::Unsupported)
    }
    /// Assembles the parts into an object; answers its locator. Safe to repeat.
    async fn complete(&self, _upload: &UploadRef, _parts: &[PutPart]) -> Result<String, UploadStorageError> {
        Err(UploadStorageError::Unsupported)
    }
}
