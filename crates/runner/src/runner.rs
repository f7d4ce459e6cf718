//! What a runner is made of, its slots apart: the seams that it calls, and the handler that does the work.

use async_trait::async_trait;
use splitreel_backend::doorbell::{Doorbell, Queue};
use splitreel_backend::lease::{Leases, WorkOrder};
use splitreel_backend::world::Ids;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, WorkerId};
use splitreel_telemetry::labels;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause after the coordinator or the doorbell failed to answer.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

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

/// The queue as a metric label.
pub(crate) fn queue_label(queue: Queue) -> labels::Queue {
    match queue {
        Queue::Work => labels::Queue::Work,
        Queue::Assemble => labels::Queue::Assemble,
    }
}

/// Sleeps for `length`, or until `cancel` fires.
pub(crate) async fn pause(cancel: &CancellationToken, length: Duration) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}
