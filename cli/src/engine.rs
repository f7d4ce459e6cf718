//! The embedded engine: the same services as a cluster's, on SQLite, an in-process doorbell and a local directory.

use crate::exit::Problem;
use crate::observe::{ObservedLeases, ObservedToolkit, Seen};
use crate::state::State;
use splitreel_assembler::Assembler;
use splitreel_backend::channel::ChannelDoorbell;
use splitreel_backend::store::{JobFilter, Scope};
use splitreel_backend::{BlobStore, Doorbell, JobStore, Leases, World};
use splitreel_backend_embedded::{LocalBlobs, SqliteStore};
use splitreel_coordinator::{Config, Coordinator};
use splitreel_core::planner::Capabilities;
use splitreel_core::task::RetryPolicy;
use splitreel_core::{JobId, WorkerId};
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions, ToolPaths};
use splitreel_worker::Worker;
use splitreel_worker::source::LocalSources;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// An ended job's rows are kept this long.
const RETENTION_MS: i64 = 7 * 24 * 3_600_000;

/// Backends of a state directory.
pub struct Backends {
    /// Truth, also of small documents.
    pub records: SqliteStore,
    /// Truth.
    pub store: Arc<dyn JobStore>,
    /// Objects.
    pub blobs: Arc<dyn BlobStore>,
    /// Clock and ids.
    pub world: World,
}

/// The media tools, or a message on how to get them.
pub async fn detect() -> Result<Arc<Ffmpeg>, Problem> {
    let found = Ffmpeg::detect(&ToolPaths::from_env()).await;
    found
        .map(Arc::new)
        .map_err(|e| Problem { exit: crate::exit::Exit::Usage, ..Problem::because("ffmpeg cannot be used", &e) })
}

/// What the planner may count on.
pub fn capabilities(ffmpeg: &Ffmpeg) -> Capabilities {
    Capabilities {
        encoders: ffmpeg.encoders.iter().cloned().collect(),
        filters: ffmpeg.filters.iter().cloned().collect(),
    }
}

/// Opens the database of a state directory.
pub async fn open_store(database: &Path) -> Result<SqliteStore, Problem> {
    let store = SqliteStore::open(database).await;
    store.map_err(|e| Problem::because(format!("the database {} cannot be opened", database.display()), &e))
}

/// Opens the backends and cleans up after processes that died.
pub async fn open(state: &State) -> Result<Backends, Problem> {
    let records = open_store(&state.database()).await?;
    let blobs = LocalBlobs::open(state.objects())
        .await
        .map_err(|e| Problem::because("the object directory cannot be opened", &e))?;
    if !state.dead.is_empty() {
        blobs.sweep_temp().await.map_err(|e| Problem::because("the object directory cannot be cleaned", &e))?;
    }
    let store = Arc::new(records.clone());
    let backends = Backends { records, store, blobs: Arc::new(blobs), world: World::machine() };
    let caretaker = backends.coordinator(Vec::new(), Capabilities::default(), 1);
    for worker in &state.dead {
        caretaker
            .release_worker(worker)
            .await
            .map_err(|e| Problem::because("the leases of a dead process cannot be released", &e))?;
        state.bury(worker);
    }
    Ok(backends)
}

/// Forgets what ended longer ago than the retention.
pub async fn forget_old(backends: &Backends) {
    let caretaker = backends.coordinator(Vec::new(), Capabilities::default(), 1);
    let due = backends.world.clock.now_ms() - RETENTION_MS;
    let jobs = backends.store.jobs(JobFilter { limit: 10_000, ..JobFilter::default() }).await.unwrap_or_default();
    for job in jobs.into_iter().filter(|j| j.ended_ms.is_some_and(|t| t < due)) {
        if caretaker.release_objects(job.id).await.is_ok() {
            let _ = backends.store.forget(job.id).await;
        }
    }
}

impl Backends {
    /// A coordinator for these jobs only: other processes serve their own.
    pub fn coordinator(&self, jobs: Vec<JobId>, capabilities: Capabilities, slots: usize) -> Coordinator {
        let terms = Terms::of_one_person(jobs, slots);
        self.coordinator_on(Arc::new(ChannelDoorbell::default()), &terms, capabilities)
    }

