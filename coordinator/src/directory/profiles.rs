//! Profiles: the built-in ones, and those of a tenant in versions that never change once saved.

use super::DirectoryError;
use crate::documents::{all_records, put_document};
use serde::{Deserialize, Serialize};
use splitreel_backend::records::{Expect, Record, RecordKey};
use splitreel_backend::{Records, StoreError, World};
use splitreel_client::problem::{Mistake, pointer_of};
use splitreel_client::types::{ProfileChoice, ProfileView};
use splitreel_core::profile::{Profile, ProfileError};
use std::sync::Arc;

const PROFILE_KIND: &str = "profile";
/// Number of versions of a profile that are stored; jobs hold a copy of the profile they were made with.
const MAX_VERSIONS: usize = 50;
const MAX_NAME_BYTES: usize = 100;
/// The profile of a job that names none.
const DEFAULT_PROFILE: &str = "universal";

/// Why a profile was not found.
#[derive(Debug, thiserror::Error)]
pub enum ProfileLookupError {
    /// The tenant has no profile of this name and version.
    #[error("there is no profile {name:?}")]
    Unknown {
        /// The name as given, perhaps with `@version`.
        name: String,
    },
    /// The part after `@` is not a version number.
    #[error("there is no profile {name:?}: the version is not a number")]
    Version {
        /// The name as given.
        name: String,
    },
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A profile's name with an optional version: `name` or `name@3`.
struct ProfileName<'a> {
    name: &'a str,
    /// `None`: the newest.
    version: Option<u32>,
}

impl<'a> ProfileName<'a> {
    fn parse(text: &'a str) -> Result<Self, ProfileLookupError> {
        let Some((name, version)) = text.split_once('@') else { return Ok(ProfileName { name: text, version: None }) };
        match version.parse() {
            Ok(version) => Ok(ProfileName { name, version: Some(version) }),
            Err(_) => Err(ProfileLookupError::Version { name: text.to_owned() }),
        }
    }
}

/// One record holds all versions of a profile, so that saving one is one conditional write.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ProfileDocument {
    versions: Vec<SavedVersion>,
    /// The profile was deleted; a profile saved later under the same name continues the version numbers.
    #[serde(default)]
    is_deleted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedVersion {
    version: u32,
    saved_ms: i64,
    profile: Profile,
}

impl ProfileDocument {
    fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_value(record.doc.clone())
            .map_err(|e| StoreError::Corrupt { what: format!("profile {}: {e}", record.key.id) })
    }

    fn find(&self, version: Option<u32>) -> Option<&SavedVersion> {
        if self.is_deleted {
            return None;
        }
        match version {
            None => self.versions.last(),
            Some(version) => self.versions.iter().find(|v| v.version == version),
        }
    }

    /// Appends a version and drops the oldest beyond the limit.
    fn append(&mut self, profile: Profile, now_ms: i64) -> SavedVersion {
        let version = self.versions.last().map_or(0, |v| v.version).saturating_add(1);
        let saved = SavedVersion { version, saved_ms: now_ms, profile };
        self.is_deleted = false;
        self.versions.push(saved.clone());
        let surplus = self.versions.len().saturating_sub(MAX_VERSIONS);
        self.versions.drain(..surplus);
        saved
    }
}

fn view(saved: &SavedVersion) -> ProfileView {
    ProfileView {
        name: saved.profile.name.clone(),
        version: saved.version,
        is_built_in: false,
        saved_ms: Some(saved.saved_ms),
        profile: saved.profile.clone(),
    }
}

fn built_in(name: &str) -> Option<ProfileView> {
    let profile = Profile::built_in(name)?;
    Some(ProfileView { name: profile.name.clone(), version: 0, is_built_in: true, saved_ms: None, profile })
}

fn key(tenant: &str, name: &str) -> RecordKey {
    RecordKey { kind: PROFILE_KIND.into(), tenant: tenant.to_owned(), id: name.to_owned() }
}

/// Errors of a profile as mistakes of a request body; `prefix` is the profile's place in it.
fn profile_mistakes(prefix: &str, errors: Vec<ProfileError>) -> Vec<Mistake> {
    let place = |field: &str| format!("{prefix}{}", pointer_of(field));
    errors.into_iter().map(|e| Mistake { pointer: place(&e.field), message: e.message, hint: e.hint }).collect()
}

