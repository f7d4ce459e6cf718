//! Fits uploads on S3 to the coordinator's seam for them.

use async_trait::async_trait;
use futures::StreamExt;
use splitreel_backend::grants::SignedRequest;
use splitreel_backend_cluster::s3::{S3Error, S3Upload, S3UploadError, S3Uploads};
use splitreel_coordinator::uploads::{
    Appended, ByteStream, Checksum, DirectBegun, PutPart, UploadRef, UploadStorage, UploadStorageError,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Uploads in the work bucket.
pub struct BucketUploads(pub S3Uploads);

fn named(upload: &UploadRef) -> S3Upload {
    S3Upload { id: upload.id, handle: upload.handle.clone(), bytes: upload.bytes }
}

fn told(error: S3UploadError) -> UploadStorageError {
    match error {
        S3UploadError::Offset { stored } => UploadStorageError::Offset { stored },
        S3UploadError::TooLong => UploadStorageError::TooLong,
        S3UploadError::Parts => UploadStorageError::Parts,
        S3UploadError::S3(S3Error::NotFound { .. }) => UploadStorageError::NotFound,
        S3UploadError::S3(S3Error::NoSpace { .. }) => UploadStorageError::NoSpace,
        S3UploadError::S3(error) => UploadStorageError::Unavailable(io::Error::other(error)),
    }
}

/// The same bytes, and an error at the end when they do not match.
fn checked(piece: ByteStream, checksum: &Checksum, is_wrong: Arc<AtomicBool>) -> ByteStream {
    futures::stream::unfold(Some((piece, checksum.hasher())), move |state| {
        let is_wrong = Arc::clone(&is_wrong);
        async move {
            let (mut piece, mut hasher) = state?;
            match piece.next().await {
                Some(Ok(bytes)) => {
                    hasher.update(&bytes);
                    Some((Ok(bytes), Some((piece, hasher))))
                }
                Some(Err(error)) => Some((Err(error), None)),
                None if hasher.is_match() => None,
                None => {
                    is_wrong.store(true, Ordering::Relaxed);
                    Some((Err(io::ErrorKind::InvalidData.into()), None))
                }
            }
        }
    })
    .boxed()
}

#[async_trait]
impl UploadStorage for BucketUploads {
    async fn begin(&self, id: Uuid, bytes: u64) -> Result<String, UploadStorageError> {
        self.0.begin(id, bytes).await.map_err(|e| told(e.into()))
    }

    async fn stored(&self, upload: &UploadRef) -> Result<u64, UploadStorageError> {
        self.0.stored(&named(upload)).await.map_err(|e| told(e.into()))
    }

    async fn append(
        &self,
        upload: &UploadRef,
        offset: u64,
        piece: ByteStream,
        checksum: Option<Checksum>,
    ) -> Result<Appended, UploadStorageError> {
        let is_wrong = Arc::new(AtomicBool::new(false));
        let whole = checksum.is_some();
        let piece = match &checksum {
            Some(checksum) => checked(piece, checksum, Arc::clone(&is_wrong)),
            None => piece,
        };
        let (offset, is_broken) = self.0.append(&named(upload), offset, piece, whole).await.map_err(told)?;
        if is_wrong.load(Ordering::Relaxed) {
            return Err(UploadStorageError::Checksum);
        }
        Ok(Appended { offset, is_broken })
    }

    async fn finish(&self, upload: &UploadRef) -> Result<String, UploadStorageError> {
        Ok(self.0.finish(&named(upload)).await.map_err(told)?.to_string())
    }

    async fn abort(&self, upload: &UploadRef) -> Result<(), UploadStorageError> {
        self.0.abort(&named(upload)).await.map_err(|e| told(e.into()))
    }

    async fn begin_direct(&self, id: Uuid, bytes: u64) -> Result<DirectBegun, UploadStorageError> {
        let (handle, part_bytes) = self.0.begin_direct(id, bytes).await.map_err(|e| told(e.into()))?;
        Ok(DirectBegun { handle, part_bytes })
    }

    async fn sign_parts(
        &self,
        upload: &UploadRef,
        first: u32,
        count: u32,
        ttl_ms: i64,
    ) -> Result<Vec<SignedRequest>, UploadStorageError> {
        let ttl = Duration::from_millis(u64::try_from(ttl_ms).unwrap_or_default());
        self.0.sign_parts(&named(upload), first, count, ttl).await.map_err(|e| told(e.into()))
    }

    async fn complete(&self, upload: &UploadRef, parts: &[PutPart]) -> Result<String, UploadStorageError> {
        let parts: Vec<(u32, String)> = parts.iter().map(|part| (part.number, part.etag.clone())).collect();
        Ok(self.0.complete(&named(upload), &parts).await.map_err(told)?.to_string())
    }
}
