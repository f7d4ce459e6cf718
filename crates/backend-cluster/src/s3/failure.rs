//! What a server's refusal means. One error type; what the blob seam makes of it is decided here too.

use super::locator::{LocatorError, S3Locator};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use splitreel_backend::BlobError;
use splitreel_telemetry::Chain;
use std::error::Error;
use std::io::{self, ErrorKind};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// No such object, bucket, version or upload.
    #[error("there is no {object}")]
    NotFound {
        /// The object.
        object: S3Locator,
    },
    /// It is not the object that was asked for: replaced since it was pinned, or while it was read.
    #[error("{object} was replaced")]
    Replaced {
        /// The object.
        object: S3Locator,
    },
    /// The server does not take this key.
    #[error("{object} cannot be a key here")]
    BadKey {
        /// The object.
        object: S3Locator,
    },
    /// Full, or a quota is reached.
    #[error("no space left to store {object}")]
    NoSpace {
        /// The object.
        object: S3Locator,
    },
    /// The parts named at completion differ from the stored parts, or are too small.
    #[error("the parts do not make up {object}")]
    Parts {
        /// The object.
        object: S3Locator,
    },
    /// The server does not know the operation.
    #[error("the server cannot {operation} {object}")]
    Unsupported {
        /// The operation.
        operation: &'static str,
        /// The object.
        object: S3Locator,
    },
    /// No locator.
    #[error(transparent)]
    Locator(#[from] LocatorError),
    /// Anything else: try again. A refusal for lack of rights is one of them, with
    /// [`ErrorKind::PermissionDenied`]: rights are mended while jobs wait.
    #[error("could not {operation} {object}")]
    Unavailable {
        /// The operation.
        operation: &'static str,
        /// The object.
        object: S3Locator,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl S3Error {
    /// A failure that is not the server's word.
    pub(super) fn io(operation: &'static str, object: &S3Locator, source: io::Error) -> Self {
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return S3Error::NoSpace { object: object.clone() };
        }
        S3Error::Unavailable { operation, object: object.clone(), source }
    }

    /// A failure in words.
    pub(super) fn other(operation: &'static str, object: &S3Locator, why: impl Into<String>) -> Self {
        S3Error::io(operation, object, io::Error::other(why.into()))
    }

    /// The same for the blob seam. `key` names the blob whose operation failed; when the object at fault is another
    /// one below the prefix, that one is named.
    pub(super) fn into_blob(self, key: &str, prefix: &str) -> BlobError {
        let named = |object: &S3Locator| object.key.strip_prefix(prefix).unwrap_or(key).to_owned();
        match self {
            S3Error::NotFound { object } => BlobError::NotFound { key: named(&object) },
            S3Error::BadKey { object } => BlobError::BadKey { key: named(&object) },
            S3Error::NoSpace { object } => BlobError::NoSpace { key: named(&object) },
            S3Error::Unavailable { object, source, .. } => BlobError::Unavailable { key: named(&object), source },
            S3Error::Replaced { .. } | S3Error::Parts { .. } | S3Error::Unsupported { .. } | S3Error::Locator(_) => {
                BlobError::Unavailable { key: key.to_owned(), source: io::Error::other(self) }
            }
        }
    }
}

/// What a status and an error code mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    NotFound,
    Replaced,
    BadKey,
    NoSpace,
    Parts,
    Unsupported,
    Denied,
    TimedOut,
    Other,
}