fn mistakes(name: &str, profile: &Profile) -> Vec<Mistake> {
    let mut mistakes = profile_mistakes("", profile.validate());
    if profile.name != name {
        mistakes.push(Mistake::new("/name", "differs from the name in the path", "use the same name in both"));
    }
    if name.len() > MAX_NAME_BYTES {
        mistakes.push(Mistake::new("/name", "too long", "use at most 100 characters"));
    }
    mistakes
}

/// Judges the condition of a write against the version of the stored profile; `None` = there is no such profile.
fn check_condition(condition: Option<Expect>, live: Option<i64>) -> Result<(), DirectoryError> {
    match (condition, live) {
        (Some(Expect::Version(meant)), Some(found)) if meant == found => Ok(()),
        (Some(Expect::Version(_)), _) => Err(DirectoryError::Changed),
        (Some(_), Some(_)) => Err(DirectoryError::Exists),
        (None, Some(_)) => Err(DirectoryError::VersionMissing),
        (Some(_) | None, None) => Ok(()),
    }
}

/// A profile that was saved.
#[derive(Debug)]
pub struct SavedProfile {
    /// The profile.
    pub profile: ProfileView,
    /// Version of its record: the ETag.
    pub record_version: i64,
    /// The tenant had no profile of this name.
    pub is_new: bool,
}

/// Profiles of all tenants; cheap to clone.
#[derive(Clone)]
pub struct Profiles {
    records: Arc<dyn Records>,
    world: World,
}

impl Profiles {
    pub(super) fn new(records: Arc<dyn Records>, world: World) -> Self {
        Profiles { records, world }
    }

