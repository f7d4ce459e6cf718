//! Worker role: waits for a wakeup, claims, does the work, stores the parts, reports. It decides nothing and
//! remembers nothing: what it needs is in the work order, what it made is named by its result.

#![forbid(unsafe_code)]

pub mod piece;
mod progress;
pub mod source;
mod store;
mod work;

use splitreel_backend::doorbell::Queue;
use splitreel_backend::{Doorbell, Ids, Leases, PartWriter};
use splitreel_core::WorkerId;
use splitreel_media::Toolkit;
use splitreel_runner::Runner;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this process incarnation.
    pub id: WorkerId,
    /// Attempts at the same time.
    pub slots: usize,
}

/// A worker over its seams.
#[derive(Clone)]
pub struct Worker {
    config: Config,
    leases: Arc<dyn Leases>,
    doorbell: Arc<dyn Doorbell>,
    ids: Arc<dyn Ids>,
    deps: Arc<WorkerDeps>,
}

/// What the work is done with.
pub(crate) struct WorkerDeps {
    pub(crate) blobs: Arc<dyn PartWriter>,
    pub(crate) sources: Arc<dyn source::Sources>,
    pub(crate) toolkit: Arc<dyn Toolkit>,
}

impl Worker {
    /// A worker that talks to the given seams.
    pub fn new(
        config: Config,
        leases: Arc<dyn Leases>,
        doorbell: Arc<dyn Doorbell>,
        blobs: Arc<dyn PartWriter>,
        sources: Arc<dyn source::Sources>,
        toolkit: Arc<dyn Toolkit>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Worker { config, leases, doorbell, ids, deps: Arc::new(WorkerDeps { blobs, sources, toolkit }) }
    }

    /// Works until `drain`, or until `stop`; see [`Runner::run`].
    pub async fn run(&self, drain: CancellationToken, stop: CancellationToken) {
        let runner = Runner {
            id: self.config.id.clone(),
            slots: self.config.slots,
            queue: Queue::Work,
            leases: Arc::clone(&self.leases),
            doorbell: Arc::clone(&self.doorbell),
            handler: Arc::clone(&self.deps) as Arc<_>,
            ids: Arc::clone(&self.ids),
        };
        runner.run(drain, stop).await;
    }
}
