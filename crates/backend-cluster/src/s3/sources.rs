//! Objects of any bucket: what they are, pinning them, copying them, listing them. Signed requests are in `presign`.

use super::connection::S3Connection;
use super::failure::{S3Error, failed};
use super::head::{ObjectInfo, look, millis};
use super::locator::S3Locator;
use super::multipart::{self, Making};
use super::parts::Origin;
use aws_sdk_s3::types::{CompletedPart, MetadataDirective};
use splitreel_core::source::SourceRef;

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Key.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Entity tag with its quotes, where the server lists it.
    pub etag: Option<String>,
    /// Last change, milliseconds since the epoch, by the server's clock.
    pub modified_ms: Option<i64>,
}

/// Sources and outputs in any bucket that the keys may use.
#[derive(Clone, Debug)]
pub struct S3Sources {
    connection: S3Connection,
}

impl S3Sources {
    /// Uses a connection; its work bucket has no meaning here.
    pub fn new(connection: S3Connection) -> Self {
        S3Sources { connection }
    }

    pub(super) fn connection(&self) -> &S3Connection {
        &self.connection
    }

    /// What an object is now.
    ///
    /// # Errors
    /// [`S3Error::NotFound`], [`S3Error::Unavailable`].
    pub async fn head(&self, object: &S3Locator) -> Result<ObjectInfo, S3Error> {
        look(&self.connection, object, None).await
    }

    /// Looks at the object that `s3://bucket/key` names now, and pins its size and version: the version id where the
    /// bucket keeps versions, else the entity tag with its quotes.
    ///
    /// # Errors
    /// [`S3Error::Locator`], [`S3Error::NotFound`], [`S3Error::Unavailable`].
    pub async fn pin(&self, locator: &str) -> Result<SourceRef, S3Error> {
        let object: S3Locator = locator.parse()?;
        let info = self.head(&object).await?;
        // "null" is the version of what was stored while versioning was off: it can be replaced.
        let version = info.version_id.filter(|id| id != "null" && !id.is_empty()).or(info.etag);
        let version = version.ok_or_else(|| S3Error::other("pin", &object, "neither version nor entity tag"))?;
        Ok(SourceRef { locator: object.to_string(), bytes: info.bytes, version })
    }

    /// Copies an object on the server's side, in ranges when it is large; its bytes come here only when the server
    /// cannot copy. Answers its size.
    ///
    /// # Errors
    /// [`S3Error`]; the target then is as before or whole.
    pub async fn copy(&self, from: &S3Locator, to: &S3Locator, content_type: Option<&str>) -> Result<u64, S3Error> {
        let info = self.head(from).await?;
        if info.bytes <= self.connection.options().single_copy_bytes {
            match Box::pin(self.copy_once(from, to, content_type)).await {
                Err(S3Error::Unsupported { .. }) => self.connection.copies_not(),
                Err(error) => return Err(error),
                Ok(()) => {
                    let copied = self.head(to).await?.bytes;
                    if copied == info.bytes {
                        return Ok(copied);
                    }
                    return Err(S3Error::other("copy", to, format!("{copied} bytes long, not {}", info.bytes)));
                }
            }
        }
        let making = Making {
            connection: self.connection.clone(),
            object: to.clone(),
            content_type: content_type.map(str::to_owned),
            origins: vec![Origin::Object { from: from.clone(), bytes: info.bytes }].into(),
            file: None,
        };
        Box::pin(making.run()).await
    }

    async fn copy_once(&self, from: &S3Locator, to: &S3Locator, content_type: Option<&str>) -> Result<(), S3Error> {
        let request = self.connection.client().copy_object().bucket(&to.bucket).key(&to.key);
        let mut request = request.copy_source(from.encoded());
        if let Some(content_type) = content_type {
            request = request.metadata_directive(MetadataDirective::Replace).content_type(content_type);
        }
        let sent = request.customize().config_override(self.connection.slow()).send().await;
        sent.map(|_| ()).map_err(failed("copy", from))
    }

    /// Deletes an object; one that is gone is fine.
    ///
    /// # Errors
    /// [`S3Error::Unavailable`].
    pub async fn delete(&self, object: &S3Locator) -> Result<(), S3Error> {
        multipart::remove(&self.connection, object).await
    }

    /// Objects whose keys start with the prefix and come after `after`, in the order of keys; at most `limit`, and at
    /// most what the server gives at once (1000).
    ///
    /// # Errors
    /// [`S3Error::NotFound`] when there is no such bucket, [`S3Error::Unavailable`].
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, S3Error> {
        let mut page = list_page(&self.connection, bucket, prefix, after, Some(limit)).await?;
        page.listed.truncate(limit);
        Ok(page.listed)
    }

    /// Begins an upload whose parts others send by [`S3Sources::presign_part`]. The key must be fresh: that is what
    /// [`S3Sources::complete_upload`] knows the result by. Answers the upload's id.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn create_upload(&self, object: &S3Locator, content_type: Option<&str>) -> Result<String, S3Error> {
        multipart::begin(&self.connection, object, content_type, None).await
    }

    /// Completes an upload of `bytes` bytes from part numbers (from 1, ascending) with their entity tags. Safe to
    /// repeat: an upload that was completed before is recognised by the object of that size under its fresh key.
    ///
    /// # Errors
    /// [`S3Error`]; the upload is then still open unless that is what the error says.
    pub async fn complete_upload(
        &self,
        object: &S3Locator,
        upload: &str,
        parts: &[(i32, String)],
        bytes: u64,
    ) -> Result<ObjectInfo, S3Error> {
        let parts =
            parts.iter().map(|(number, etag)| CompletedPart::builder().part_number(*number).e_tag(etag).build());
        let told = multipart::complete(&self.connection, object, upload, parts.collect()).await;
        match (told, self.head(object).await) {
            (_, Ok(info)) if info.bytes == bytes => Ok(info),
            (Ok(()), Ok(info)) => {
                Err(S3Error::other("complete", object, format!("{} bytes long, not {bytes}", info.bytes)))
            }
            (Err(told), _) => Err(told),
            (Ok(()), Err(error)) => Err(error),
        }
    }

    /// Aborts an upload; one that is gone is fine.
    ///
    /// # Errors
    /// [`S3Error::Unavailable`].
    pub async fn abort_upload(&self, object: &S3Locator, upload: &str) -> Result<(), S3Error> {
        multipart::abort(&self.connection, object, upload).await
    }
}

/// One answer to a list request.
pub(super) struct Page {
    pub listed: Vec<Listed>,
    pub has_more: bool,
}

/// Lists what comes after a key. Without continuation tokens, so that a list can be taken up again at any key.
pub(super) async fn list_page(
    connection: &S3Connection,
    bucket: &str,
    prefix: &str,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Page, S3Error> {
    let whole = S3Locator { bucket: bucket.to_owned(), key: prefix.to_owned() };
    let limit = limit.map(|limit| i32::try_from(limit.clamp(1, 1000)).unwrap_or(1000));
    let request = connection.client().list_objects_v2().bucket(bucket).prefix(prefix);
    let request = request.set_start_after(after.map(str::to_owned)).set_max_keys(limit);
    let answer = Box::pin(request.send()).await.map_err(failed("list", &whole))?;
    let listed = answer.contents.unwrap_or_default().into_iter().filter_map(|object| {
        Some(Listed {
            key: object.key?,
            bytes: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            etag: object.e_tag,
            modified_ms: millis(object.last_modified),
        })
    });
    Ok(Page { listed: listed.collect(), has_more: answer.is_truncated.unwrap_or(false) })
}
