//! Tenants: weights, quotas and allowed sources. One record per tenant that differs from the defaults.

use super::DirectoryError;
use crate::documents::{all_records, put_document};
use splitreel_backend::cache::Cache;
use splitreel_backend::records::{Expect, Record, RecordKey};
use splitreel_backend::{Records, StoreError, World};
use splitreel_client::problem::Mistake;
use splitreel_client::types::{Tenant, TenantSettings};
use splitreel_core::fair::{Share, Shares};
use std::sync::Arc;

/// Kind of the records of tenants.
pub const TENANT_KIND: &str = "tenant";
/// Maximum age of settings served from memory, in milliseconds.
const RECENT_MS: i64 = 5_000;
/// Number of tenants whose settings are held in memory.
const MAX_RECENT: usize = 10_000;

/// Settings of tenants; cheap to clone.
#[derive(Clone)]
pub struct Tenants {
    records: Arc<dyn Records>,
    world: World,
    recent: Arc<Cache<String, TenantSettings>>,
}

/// Whether a text is a tenant's name: 1 to 64 letters, digits, `.`, `-`, `_`.
pub(super) fn is_tenant_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// The mistake of a name that is none.
pub(super) fn name_mistake(pointer: &str) -> Mistake {
    Mistake::new(pointer, "invalid tenant name", "use 1 to 64 letters, digits, . - _")
}

fn key(tenant: &str) -> RecordKey {
    RecordKey { kind: TENANT_KIND.into(), tenant: String::new(), id: tenant.to_owned() }
}

fn settings_of(record: &Record) -> Result<TenantSettings, StoreError> {
    serde_json::from_value(record.doc.clone())
        .map_err(|e| StoreError::Corrupt { what: format!("tenant {}: {e}", record.key.id) })
}

fn tenant_of(record: &Record) -> Result<Tenant, StoreError> {
    Ok(Tenant { tenant: record.key.id.clone(), settings: settings_of(record)?, version: record.version })
}

/// Every mistake in the settings of a tenant.
fn mistakes(name: &str, settings: &TenantSettings) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if !is_tenant_name(name) {
        mistakes.push(name_mistake("tenant"));
    }
    if !(1..=1000).contains(&settings.weight) {
        mistakes.push(Mistake::new("/weight", "out of range", "use 1 to 1000"));
    }
    if settings.requests_per_second.is_some_and(|r| !(1..=100_000).contains(&r)) {
        mistakes.push(Mistake::new("/requests_per_second", "out of range", "use 1 to 100000"));
    }
    if settings.source_prefixes.as_ref().is_some_and(|p| p.len() > 100 || p.iter().any(String::is_empty)) {
        mistakes.push(Mistake::new("/source_prefixes", "invalid prefixes", "use at most 100, none of them empty"));
    }
    mistakes
}

impl Tenants {
    pub(super) fn new(records: Arc<dyn Records>, world: World) -> Self {
        Tenants { records, world, recent: Arc::new(Cache::new(MAX_RECENT).max_age_ms(RECENT_MS)) }
    }

    /// The tenants with settings of their own.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn list(&self) -> Result<Vec<Tenant>, StoreError> {
        let records = all_records(self.records.as_ref(), TENANT_KIND, None).await?;
        records.iter().map(tenant_of).collect()
    }

    /// One tenant; the defaults with version 0 when it has no settings of its own.
    ///
    /// # Errors
    /// [`DirectoryError::NotFound`] when the name is not valid; when the records cannot be read.
    pub async fn find(&self, name: &str) -> Result<Tenant, DirectoryError> {
        if !is_tenant_name(name) {
            return Err(DirectoryError::NotFound { what: "tenant" });
        }
        Ok(match self.records.get(&key(name)).await? {
            Some(record) => tenant_of(&record)?,
            None => Tenant { tenant: name.to_owned(), settings: TenantSettings::default(), version: 0 },
        })
    }

    /// Saves a tenant's settings if the stored version is as expected.
    ///
    /// # Errors
    /// [`DirectoryError::Invalid`] with every mistake; [`DirectoryError::Changed`]; when the records fail.
    pub async fn save(&self, name: &str, settings: TenantSettings, expect: Expect) -> Result<Tenant, DirectoryError> {
        let mistakes = mistakes(name, &settings);
        if !mistakes.is_empty() {
            return Err(DirectoryError::Invalid(mistakes));
        }
        let now = self.world.clock.now_ms();
        let written = put_document(self.records.as_ref(), &key(name), expect, &settings, None, now).await?;
        let version = written.map_err(|_| DirectoryError::Changed)?;
        self.recent.remove(name);
        Ok(Tenant { tenant: name.to_owned(), settings, version })
    }

    /// Deletes a tenant's settings, which leaves the defaults.
    ///
    /// # Errors
    /// [`DirectoryError::Changed`]; when the records fail.
    pub async fn reset(&self, name: &str, expect: Expect) -> Result<(), DirectoryError> {
        self.records.delete(&key(name), expect).await?.map_err(|_| DirectoryError::Changed)?;
        self.recent.remove(name);
        Ok(())
    }

    /// A tenant's settings, read now.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn current(&self, name: &str) -> Result<TenantSettings, StoreError> {
        match self.records.get(&key(name)).await? {
            Some(record) => settings_of(&record),
            None => Ok(TenantSettings::default()),
        }
    }

    /// A tenant's settings, at most five seconds old.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn recent(&self, name: &str) -> Result<TenantSettings, StoreError> {
        let now = self.world.clock.now_ms();
        if let Some(settings) = self.recent.get(name, now) {
            return Ok(settings);
        }
        let settings = self.current(name).await?;
        self.recent.put(name.to_owned(), settings.clone(), now);
        Ok(settings)
    }

    /// Checks that a tenant may read the source that a locator names. Storage is not asked.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn check_source(&self, name: &str, locator: &str) -> Result<Result<(), Mistake>, StoreError> {
        if locator.is_empty() || locator.len() > 4096 || locator.chars().any(char::is_control) {
            return Ok(Err(Mistake::new("/source", "invalid source locator", "for example s3://bucket/key")));
        }
        let is_allowed = self.recent(name).await?.source_prefixes.is_none_or(|prefixes| {
            let climbs = locator.split('/').any(|step| step == "..");
            !climbs && prefixes.iter().any(|prefix| locator.starts_with(prefix.as_str()))
        });
        Ok(if is_allowed {
            Ok(())
        } else {
            let hint = "ask an administrator for the tenant's source_prefixes";
            Err(Mistake::new("/source", "the tenant may not read sources there", hint))
        })
    }

    /// How the tenants share the slots, for dispatch.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn shares(&self) -> Result<Shares, StoreError> {
        let mut shares = Shares::default();
        for Tenant { tenant, settings, .. } in self.list().await? {
            let share = Share { weight: settings.weight, max_in_flight: settings.max_in_flight };
            shares.tenants.insert(tenant, share);
        }
        Ok(shares)
    }
}
