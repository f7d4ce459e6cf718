//! Signed requests to sources and objects. All segments of a job read the same source: one signature serves them for a
//! while.

use splitreel_backend::cache::Cache;
use splitreel_backend::grants::{GrantError, Grants, SignedRequest};
use splitreel_backend::lease::SourceGrant;
use splitreel_core::source::SourceRef;
use std::sync::Arc;

/// Number of sources whose signed request is held in memory.
const MAX_RECENT: usize = 1024;

/// Signs requests to sources and objects; cheap to clone.
#[derive(Clone)]
pub struct SignedRequests {
    grants: Arc<dyn Grants>,
    /// By locator and version.
    recent: Arc<Cache<(String, String), SourceGrant>>,
}

impl SignedRequests {
    /// Signed requests by the given seam.
    pub fn new(grants: Arc<dyn Grants>) -> Self {
        SignedRequests { grants, recent: Arc::new(Cache::new(MAX_RECENT)) }
    }

    /// A request that reads a source, valid for at least half of `ttl_ms`. `None` when local workers open the locator
    /// directly.
    ///
    /// # Errors
    /// As [`Grants::read_source`].
    pub async fn read_source(
        &self,
        source: &SourceRef,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<Option<SourceGrant>, GrantError> {
        let key = (source.locator.clone(), source.version.clone());
        let lasts = |grant: &SourceGrant| grant.expires_ms.saturating_sub(now_ms) > ttl_ms / 2;
        if let Some(grant) = self.recent.get(&key, now_ms).filter(lasts) {
            return Ok(Some(grant));
        }
        let Some(signed) = self.grants.read_source(source, ttl_ms).await? else { return Ok(None) };
        let grant = source_grant(signed, source.bytes);
        self.recent.put(key, grant.clone(), now_ms);
        Ok(Some(grant))
    }

    /// A request that stores an object of `bytes` bytes.
    ///
    /// # Errors
    /// As [`Grants::write_object`].
    pub async fn write_object(&self, key: &str, bytes: u64, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        self.grants.write_object(key, bytes, ttl_ms).await
    }

    /// A request that reads an object.
    ///
    /// # Errors
    /// As [`Grants::read_object`].
    pub async fn read_object(&self, key: &str, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        self.grants.read_object(key, ttl_ms).await
    }
}

fn source_grant(request: SignedRequest, bytes: u64) -> SourceGrant {
    let (etag, headers): (Vec<_>, Vec<_>) = request.headers.into_iter().partition(|(name, _)| name == "if-match");
    SourceGrant {
        url: request.url,
        headers,
        bytes,
        etag: etag.into_iter().next().map(|(_, value)| value),
        sha256: None,
        expires_ms: request.expires_ms,
    }
}
