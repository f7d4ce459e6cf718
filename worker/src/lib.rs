//! Worker role: waits for a ring, claims, does the work, stores the parts, reports. It decides nothing and
//! remembers nothing: what it needs is in the work order, what it made is named by its result.

mod attempt;
pub mod piece;
pub mod source;
mod store;
pub mod toolkit;
mod work;

use splitreel_backend::doorbell::Queue;
use splitreel_backend::lease::LeaseError;
use splitreel_backend::{BlobStore, Doorbell, Leases};
use splitreel_core::WorkerId;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this process incarnation.
    pub id: WorkerId,
    /// Attempts at the same time.
    pub slots: usize,
    /// Pause after the coordinator or the doorbell did not answer.
    pub pause: Duration,
}

/// A worker over its seams.
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    leases: Arc<dyn Leases>,
    doorbell: Arc<dyn Doorbell>,
    blobs: Arc<dyn BlobStore>,
    sources: Arc<dyn source::Sources>,
    toolkit: Arc<dyn toolkit::Toolkit>,
}

impl Worker {
    /// A worker that talks to the given seams.
    pub fn new(
        config: Config,
        leases: Arc<dyn Leases>,
        doorbell: Arc<dyn Doorbell>,
        blobs: Arc<dyn BlobStore>,
        sources: Arc<dyn source::Sources>,
        toolkit: Arc<dyn toolkit::Toolkit>,
    ) -> Self {
        Worker { inner: Arc::new(Inner { config, leases, doorbell, blobs, sources, toolkit }) }
    }

    /// Works until `shutdown`; then running attempts are stopped and dropped (their leases run out or are
    /// released by whoever stopped the worker).
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut slots = JoinSet::new();
        for _ in 0..self.inner.config.slots.max(1) {
            let (inner, shutdown) = (Arc::clone(&self.inner), shutdown.clone());
            slots.spawn(async move { inner.slot(shutdown).await });
        }
        while slots.join_next().await.is_some() {}
    }
}

impl Inner {
    async fn slot(&self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let ring = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                ring = self.doorbell.next(Queue::Work) => ring,
            };
            let ring = match ring {
                Ok(ring) => ring,
                Err(error) => {
                    tracing::warn!(%error, "no rings");
                    self.pause(&shutdown).await;
                    continue;
                }
            };
            match self.leases.claim(&ring, &self.config.id).await {
                Ok(order) => self.execute(order, &shutdown).await,
                Err(LeaseError::Refused(refusal)) => tracing::debug!(task = %ring.task, %refusal, "ring forgotten"),
                Err(error) => {
                    tracing::warn!(task = %ring.task, %error, "claim unanswered, the ring will come again");
                    self.pause(&shutdown).await;
                }
            }
        }
    }

    async fn pause(&self, shutdown: &CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(self.config.pause) => {}
        }
    }
}
