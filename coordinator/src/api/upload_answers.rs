//! What the routes of uploads answer: upload errors as problems, uploads as documents.

use super::problem::ApiError;
use crate::directory::ProfileLookupError;
use crate::uploads::{StoredUpload, UploadError};
use axum::http::StatusCode;
use splitreel_backend::uploads::UploadStorageError;
use splitreel_client::problem::Code;
use splitreel_client::types::UploadAnswer;

/// Status of a piece that does not match its checksum (tus checksum extension).
const CHECKSUM_MISMATCH: u16 = 460;

impl From<StoredUpload> for UploadAnswer {
    fn from(kept: StoredUpload) -> Self {
        let upload = kept.upload;
        UploadAnswer {
            id: kept.id,
            bytes: upload.bytes,
            offset: upload.offset,
            state: upload.state,
            name: upload.name,
            job: upload.job,
            job_error: upload.job_error,
            expires_ms: upload.expires_ms,
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        let other = |status: StatusCode, code, title| ApiError::other(status, code, title, error.to_string());
        match &error {
            UploadError::NotFound => ApiError::not_found("upload"),
            UploadError::Expired => other(StatusCode::GONE, "upload_expired", "The upload has expired."),
            UploadError::Locked => other(StatusCode::LOCKED, "upload_locked", "Another request is writing."),
            UploadError::Offset { .. } => other(StatusCode::CONFLICT, "offset_mismatch", "Another offset is expected."),
            UploadError::TooLarge { .. } => ApiError::new(Code::TooLarge, error.to_string()),
            UploadError::Checksum => {
                let status = StatusCode::from_u16(CHECKSUM_MISMATCH).unwrap_or(StatusCode::BAD_REQUEST);
                other(status, "checksum_mismatch", "The piece does not match its checksum.")
            }
            UploadError::TooMany { .. } => ApiError::new(Code::QuotaExceeded, error.to_string()),
            UploadError::Kind { .. } => other(StatusCode::CONFLICT, "upload_kind", "The upload is of another kind."),
            UploadError::Parts => ApiError::invalid([("/parts".to_owned(), error.to_string())]),
            UploadError::Profile(ProfileLookupError::Unknown { .. } | ProfileLookupError::Version { .. }) => {
                ApiError::invalid([("/profile".to_owned(), error.to_string())])
            }
            UploadError::NoSpace => {
                tracing::error!(%error, "upload failed: no space left");
                other(StatusCode::INSUFFICIENT_STORAGE, "no_space", "There is no space left.")
            }
            UploadError::Unsupported => ApiError::new(Code::NoGrants, "Use the tus protocol on /v1/uploads."),
            // What begin or finish finds missing was deleted by another request.
            UploadError::Storage(UploadStorageError::NotFound) => ApiError::not_found("upload"),
            UploadError::Store(_)
            | UploadError::Storage(_)
            | UploadError::Start(_)
            | UploadError::Profile(ProfileLookupError::Store(_)) => {
                tracing::warn!(%error, "upload failed; the client may resume");
                ApiError::unavailable("The stored bytes are kept: resume the upload later.")
            }
        }
    }
}
