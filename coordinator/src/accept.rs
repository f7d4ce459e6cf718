//! From a validated request to a job: quota, pinned source, submit, and the key that makes repetitions harmless. The
//! one way in for the HTTP API, uploads, triggers and the watch folder.

use crate::directory::{Directory, ProfileLookupError};
use crate::documents::put_document;
use crate::{Coordinator, quota};
use serde::{Deserialize, Serialize};
use splitreel_backend::grants::GrantError;
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::store::Submitted;
use splitreel_backend::{Grants, Records, StoreError, World};
use splitreel_core::JobId;
use splitreel_core::digest::{fingerprint, sha256_hex};
use splitreel_core::fair::Priority;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::names::output_base;
use splitreel_core::profile::Profile;
use splitreel_core::source::SourceRef;
use splitreel_telemetry::labels::Submission;
use splitreel_telemetry::record;
use std::sync::Arc;

/// Kind of the records of idempotency keys.
pub(crate) const KEY_KIND: &str = "idempotency";

/// Settings of acceptance.
#[derive(Clone, Debug)]
pub struct AcceptConfig {
    /// Locator prefixes that no request may name as a source: places where uploads of all tenants are stored.
    pub reserved_sources: Vec<String>,
    /// How long an idempotency key is remembered, in milliseconds.
    pub key_ttl_ms: i64,
}

impl Default for AcceptConfig {
    fn default() -> Self {
        AcceptConfig { reserved_sources: Vec::new(), key_ttl_ms: 8 * 24 * 3_600_000 }
    }
}

/// The source of a job.
#[derive(Clone, Debug)]
pub enum Source {
    /// A locator named by the request, checked against the tenant's settings: pinned here, reserved places refused.
    Named(String),
    /// An object of this deployment, such as a finished upload: pinned here.
    Stored {
        /// Locator of the object.
        locator: String,
        /// File name as the client gave it; names the output.
        name: String,
    },
    /// A source that the caller has pinned.
    Pinned {
        /// The pinned source.
        source: SourceRef,
        /// File name; names the output.
        name: String,
    },
}

/// How a repetition of a request is recognised.
#[derive(Clone, Debug)]
pub enum Repetition {
    /// Every request makes a new job.
    Never,
    /// The client sent an idempotency key.
    Client {
        /// The key.
        key: String,
        /// Hash of the request: the same key with another request is refused.
        request_sha256: String,
    },
    /// The key follows from what the job is made of.
    Derived {
        /// The key.
        key: String,
    },
}

impl Repetition {
    fn key(&self) -> Option<&str> {
        match self {
            Repetition::Never => None,
            Repetition::Client { key, .. } | Repetition::Derived { key } => Some(key),
        }
    }
}

/// A validated request for a job.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Owner of the job.
    pub tenant: String,
    /// How a repetition is recognised.
    pub repetition: Repetition,
    /// The source.
    pub source: Source,
    /// Base name of the output; derived from the source's file name when absent.
    pub base: Option<String>,
    /// The profile.
    pub profile: Profile,
    /// Priority class.
    pub priority: Priority,
    /// Probe every packet of the source.
    pub deep_probe: bool,
    /// Location that the presentation is copied to.
    pub output: Option<String>,
}

/// An accepted job.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The job.
    pub job: Job,
    /// Whether this request made it.
    pub is_new: bool,
}

/// Why a request did not become a job.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The tenant has as many open jobs as it may.
    #[error("at most {max} open jobs")]
    QuotaExceeded {
        /// The quota.
        max: u32,
    },
    /// The key belongs to another request.
    #[error("the idempotency key was used before with another request")]
    KeyReused {
        /// Job of the other request.
        job: JobId,
    },
    /// The source cannot be pinned.
    #[error(transparent)]
    Source(#[from] GrantError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Settings of a job that starts without a request of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Owner of the job.
    pub tenant: String,
    /// Name of its profile, perhaps with `@version`.
    pub profile: String,
    /// Location that the presentation is copied to.
    pub output: Option<String>,
    /// Priority class.
    pub priority: Priority,
}

/// Result of starting a job for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// A new job.
    New(JobId),
    /// This version of the source had its job before.
    Existing(JobId),
    /// The tenant has as many open jobs as it may: ask again later.
    NoRoom,
}

