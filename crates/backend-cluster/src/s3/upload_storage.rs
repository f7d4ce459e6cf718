//! The upload seam on S3 multipart uploads.

use super::failure::S3Error;
use super::uploads::{S3Upload, S3UploadError, S3Uploads};
use async_trait::async_trait;
use futures::StreamExt;
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::uploads::{
    Appended, ByteStream, Checksum, DirectUpload, PutPart, UploadRef, UploadStorage, UploadStorageError,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;

fn s3_upload(upload: &UploadRef) -> S3Upload {
    S3Upload { id: upload.id, handle: upload.handle.clone(), bytes: upload.bytes }
}

fn storage_error(error: S3UploadError) -> UploadStorageError {
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
impl UploadStorage for S3Uploads {
    async fn begin(&self, id: Uuid, bytes: u64) -> Result<String, UploadStorageError> {
        S3Uploads::begin(self, id, bytes).await.map_err(|e| storage_error(e.into()))
    }

    async fn stored(&self, upload: &UploadRef) -> Result<u64, UploadStorageError> {
        S3Uploads::stored(self, &s3_upload(upload)).await.map_err(|e| storage_error(e.into()))
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
        let (offset, is_broken) =
            S3Uploads::append(self, &s3_upload(upload), offset, piece, whole).await.map_err(storage_error)?;
        if is_wrong.load(Ordering::Relaxed) {
            return Err(UploadStorageError::Checksum);
        }
        Ok(Appended { offset, is_broken })
    }

    async fn finish(&self, upload: &UploadRef) -> Result<String, UploadStorageError> {
        Ok(S3Uploads::finish(self, &s3_upload(upload)).await.map_err(storage_error)?.to_string())
    }

    async fn abort(&self, upload: &UploadRef) -> Result<(), UploadStorageError> {
        S3Uploads::abort(self, &s3_upload(upload)).await.map_err(|e| storage_error(e.into()))
    }

    async fn begin_direct(&self, id: Uuid, bytes: u64) -> Result<DirectUpload, UploadStorageError> {
        let (handle, part_bytes) =
            S3Uploads::begin_direct(self, id, bytes).await.map_err(|e| storage_error(e.into()))?;
        Ok(DirectUpload { handle, part_bytes })
    }

    async fn sign_parts(
        &self,
        upload: &UploadRef,
        first: u32,
        count: u32,
        ttl_ms: i64,
    ) -> Result<Vec<SignedRequest>, UploadStorageError> {
        let ttl = Duration::from_millis(u64::try_from(ttl_ms).unwrap_or_default());
        S3Uploads::sign_parts(self, &s3_upload(upload), first, count, ttl).await.map_err(|e| storage_error(e.into()))
    }

    async fn complete(&self, upload: &UploadRef, parts: &[PutPart]) -> Result<String, UploadStorageError> {
        let parts: Vec<(u32, String)> = parts.iter().map(|part| (part.number, part.etag.clone())).collect();
        Ok(S3Uploads::complete(self, &s3_upload(upload), &parts).await.map_err(storage_error)?.to_string())
    }
}
