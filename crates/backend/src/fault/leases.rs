//! Faults between workers and the coordinator.

use super::{FaultPlan, Injected, around};
use crate::doorbell::Wakeup;
use crate::lease::{LeaseError, Leases, WorkOrder};
use async_trait::async_trait;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use std::sync::Arc;

/// [`Leases`] that fail as planned.
#[derive(Clone)]
pub struct FaultyLeases {
    inner: Arc<dyn Leases>,
    plan: Arc<dyn FaultPlan>,
}

impl FaultyLeases {
    /// Wraps a coordinator.
    pub fn new(inner: Arc<dyn Leases>, plan: Arc<dyn FaultPlan>) -> Self {
        FaultyLeases { inner, plan }
    }
}

fn failed(op: &'static str) -> LeaseError {
    LeaseError::Unavailable { what: Injected { op }.to_string() }
}

#[async_trait]
impl Leases for FaultyLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        around!(self.plan, "leases.claim", failed, self.inner.claim(wakeup, worker, lease))
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        around!(self.plan, "leases.renew", failed, self.inner.renew(task, lease, progress))
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        around!(self.plan, "leases.complete", failed, self.inner.complete(task, lease, result))
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        around!(self.plan, "leases.fail", failed, self.inner.fail(task, lease, failure))
    }
}
