//! Why a request to an upload is refused.

use crate::accept::StartError;
use crate::directory::ProfileLookupError;
use splitreel_backend::StoreError;
use splitreel_backend::uploads::UploadStorageError;

/// Why an upload request was refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The tenant has no such upload.
    #[error("there is no such upload")]
    NotFound,
    /// The upload was not continued in time.
    #[error("the upload has expired")]
    Expired,
    /// Another request is writing to it.
    #[error("another request is writing to the upload")]
    Locked,
    /// The piece begins elsewhere than where the upload ends.
    #[error("expected offset {offset}")]
    Offset {
        /// Bytes that are stored.
        offset: u64,
    },
    /// It is, or would become, larger than allowed.
    #[error("the upload is larger than {max} bytes")]
    TooLarge {
        /// What is allowed.
        max: u64,
    },
    /// The piece does not match its checksum.
    #[error("the piece does not match its checksum")]
    Checksum,
    /// The tenant keeps as many as allowed.
    #[error("at most {max} uploads are kept")]
    TooMany {
        /// What is allowed.
        max: usize,
    },
    /// It is not of the kind that the request is for.
    #[error("wrong upload type: {why}")]
    Kind {
        /// What to do.
        why: &'static str,
    },
    /// What was put does not make up the upload.
    #[error("the parts do not make up the upload")]
    Parts,
    /// The wish cannot be fulfilled.
    #[error(transparent)]
    Profile(#[from] ProfileLookupError),
    /// No space is left.
    #[error("no space is left for uploads")]
    NoSpace,
    /// The storage takes no direct uploads.
    #[error("direct uploads are not enabled")]
    Unsupported,
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The upload storage failed.
    #[error("the upload storage failed")]
    Storage(#[source] UploadStorageError),
    /// The upload is complete, but the job or the look at the object failed.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl From<UploadStorageError> for UploadError {
    fn from(error: UploadStorageError) -> Self {
        match error {
            UploadStorageError::Busy => UploadError::Locked,
            UploadStorageError::Offset { stored } => UploadError::Offset { offset: stored },
            UploadStorageError::Checksum => UploadError::Checksum,
            UploadStorageError::Parts => UploadError::Parts,
            UploadStorageError::NoSpace => UploadError::NoSpace,
            UploadStorageError::Unsupported => UploadError::Unsupported,
            error => UploadError::Storage(error),
        }
    }
}
