//! A memory store with a mistake: the sound store, and an overlay on what is seen of its rows.

use super::Bug;
use crate::simulation::ledger::Inspected;
use crate::simulation::lock;
use async_trait::async_trait;
use splitreel_backend::Wakeup;
use splitreel_backend::invariants::Snapshot;
use splitreel_backend::lease::LeaseError;
use splitreel_backend::memory::MemoryStore;
use splitreel_backend::statistics::StoreStatistics;
use splitreel_backend::store::{
    ClaimRequest, InFlightLimit, JobFilter, LeaseStore, Scheduling, Scope, StoreError, Submissions, Submitted,
    TaskFilter,
};
use splitreel_core::event::Event;
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Lease, Progress, Refusal, RetryPolicy, Task, TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use uuid::Uuid;

/// How far ahead of its clock a hasty reaper or dispatcher is.
const HASTE_MS: i64 = 10_000;

/// A memory store with a mistake.
pub(in crate::simulation) struct BuggyStore {
    inner: MemoryStore,
    bug: Bug,
    overlay: Mutex<Overlay>,
}

/// How the rows seem to differ from those of the sound store.
#[derive(Default)]
struct Overlay {
    /// Attempts by which a task is behind.
    behind: BTreeMap<TaskId, u32>,
    /// Done, but not counted yet.
    uncounted: BTreeMap<TaskId, (LeaseId, TaskResult)>,
    /// The second assemble task of a job.
    second: BTreeMap<JobId, Task>,
    /// Wakeups of second assemble tasks that were sent.
    second_sent: BTreeSet<JobId>,
    /// Tasks as they were when their job was cancelled.
    kept: BTreeMap<TaskId, Task>,
    /// Results of jobs that were published after their cancel.
    late: BTreeMap<JobId, (TaskId, LeaseId, TaskResult)>,
}

impl Overlay {
    fn behind(&self, task: TaskId) -> u32 {
        self.behind.get(&task).copied().unwrap_or(0)
    }

    fn seen(&self, mut task: Task) -> Task {
        if let Some(kept) = self.kept.get(&task.id) {
            return kept.clone();
        }
        task.attempt = task.attempt.saturating_sub(self.behind(task.id));
        if let Some((lease, result)) = self.uncounted.get(&task.id) {
            finish(&mut task, *lease, result);
        }
        if let Some((id, lease, result)) = self.late.get(&task.id.job)
            && *id == task.id
        {
            finish(&mut task, *lease, result);
        }
        task
    }

    fn seen_wakeup(&self, mut wakeup: Wakeup) -> Wakeup {
        wakeup.attempt = wakeup.attempt.saturating_sub(self.behind(wakeup.task));
        wakeup
    }

    fn real_wakeup(&self, mut wakeup: Wakeup) -> Wakeup {
        wakeup.attempt = wakeup.attempt.saturating_add(self.behind(wakeup.task));
        wakeup
    }
}

fn finish(task: &mut Task, lease: LeaseId, result: &TaskResult) {
    task.state = TaskState::Done;
    task.lease = None;
    task.done_by = Some(lease);
    task.result = Some(result.clone());
}

impl BuggyStore {
    pub(in crate::simulation) fn new(bug: Bug) -> Self {
        BuggyStore { inner: MemoryStore::new(), bug, overlay: Mutex::default() }
    }

    /// Completes on behalf of the holder of the task, or of a worker that does not exist.
    async fn complete_anyway(&self, task: TaskId, result: TaskResult, now_ms: i64) -> Result<bool, LeaseError> {
        let rows = self.inner.tasks(task.job).await?;
        let Some(row) = rows.into_iter().find(|t| t.id == task) else { return Err(Refusal::LeaseLost.into()) };
        let lease = match row.lease {
            Some(live) => live.id,
            None => {
                let lease = LeaseId(Uuid::from_u64_pair(u64::from(row.attempt), u64::MAX - u64::from(task.number)));
                let wakeup = Wakeup { task, attempt: row.attempt, kind: row.spec.kind, trace: Default::default() };
                let request = ClaimRequest {
                    wakeup,
                    lease,
                    worker: WorkerId("nobody".into()),
                    now_ms: now_ms.max(row.not_before_ms),
                    ttl_ms: 1,
                };
                self.inner.claim(request).await?;
                lease
            }
        };
        self.inner.complete(task, lease, result, now_ms).await
    }

    async fn row(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        Ok(self.inner.tasks(id.job).await?.into_iter().find(|t| t.id == id))
    }