    fn coordinator_on(&self, doorbell: Arc<dyn Doorbell>, terms: &Terms, capabilities: Capabilities) -> Coordinator {
        let config = Config {
            retry: terms.retry,
            in_flight: (terms.slots * 2 + 2).into(),
            pump_every: Duration::from_millis(200),
            scope: terms.scope.clone(),
            capabilities,
            ..Config::default()
        };
        Coordinator::new(Arc::clone(&self.store), Arc::clone(&self.blobs), doorbell, self.world.clone(), config)
    }

    /// Starts all services.
    pub fn start(&self, state: &State, ffmpeg: &Arc<Ffmpeg>, terms: Terms) -> Engine {
        let (seen_tx, seen) = mpsc::unbounded_channel();
        let doorbell: Arc<dyn Doorbell> = Arc::new(ChannelDoorbell::default());
        let coordinator = self.coordinator_on(Arc::clone(&doorbell), &terms, capabilities(ffmpeg));
        let leases: Arc<dyn Leases> =
            Arc::new(ObservedLeases { inner: Arc::new(coordinator.clone()), seen: seen_tx.clone() });
        let tools = FfmpegToolkit::new(Arc::clone(ffmpeg), state.scratch(), Limits::default(), ProbeOptions::default());
        let toolkit = Arc::new(ObservedToolkit { inner: Arc::new(tools), seen: seen_tx });
        let worker = Worker::new(
            splitreel_worker::Config { id: state.worker.clone(), slots: terms.slots },
            Arc::clone(&leases),
            Arc::clone(&doorbell),
            Arc::clone(&self.blobs) as _,
            Arc::new(LocalSources),
            toolkit,
            Arc::clone(&self.world.ids),
        );
        let assembler = Assembler::new(
            splitreel_assembler::Config { id: state.worker.clone(), slots: 1 },
            leases,
            doorbell,
            Arc::clone(&self.blobs),
            Arc::clone(&self.world.ids),
        );
        let Terms { drain, stop, .. } = terms;
        let (mut services, mut hands) = (JoinSet::new(), JoinSet::new());
        let (c, s) = (coordinator.clone(), stop.clone());
        services.spawn(async move { c.run(s).await });
        let (d, s) = (drain.clone(), stop.clone());
        hands.spawn(async move { worker.run(d, s).await });
        let s = stop.clone();
        hands.spawn(async move { assembler.run(drain, s).await });
        Engine { coordinator, seen, worker: state.worker.clone(), stop, services, hands }
    }
}

/// How an engine runs.
pub struct Terms {
    /// Which jobs it serves.
    pub scope: Scope,
    /// Attempts at the same time.
    pub slots: usize,
    /// Attempts, back-offs, lease length.
    pub retry: RetryPolicy,
    /// No new attempts from then on.
    pub drain: CancellationToken,
    /// Running ones end then.
    pub stop: CancellationToken,
}

impl Terms {
    /// Some jobs, for one person who waits in front of it: an attempt that failed on this machine is repeated soon,
    /// each time decoding from further back, and a full disk ends the job instead of being waited out.
    pub fn of_one_person(jobs: Vec<JobId>, slots: usize) -> Self {
        let retry = RetryPolicy {
            media_backoff_ms: 250,
            infra_budget: 5,
            infra_backoff_ms: 250,
            infra_backoff_max_ms: 4_000,
            ..RetryPolicy::default()
        };
        let stop = CancellationToken::new();
        Terms { scope: Some(jobs), slots, retry, drain: stop.clone(), stop }
    }
}

/// Running services.
pub struct Engine {
    /// For cancel and clean-up.
    pub coordinator: Coordinator,
    /// What happens inside.
    pub seen: mpsc::UnboundedReceiver<Seen>,
    worker: WorkerId,
    stop: CancellationToken,
    services: JoinSet<()>,
    hands: JoinSet<()>,
}

impl Engine {
    /// Waits until all attempts have ended, which they do once the engine is to drain or to stop.
    pub async fn drained(&mut self) {
        while self.hands.join_next().await.is_some() {}
    }

    /// Stops everything: processes are killed, leases handed back.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.drained().await;
        while self.services.join_next().await.is_some() {}
        if let Err(error) = self.coordinator.release_worker(&self.worker).await {
            tracing::warn!(%error, "could not release leases; they will expire");
        }
    }
}
