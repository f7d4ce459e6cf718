//! The directory: tenants, profiles and tokens. Records in, values out; nothing here knows of HTTP.

mod caller;
mod profiles;
mod tenants;
mod tokens;

pub use caller::Caller;
pub use profiles::{ProfileLookupError, Profiles, SavedProfile};
pub use tenants::{TENANT_KIND, Tenants};
pub use tokens::{Identified, TOKEN_KIND, Tokens};

use splitreel_backend::{Records, Secrets, StoreError, World};
use splitreel_client::problem::Mistake;
use splitreel_telemetry::redact::Secret;
use std::sync::Arc;

/// Tokens that are valid without a record, and their tenant.
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    /// An administrator's token, at least 16 bytes.
    pub admin_token: Option<Secret<String>>,
    /// A token with the scope `work`, for workers and assemblers; at least 16 bytes.
    pub work_token: Option<Secret<String>>,
    /// The tenant of both tokens.
    pub tenant: String,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        DirectoryConfig { admin_token: None, work_token: None, tenant: "default".to_owned() }
    }
}

/// The directory's settings are not safe to run with.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryConfigError {
    /// A configured token is too short.
    #[error("a configured token has {bytes} bytes; it needs at least 16")]
    ShortToken {
        /// Length of the token.
        bytes: usize,
    },
    /// The tenant of the configured tokens has no valid name.
    #[error("invalid tenant name {name:?}: use 1 to 64 letters, digits, . - _")]
    TenantName {
        /// The given name.
        name: String,
    },
}

/// Why the directory refused a request.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The request has mistakes; all of them are listed.
    #[error("the request has {} mistakes", .0.len())]
    Invalid(Vec<Mistake>),
    /// The entry does not exist, or belongs to another tenant.
    #[error("the {what} does not exist")]
    NotFound {
        /// Kind of the entry.
        what: &'static str,
    },
    /// The entry is not at the expected version.
    #[error("the entry was changed in the meantime")]
    Changed,
    /// An entry of this name already exists.
    #[error("the entry already exists")]
    Exists,
    /// The request replaces an entry without naming the version to replace.
    #[error("the version to replace is missing")]
    VersionMissing,
    /// The entry is built in and cannot be changed.
    #[error("{detail}")]
    ReadOnly {
        /// Reason and remedy.
        detail: &'static str,
    },
    /// The caller's token does not allow the request.
    #[error("{detail}")]
    Forbidden {
        /// Reason.
        detail: String,
    },
    /// The system gave no random bytes.
    #[error("random number generator unavailable")]
    NoRandomness,
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tenants, profiles and tokens; cheap to clone.
#[derive(Clone)]
pub struct Directory {
    /// Weights, quotas and allowed sources.
    pub tenants: Tenants,
    /// Encoding profiles by name and version.
    pub profiles: Profiles,
    /// Bearer tokens.
    pub tokens: Tokens,
}

impl Directory {
    /// A directory over the given records.
    ///
    /// # Errors
    /// [`DirectoryConfigError`] when the settings are not safe to run with.
    pub fn new(
        config: DirectoryConfig,
        records: Arc<dyn Records>,
        world: World,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Self, DirectoryConfigError> {
        Ok(Directory {
            tenants: Tenants::new(Arc::clone(&records), world.clone()),
            profiles: Profiles::new(Arc::clone(&records), world.clone()),
            tokens: Tokens::new(config, records, world, secrets)?,
        })
    }
}
