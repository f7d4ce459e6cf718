//! The grant seam: narrow, expiring rights to single objects, for processes that hold no credentials; and the
//! pinning of sources. A grant names one object and one method; who has it can do nothing else.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_core::source::SourceRef;

/// Why a grant was not given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// There is no such source or object.
    #[error("there is nothing at {what}")]
    NotFound {
        /// Locator or key.
        what: String,
    },
    /// The locator is not of a form, or not in a place, that this installation reads.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// Locator or key.
        what: String,
        /// Reason and remedy.
        why: String,
    },
    /// Storage did not answer: try again.
    #[error("storage did not answer about {what}")]
    Unavailable {
        /// Locator or key.
        what: String,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A request that whoever holds it may make until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest {
    /// HTTP method.
    pub method: String,
    /// URL with its signature.
    pub url: String,
    /// Headers that must be sent along, by lower-case name.
    pub headers: Vec<(String, String)>,
    /// Milliseconds since the epoch.
    pub expires_ms: i64,
}

/// Pins sources and gives grants.
#[async_trait]
pub trait Grants: Send + Sync {
    /// Looks at what the locator (`s3://bucket/key`, a path) names now and pins its size and version.
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError>;
    /// The right to read a pinned source, in ranges. `None`: whoever works here reads it by its locator.
    async fn read_source(&self, source: &SourceRef, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
    /// The right to store one object of a known size. `None`: whoever works here has the store itself.
    async fn write_object(&self, key: &str, bytes: u64, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
    /// The right to read one object. `None`: whoever works here has the store itself.
    async fn read_object(&self, key: &str, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
}
