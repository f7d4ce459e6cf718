//! The grant seam: presigned requests for single objects, for processes that hold no credentials, and the pinning of
//! sources. A signed request names one object and one method and permits nothing else.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_core::source::SourceRef;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Why a source was not pinned or a request not signed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The source or object does not exist.
    #[error("there is nothing at {what}")]
    NotFound {
        /// Locator or key.
        what: String,
    },
    /// The locator is not of a form, or not in a place, that this deployment reads.
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

/// A presigned request: any holder may send it until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

/// Pins sources and signs requests.
#[async_trait]
pub trait Grants: Send + Sync {
    /// Pins the present size and version of the source at a locator (`s3://bucket/key`, a path).
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError>;
    /// Signed request to read a pinned source, in ranges; `None` when local workers open the locator directly.
    async fn read_source(&self, source: &SourceRef, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
    /// Signed request to store one object of a known size; `None` when local workers have the store itself.
    async fn write_object(&self, key: &str, bytes: u64, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
    /// Signed request to read one object; `None` when local workers have the store itself.
    async fn read_object(&self, key: &str, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
}

/// Pins a local file: its size and modification time.
///
/// # Errors
/// Those of the file system.
pub fn pin_file(path: &Path) -> std::io::Result<SourceRef> {
    let path = path.canonicalize()?;
    let meta = path.metadata()?;
    let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let locator = path.into_os_string().into_string().map_err(|p| {
        std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            format!("the path {} is not valid UTF-8: rename the file or its folder", p.display()),
        )
    })?;
    Ok(SourceRef { locator, bytes: meta.len(), version: format!("mtime-{modified}") })
}
