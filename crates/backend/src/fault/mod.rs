//! Failure injection: wrappers around any seam that ask a plan before and after each operation.
//!
//! The wrappers only relay verdicts: the plan decides what fails and when. A delay is a plan that waits; a crash between
//! two effects is a plan that never answers, after which its caller drops the service.

mod blobs;
mod doorbell;
mod leases;
mod records;
mod store;

pub use blobs::FaultyBlobs;
pub use doorbell::FaultyDoorbell;
pub use leases::FaultyLeases;
pub use records::FaultyRecords;
pub use store::FaultyStore;

use crate::doorbell::Wakeup;
use async_trait::async_trait;

/// Outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It proceeds.
    Proceed,
    /// The caller gets "unavailable": before = nothing was done, after = done, but the answer is lost.
    Fail,
}

/// Outcome of a wakeup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeupVerdict {
    /// Delivered.
    Deliver,
    /// Refused with an error.
    Fail,
    /// Accepted and lost.
    Drop,
    /// Delivered twice.
    Duplicate,
}

/// Decides about faults. Operation names are `seam.method`, for example `store.claim`.
#[async_trait]
pub trait FaultPlan: Send + Sync {
    /// Asked before the operation starts.
    async fn before(&self, op: &'static str) -> Verdict;
    /// Asked after the operation ended, before its caller learns the outcome.
    async fn after(&self, op: &'static str) -> Verdict;
    /// Asked for each wakeup that is sent, after `before("doorbell.notify")`.
    async fn on_wakeup(&self, wakeup: &Wakeup) -> WakeupVerdict {
        let _ = wakeup;
        WakeupVerdict::Deliver
    }
}

/// The reason inside an injected error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("injected fault in {op}")]
pub struct Injected {
    /// The operation.
    pub op: &'static str,
}

/// Asks the plan around `$call`; a failing verdict returns `$error($op)` from the method.
macro_rules! around {
    ($plan:expr, $op:literal, $error:expr, $call:expr) => {{
        if $plan.before($op).await == $crate::fault::Verdict::Fail {
            return Err($error($op));
        }
        let outcome = $call.await;
        if $plan.after($op).await == $crate::fault::Verdict::Fail {
            return Err($error($op));
        }
        outcome
    }};
}
use around;

#[cfg(test)]
mod tests;
