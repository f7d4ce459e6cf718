//! One attempt under its lease: renews, fences itself, reports the outcome.

use crate::Inner;
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_core::task::Progress;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A renewal is sent this often per lease length.
const RENEWALS_PER_TTL: u32 = 4;
/// Pause between repeats of an unanswered report.
const REPEAT: Duration = Duration::from_millis(500);

impl Inner {
    /// Runs an attempt to its end. Nothing of it is left when the lease was lost: no process, no report.
    pub(crate) async fn execute(&self, order: WorkOrder, shutdown: &CancellationToken) {
        let (task, lease) = (order.task, order.lease);
        let cancel = shutdown.child_token();
        let (progress_tx, progress) = watch::channel(Progress::default());
        let keeper = Keeper { leases: Arc::clone(&self.leases), order: order.clone(), progress, cancel: cancel.clone(), renewed: Instant::now() };
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.run()));
        tracing::debug!(%task, attempt = order.attempt, "attempt started");
        let outcome = self.work(&order, progress_tx, &cancel).await;
        if cancel.is_cancelled() {
            tracing::info!(%task, "attempt dropped");
            return;
        }
        // The lease is kept alive while the report is repeated; a refusal ends it.
        loop {
            let told = match &outcome {
                Ok(result) => self.leases.complete(task, lease, result.clone()).await,
                Err(failure) => self.leases.fail(task, lease, failure.clone()).await,
            };
            match told {
                Ok(()) => break,
                Err(LeaseError::Refused(refusal)) => {
                    tracing::info!(%task, %refusal, "report refused");
                    break;
                }
                Err(error) => tracing::warn!(%task, %error, "report unanswered"),
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(REPEAT) => {}
            }
        }
        drop(keeper);
    }
}

/// Keeps one lease alive, and cancels the attempt when that fails.
struct Keeper {
    leases: Arc<dyn Leases>,
    order: WorkOrder,
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    renewed: Instant,
}

impl Keeper {
    async fn run(mut self) {
        let ttl = Duration::from_millis(u64::try_from(self.order.ttl_ms).unwrap_or(1));
        let every = ttl / RENEWALS_PER_TTL;
        loop {
            tokio::time::sleep(every).await;
            let sent = Instant::now();
            let progress = *self.progress.borrow();
            // An answer that comes later than the lease lasts is worth nothing.
            let left = (self.renewed + ttl).saturating_duration_since(sent);
            match tokio::time::timeout(left, self.leases.renew(self.order.task, self.order.lease, progress)).await {
                Ok(Ok(_)) => self.renewed = sent,
                Ok(Err(LeaseError::Refused(refusal))) => {
                    tracing::info!(task = %self.order.task, %refusal, "lease gone");
                    return self.cancel.cancel();
                }
                Ok(Err(error)) => tracing::warn!(task = %self.order.task, %error, "renewal unanswered"),
                Err(_) => {}
            }
            // The fence: past the deadline somebody else may hold the task.
            if self.renewed.elapsed() >= ttl {
                tracing::warn!(task = %self.order.task, "lease ran out unanswered");
                return self.cancel.cancel();
            }
        }
    }
}