impl Started {
    /// The job, if there is one.
    pub fn job(self) -> Option<JobId> {
        match self {
            Started::New(job) | Started::Existing(job) => Some(job),
            Started::NoRoom => None,
        }
    }
}

/// Why a job could not be started for a source.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source cannot be pinned.
    #[error(transparent)]
    Source(#[from] GrantError),
    /// The profile does not exist.
    #[error(transparent)]
    Profile(#[from] ProfileLookupError),
}

impl StartError {
    /// Whether the same attempt may succeed later without a change of settings.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            StartError::Store(StoreError::Unavailable(_))
                | StartError::Source(GrantError::Unavailable { .. })
                | StartError::Profile(ProfileLookupError::Store(StoreError::Unavailable(_)))
        )
    }
}

/// A remembered idempotency key.
#[derive(Debug, Serialize, Deserialize)]
struct UsedKey {
    #[serde(rename = "body_sha256")]
    request_sha256: String,
    job: JobId,
}

fn key_record(tenant: &str, key: &str) -> RecordKey {
    RecordKey { kind: KEY_KIND.into(), tenant: tenant.to_owned(), id: sha256_hex(key.as_bytes()) }
}

/// Accepts jobs; cheap to clone.
#[derive(Clone)]
pub struct Accept {
    inner: Arc<Inner>,
}

struct Inner {
    config: AcceptConfig,
    coordinator: Coordinator,
    directory: Directory,
    records: Arc<dyn Records>,
    grants: Arc<dyn Grants>,
    world: World,
}

impl Accept {
    /// Acceptance over the given services.
    pub fn new(
        config: AcceptConfig,
        coordinator: Coordinator,
        directory: Directory,
        records: Arc<dyn Records>,
        grants: Arc<dyn Grants>,
    ) -> Self {
        let world = coordinator.world().clone();
        Accept { inner: Arc::new(Inner { config, coordinator, directory, records, grants, world }) }
    }

    /// The tenants, profiles and tokens that requests are checked against.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The records that keys, outputs and settings are stored in.
    pub(crate) fn records(&self) -> &Arc<dyn Records> {
        &self.inner.records
    }

    /// Turns a validated request into a job: checks the quota, pins the source, submits, and remembers the key.
    ///
    /// # Errors
    /// [`AcceptError`]. After a store error the job may exist; the same request may be repeated.
    pub async fn accept(&self, new: NewJob) -> Result<Accepted, AcceptError> {
        self.check_quota(&new.tenant, new.repetition.key()).await?;
        let (source, name) = match new.source {
            Source::Named(locator) => (self.pin_named(&locator).await?, locator),
            Source::Stored { locator, name } => (self.pin(&locator).await?, name),
            Source::Pinned { source, name } => (source, name),
        };
        let base = new.base.unwrap_or_else(|| output_base(name.rsplit('/').next().unwrap_or(&name)));
        let key = new.repetition.key().map(str::to_owned);
        let request = JobRequest {
            tenant: new.tenant.clone(),
            idempotency_key: key.unwrap_or_else(|| self.inner.world.ids.fresh().to_string()),
            source,
            base,
            profile: new.profile,
            priority: new.priority,
            deep_probe: new.deep_probe,
            output: new.output,
            trace: Default::default(),
        };
        let accepted = match self.inner.coordinator.submit(request).await? {
            Submitted::Created(job) => Accepted { job, is_new: true },
            Submitted::Existing(job) => Accepted { job, is_new: false },
            Submitted::KeyReused(job) => return Err(AcceptError::KeyReused { job }),
        };
        if let Repetition::Client { key, request_sha256 } = new.repetition {
            self.remember(&new.tenant, &key, UsedKey { request_sha256, job: accepted.job.id }).await?;
        }
        Ok(accepted)
    }

