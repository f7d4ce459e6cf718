//! HEAD: what an object is, without its bytes.

use super::connection::S3Connection;
use super::failure::{S3Error, failed};
use super::locator::S3Locator;
use aws_sdk_s3::primitives::DateTime;

/// Name of the metadata entry that holds the mark of the upload that made an object.
pub(super) const MARK: &str = "splitreel-upload";

/// Metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub bytes: u64,
    /// Entity tag with its quotes.
    pub etag: Option<String>,
    /// Version, where the bucket keeps versions.
    pub version_id: Option<String>,
    /// Last change, milliseconds since the epoch, by the server's clock.
    pub modified_ms: Option<i64>,
    /// The mark of the upload that made it.
    pub(super) mark: Option<String>,
}

/// Metadata of an object, or of one version of it.
pub(super) async fn look(
    connection: &S3Connection,
    object: &S3Locator,
    version: Option<&str>,
) -> Result<ObjectInfo, S3Error> {
    let request = connection.client().head_object().bucket(&object.bucket).key(&object.key);
    let request = request.set_version_id(version.map(str::to_owned));
    let answer = Box::pin(request.send()).await.map_err(failed("look at", object))?;
    let bytes = answer.content_length.and_then(|length| u64::try_from(length).ok());
    let bytes = bytes.ok_or_else(|| S3Error::other("look at", object, "an answer without a length"))?;
    let mark = answer.metadata.as_ref().and_then(|metadata| metadata.get(MARK)).cloned();
    let modified_ms = millis(answer.last_modified);
    Ok(ObjectInfo { bytes, etag: answer.e_tag, version_id: answer.version_id, modified_ms, mark })
}

pub(super) fn millis(at: Option<DateTime>) -> Option<i64> {
    at.and_then(|at| at.to_millis().ok())
}
