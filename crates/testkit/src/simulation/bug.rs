//! Mistakes that can be planted, each as a wrapper around a sound seam: the rules of the simulation must find every one.

mod store;

pub(super) use store::BuggyStore;

use crate::spoil::Spoil;
use async_trait::async_trait;
use splitreel_backend::Wakeup;
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use std::sync::Arc;

/// A mistake to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A completion is accepted whatever its lease.
    CompletionWithoutLeaseCheck,
    /// Taking an expired lease back does not raise the attempt.
    AttemptNotRaised,
    /// Output keys carry neither attempt nor lease.
    KeySharedByAttempts,
    /// A task becomes done in one transaction and is counted in another.
    CountedInAnotherTransaction,
    /// The last part inserts the assemble task twice.
    AssembledTwice,
    /// A wakeup that was sent is taken for delivered: lost ones are never sent again.
    DoorbellTrusted,
    /// An assembly that ends after a cancel is published all the same.
    PublishedAfterCancel,
    /// A claim looks first and writes later: two may both find the task ready.
    ClaimNotAtomic,
    /// A claim does not look whether the job is paused.
    ClaimWhilePaused,
    /// Neither dispatch nor claim waits for the back-off.
    BackOffIgnored,
    /// The reaper takes leases back before they have run out.
    ReapedTooEarly,
    /// A cancel ends the job, but not its tasks.
    CancelLeavesTasksOpen,
    /// A request whose answer was lost makes a second job when it is repeated.
    KeyNotUnique,
    /// Dispatch does not know of quotas.
    QuotaIgnored,
    /// A part is reported before its objects are written.
    UploadNotAwaited,
    /// A stored header shows one frame one tick late.
    StoredFrameShifted,
    /// Stored headers show two frames in each other's place.
    StoredFramesSwapped,
    /// A media segment is stored with the content of its neighbour.
    NeighbourStored,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 18] = [
        Bug::CompletionWithoutLeaseCheck,
        Bug::AttemptNotRaised,
        Bug::KeySharedByAttempts,
        Bug::CountedInAnotherTransaction,
        Bug::AssembledTwice,
        Bug::DoorbellTrusted,
        Bug::PublishedAfterCancel,
        Bug::ClaimNotAtomic,
        Bug::ClaimWhilePaused,
        Bug::BackOffIgnored,
        Bug::ReapedTooEarly,
        Bug::CancelLeavesTasksOpen,
        Bug::KeyNotUnique,
        Bug::QuotaIgnored,
        Bug::UploadNotAwaited,
        Bug::StoredFrameShifted,
        Bug::StoredFramesSwapped,
        Bug::NeighbourStored,
    ];

    /// The fault of stored media that it is.
    pub(super) fn spoil(self) -> Option<Spoil> {
        match self {
            Bug::StoredFrameShifted => Some(Spoil::FrameShifted),
            Bug::StoredFramesSwapped => Some(Spoil::FramesSwapped),
            Bug::NeighbourStored => Some(Spoil::NeighbourStored),
            _ => None,
        }
    }
}

/// Leases whose work orders name the same keys for every attempt of a task.
pub(super) struct SharedKeyLeases(pub Arc<dyn Leases>);

#[async_trait]
impl Leases for SharedKeyLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let mut order = self.0.claim(wakeup, worker, lease).await?;
        order.key_prefix = format!("jobs/{}/{}/", order.task.job, order.task.number);
        Ok(order)
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.0.renew(task, lease, progress).await
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.0.complete(task, lease, result).await
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.0.fail(task, lease, failure).await
    }
}
