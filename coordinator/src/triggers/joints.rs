//! Where triggers and the API meet: the API knows tokens and profiles, triggers ask for them.

use super::intake::{ProfileLookupError, Profiles};
use crate::api::Api;
use async_trait::async_trait;
use splitreel_backend::StoreError;
use splitreel_core::profile::Profile;
use std::sync::{Arc, OnceLock};

#[async_trait]
impl Profiles for Api {
    async fn resolve(&self, tenant: &str, name: &str) -> Result<Profile, ProfileLookupError> {
        let unknown = || ProfileLookupError::Unknown { name: name.to_owned() };
        let (base, version) = match name.split_once('@') {
            None => (name, None),
            Some((base, version)) => (base, Some(version.parse().map_err(|_| unknown())?)),
        };
        let found = self.profile_by_name(tenant, base, version).await?;
        found.map(|view| view.profile).ok_or_else(unknown)
    }
}

/// Profiles that are set later, once: the API is made of uploads, uploads of the intake, and the intake needs the
/// API's profiles. Until they are set, nothing is found and callers try again.
#[derive(Default)]
pub struct LateProfiles {
    profiles: OnceLock<Arc<dyn Profiles>>,
}

impl LateProfiles {
    /// Sets them. False: they were set before.
    pub fn set(&self, profiles: Arc<dyn Profiles>) -> bool {
        self.profiles.set(profiles).is_ok()
    }
}

#[async_trait]
impl Profiles for LateProfiles {
    async fn resolve(&self, tenant: &str, name: &str) -> Result<Profile, ProfileLookupError> {
        match self.profiles.get() {
            Some(profiles) => profiles.resolve(tenant, name).await,
            None => Err(StoreError::Unavailable("profiles are not there yet".into()).into()),
        }
    }
}
