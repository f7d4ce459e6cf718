//! Coordinator, worker and assembler over given stores in one process and in real time: for tests that look at what
//! becomes of rows.

use crate::spoil::Spoiler;
use splitreel_assembler::Assembler;
use splitreel_backend::channel::ChannelDoorbell;
use splitreel_backend::store::JobFilter;
use splitreel_backend::{BlobStore, Doorbell, JobStore, Leases, StoreError, World};
use splitreel_coordinator::Coordinator;
use splitreel_core::WorkerId;
use splitreel_core::job::Job;
use splitreel_core::planner::Capabilities;
use splitreel_core::task::RetryPolicy;
use splitreel_media::Toolkit;
use splitreel_worker::Worker;
use splitreel_worker::source::Sources;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the services work on.
pub struct Services {
    /// Truth.
    pub store: Arc<dyn JobStore>,
    /// Objects.
    pub blobs: Arc<dyn BlobStore>,
    /// Where workers find sources.
    pub sources: Arc<dyn Sources>,
    /// What workers encode with.
    pub toolkit: Arc<dyn Toolkit>,
    /// What the planner may count on.
    pub capabilities: Capabilities,
    /// Plants a fault into what is stored.
    pub spoiler: Option<Arc<Spoiler>>,
}

impl Services {
    /// Runs until every job has ended; answers the jobs, ended or not when `patience` is over.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn until_ended(self, patience: Duration) -> Result<Vec<Job>, StoreError> {
        let doorbell: Arc<dyn Doorbell> = Arc::new(ChannelDoorbell::default());
        let world = World::machine();
        let config = splitreel_coordinator::Config {
            capabilities: self.capabilities,
            pump_every: LOOK_EVERY,
            retry: RetryPolicy { media_backoff_ms: 50, infra_backoff_ms: 50, ..RetryPolicy::default() },
            ..splitreel_coordinator::Config::default()
        };
        let (store, bell) = (Arc::clone(&self.store), Arc::clone(&doorbell));
        let coordinator = Coordinator::new(store, Arc::clone(&self.blobs), bell, world.clone(), config);
        let (mut blobs, mut leases): (_, Arc<dyn Leases>) = (self.blobs, Arc::new(coordinator.clone()));
        if let Some(spoiler) = self.spoiler {
            (blobs, leases) = (spoiler.blobs(blobs), spoiler.leases(leases));
        }
        let worker = Worker::new(
            splitreel_worker::Config { id: WorkerId("worker".into()), slots: 2 },
            Arc::clone(&leases),
            Arc::clone(&doorbell),
            Arc::clone(&blobs) as _,
            self.sources,
            self.toolkit,
            Arc::clone(&world.ids),
        );
        let config = splitreel_assembler::Config { id: WorkerId("assembler".into()), slots: 1 };
        let assembler = Assembler::new(config, leases, doorbell, blobs, Arc::clone(&world.ids));
        let stop = CancellationToken::new();
        let mut services = JoinSet::new();
        let s = stop.clone();
        services.spawn(async move { coordinator.run(s).await });
        let s = stop.clone();
        services.spawn(async move { worker.run(s.clone(), s).await });
        let s = stop.clone();
        services.spawn(async move { assembler.run(s.clone(), s).await });
        let deadline = Instant::now() + patience;
        let jobs = loop {
            let jobs = self.store.jobs(JobFilter { limit: 1_000, ..JobFilter::default() }).await?;
            if jobs.iter().all(|job| job.state.is_ended()) || Instant::now() > deadline {
                break jobs;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        stop.cancel();
        while services.join_next().await.is_some() {}
        Ok(jobs)
    }
}
