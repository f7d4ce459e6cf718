//! Coordinator role: accepts jobs, plans them, hands out leases, requeues lost tasks, cleans up.
//!
//! It owns no state: everything is in the job store, so any number of coordinators may run, and any may die.

#![forbid(unsafe_code)]

pub mod accept;
pub mod api;
pub mod directory;
mod documents;
pub mod events;
pub mod fleet;
mod garbage;
mod job_cache;
mod leases;
mod measure;
pub mod outputs;
mod planning;
pub mod presentations;
mod quota;
mod quote;
mod service;
pub mod signed;
pub mod triggers;
pub mod uploads;
pub mod webhooks;

pub use garbage::GarbageError;
pub use service::StalledPass;

use job_cache::{AcceptedJob, JobCache};
use splitreel_backend::store::{InFlightLimit, Scope, StoreError, Submitted};
use splitreel_backend::{BlobStore, Doorbell, JobStore, World};
use splitreel_core::fair::Shares;
use splitreel_core::job::JobRequest;
use splitreel_core::plan::Plan;
use splitreel_core::planner::Capabilities;
use splitreel_core::task::RetryPolicy;
use splitreel_core::{JobId, WorkerId};
use splitreel_telemetry::labels::Submission;
use splitreel_telemetry::record;
use splitreel_telemetry::trace::{self, Parent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::Instrument;

/// Settings of the coordinator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Attempts, back-offs, lease length.
    pub retry: RetryPolicy,
    /// Limit on wakeups in flight, until [`Coordinator::set_in_flight_limit`] changes it.
    pub in_flight: InFlightLimit,
    /// Interval of dispatch when nothing wakes the coordinator.
    pub pump_every: Duration,
    /// Interval at which tasks with expired leases are requeued.
    pub reap_every: Duration,
    /// Interval of the sweep for lost wakeups.
    pub sweep_every: Duration,
    /// Age at which an unclaimed wakeup counts as lost.
    pub wakeup_lost_after_ms: i64,
    /// Interval of the search for stragglers, which get a second attempt on another machine; `None` = never.
    pub speculate_every: Option<Duration>,
    /// Unreferenced objects of an ended job are deleted after this time.
    pub garbage_grace_ms: i64,
    /// How often garbage is looked for.
    pub garbage_every: Duration,
    /// Jobs that this process serves; `None` = all.
    pub scope: Scope,
    /// How tenants share the slots, until [`Coordinator::set_shares`] changes it.
    pub shares: Shares,
    /// Capabilities of the workers' ffmpeg, until [`Coordinator::set_capabilities`] changes them.
    pub capabilities: Capabilities,
}

/// Limit on wakeups in flight for a number of live slots: one for each free slot and a quarter of all slots more. A queue is
/// first in, first out, so a new job of another tenant waits until everything queued has started: with a quarter of the
/// slots, a quarter of a task's length. Dispatch takes milliseconds, so no slot waits unless tasks are about that short.
pub fn in_flight_limit(live_slots: u64) -> InFlightLimit {
    let slots = usize::try_from(live_slots).unwrap_or(usize::MAX);
    InFlightLimit { slots, prefetch: (slots / 4).clamp(4, 256) }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            retry: RetryPolicy::default(),
            in_flight: 8.into(),
            pump_every: Duration::from_millis(500),
            reap_every: Duration::from_secs(2),
            sweep_every: Duration::from_secs(20),
            wakeup_lost_after_ms: 20_000,
            speculate_every: None,
            garbage_grace_ms: 3_600_000,
            garbage_every: Duration::from_secs(300),
            scope: None,
            shares: Shares::default(),
            capabilities: Capabilities::default(),
        }
    }
}

/// The coordinator: cheap to clone, also the [`splitreel_backend::Leases`] of in-process workers.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn JobStore>,
    blobs: Arc<dyn BlobStore>,
    doorbell: Arc<dyn Doorbell>,
    world: World,
    config: Config,
    wake: Notify,
    /// Probed jobs may wait for their plan.
    to_plan: Notify,
    job_cache: JobCache,
    shares: Mutex<Arc<Shares>>,
    in_flight: Mutex<InFlightLimit>,
    capabilities: Mutex<Arc<Capabilities>>,
    /// Engine passes that fail at present, by name.
    stalled: Mutex<BTreeMap<&'static str, StalledPass>>,
    /// Position of garbage collection: the next pass looks at jobs older than this one.
    cleaned: Mutex<Option<JobId>>,
}

impl Coordinator {
    /// A coordinator over the given seams.
    pub fn new(
        store: Arc<dyn JobStore>,
        blobs: Arc<dyn BlobStore>,
        doorbell: Arc<dyn Doorbell>,
        world: World,
        config: Config,
    ) -> Self {
        let shares = Mutex::new(Arc::new(config.shares.clone()));
        let in_flight = Mutex::new(config.in_flight);
        let capabilities = Mutex::new(Arc::new(config.capabilities.clone()));
        let inner = Inner {
            job_cache: JobCache::new(Arc::clone(&store)),
            store,
            blobs,
            doorbell,
            world,
            config,
            wake: Notify::new(),
            to_plan: Notify::new(),
            shares,
            in_flight,
            capabilities,
            stalled: Mutex::default(),
            cleaned: Mutex::default(),
        };
        Coordinator { inner: Arc::new(inner) }
    }

