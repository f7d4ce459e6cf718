//! The seam: which use-case runs on which connection. Loops that poll (dispatch, reap, sweep) look first and
//! take the write lock only when there is something to write.

use super::{SqliteStore, attempts, jobs, outbox, rows};
use async_trait::async_trait;
use splitreel_backend::lease::LeaseError;
use splitreel_backend::statistics::StoreStatistics;
use splitreel_backend::store::{ClaimRequest, InFlightLimit, JobFilter, Scope, Submitted, TaskFilter};
use splitreel_backend::{LeaseStore, Scheduling, StoreError, Submissions, Wakeup};
use splitreel_core::event::Event;
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Progress, RetryPolicy, Task};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};

#[async_trait]
impl Submissions for SqliteStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        self.write(move |c| Box::pin(jobs::submit(c, id, request, now_ms))).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.read(move |c| Box::pin(rows::load_job(c, id))).await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        self.read(move |c| Box::pin(jobs::list(c, filter))).await
    }

    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        self.read(move |c| Box::pin(jobs::tasks(c, job, filter))).await
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        self.read(move |c| Box::pin(jobs::plan(c, job))).await
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        self.write(move |c| Box::pin(jobs::cancel(c, job, now_ms))).await
    }

    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
        self.write(move |c| Box::pin(jobs::pause(c, job, paused, now_ms))).await
    }

    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        self.write(move |c| Box::pin(jobs::retry(c, job, now_ms))).await
    }

    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |c| Box::pin(jobs::events(c, job, after_seq, limit))).await
    }

    async fn forget(&self, job: JobId) -> Result<bool, StoreError> {
        self.write(move |c| Box::pin(jobs::forget(c, job))).await
    }
}

#[async_trait]
impl Scheduling for SqliteStore {
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        let plan = plan.clone();
        self.write(move |c| Box::pin(jobs::record_plan(c, job, generation, plan, now_ms))).await
    }

    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.write(move |c| Box::pin(jobs::replan(c, job, generation, failure, now_ms))).await
    }

    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.write(move |c| Box::pin(jobs::reject(c, job, generation, failure, now_ms))).await
    }

    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let [(scope, shares), (looked_at, seen)] = [(); 2].map(|()| (scope.clone(), shares.clone()));
        let due =
            self.read(move |c| Box::pin(async move { outbox::due(c, &looked_at, limit, &seen, now_ms).await })).await?;
        if due.is_empty() {
            return Ok(0);
        }
        self.write(move |c| Box::pin(async move { outbox::dispatch(c, &scope, limit, &shares, now_ms).await })).await
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError> {
        let scope = scope.clone();
        self.read(move |c| Box::pin(async move { outbox::unsent(c, &scope, limit).await })).await
    }

    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
        if wakeups.is_empty() {
            return Ok(());
        }
        let wakeups = wakeups.to_vec();
        self.write(move |c| Box::pin(async move { outbox::mark_sent(c, &wakeups, now_ms).await })).await
    }

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        let looked_at = scope.clone();
        if !self.read(move |c| Box::pin(async move { outbox::has_stale(c, &looked_at, sent_before_ms).await })).await? {
            return Ok(0);
        }
        let scope = scope.clone();
        self.write(move |c| Box::pin(async move { outbox::sweep(c, &scope, sent_before_ms).await })).await
    }

    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
        let looked_at = scope.clone();
        if self.read(move |c| Box::pin(async move { attempts::nothing_waits(c, &looked_at).await })).await?.is_empty() {
            return Ok(Vec::new());
        }
        let scope = scope.clone();
        self.write(move |c| Box::pin(async move { attempts::speculate(c, &scope, now_ms).await })).await
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.read(move |c| Box::pin(outbox::statistics(c))).await
    }
}

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        self.write(move |c| Box::pin(attempts::claim(c, request))).await
    }

    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, LeaseError> {
        let policy = *policy;
        self.write(move |c| Box::pin(async move { attempts::renew(c, task, lease, progress, now_ms, &policy).await }))
            .await
    }

    async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<bool, LeaseError> {
        self.write(move |c| Box::pin(attempts::complete(c, task, lease, result, now_ms))).await
    }

    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, LeaseError> {
        let policy = *policy;
        self.write(move |c| Box::pin(async move { attempts::fail(c, task, lease, failure, now_ms, &policy).await }))
            .await
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        let policy = *policy;
        let found = self.read(move |c| Box::pin(async move { attempts::expired(c, now_ms, &policy).await })).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |c| Box::pin(async move { attempts::reap(c, now_ms, &policy).await })).await
    }

    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError> {
        let (worker, policy) = (worker.clone(), *policy);
        self.write(move |c| Box::pin(async move { attempts::release(c, &worker, now_ms, &policy).await })).await
    }

    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
        let worker = worker.clone();
        self.write(move |c| Box::pin(async move { attempts::shorten(c, &worker, until_ms).await })).await
    }
}
