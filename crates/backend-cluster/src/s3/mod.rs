//! S3 and what speaks its protocol: objects of the work bucket behind the blob seam, sources and outputs in any
//! bucket, and signed requests for processes that hold no credentials.
//!
//! Servers differ, so little is taken for granted: no conditional write, no stored checksum, no life-cycle rule is
//! relied on, and neither is any answer to a request that may have been carried out. What a key holds is looked at.

mod blobs;
mod body;
mod buckets;
mod connection;
mod failure;
mod grants;
mod head;
mod locator;
mod measure;
mod multipart;
mod options;
mod outputs;
mod parts;
mod presign;
mod sources;
mod upload_storage;
mod uploads;

pub use blobs::S3Blobs;
pub use connection::S3Connection;
pub use failure::S3Error;
pub use grants::{S3Grants, SourceScope};
pub use head::ObjectInfo;
pub use locator::{LocatorError, S3Locator};
pub use options::{ChecksumMode, S3Keys, S3Options, S3OptionsError, Secret};
pub use outputs::S3Outputs;
pub use presign::if_match;
pub use sources::{Listed, S3Sources};
pub use uploads::{OPEN_UPLOADS_PREFIX, S3Upload, S3UploadError, S3Uploads, UPLOADS_PREFIX};
