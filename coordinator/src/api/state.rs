//! The state of the API: the services that its routes call.

use super::config::{ApiConfig, ApiConfigError};
use super::problem::ApiError;
use super::rates::Rates;
use super::routes::{ROUTES, Route, Verb};
use super::signing::SigningKey;
use crate::Coordinator;
use crate::accept::Accept;
use crate::directory::{Caller, Directory};
use crate::events::LiveFeed;
use crate::fleet::Fleet;
use crate::presentations::Presentations;
use crate::signed::SignedRequests;
use crate::uploads::Uploads;
use splitreel_backend::{BlobReader, Grants, JobStore, Records, StoreError};
use splitreel_core::JobId;
use splitreel_core::job::Job;
use splitreel_core::planner::Capabilities;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Interval at which expired idempotency keys and gone workers are deleted.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(60);

/// The services and seams that the API is put on.
pub struct ApiSeams {
    /// Accepts jobs; holds the directory.
    pub accept: Accept,
    /// Cancels jobs, hands out leases.
    pub coordinator: Coordinator,
    /// Records of workers.
    pub records: Arc<dyn Records>,
    /// Signs requests to storage.
    pub grants: Arc<dyn Grants>,
    /// Objects.
    pub blobs: Arc<dyn BlobReader>,
    /// Uploads that jobs may be made of, if this deployment takes any.
    pub uploads: Option<Uploads>,
    /// Access rules of routes that are mounted beside the API's own.
    pub more_rules: Vec<Route>,
}

/// The API; cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: ApiConfig,
    pub(super) signing: SigningKey,
    pub(super) coordinator: Coordinator,
    pub(super) accept: Accept,
    pub(super) fleet: Fleet,
    pub(super) feed: LiveFeed,
    pub(super) presentations: Presentations,
    pub(super) signed: SignedRequests,
    pub(super) uploads: Option<Uploads>,
    pub(super) rates: Rates,
    pub(super) rules: BTreeMap<(&'static str, Verb), Route>,
}

impl Api {
    /// The API over its services.
    ///
    /// # Errors
    /// [`ApiConfigError`] when the settings are not safe to run with.
    pub fn new(config: ApiConfig, seams: ApiSeams) -> Result<Self, ApiConfigError> {
        let signing = SigningKey::new(config.signing_key.clone())?;
        config.check_origins()?;
        let ApiSeams { accept, coordinator, records, grants, blobs, uploads, more_rules } = seams;
        let (store, world) = (Arc::clone(coordinator.store()), coordinator.world().clone());
        let tenants = accept.directory().tenants.clone();
        let inner = Inner {
            signing,
            fleet: Fleet::new(config.fleet.clone(), coordinator.clone(), records),
            feed: LiveFeed::new(Arc::clone(&store), config.feed_every),
            presentations: Presentations::new(store, blobs, world.clone()),
            signed: SignedRequests::new(grants),
            rates: Rates::new(world, tenants, config.requests_per_second),
            rules: ROUTES.iter().copied().chain(more_rules).map(|r| ((r.path, r.method), r)).collect(),
            config,
            coordinator,
            accept,
            uploads,
        };
        Ok(Api { inner: Arc::new(inner) })
    }

    /// Follows the event log for its listeners and deletes expired records, until `shutdown`; then ends all streams.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_EVERY);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.inner.feed.follow() => {}
                _ = housekeeping.tick() => {
                    if let Err(error) = self.delete_expired().await {
                        tracing::warn!(%error, "deleting expired idempotency keys and workers failed; will retry");
                    }
                }
            }
        }
        self.close();
    }

    /// Ends all streams, so that the server can come to an end. Leases of connected workers stay as they are.
    pub fn close(&self) {
        self.inner.feed.close();
    }

    /// Slots of all workers that take work.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn live_slots(&self) -> Result<u64, StoreError> {
        self.inner.fleet.live_slots().await
    }

    /// What every worker that takes work can do; `None` while there is none.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn worker_capabilities(&self) -> Result<Option<Capabilities>, StoreError> {
        self.inner.fleet.capabilities().await
    }

    async fn delete_expired(&self) -> Result<(), StoreError> {
        self.inner.accept.forget_keys().await?;
        self.inner.fleet.forget_gone().await?;
        Ok(())
    }

    pub(super) fn directory(&self) -> &Directory {
        self.inner.accept.directory()
    }

    pub(super) fn store(&self) -> &Arc<dyn JobStore> {
        self.inner.coordinator.store()
    }

    pub(super) fn now(&self) -> i64 {
        self.inner.coordinator.now()
    }

    /// A path of this API as callers reach it.
    pub(super) fn public(&self, path: &str) -> String {
        format!("{}{path}", self.inner.config.public_url.as_deref().unwrap_or_default())
    }

    pub(super) fn rule(&self, verb: Verb, path: &str) -> Option<Route> {
        self.inner.rules.get(&(path, verb)).copied()
    }

    /// A job that the caller may see; any other looks as if it did not exist.
    pub(super) async fn visible_job(&self, caller: &Caller, id: JobId) -> Result<Job, ApiError> {
        let job = self.store().job(id).await?;
        job.filter(|job| caller.may_see(job)).ok_or_else(|| ApiError::not_found("job"))
    }
}
