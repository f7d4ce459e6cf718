//! The grant seam on S3: pins sources within what an installation reads, and signs requests for single objects.

use super::blobs::S3Blobs;
use super::connection::S3Connection;
use super::failure::S3Error;
use super::locator::S3Locator;
use super::presign::{presign_read, presign_write};
use super::sources::S3Sources;
use async_trait::async_trait;
use splitreel_backend::BlobError;
use splitreel_backend::grants::{GrantError, Grants, SignedRequest};
use splitreel_core::source::SourceRef;
use std::time::Duration;

/// Where sources may lie, as pairs of bucket and key prefix. An empty prefix is the whole bucket.
#[derive(Clone, Debug, Default)]
pub struct SourceScope {
    /// Sources lie in one of these; `None`: anywhere the keys reach.
    pub allowed: Option<Vec<(String, String)>>,
    /// And in none of these: where parts and outputs of jobs lie, which may be another tenant's.
    pub denied: Vec<(String, String)>,
}

impl SourceScope {
    /// Whether a source may lie there.
    pub fn allows(&self, object: &S3Locator) -> bool {
        let within = |places: &[(String, String)]| {
            places.iter().any(|(bucket, prefix)| *bucket == object.bucket && object.key.starts_with(prefix))
        };
        self.allowed.as_deref().is_none_or(within) && !within(&self.denied)
    }
}

/// Grants on the objects of a connection.
#[derive(Clone, Debug)]
pub struct S3Grants {
    sources: S3Sources,
    blobs: S3Blobs,
    scope: SourceScope,
}

impl S3Grants {
    /// Grants for the blobs of the work bucket and for sources within the scope.
    pub fn new(connection: S3Connection, scope: SourceScope) -> Self {
        S3Grants { sources: S3Sources::new(connection.clone()), blobs: S3Blobs::new(connection), scope }
    }

    fn source(&self, locator: &str) -> Result<S3Locator, GrantError> {
        let unusable = |why: String| GrantError::Unusable { what: locator.to_owned(), why };
        let object: S3Locator = locator.parse().map_err(|error| unusable(format!("{error}; give s3://bucket/key")))?;
        if !self.scope.allows(&object) {
            return Err(unusable("sources are not read from there; upload it, or ask for that bucket".to_owned()));
        }
        Ok(object)
    }

    fn blob(&self, key: &str) -> Result<S3Locator, GrantError> {
        self.blobs
            .object(key)
            .map_err(|error: BlobError| GrantError::Unusable { what: key.to_owned(), why: error.to_string() })
    }
}

fn told(what: &str) -> impl Fn(S3Error) -> GrantError {
    move |error| match error {
        S3Error::NotFound { .. } => GrantError::NotFound { what: what.to_owned() },
        S3Error::Locator(error) => GrantError::Unusable { what: what.to_owned(), why: error.to_string() },
        error => GrantError::Unavailable { what: what.to_owned(), source: Box::new(error) },
    }
}

fn lasting(ttl_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ttl_ms).unwrap_or_default())
}

#[async_trait]
impl Grants for S3Grants {
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError> {
        self.source(locator)?;
        self.sources.pin(locator).await.map_err(told(locator))
    }

    async fn read_source(&self, source: &SourceRef, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        self.source(&source.locator)?;
        self.sources.presign_get(source, lasting(ttl_ms)).await.map(Some).map_err(told(&source.locator))
    }

    async fn write_object(&self, key: &str, bytes: u64, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        let object = self.blob(key)?;
        let signed = presign_write(self.blobs.connection(), &object, bytes, None, lasting(ttl_ms)).await;
        signed.map(Some).map_err(told(key))
    }

    async fn read_object(&self, key: &str, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        let object = self.blob(key)?;
        let signed = presign_read(self.blobs.connection(), &object, None, lasting(ttl_ms)).await;
        signed.map(Some).map_err(told(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_places_win() {
        let place = |bucket: &str, prefix: &str| (bucket.to_owned(), prefix.to_owned());
        let object = |text: &str| text.parse::<S3Locator>().unwrap();
        let open = SourceScope { allowed: None, denied: vec![place("work", "jobs/")] };
        assert!(open.allows(&object("s3://inbox/a")) && open.allows(&object("s3://work/uploads/a")));
        assert!(!open.allows(&object("s3://work/jobs/1/a")));
        let closed = SourceScope {
            allowed: Some(vec![place("inbox", "in/"), place("work", "")]),
            denied: vec![place("work", "jobs/")],
        };
        assert!(closed.allows(&object("s3://inbox/in/a")) && closed.allows(&object("s3://work/x")));
        for text in ["s3://inbox/out/a", "s3://other/in/a", "s3://work/jobs/a"] {
            assert!(!closed.allows(&object(text)), "{text}");
        }
    }
}
