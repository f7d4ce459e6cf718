//! Uploads: sources that a client sends to this service in pieces (tus), or puts into storage itself by signed
//! requests. A complete upload is an object like any other, and may start a job.

mod error;
mod ledger;
mod service;
pub(crate) mod tus;

pub use error::UploadError;
pub use ledger::{NextAction, RequestedJob, StoredUpload, UPLOAD_KIND, Upload, WriteLock};
pub use service::{NewUpload, Uploads, UploadsConfig};
pub use splitreel_client::types::{UploadAnswer, UploadState};
