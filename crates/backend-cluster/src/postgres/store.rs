//! The job store seam: which use-case runs how.

use super::decide::{State, UseCase};
use super::{PgStore, decide, dispatch, events, jobs, outbox, plan, rows, speculate, statistics, takeback};
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
impl Submissions for PgStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        self.database
            .write(move |c| {
                let request = request.clone();
                Box::pin(async move { jobs::submit(c, id, &request, now_ms).await })
            })
            .await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.database.plain(move |c| Box::pin(rows::load_job(c, id))).await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        self.database.plain(move |c| Box::pin(jobs::list(c, filter))).await
    }

    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        self.database.bulk(move |c| Box::pin(jobs::tasks(c, job, filter))).await
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        plan::read(&self.database, job).await
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        self.database.write(move |c| Box::pin(jobs::cancel(c, job, now_ms))).await
    }

    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
        self.database.write(move |c| Box::pin(jobs::pause(c, job, paused, now_ms))).await
    }

    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        self.database.bulk(move |c| Box::pin(jobs::retry(c, job, now_ms))).await
    }

    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        events::read(&self.database, job, after_seq, limit).await
    }

    async fn forget(&self, job: JobId) -> Result<bool, StoreError> {
        self.database.bulk(move |c| Box::pin(jobs::forget(c, job))).await
    }
}

#[async_trait]
impl Scheduling for PgStore {
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        plan::record(&self.database, job, generation, plan.clone(), now_ms).await
    }

    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.database.write(move |c| Box::pin(jobs::replan(c, job, generation, failure.clone(), now_ms))).await
    }

    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.database.write(move |c| Box::pin(jobs::reject(c, job, generation, failure.clone(), now_ms))).await
    }

    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let (scope, shares) = (scope.clone(), shares.clone());
        self.database
            .write(move |c| {
                let (scope, shares) = (scope.clone(), shares.clone());
                Box::pin(async move { dispatch::dispatch(c, &scope, limit, &shares, now_ms).await })
            })
            .await
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError> {
        let scope = scope.clone();
        self.database.plain(move |c| Box::pin(async move { outbox::unsent(c, &scope, limit).await })).await
    }

    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
        if wakeups.is_empty() {
            return Ok(());
        }
        let wakeups = wakeups.to_vec();
        self.database.plain(move |c| Box::pin(async move { outbox::mark_sent(c, &wakeups, now_ms).await })).await
    }

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        let scope = scope.clone();
        let num_swept = self
            .database
            .plain(move |c| Box::pin(async move { outbox::sweep(c, &scope, sent_before_ms).await }))
            .await?;
        // Where nobody reads events, nobody else would number them.
        events::number(&self.database).await?;
        Ok(num_swept)
    }

    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
        speculate::speculate(&self.database, scope.clone(), now_ms).await
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.database.plain(move |c| Box::pin(statistics::statistics(c))).await
    }
}

#[async_trait]
impl LeaseStore for PgStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        let task = request.wakeup.task;
        self.attempts.transact(task, UseCase::Claim, move |state| decide::claim(state, &request)).await
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
        let renew = move |state: &mut State<'_>| decide::renew(state, lease, progress, now_ms, &policy);
        self.attempts.transact(task, UseCase::Renew, renew).await
    }

    async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<bool, LeaseError> {
        let complete = move |state: &mut State<'_>| decide::complete(state, lease, result.clone(), now_ms);
        self.attempts.transact(task, UseCase::Complete, complete).await
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
        let fail = move |state: &mut State<'_>| decide::fail(state, lease, failure.clone(), now_ms, &policy);
        self.attempts.transact(task, UseCase::Fail, fail).await
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        takeback::reap(&self.database, now_ms, *policy).await
    }

    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError> {
        takeback::release(&self.database, worker.clone(), now_ms, *policy).await
    }

    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
        let worker = worker.clone();
        self.database.plain(move |c| Box::pin(async move { takeback::shorten(c, &worker, until_ms).await })).await
    }
}