    async fn claim_in_two_steps(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        let id = request.wakeup.task;
        let is_ready = |t: &Task| t.state == TaskState::Ready && t.attempt == request.wakeup.attempt;
        let was_ready = self.row(id).await?.as_ref().is_some_and(is_ready);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let answer = self.inner.claim(request.clone()).await;
        let taken = self.row(id).await?.filter(|t| t.attempt == request.wakeup.attempt && t.lease.is_some());
        match (answer, taken) {
            (Err(LeaseError::Refused(Refusal::NotClaimable)), Some(mut task)) if was_ready => {
                task.lease = task.lease.map(|lease| Lease { id: request.lease, worker: request.worker, ..lease });
                Ok(task)
            }
            (answer, _) => answer,
        }
    }

    async fn claim_though_paused(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        let job = request.wakeup.task.job;
        if !self.inner.pause(job, false, request.now_ms).await? {
            return self.inner.claim(request).await;
        }
        let now_ms = request.now_ms;
        let answer = self.inner.claim(request).await;
        self.inner.pause(job, true, now_ms).await?;
        answer
    }

    async fn claim_before_its_time(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        let due_ms = self.row(request.wakeup.task).await?.map_or(i64::MIN, |t| t.not_before_ms);
        let now_ms = request.now_ms.max(due_ms);
        self.inner.claim(ClaimRequest { now_ms, ..request }).await
    }

    async fn complete_second(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: &TaskResult,
    ) -> Option<Result<bool, Refusal>> {
        let mut overlay = lock(&self.overlay);
        let second = overlay.second.get_mut(&task.job).filter(|t| t.id == task)?;
        Some(second.complete(lease, result.clone()))
    }

    async fn insert_second(&self, job: JobId) -> Result<(), StoreError> {
        let first = self.inner.tasks(job).await?.into_iter().find(|t| t.spec.kind == TaskKind::Assemble);
        if let Some(mut second) = first {
            second.id.number += 1;
            second.spec.number += 1;
            lock(&self.overlay).second.entry(job).or_insert(second);
        }
        Ok(())
    }
}

impl Inspected for BuggyStore {
    fn snapshots(&self) -> Vec<Snapshot> {
        let overlay = lock(&self.overlay);
        let mut all = self.inner.snapshots();
        for snapshot in &mut all {
            let tasks = std::mem::take(&mut snapshot.tasks);
            snapshot.tasks = tasks
                .into_iter()
                .map(|t| overlay.seen(t))
                .chain(overlay.second.get(&snapshot.job.id).cloned())
                .collect();
            snapshot.job.remaining += u32::from(overlay.second.contains_key(&snapshot.job.id));
            snapshot.outbox =
                std::mem::take(&mut snapshot.outbox).into_iter().map(|r| overlay.seen_wakeup(r)).collect();
            if overlay.late.contains_key(&snapshot.job.id) {
                snapshot.job.state = JobState::Published;
            }
        }
        all
    }
}

#[async_trait]
impl Submissions for BuggyStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        let key = request.idempotency_key.clone();
        let answer = self.inner.submit(id, request.clone(), now_ms).await?;
        match answer {
            Submitted::Existing(_) if self.bug == Bug::KeyNotUnique => {
                let another = JobRequest { idempotency_key: format!("{key} of {id}"), ..request };
                let Submitted::Created(mut job) = self.inner.submit(id, another, now_ms).await? else {
                    return Ok(answer);
                };
                job.request.idempotency_key = key;
                Ok(Submitted::Created(job))
            }
            _ => Ok(answer),
        }
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.inner.job(id).await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        self.inner.jobs(filter).await
    }

    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        let tasks = self.inner.tasks(job).await?;
        let overlay = lock(&self.overlay);
        Ok(filter.of(tasks.into_iter().map(|t| overlay.seen(t)).chain(overlay.second.get(&job).cloned())))
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        self.inner.plan(job).await
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        let open: Vec<Task> = self.inner.tasks(job).await?.into_iter().filter(|t| !t.state.is_final()).collect();
        let is_new = self.inner.cancel(job, now_ms).await?;
        if is_new && self.bug == Bug::CancelLeavesTasksOpen {
            lock(&self.overlay).kept.extend(open.into_iter().map(|t| (t.id, t)));
        }
        Ok(is_new)
    }

    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.pause(job, paused, now_ms).await
    }

    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.retry(job, now_ms).await
    }

    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.events(job, after_seq, limit).await
    }

    async fn forget(&self, job: JobId) -> Result<bool, StoreError> {
        self.inner.forget(job).await
    }
}

