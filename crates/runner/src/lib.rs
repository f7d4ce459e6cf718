//! How a role serves a queue: wait for a ring, claim, hold the lease while working, report. Shared by workers
//! and assemblers, so that fencing and reporting exist once.

mod renewer;
mod slot;
mod attempt;

use splitreel_backend::doorbell::{Doorbell, Queue};
use splitreel_backend::lease::{Leases, WorkOrder};
use splitreel_backend::world::Ids;
use async_trait::async_trait;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, WorkerId};
use splitreel_telemetry::{labels, record};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause after the coordinator or the doorbell did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Does the work of one attempt. When `cancel` fires it must stop soon and leave nothing running; its outcome
/// is then dropped.
#[async_trait]
pub trait Perform: Send + Sync {
    /// Works off an order. The progress that it tells is of the whole of it, with what is fetched before and stored
    /// after: shortly before it ends at that speed, the next task is claimed.
    async fn perform(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure>;
}

/// Serves one queue with a number of slots.
pub struct Server {
    /// Name of this process incarnation.
    pub id: WorkerId,
    /// Attempts at the same time.
    pub slots: usize,
    /// What is served.
    pub queue: Queue,
    /// The coordinator.
    pub leases: Arc<dyn Leases>,
    /// Where rings come from.
    pub doorbell: Arc<dyn Doorbell>,
    /// Who does the work.
    pub role: Arc<dyn Perform>,
    /// Names leases.
    pub ids: Arc<dyn Ids>,
}

impl Server {
    /// Takes rings until `drain`, and ends when what runs then has ended; what was claimed and not begun is handed
    /// back. With `stop` running attempts are stopped and handed back too, so that others need not wait for their
    /// leases to run out.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        let slots = self.slots.max(1);
        record::set_slots(self.queue.label(), slots as u64);
        let server = Arc::new(self);
        let mut running = JoinSet::new();
        let slot = || {
            let (server, drain, stop) = (Arc::clone(&server), drain.clone(), stop.clone());
            async move { server.slot(drain, stop).await }
        };
        for _ in 0..slots {
            running.spawn(slot());
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended
                && !drain.is_cancelled()
                && !stop.is_cancelled()
            {
                tracing::error!(%error, "a slot broke down and is replaced");
                running.spawn(slot());
            }
        }
    }
}

impl Queue {
    fn label(self) -> labels::Queue {
        match self {
            Queue::Work => labels::Queue::Work,
            Queue::Assemble => labels::Queue::Assemble,
        }
    }
}

async fn pause(cancel: &CancellationToken, length: Duration) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}

#[cfg(test)]
mod tests;
