//! Faults of the job store.

use super::{FaultPlan, Injected, around};
use crate::doorbell::Wakeup;
use crate::lease::LeaseError;
use crate::statistics::StoreStatistics;
use crate::store::{
    ClaimRequest, InFlightLimit, JobFilter, JobStore, LeaseStore, Scheduling, Scope, StoreError, Submissions,
    Submitted, TaskFilter,
};
use async_trait::async_trait;
use splitreel_core::event::Event;
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Progress, RetryPolicy, Task};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use std::sync::Arc;

/// A [`JobStore`] that fails as planned.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn JobStore>,
    plan: Arc<dyn FaultPlan>,
}

impl FaultyStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn JobStore>, plan: Arc<dyn FaultPlan>) -> Self {
        FaultyStore { inner, plan }
    }
}

fn failed<E: From<StoreError>>(op: &'static str) -> E {
    StoreError::Unavailable(Box::new(Injected { op })).into()
}

#[async_trait]
impl Submissions for FaultyStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        around!(self.plan, "store.submit", failed, self.inner.submit(id, request, now_ms))
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        around!(self.plan, "store.job", failed, self.inner.job(id))
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        around!(self.plan, "store.jobs", failed, self.inner.jobs(filter))
    }

    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        around!(self.plan, "store.tasks", failed, self.inner.tasks_like(job, filter))
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        around!(self.plan, "store.plan", failed, self.inner.plan(job))
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        around!(self.plan, "store.cancel", failed, self.inner.cancel(job, now_ms))
    }

    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
        around!(self.plan, "store.pause", failed, self.inner.pause(job, paused, now_ms))
    }

    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        around!(self.plan, "store.retry", failed, self.inner.retry(job, now_ms))
    }

    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        around!(self.plan, "store.events", failed, self.inner.events(job, after_seq, limit))
    }

    async fn forget(&self, job: JobId) -> Result<bool, StoreError> {
        around!(self.plan, "store.forget", failed, self.inner.forget(job))
    }
}

#[async_trait]
impl Scheduling for FaultyStore {
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        around!(self.plan, "store.record_plan", failed, self.inner.record_plan(job, generation, plan, now_ms))
    }

    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        around!(self.plan, "store.replan", failed, self.inner.replan(job, generation, failure.clone(), now_ms))
    }

    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        around!(self.plan, "store.reject", failed, self.inner.reject(job, generation, failure, now_ms))
    }

    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        around!(self.plan, "store.dispatch", failed, self.inner.dispatch(scope, limit, shares, now_ms))
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError> {
        around!(self.plan, "store.unsent", failed, self.inner.unsent(scope, limit))
    }

    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
        around!(self.plan, "store.mark_sent", failed, self.inner.mark_sent(wakeups, now_ms))
    }

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        around!(self.plan, "store.sweep", failed, self.inner.sweep(scope, sent_before_ms))
    }

    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
        around!(self.plan, "store.speculate", failed, self.inner.speculate(scope, now_ms))
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        around!(self.plan, "store.statistics", failed, self.inner.statistics())
    }
}

#[async_trait]
impl LeaseStore for FaultyStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        around!(self.plan, "store.claim", failed, self.inner.claim(request))
    }

    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, LeaseError> {
        around!(self.plan, "store.renew", failed, self.inner.renew(task, lease, progress, now_ms, policy))
    }

    async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<bool, LeaseError> {
        around!(self.plan, "store.complete", failed, self.inner.complete(task, lease, result, now_ms))
    }

    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, LeaseError> {
        around!(self.plan, "store.fail", failed, self.inner.fail(task, lease, failure, now_ms, policy))
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        around!(self.plan, "store.reap", failed, self.inner.reap(now_ms, policy))
    }

    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError> {
        around!(self.plan, "store.release_worker", failed, self.inner.release_worker(worker, now_ms, policy))
    }

    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
        around!(self.plan, "store.shorten_leases", failed, self.inner.shorten_leases(worker, until_ms))
    }
}
