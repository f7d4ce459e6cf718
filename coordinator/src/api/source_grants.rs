//! Rights to read sources. All segments of a job read the same source: one signature serves them for a while.

use splitreel_backend::grants::{GrantError, Grants, SignedRequest};
use splitreel_backend::lease::SourceGrant;
use splitreel_core::source::SourceRef;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Sources whose grant is kept.
const MOST: usize = 1024;

/// Grants given lately, by locator and version.
#[derive(Default)]
pub(crate) struct SourceGrants(Mutex<HashMap<(String, String), SourceGrant>>);

impl SourceGrants {
    /// The right to read a source for at least half of `ttl_ms`; `None`: whoever works here reads it by its locator.
    ///
    /// # Errors
    /// As [`Grants::read_source`].
    pub(crate) async fn get(
        &self,
        grants: &dyn Grants,
        source: &SourceRef,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<Option<SourceGrant>, GrantError> {
        let key = (source.locator.clone(), source.version.clone());
        let lasts = |grant: &SourceGrant| grant.expires_ms.saturating_sub(now_ms) > ttl_ms / 2;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).filter(|g| lasts(g)).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(signed) = grants.read_source(source, ttl_ms).await? else { return Ok(None) };
        let grant = source_grant(signed, source.bytes);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key, grant.clone());
        Ok(Some(grant))
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
