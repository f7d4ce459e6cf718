//! Uploads: sources that a client sends to this service in pieces (tus), or puts into storage itself by signed
//! requests. A complete upload is an object like any other, and may start a job.

mod answers;
mod checksum;
mod direct;
mod ledger;
mod local;
mod routes;
mod service;
mod storage;
mod tus;

pub use checksum::{ALGORITHMS, Checksum, ChecksumError, ChecksumHasher, Sha1, decode_base64};
pub use direct::{CompleteRequest, CompletedPart, DirectAnswer, DirectRequest, PartRequest};
pub use ledger::{Chore, KeptUpload, UPLOAD_KIND, Upload, Wish, WriteLock};
pub use local::LocalUploads;
pub use routes::{ROUTES, UPLOADS_SCOPE, uploads_router};
pub use service::{NewUpload, UploadError, Uploads, UploadsConfig};
pub use splitreel_client::types::{UploadAnswer, UploadState};
pub use storage::{Appended, ByteStream, DirectBegun, PutPart, UploadRef, UploadStorage, UploadStorageError};
