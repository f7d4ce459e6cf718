//! Mistakes that can be planted, each as a wrapper around a sound seam: the rules of the simulation must find every one.

mod store;

pub(super) use store::BuggyStore;

use super::lock;
use crate::spoil::Spoil;
use async_trait::async_trait;
use splitreel_backend::Wakeup;
use splitreel_backend::lease::{LeaseError, Leases, Work, WorkOrder};
use splitreel_core::key::job_prefix;
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

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
    /// Plans are remembered by job, whatever the generation.
    PlanOfAnotherGeneration,
    /// A decoded list of frames is doubted, too.
    PlannedAgainTwice,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 20] = [
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
        Bug::PlanOfAnotherGeneration,
        Bug::PlannedAgainTwice,
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

/// Plans by job, shared by all who claim.
pub(super) type FirstPlans = Arc<Mutex<BTreeMap<JobId, Arc<Plan>>>>;

/// Leases whose work orders hold the first plan that a job ever had.
pub(super) struct FirstPlanLeases {
    pub inner: Arc<dyn Leases>,
    pub first: FirstPlans,
}

#[async_trait]
impl Leases for FirstPlanLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let mut order = self.inner.claim(wakeup, worker, lease).await?;
        let first = |plan: &mut Arc<Plan>| {
            *plan = Arc::clone(lock(&self.first).entry(order.task.job).or_insert_with(|| Arc::clone(plan)));
        };
        match &mut order.work {
            Work::Probe { .. } => {}
            Work::Video { plan, .. } | Work::Audio { plan, .. } => first(plan),
            Work::Assemble(assembly) => first(&mut Arc::make_mut(assembly).plan),
        }
        Ok(order)
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.inner.renew(task, lease, progress).await
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.inner.complete(task, lease, result).await
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.inner.fail(task, lease, failure).await
    }
}

/// Leases whose work orders name the same keys for every attempt of a task.
pub(super) struct SharedKeyLeases(pub Arc<dyn Leases>);

#[async_trait]
impl Leases for SharedKeyLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let mut order = self.0.claim(wakeup, worker, lease).await?;
        order.key_prefix = format!("{}{}/", job_prefix(order.task.job), order.task.number);
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