/// Codes are those of the S3 API reference ("Error responses"), of MinIO and RustFS (`XMinio…`) and of Ceph.
fn meaning(status: Option<u16>, code: Option<&str>) -> Meaning {
    match (code.unwrap_or_default(), status) {
        ("NoSuchKey" | "NoSuchBucket" | "NoSuchVersion" | "NoSuchUpload" | "NotFound", _) => Meaning::NotFound,
        ("PreconditionFailed", _) => Meaning::Replaced,
        ("KeyTooLongError" | "KeyTooLong" | "InvalidObjectName" | "XMinioInvalidObjectName" | "InvalidURI", _) => {
            Meaning::BadKey
        }
        (
            "QuotaExceeded"
            | "XMinioStorageFull"
            | "XMinioAdminBucketQuotaExceeded"
            | "InsufficientStorage"
            | "InsufficientStorageSpace"
            | "StorageFull",
            _,
        ) => Meaning::NoSpace,
        ("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall", _) => Meaning::Parts,
        ("NotImplemented" | "MethodNotAllowed" | "UnsupportedOperation", _) => Meaning::Unsupported,
        ("AccessDenied" | "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "ExpiredToken", _) => Meaning::Denied,
        ("RequestTimeout", _) => Meaning::TimedOut,
        (_, Some(404)) => Meaning::NotFound,
        (_, Some(412)) => Meaning::Replaced,
        (_, Some(507)) => Meaning::NoSpace,
        (_, Some(405 | 501)) => Meaning::Unsupported,
        (_, Some(401 | 403)) => Meaning::Denied,
        _ => Meaning::Other,
    }
}

/// Turns what the client library says into an [`S3Error`].
pub(super) fn failed<E>(operation: &'static str, object: &S3Locator) -> impl Fn(SdkError<E, HttpResponse>) -> S3Error
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    move |error| {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.as_service_error().and_then(|service| service.code());
        let object = object.clone();
        let kind = match meaning(status, code) {
            Meaning::NotFound => return S3Error::NotFound { object },
            Meaning::Replaced => return S3Error::Replaced { object },
            Meaning::BadKey => return S3Error::BadKey { object },
            Meaning::NoSpace => return S3Error::NoSpace { object },
            Meaning::Parts => return S3Error::Parts { object },
            Meaning::Unsupported => return S3Error::Unsupported { operation, object },
            Meaning::Denied => ErrorKind::PermissionDenied,
            Meaning::TimedOut => ErrorKind::TimedOut,
            Meaning::Other if is_timeout(&error) => ErrorKind::TimedOut,
            Meaning::Other => ErrorKind::Other,
        };
        S3Error::Unavailable { operation, object, source: io::Error::new(kind, told(status, code, &error)) }
    }
}

/// The code of a service error, for callers that know better what it means.
pub(super) fn status_of<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn is_timeout<E>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => failure.is_timeout(),
        _ => false,
    }
}

/// Status and code, or the chain of causes when no server answered.
fn told<E>(status: Option<u16>, code: Option<&str>, error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let message = error.as_service_error().and_then(|service| service.message());
    match (status, code, message) {
        (Some(status), Some(code), Some(message)) => format!("{code} ({status}): {message}"),
        (Some(status), Some(code), None) => format!("{code} ({status})"),
        (Some(status), None, _) => format!("status {status}"),
        (None, ..) => Chain(error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_win_over_statuses() {
        for (status, code, expected) in [
            (Some(404), Some("NoSuchKey"), Meaning::NotFound),
            (Some(404), None, Meaning::NotFound),
            (Some(403), Some("QuotaExceeded"), Meaning::NoSpace),
            (Some(507), Some("Whatever"), Meaning::NoSpace),
            (Some(400), Some("KeyTooLongError"), Meaning::BadKey),
            (Some(501), Some("NotImplemented"), Meaning::Unsupported),
            (Some(400), Some("InvalidPart"), Meaning::Parts),
            (Some(405), None, Meaning::Unsupported),
            (Some(403), Some("AccessDenied"), Meaning::Denied),
            (Some(412), Some("PreconditionFailed"), Meaning::Replaced),
            (Some(503), Some("SlowDown"), Meaning::Other),
            (None, None, Meaning::Other),
        ] {
            assert_eq!(meaning(status, code), expected, "{status:?} {code:?}");
        }
    }

    #[test]
    fn blob_errors_name_blobs() {
        let object = S3Locator::new("work", "pre/a/b").unwrap();
        let error = S3Error::NotFound { object: object.clone() }.into_blob("x", "pre/");
        assert!(matches!(error, BlobError::NotFound { key } if key == "a/b"));
        let full = S3Error::io("store", &object, ErrorKind::StorageFull.into()).into_blob("x", "pre/");
        assert!(matches!(full, BlobError::NoSpace { key } if key == "a/b"));
        let other = S3Error::Replaced { object }.into_blob("x", "pre/");
        assert!(matches!(other, BlobError::Unavailable { key, .. } if key == "x"));
    }
}
