//! Requests that are signed here and sent by processes without credentials. Signing asks no server.

use super::connection::S3Connection;
use super::failure::S3Error;
use super::locator::S3Locator;
use super::sources::S3Sources;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use splitreel_backend::grants::SignedRequest;
use splitreel_core::source::SourceRef;
use splitreel_telemetry::Chain;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Signatures last no longer (SigV4, "X-Amz-Expires").
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The entity tag that reads of a pinned source must be conditional on (`If-Match`), unless the pin is a version id,
/// which is part of the signed URL.
pub fn if_match(source: &SourceRef) -> Option<&str> {
    let version = source.version.as_str();
    (version.starts_with('"') || version.starts_with("W/\"")).then_some(version)
}

impl S3Sources {
    /// The right to read a pinned source, whole or in ranges (`Range` is not signed). A pin by entity tag comes with
    /// an `if-match` header, so that a replaced source is answered by 412 and never read.
    ///
    /// # Errors
    /// [`S3Error::Locator`], or when no keys are found.
    pub async fn presign_get(&self, source: &SourceRef, ttl: Duration) -> Result<SignedRequest, S3Error> {
        let object: S3Locator = source.locator.parse()?;
        let tag = if_match(source);
        let version = tag.is_none().then_some(source.version.as_str());
        let mut signed = presign_read(self.connection(), &object, version, ttl).await?;
        if let Some(tag) = tag {
            signed.headers.push(("if-match".to_owned(), tag.to_owned()));
        }
        Ok(signed)
    }

    /// The right to store one object of `bytes` bytes, with this sha256 where one is given (servers that store no
    /// checksums ignore it).
    ///
    /// # Errors
    /// [`S3Error::Unavailable`] when no keys are found.
    pub async fn presign_put(
        &self,
        object: &S3Locator,
        bytes: u64,
        sha256: Option<&[u8; 32]>,
        ttl: Duration,
    ) -> Result<SignedRequest, S3Error> {
        presign_write(self.connection(), object, bytes, sha256, ttl).await
    }

    /// The right to send one part (from 1 to 10,000; 5 MiB to 5 GiB, the last one less) of an upload. The answer's
    /// `ETag` header is needed to complete it.
    ///
    /// # Errors
    /// [`S3Error::Unavailable`] when no keys are found.
    pub async fn presign_part(
        &self,
        object: &S3Locator,
        upload: &str,
        number: i32,
        bytes: u64,
        ttl: Duration,
    ) -> Result<SignedRequest, S3Error> {
        let (config, expires_ms) = expiry(object, ttl)?;
        let request = self.connection().signer().upload_part().bucket(&object.bucket).key(&object.key);
        let request = request.upload_id(upload).part_number(number).content_length(length(object, bytes)?);
        let signed = Box::pin(request.presigned(config)).await;
        signed.map(|signed| taken(&signed, expires_ms)).map_err(|error| unsigned(object, &error))
    }
}

/// The right to read an object, or one version of it.
pub(super) async fn presign_read(
    connection: &S3Connection,
    object: &S3Locator,
    version: Option<&str>,
    ttl: Duration,
) -> Result<SignedRequest, S3Error> {
    let (config, expires_ms) = expiry(object, ttl)?;
    let request = connection.signer().get_object().bucket(&object.bucket).key(&object.key);
    let signed = Box::pin(request.set_version_id(version.map(str::to_owned)).presigned(config)).await;
    signed.map(|signed| taken(&signed, expires_ms)).map_err(|error| unsigned(object, &error))
}

/// The right to store an object of a known size.
pub(super) async fn presign_write(
    connection: &S3Connection,
    object: &S3Locator,
    bytes: u64,
    sha256: Option<&[u8; 32]>,
    ttl: Duration,
) -> Result<SignedRequest, S3Error> {
    let (config, expires_ms) = expiry(object, ttl)?;
    let request = connection.signer().put_object().bucket(&object.bucket).key(&object.key);
    let request = request.content_length(length(object, bytes)?).set_checksum_sha256(sha256.map(base64));
    let signed = Box::pin(request.presigned(config)).await;
    signed.map(|signed| taken(&signed, expires_ms)).map_err(|error| unsigned(object, &error))
}

fn length(object: &S3Locator, bytes: u64) -> Result<i64, S3Error> {
    i64::try_from(bytes).map_err(|_| S3Error::other("sign for", object, "the size is out of range"))
}

fn unsigned(object: &S3Locator, error: &dyn std::error::Error) -> S3Error {
    S3Error::other("sign for", object, Chain(error).to_string())
}

fn expiry(object: &S3Locator, ttl: Duration) -> Result<(PresigningConfig, i64), S3Error> {
    let ttl = ttl.clamp(Duration::from_secs(1), LONGEST);
    let now = SystemTime::now();
    let config = PresigningConfig::builder().start_time(now).expires_in(ttl).build();
    let config = config.map_err(|error| unsigned(object, &error))?;
    let until = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(ttl);
    Ok((config, i64::try_from(until.as_millis()).unwrap_or(i64::MAX)))
}

fn taken(request: &PresignedRequest, expires_ms: i64) -> SignedRequest {
    let headers = request.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    SignedRequest {
        method: request.method().to_owned(),
        url: request.uri().to_owned(),
        headers: headers.collect(),
        expires_ms,
    }
}

/// Base64 with padding (RFC 4648 §4) of a digest.
fn base64(digest: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| DIGITS.get(bits as usize & 63).copied().map(char::from).unwrap_or_default();
    let mut text = String::with_capacity(44);
    for triple in digest.chunks(3) {
        let byte = |at: usize| u32::from(triple.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            text.push(if at <= triple.len() { digit(bits >> (18 - 6 * at)) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_the_protocol_wants_them() {
        assert_eq!(base64(&[0; 32]), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        assert_eq!(base64(&[0xff; 32]), "//////////////////////////////////////////8=");
        let counting: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(base64(&counting), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    }

    #[test]
    fn only_entity_tags_are_conditions() {
        let source =
            |version: &str| SourceRef { locator: "s3://inbox/k".to_owned(), bytes: 1, version: version.to_owned() };
        assert_eq!(if_match(&source("\"abc-2\"")), Some("\"abc-2\""));
        assert_eq!(if_match(&source("3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY")), None);
    }
}