    /// The built-in profiles and the tenant's own, the newest version of each.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn list(&self, tenant: &str) -> Result<Vec<ProfileView>, StoreError> {
        let mut profiles: Vec<ProfileView> = Profile::BUILT_IN.iter().filter_map(|name| built_in(name)).collect();
        for record in all_records(self.records.as_ref(), PROFILE_KIND, Some(tenant)).await? {
            profiles.extend(ProfileDocument::read(&record)?.find(None).map(view));
        }
        Ok(profiles)
    }

    /// A profile that a tenant may use, with the version of its record (0 when built in). `version` `None`: the newest.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn find(
        &self,
        tenant: &str,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<(ProfileView, i64)>, StoreError> {
        if let Some(profile) = built_in(name) {
            return Ok(version.is_none_or(|v| v == 0).then_some((profile, 0)));
        }
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Ok(None);
        }
        let Some(record) = self.records.get(&key(tenant, name)).await? else { return Ok(None) };
        Ok(ProfileDocument::read(&record)?.find(version).map(|saved| (view(saved), record.version)))
    }

    /// The profile that `name` or `name@version` means for a tenant.
    ///
    /// # Errors
    /// [`ProfileLookupError`].
    pub async fn resolve(&self, tenant: &str, name: &str) -> Result<Profile, ProfileLookupError> {
        let parsed = ProfileName::parse(name)?;
        let found = self.find(tenant, parsed.name, parsed.version).await?;
        found.map(|(view, _)| view.profile).ok_or_else(|| ProfileLookupError::Unknown { name: name.to_owned() })
    }

    /// The profile that a request chooses, by name or in full, or every mistake in the choice. `None`: the default.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn choose(
        &self,
        tenant: &str,
        choice: Option<&ProfileChoice>,
    ) -> Result<Result<Profile, Vec<Mistake>>, StoreError> {
        let name = match choice {
            Some(ProfileChoice::Inline(profile)) => {
                let mistakes = profile_mistakes("/profile", profile.validate());
                return Ok(if mistakes.is_empty() { Ok((**profile).clone()) } else { Err(mistakes) });
            }
            Some(ProfileChoice::Name(name)) => name.as_str(),
            None => DEFAULT_PROFILE,
        };
        Ok(match self.resolve(tenant, name).await {
            Ok(profile) => Ok(profile),
            Err(ProfileLookupError::Version { .. }) => {
                Err(vec![Mistake::new("/profile", "the version is not a number", "use name or name@3")])
            }
            Err(ProfileLookupError::Unknown { name }) => {
                let message = format!("there is no profile {name:?}");
                Err(vec![Mistake::new("/profile", message, "see GET /v1/profiles")])
            }
            Err(ProfileLookupError::Store(error)) => return Err(error),
        })
    }

    /// Saves a profile: a new one, or a new version when `condition` names the version of the record to replace.
    ///
    /// # Errors
    /// [`DirectoryError`]; mistakes of the profile are listed all at once.
    pub async fn save(
        &self,
        tenant: &str,
        name: &str,
        profile: Profile,
        condition: Option<Expect>,
    ) -> Result<SavedProfile, DirectoryError> {
        if Profile::BUILT_IN.contains(&name) {
            let detail = "The profile is built in: save a copy under another name.";
            return Err(DirectoryError::ReadOnly { detail });
        }
        let mistakes = mistakes(name, &profile);
        if !mistakes.is_empty() {
            return Err(DirectoryError::Invalid(mistakes));
        }
        let key = key(tenant, name);
        let record = self.records.get(&key).await?;
        let mut document = record.as_ref().map(ProfileDocument::read).transpose()?.unwrap_or_default();
        let live = record.as_ref().filter(|_| !document.is_deleted).map(|r| r.version);
        check_condition(condition, live)?;
        let now = self.world.clock.now_ms();
        let saved = document.append(profile, now);
        let expect = record.map_or(Expect::Absent, |r| Expect::Version(r.version));
        let written = put_document(self.records.as_ref(), &key, expect, &document, None, now).await?;
        let record_version = written.map_err(|_| DirectoryError::Changed)?;
        Ok(SavedProfile { profile: view(&saved), record_version, is_new: live.is_none() })
    }

    /// Deletes a profile whose record is at the version that `condition` names. Jobs made with it hold a copy.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn delete(&self, tenant: &str, name: &str, condition: Option<Expect>) -> Result<(), DirectoryError> {
        let missing = || DirectoryError::NotFound { what: "profile" };
        if Profile::BUILT_IN.contains(&name) {
            return Err(DirectoryError::ReadOnly { detail: "The profile is built in." });
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(missing());
        }
        let key = key(tenant, name);
        let record = self.records.get(&key).await?.ok_or_else(missing)?;
        let mut document = ProfileDocument::read(&record)?;
        if document.is_deleted {
            return Err(missing());
        }
        match condition {
            None => return Err(DirectoryError::VersionMissing),
            Some(Expect::Version(meant)) if meant == record.version => {}
            Some(_) => return Err(DirectoryError::Changed),
        }
        document.is_deleted = true;
        let (expect, now) = (Expect::Version(record.version), self.world.clock.now_ms());
        let written = put_document(self.records.as_ref(), &key, expect, &document, None, now).await?;
        written.map(|_| ()).map_err(|_| DirectoryError::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_a_version() {
        let of = |text| ProfileName::parse(text).map(|p| (p.name.to_owned(), p.version)).ok();
        assert_eq!(of("house"), Some(("house".to_owned(), None)));
        assert_eq!(of("house@3"), Some(("house".to_owned(), Some(3))));
        assert_eq!(of("house@"), None);
        assert_eq!(of("house@new"), None);
    }

    #[test]
    fn a_profile_is_replaced_only_with_its_current_version() {
        assert!(check_condition(None, None).is_ok());
        assert!(check_condition(Some(Expect::Absent), None).is_ok());
        assert!(check_condition(Some(Expect::Version(2)), Some(2)).is_ok());
        assert!(matches!(check_condition(Some(Expect::Version(1)), Some(2)), Err(DirectoryError::Changed)));
        assert!(matches!(check_condition(Some(Expect::Version(1)), None), Err(DirectoryError::Changed)));
        assert!(matches!(check_condition(Some(Expect::Absent), Some(2)), Err(DirectoryError::Exists)));
        assert!(matches!(check_condition(None, Some(2)), Err(DirectoryError::VersionMissing)));
    }
}
