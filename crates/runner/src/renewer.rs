//! Renews a lease from the claim until the report is answered.

use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_core::task::Progress;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Number of renewals sent per lease length.
const RENEWALS_PER_TTL: u32 = 4;

/// Renews one lease, and cancels the attempt when the lease is lost.
pub(super) struct LeaseRenewer {
    pub leases: Arc<dyn Leases>,
    pub order: WorkOrder,
    pub progress: watch::Receiver<Progress>,
    pub cancel: CancellationToken,
    /// When the last answered renewal (at first, the claim) was sent.
    pub renewed: Instant,
}

impl LeaseRenewer {
    pub(super) async fn run(mut self) {
        let ttl = Duration::from_millis(u64::try_from(self.order.ttl_ms).unwrap_or(1));
        let every = ttl / RENEWALS_PER_TTL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.leases.nudged(self.order.lease) => {}
            }
            let sent = Instant::now();
            let progress = *self.progress.borrow();
            // An answer that arrives after the lease has expired is useless.
            let left = (self.renewed + ttl).saturating_duration_since(sent);
            match tokio::time::timeout(left, self.leases.renew(self.order.task, self.order.lease, progress)).await {
                Ok(Ok(_)) => self.renewed = sent,
                Ok(Err(LeaseError::Refused(refusal))) => {
                    tracing::info!(task = %self.order.task, %refusal, "lease renewal refused; attempt cancelled");
                    return self.cancel.cancel();
                }
                Ok(Err(error)) => tracing::warn!(task = %self.order.task, %error, "lease renewal failed; retrying"),
                Err(_) => {}
            }
            // The fence: past the deadline another worker may hold the task.
            if self.renewed.elapsed() >= ttl {
                tracing::warn!(task = %self.order.task, "lease expired before renewal was answered; attempt cancelled");
                return self.cancel.cancel();
            }
        }
    }
}