#[async_trait]
impl Scheduling for BuggyStore {
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.inner.record_plan(job, generation, plan, now_ms).await?;
        if is_new && self.bug == Bug::PlannedAgainTwice {
            self.inner
                .replan(job, 2, Failure::of(FailureCode::TimesDiffer, "a decoded list is doubted"), now_ms)
                .await?;
        }
        Ok(is_new)
    }

    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.replan(job, generation, failure, now_ms).await
    }

    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.reject(job, generation, failure, now_ms).await
    }

    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        match self.bug {
            Bug::QuotaIgnored => self.inner.dispatch(scope, limit, &Shares::default(), now_ms).await,
            Bug::BackOffIgnored => self.inner.dispatch(scope, limit, shares, now_ms + HASTE_MS).await,
            _ => self.inner.dispatch(scope, limit, shares, now_ms).await,
        }
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError> {
        let wakeups = self.inner.unsent(scope, limit).await?;
        let overlay = lock(&self.overlay);
        let second =
            overlay.second.values().filter(|t| t.state == TaskState::Ready && !overlay.second_sent.contains(&t.id.job));
        let second =
            second.map(|t| Wakeup { task: t.id, attempt: t.attempt, kind: t.spec.kind, trace: Default::default() });
        Ok(wakeups.into_iter().map(|r| overlay.seen_wakeup(r)).chain(second).collect())
    }

    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
        let real: Vec<Wakeup> = {
            let mut overlay = lock(&self.overlay);
            let second: Vec<JobId> = wakeups
                .iter()
                .filter(|r| overlay.second.get(&r.task.job).is_some_and(|t| t.id == r.task))
                .map(|r| r.task.job)
                .collect();
            overlay.second_sent.extend(second);
            wakeups.iter().map(|r| overlay.real_wakeup(r.clone())).collect()
        };
        self.inner.mark_sent(&real, now_ms).await
    }

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        if self.bug == Bug::DoorbellTrusted {
            return Ok(0);
        }
        self.inner.sweep(scope, sent_before_ms).await
    }

    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
        self.inner.speculate(scope, now_ms).await
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        self.inner.statistics().await
    }
}

#[async_trait]
impl LeaseStore for BuggyStore {
    async fn claim(&self, mut request: ClaimRequest) -> Result<Task, LeaseError> {
        {
            let mut overlay = lock(&self.overlay);
            let id = request.wakeup.task;
            if let Some(second) = overlay.second.get_mut(&id.job).filter(|t| t.id == id) {
                let claimed =
                    second.claim(request.wakeup.attempt, request.lease, request.worker, request.now_ms, request.ttl_ms);
                return Ok(claimed.map(|()| second.clone())?);
            }
            request.wakeup = overlay.real_wakeup(request.wakeup);
        }
        let answer = match self.bug {
            Bug::ClaimNotAtomic => self.claim_in_two_steps(request).await,
            Bug::ClaimWhilePaused => self.claim_though_paused(request).await,
            Bug::BackOffIgnored => self.claim_before_its_time(request).await,
            _ => self.inner.claim(request).await,
        };
        answer.map(|t| lock(&self.overlay).seen(t))
    }

    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, LeaseError> {
        {
            let mut overlay = lock(&self.overlay);
            if let Some(second) = overlay.second.get_mut(&task.job).filter(|t| t.id == task) {
                return Ok(second.renew(lease, progress, now_ms, policy)?);
            }
        }
        self.inner.renew(task, lease, progress, now_ms, policy).await
    }

    async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<bool, LeaseError> {
        if let Some(answer) = self.complete_second(task, lease, &result).await {
            return Ok(answer?);
        }
        if self.bug == Bug::CountedInAnotherTransaction {
            lock(&self.overlay).uncounted.insert(task, (lease, result.clone()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = self.inner.complete(task, lease, result.clone(), now_ms).await;
        lock(&self.overlay).uncounted.remove(&task);
        match (self.bug, answer) {
            (Bug::CompletionWithoutLeaseCheck, Err(LeaseError::Refused(Refusal::LeaseLost))) => {
                self.complete_anyway(task, result, now_ms).await
            }
            (Bug::AssembledTwice, Ok(true)) => {
                self.insert_second(task.job).await?;
                Ok(true)
            }
            (Bug::PublishedAfterCancel, Err(LeaseError::Refused(Refusal::Cancelled)))
                if matches!(result, TaskResult::Assemble(_)) =>
            {
                lock(&self.overlay).late.insert(task.job, (task, lease, result));
                Ok(true)
            }
            (_, answer) => answer,
        }
    }

    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, LeaseError> {
        self.inner.fail(task, lease, failure, now_ms, policy).await
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        let haste_ms = if self.bug == Bug::ReapedTooEarly { HASTE_MS } else { 0 };
        let tasks = self.inner.reap(now_ms + haste_ms, policy).await?;
        if self.bug == Bug::AttemptNotRaised {
            let mut overlay = lock(&self.overlay);
            for task in &tasks {
                *overlay.behind.entry(*task).or_default() += 1;
            }
        }
        Ok(tasks)
    }

    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError> {
        self.inner.release_worker(worker, now_ms, policy).await
    }

    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
        self.inner.shorten_leases(worker, until_ms).await
    }
}
