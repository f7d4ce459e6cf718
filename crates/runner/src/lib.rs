//! How a role serves a queue: wait for a wakeup, claim, keep the lease while working, report. Workers and assemblers
//! share this crate, so that fencing and reporting exist once.

#![forbid(unsafe_code)]

mod attempt;
mod renewer;
mod runner;
mod slot;

pub use runner::{Runner, TaskHandler};

use runner::queue_label;
use slot::Slot;
use splitreel_telemetry::record;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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

#[cfg(test)]
mod tests;