    /// The job that an earlier request with the same client key made. To be asked before the request is validated:
    /// what was valid then may not be valid now.
    ///
    /// # Errors
    /// [`AcceptError::KeyReused`]; when a store fails.
    pub async fn earlier(&self, tenant: &str, repetition: &Repetition) -> Result<Option<Job>, AcceptError> {
        let Repetition::Client { key, request_sha256 } = repetition else { return Ok(None) };
        let Some(record) = self.inner.records.get(&key_record(tenant, key)).await? else { return Ok(None) };
        let used: UsedKey = serde_json::from_value(record.doc)
            .map_err(|e| StoreError::Corrupt { what: format!("idempotency key: {e}") })?;
        // A job that retention has deleted frees its key.
        let Some(job) = self.inner.coordinator.store().job(used.job).await? else { return Ok(None) };
        if used.request_sha256 != *request_sha256 {
            record::job_submitted(Submission::KeyReused);
            return Err(AcceptError::KeyReused { job: job.id });
        }
        record::job_submitted(Submission::Existing);
        Ok(Some(job))
    }

    /// Starts the job of a pinned source: at most one for the same `identity` texts, version of the source and
    /// profile. `name` names the output.
    ///
    /// # Errors
    /// [`StartError`]; no job was started, or the same attempt finds it.
    pub async fn start(
        &self,
        source: SourceRef,
        identity: &[&str],
        name: &str,
        target: &Target,
    ) -> Result<Started, StartError> {
        let mut texts = identity.to_vec();
        texts.extend([source.version.as_str(), target.profile.as_str()]);
        let key = format!("upload-{}", fingerprint(&texts));
        let profile = self.inner.directory.profiles.resolve(&target.tenant, &target.profile).await?;
        let new = NewJob {
            tenant: target.tenant.clone(),
            repetition: Repetition::Derived { key },
            source: Source::Pinned { source, name: name.to_owned() },
            base: None,
            profile,
            priority: target.priority,
            deep_probe: false,
            output: target.output.clone(),
        };
        match self.accept(new).await {
            Ok(Accepted { job, is_new: true }) => Ok(Started::New(job.id)),
            Ok(Accepted { job, is_new: false }) => Ok(Started::Existing(job.id)),
            // Same version, same profile name: the rule or the profile was edited since. The source has its job.
            Err(AcceptError::KeyReused { job }) => Ok(Started::Existing(job)),
            Err(AcceptError::QuotaExceeded { .. }) => Ok(Started::NoRoom),
            Err(AcceptError::Source(error)) => Err(error.into()),
            Err(AcceptError::Store(error)) => Err(error.into()),
        }
    }

    /// Pins the source that a locator names now.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError> {
        self.inner.grants.pin(locator).await
    }

    /// Pins a source named by a request. A reserved place looks empty: uploads are named by their ids.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn pin_named(&self, locator: &str) -> Result<SourceRef, GrantError> {
        let source = self.pin(locator).await?;
        let is_reserved = self.inner.config.reserved_sources.iter().any(|place| source.locator.starts_with(place));
        if is_reserved { Err(GrantError::NotFound { what: locator.to_owned() }) } else { Ok(source) }
    }

    /// Whether a job exists and has not ended.
    ///
    /// # Errors
    /// When the job store fails.
    pub async fn is_open(&self, job: JobId) -> Result<bool, StoreError> {
        Ok(self.inner.coordinator.store().job(job).await?.is_some_and(|job| !job.state.is_ended()))
    }

    /// Deletes idempotency keys whose time is over.
    ///
    /// # Errors
    /// When the records fail.
    pub async fn forget_keys(&self) -> Result<usize, StoreError> {
        crate::documents::delete_due(self.inner.records.as_ref(), KEY_KIND, self.inner.world.clock.now_ms()).await
    }

    async fn check_quota(&self, tenant: &str, key: Option<&str>) -> Result<(), AcceptError> {
        let store = self.inner.coordinator.store();
        match quota::exceeded(store.as_ref(), &self.inner.directory.tenants, tenant, key).await? {
            Some(max) => Err(AcceptError::QuotaExceeded { max }),
            None => Ok(()),
        }
    }

    /// Remembers the request of a key: a source that changes before a repetition must not make it another request.
    async fn remember(&self, tenant: &str, key: &str, used: UsedKey) -> Result<(), StoreError> {
        let now = self.inner.world.clock.now_ms();
        let until = now.saturating_add(self.inner.config.key_ttl_ms);
        let (records, key) = (self.inner.records.as_ref(), key_record(tenant, key));
        // A conflict: a concurrent repetition remembered the same.
        let _ = put_document(records, &key, Expect::Absent, &used, Some(until), now).await?;
        Ok(())
    }
}