    /// Accepts a job.
    ///
    /// # Errors
    /// When the store does not answer: the job may or may not have been accepted; the same request may be repeated.
    pub async fn submit(&self, mut request: JobRequest) -> Result<Submitted, StoreError> {
        let id = JobId(self.inner.world.ids.fresh());
        let span = trace::job(id, &request.tenant);
        request.trace = Parent::of(&span).kept();
        let answer = self.inner.store.submit(id, request, self.now()).instrument(span).await?;
        record::job_submitted(match &answer {
            Submitted::Created(_) => Submission::Created,
            Submitted::Existing(_) => Submission::Existing,
            Submitted::KeyReused(_) => Submission::KeyReused,
        });
        self.inner.wake.notify_one();
        Ok(answer)
    }

    /// Cancels a job. False: it had ended.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn cancel(&self, job: JobId) -> Result<bool, StoreError> {
        let now = self.now();
        let changed = self.inner.store.cancel(job, now).await?;
        if changed {
            self.count_end(job, now).await;
        }
        Ok(changed)
    }

    /// Re-opens a failed or cancelled job; what is done stays done. False: nothing to retry.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn retry(&self, job: JobId) -> Result<bool, StoreError> {
        let changed = self.inner.store.retry(job, self.now()).await?;
        self.inner.wake.notify_one();
        Ok(changed)
    }

    /// Pauses or resumes an open job. False: it has ended, or was so already.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pause(&self, job: JobId, paused: bool) -> Result<bool, StoreError> {
        let changed = self.inner.store.pause(job, paused, self.now()).await?;
        self.inner.wake.notify_one();
        Ok(changed)
    }

    /// Requeues the tasks of expired leases now, without waiting for the reaper. Returns their number.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn take_back(&self) -> Result<usize, StoreError> {
        let now = self.now();
        let taken = self.inner.store.reap(now, &self.inner.config.retry).await?;
        for task in &taken {
            tracing::warn!(%task, "lease expired; task requeued");
        }
        record::leases_expired(taken.len() as u64);
        for job in taken.iter().map(|task| task.job).collect::<BTreeSet<_>>() {
            self.count_end(job, now).await;
        }
        self.inner.wake.notify_one();
        Ok(taken.len())
    }

    /// A worker is known to be dead: its leases end at once.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn release_worker(&self, worker: &WorkerId) -> Result<usize, StoreError> {
        let released = self.inner.store.release_worker(worker, self.now(), &self.inner.config.retry).await?;
        self.inner.wake.notify_one();
        Ok(released.len())
    }

    /// Sets how the tenants share the slots.
    pub fn set_shares(&self, shares: Shares) {
        *self.inner.shares.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(shares);
    }

    fn shares(&self) -> Arc<Shares> {
        Arc::clone(&self.inner.shares.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the limit on wakeups in flight; see [`in_flight_limit`].
    pub fn set_in_flight_limit(&self, limit: InFlightLimit) {
        *self.inner.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    /// Replaces what plans count on.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        *self.inner.capabilities.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(capabilities);
    }

    /// What plans count on.
    pub fn capabilities(&self) -> Arc<Capabilities> {
        Arc::clone(&self.inner.capabilities.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn in_flight_limit(&self) -> InFlightLimit {
        *self.inner.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dispatches without waiting for the next tick.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// A job as it was accepted; `None` when it does not exist.
    async fn accepted(&self, job: JobId) -> Result<Option<Arc<AcceptedJob>>, StoreError> {
        self.inner.job_cache.accepted(job, self.now()).await
    }

    /// The plan of a job's generation; `None` when the generation is not the current one or has no plan yet.
    async fn plan_of(&self, job: JobId, generation: u32) -> Result<Option<Arc<Plan>>, StoreError> {
        self.inner.job_cache.plan(job, generation, self.now()).await
    }

    /// A plan of the job that is in memory, of any generation: for facts that all plans of a job share.
    fn cached_plan(&self, job: JobId) -> Option<Arc<Plan>> {
        self.inner.job_cache.cached_plan(job, self.now())
    }

    /// The trace of a job's submit; none when the job cannot be read, since no work depends on it.
    async fn trace_of(&self, job: JobId) -> Parent {
        match self.accepted(job).await {
            Ok(Some(accepted)) => Parent::resumed(&accepted.request.trace),
            _ => Parent::default(),
        }
    }

    /// The job store.
    pub(crate) fn store(&self) -> &Arc<dyn JobStore> {
        &self.inner.store
    }

    /// Clock and ids.
    pub(crate) fn world(&self) -> &World {
        &self.inner.world
    }

    pub(crate) fn now(&self) -> i64 {
        self.inner.world.clock.now_ms()
    }
}
