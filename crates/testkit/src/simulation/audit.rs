//! A job store that reports each effect to the ledger and to the trace. Passes everything on as it is.

use super::chaos::Chaos;
use super::ledger::{Inspected, Ledger};
use async_trait::async_trait;
use splitreel_backend::Wakeup;
use splitreel_backend::lease::LeaseError;
use splitreel_backend::statistics::StoreStatistics;
use splitreel_backend::store::{
    ClaimRequest, InFlightLimit, JobFilter, LeaseStore, Scheduling, Scope, StoreError, Submissions, Submitted,
    TaskFilter,
};
use splitreel_core::event::Event;
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Progress, RetryPolicy, Task};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use std::sync::Arc;

/// The store as one process uses it.
pub(super) struct AuditedStore {
    who: String,
    inner: Arc<dyn Inspected>,
    ledger: Arc<Ledger>,
    chaos: Arc<Chaos>,
}

impl AuditedStore {
    pub(super) fn new(who: String, ledger: Arc<Ledger>, chaos: Arc<Chaos>) -> Self {
        AuditedStore { who, inner: Arc::clone(ledger.store()), ledger, chaos }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.chaos.note(&self.who, what);
    }

    /// Takes a step when something was changed.
    fn changed(&self, is_changed: bool, what: impl FnOnce() -> String) {
        if is_changed {
            self.note(what);
            self.ledger.step();
        }
    }
}

#[async_trait]
impl Submissions for AuditedStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        let answer = self.inner.submit(id, request, now_ms).await?;
        if let Submitted::Created(job) | Submitted::Existing(job) = &answer {
            self.ledger.accepted(job);
        }
        self.changed(matches!(answer, Submitted::Created(_)), || format!("submit: job {id}"));
        Ok(answer)
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.inner.job(id).await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        self.inner.jobs(filter).await
    }

    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        self.inner.tasks_like(job, filter).await
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        self.inner.plan(job).await
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.inner.cancel(job, now_ms).await?;
        self.changed(is_new, || format!("cancel: job {job}"));
        Ok(is_new)
    }

    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.inner.pause(job, paused, now_ms).await?;
        self.changed(is_new, || format!("pause: job {job}, {paused}"));
        Ok(is_new)
    }

    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.inner.retry(job, now_ms).await?;
        self.changed(is_new, || format!("retry: job {job}"));
        Ok(is_new)
    }

    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.events(job, after_seq, limit).await
    }

    async fn forget(&self, job: JobId) -> Result<bool, StoreError> {
        self.inner.forget(job).await
    }
}

#[async_trait]
impl Scheduling for AuditedStore {
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.inner.record_plan(job, generation, plan, now_ms).await?;
        self.changed(is_new, || format!("record_plan: job {job}"));
        Ok(is_new)
    }

    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        let code = failure.code.clone();
        let is_new = self.inner.replan(job, generation, failure, now_ms).await?;
        self.changed(is_new, || format!("replan: job {job}, {code}"));
        Ok(is_new)
    }

    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        let code = failure.code.clone();
        let is_new = self.inner.reject(job, generation, failure, now_ms).await?;
        self.changed(is_new, || format!("reject: job {job}, {code}"));
        Ok(is_new)
    }

    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let num = self.inner.dispatch(scope, limit, shares, now_ms).await?;
        if num > 0 {
            self.ledger.dispatched(shares);
        }
        self.changed(num > 0, || format!("dispatch: {num} rows"));
        Ok(num)
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError> {
        self.inner.unsent(scope, limit).await
    }

    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
        self.inner.mark_sent(wakeups, now_ms).await?;
        self.note(|| format!("mark_sent: {} wakeups", wakeups.len()));
        Ok(())
    }

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        let num = self.inner.sweep(scope, sent_before_ms).await?;
        self.changed(num > 0, || format!("sweep: {num} rows"));
        Ok(num)
    }

    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
        let tasks = self.inner.speculate(scope, now_ms).await?;
        self.changed(!tasks.is_empty(), || format!("speculate: {tasks:?}"));
        Ok(tasks)
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.inner.statistics().await
    }
}

#[async_trait]
impl LeaseStore for AuditedStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        let (wakeup, lease, now_ms) = (request.wakeup.clone(), request.lease, request.now_ms);
        let answer = self.inner.claim(request).await;
        self.note(|| {
            format!("claim: task {} attempt {} as {lease}: {:?}", wakeup.task, wakeup.attempt, answer.as_ref().err())
        });
        if let Ok(task) = &answer {
            self.ledger.claimed(task, now_ms);
            self.ledger.step();
        }
        answer
    }

    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, LeaseError> {
        let answer = self.inner.renew(task, lease, progress, now_ms, policy).await;
        if let Ok(expires_ms) = &answer {
            self.ledger.renewed(task, lease, *expires_ms);
        }
        answer
    }

    async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<bool, LeaseError> {
        let live = self.ledger.live_leases(task);
        let answer = self.inner.complete(task, lease, result.clone(), now_ms).await;
        self.note(|| format!("complete: task {task} by {lease}: {answer:?}"));
        if matches!(answer, Ok(true)) {
            self.ledger.completed(task, lease, &live, &result).await;
            self.ledger.step();
        }
        answer
    }

    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, LeaseError> {
        let code = failure.code.clone();
        let answer = self.inner.fail(task, lease, failure, now_ms, policy).await;
        self.changed(answer.is_ok(), || format!("fail: task {task} by {lease}, {code}: {answer:?}"));
        answer
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        let tasks = self.inner.reap(now_ms, policy).await?;
        self.ledger.reaped(&tasks, now_ms);
        self.changed(!tasks.is_empty(), || format!("reap: {tasks:?}"));
        Ok(tasks)
    }

    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError> {
        let tasks = self.inner.release_worker(worker, now_ms, policy).await?;
        self.changed(!tasks.is_empty(), || format!("release_worker {worker}: {tasks:?}"));
        Ok(tasks)
    }

    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
        let num = self.inner.shorten_leases(worker, until_ms).await?;
        self.changed(num > 0, || format!("shorten_leases {worker}: {num}"));
        Ok(num)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chaos::Mix;
    use super::*;
    use splitreel_backend::conformance::fixture::{Stage, lease_id};
    use splitreel_backend::memory::{MemoryBlobs, MemoryStore};

    #[tokio::test]
    async fn a_renewal_by_a_slower_clock_ends_the_lease_earlier() {
        let chaos = Arc::new(Chaos::new(1, Mix::calm()));
        let rows = Arc::new(MemoryStore::new());
        let ledger = Arc::new(Ledger::new(Arc::clone(&chaos), rows, Arc::new(MemoryBlobs::new())));
        let store = AuditedStore::new("test".to_owned(), Arc::clone(&ledger), chaos);
        let stage = Stage::submit(Arc::new(store), 1, 0).await;
        stage.claim(0, 1, 1, 100_000).await.unwrap();
        let renewed = stage.store.renew(stage.id(0), lease_id(1), Progress::default(), 97_000, &stage.policy);
        assert_eq!(renewed.await.unwrap(), 112_000);
        assert_eq!(stage.store.reap(113_000, &stage.policy).await.unwrap(), [stage.id(0)]);
        assert_eq!(ledger.violation(), None);
    }
}
