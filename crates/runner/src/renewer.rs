//! A lease is kept alive from the claim until the report is answered.

use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_core::task::Progress;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A renewal is sent this often per lease length.
const RENEWALS_PER_TTL: u32 = 4;

/// Keeps one lease alive, and cancels the attempt when that fails.
pub(super) struct Keeper {
    pub leases: Arc<dyn Leases>,
    pub order: WorkOrder,
    pub progress: watch::Receiver<Progress>,
    pub cancel: CancellationToken,
    pub renewed: Instant,
}

impl Keeper {
    pub async fn run(mut self) {
        let ttl = Duration::from_millis(u64::try_from(self.order.ttl_ms).unwrap_or(1));
        let every = ttl / RENEWALS_PER_TTL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.leases.nudged(self.order.lease) => {}
            }
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
