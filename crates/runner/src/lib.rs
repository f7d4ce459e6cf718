//! How a role serves a queue: wait for a wakeup, claim, keep the lease while working, report. Workers and assemblers
//! share this crate, so that fencing and reporting exist once.

#![forbid(unsafe_code)]

mod attempt;
mod renewer;
mod slot;

use async_trait::async_trait;
use slot::Slot;
use splitreel_backend::doorbell::{Doorbell, Queue};
use splitreel_backend::lease::{Leases, WorkOrder};
use splitreel_backend::world::Ids;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, WorkerId};
use splitreel_telemetry::{labels, record};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause after the coordinator or the doorbell failed to answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Does the work of one attempt.
#[async_trait]
pub trait TaskHandler: Send + Sync {
    /// Executes an order. The reported progress covers the whole attempt, fetching and storing included: the runner
    /// claims the next task shortly before this one ends at its present speed.
    ///
    /// When `cancel` fires, the handler must return soon and leave nothing running; its outcome is then dropped.
    async fn handle(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure>;
}

/// Serves one queue with a number of slots.
pub struct Runner {
    /// Name of this process incarnation.
    pub id: WorkerId,
    /// Maximum number of attempts that are worked on at a time, at least 1.
    pub slots: usize,
    /// Queue to serve.
    pub queue: Queue,
    /// The coordinator.
    pub leases: Arc<dyn Leases>,
    /// Source of wakeups.
    pub doorbell: Arc<dyn Doorbell>,
    /// Does the work.
    pub handler: Arc<dyn TaskHandler>,
    /// Source of lease ids.
    pub ids: Arc<dyn Ids>,
}

impl Runner {
    /// Serves the queue until `drain` fires, then returns once the running attempts have ended; tasks that were claimed
    /// but not started are handed back. `stop` cancels running attempts and hands them back, too, so that other workers
    /// need not wait for their leases to expire.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        let num_slots = self.slots.max(1);
        record::set_slots(queue_label(self.queue), num_slots as u64);
        let runner = Arc::new(self);
        let mut slots = JoinSet::new();
        let slot = || Slot::new(Arc::clone(&runner), drain.clone(), stop.clone()).run();
        for _ in 0..num_slots {
            slots.spawn(slot());
        }
        while let Some(ended) = slots.join_next().await {
            if let Err(error) = ended
                && !drain.is_cancelled()
                && !stop.is_cancelled()
            {
                tracing::error!(%error, "slot panicked; restarting it");
                slots.spawn(slot());
            }
        }
    }
}

/// The queue as a metric label.
fn queue_label(queue: Queue) -> labels::Queue {
    match queue {
        Queue::Work => labels::Queue::Work,
        Queue::Assemble => labels::Queue::Assemble,
    }
}

/// Sleeps for `length`, or until `cancel` fires.
async fn pause(cancel: &CancellationToken, length: Duration) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}

#[cfg(test)]
mod tests;
