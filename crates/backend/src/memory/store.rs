//! The in-memory job store: each use-case is one critical section.

use super::rows::{OutboxRow, Rows, in_scope};
use crate::doorbell::{Queue, Wakeup};
#[cfg(feature = "testing")]
use crate::invariants::Snapshot;
use crate::lease::LeaseError;
use crate::statistics::StoreStatistics;
use crate::store::{
    ClaimRequest, InFlightLimit, JobFilter, LeaseStore, Scheduling, Scope, StoreError, Submissions, Submitted,
    TaskFilter,
};
use crate::transition;
use async_trait::async_trait;
use splitreel_core::event::{Event, EventKind};
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Lease, Progress, Refusal, RetryPolicy, Task, TaskKind, TaskState};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Jobs, tasks, outbox and events in ordered maps.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rows: Mutex<Rows>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// All rows at this moment, by job, for [`crate::invariants`].
    #[cfg(feature = "testing")]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.lock().snapshots()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Submissions for MemoryStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        let mut rows = self.lock();
        let key = (request.tenant.clone(), request.idempotency_key.clone());
        if let Some(known) = rows.keys.get(&key).and_then(|id| rows.jobs.get(id)) {
            let job = known.job.clone();
            return Ok(if job.request == request { Submitted::Existing(job) } else { Submitted::KeyReused(job.id) });
        }
        let (job, spec) = Job::new(id, request, now_ms);
        let task = Task::new(TaskId { job: id, number: spec.number }, job.generation, spec, TaskState::Ready);
        rows.insert_job(job.clone(), task)?;
        Ok(Submitted::Created(job))
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.lock().jobs.get(&id).map(|rows| rows.job.clone()))
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        let rows = self.lock();
        let wanted = |job: &&Job| {
            (filter.states.is_empty() || filter.states.contains(&job.state))
                && in_scope(&filter.only, job.id)
                && filter.tenant.as_ref().is_none_or(|tenant| *tenant == job.request.tenant)
        };
        let mut jobs: Vec<_> = rows.jobs.values().map(|rows| &rows.job).filter(wanted).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse((job.created_ms, job.id)));
        if let Some(before) = filter.before {
            let end = rows.jobs.get(&before).map(|found| (found.job.created_ms, before));
            jobs.retain(|job| end.is_some_and(|end| (job.created_ms, job.id) < end));
        }
        Ok(jobs.into_iter().take(filter.limit).cloned().collect())
    }

    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        Ok(self.lock().jobs.get(&job).map(|rows| filter.of(rows.tasks.values().cloned())).unwrap_or_default())
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        Ok(self.lock().jobs.get(&job).and_then(|rows| rows.plan.clone()))
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let is_cancelled = rows.jobs.get_mut(&job).is_some_and(|found| found.job.cancel(now_ms));
        if is_cancelled {
            rows.close_job(job);
            rows.log(job, now_ms, EventKind::Cancelled);
        }
        Ok(is_cancelled)
    }

    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        if !rows.jobs.get_mut(&job).is_some_and(|found| found.job.pause(paused)) {
            return Ok(false);
        }
        if paused {
            rows.delete_outbox_of_job(job);
        }
        rows.log(job, now_ms, if paused { EventKind::Paused } else { EventKind::Resumed });
        Ok(true)
    }

    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let Some(found) = rows.jobs.get_mut(&job) else { return Ok(false) };
        let before = found.job.clone();
        let is_open = |task: &&Task| task.state != TaskState::Done && before.owns(task);
        let has_open_probe = found.tasks.values().filter(is_open).any(|t| t.spec.kind == TaskKind::Probe);
        let num_open = u32::try_from(found.tasks.values().filter(is_open).count()).unwrap_or(u32::MAX);
        if !found.job.retry(has_open_probe, num_open) {
            return Ok(false);
        }
        for task in found.tasks.values_mut().filter(|task| before.owns(task)) {
            task.reset(now_ms);
        }
        rows.log(job, now_ms, EventKind::Retried);
        Ok(true)
    }

    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let rows = self.lock();
        let start = rows.events.partition_point(|event| event.seq <= after_seq);
        let later = rows.events.iter().skip(start).filter(|event| job.is_none_or(|job| event.job == job));
        Ok(later.take(limit).cloned().collect())
    }

    async fn forget(&self, job: JobId) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let has_ended = rows.jobs.get(&job).is_some_and(|found| found.job.state.is_ended());
        Ok(has_ended && rows.forget(job))
    }
}

#[async_trait]
impl Scheduling for MemoryStore {
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let Some(found) = rows.jobs.get_mut(&job) else { return Ok(false) };
        let Some((tasks, event)) = transition::plan(&mut found.job, generation, plan) else { return Ok(false) };
        found.plan = Some(plan.clone());
        found.tasks.extend(tasks.into_iter().map(|task| (task.id.number, task)));
        rows.log(job, now_ms, event);
        Ok(true)
    }

    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let found =
            rows.jobs.get_mut(&job).and_then(|found| transition::replan(&mut found.job, generation, failure, now_ms));
        let Some((probe, event)) = found else { return Ok(false) };
        rows.next_generation(probe, now_ms, event);
        Ok(true)
    }

    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let event =
            rows.jobs.get_mut(&job).and_then(|found| transition::reject(&mut found.job, generation, failure, now_ms));
        let Some(event) = event else { return Ok(false) };
        rows.close_job(job);
        rows.log(job, now_ms, event);
        Ok(true)
    }

    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let mut rows = self.lock();
        let mut num_written = 0;
        for queue in Queue::ALL {
            let notified = rows.outbox.values().map(|row| &row.wakeup);
            let num_notified =
                notified.filter(|wakeup| wakeup.queue() == queue && in_scope(scope, wakeup.task.job)).count();
            let tasks = rows.jobs.iter().filter(|(job, _)| in_scope(scope, **job)).flat_map(|(_, j)| j.tasks.values());
            let is_leased = |task: &&Task| task.state == TaskState::Leased && Queue::of(task.spec.kind) == queue;
            let room = limit.of(queue).room(tasks.filter(is_leased).count(), num_notified);
            let due = rows.due(queue, scope, room, shares, now_ms);
            num_written += due.len();
            for wakeup in due {
                rows.add_outbox(wakeup, now_ms);
            }
        }
        Ok(num_written)
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError> {
        let rows = self.lock();
        let unsent = rows.outbox.values().filter(|row| row.sent_ms.is_none() && in_scope(scope, row.wakeup.task.job));
        Ok(unsent.take(limit).map(|row| row.wakeup.clone()).collect())
    }

    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
        let mut rows = self.lock();
        for wakeup in wakeups {
            let seq = rows.outbox_of.get(&wakeup.task).copied();
            if let Some(row) = seq.and_then(|seq| rows.outbox.get_mut(&seq))
                && row.wakeup == *wakeup
                && row.sent_ms.is_none()
            {
                row.sent_ms = Some(now_ms);
            }
        }
        Ok(())
    }

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        let mut rows = self.lock();
        let is_stale = |sent_ms: Option<i64>| sent_ms.is_some_and(|at| at < sent_before_ms);
        let stale: Vec<_> = rows
            .outbox
            .values()
            .filter(|row| is_stale(row.sent_ms) && in_scope(scope, row.wakeup.task.job))
            .map(|row| row.wakeup.task)
            .collect();
        for task in &stale {
            rows.delete_outbox(*task);
        }
        Ok(stale.len())
    }

    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
        let mut rows = self.lock();
        let waits = |row: &OutboxRow| row.wakeup.kind != TaskKind::Assemble && in_scope(scope, row.wakeup.task.job);
        if rows.outbox.values().any(waits) {
            return Ok(Vec::new());
        }
        let jobs: Vec<JobId> = rows.jobs.keys().copied().filter(|job| in_scope(scope, *job)).collect();
        let mut called = Vec::new();
        for job in jobs {
            let Some(found) = rows.jobs.get_mut(&job) else { continue };
            let mut leased = found.tasks.clone();
            leased.retain(|_, task| task.state == TaskState::Leased);
            let events = transition::speculate(&found.job, &mut leased, now_ms);
            found.tasks.extend(leased);
            for event in events {
                if let EventKind::Speculated { task: number, .. } = event {
                    called.push(TaskId { job, number });
                }
                rows.log(job, now_ms, event);
            }
        }
        Ok(called)
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        Ok(self.lock().statistics())
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Task, LeaseError> {
        let mut rows = self.lock();
        let id = request.wakeup.task;
        let (job, task) = rows.row(id).ok_or(Refusal::NotClaimable)?;
        let event = transition::claim(job, task, &request)?;
        let task = task.clone();
        if let Some(event) = event {
            rows.delete_outbox(id);
            rows.log(id.job, request.now_ms, event);
        }
        Ok(task)
    }

    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, LeaseError> {
        let mut rows = self.lock();
        let (_, task) = rows.row(task).ok_or(Refusal::LeaseLost)?;
        Ok(task.renew(lease, progress, now_ms, policy)?)
    }

    async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<bool, LeaseError> {
        let mut rows = self.lock();
        let (job, row) = rows.row(task).ok_or(Refusal::LeaseLost)?;
        let Some(done) = transition::complete(job, row, lease, result, now_ms)? else { return Ok(false) };
        if done.is_notified {
            rows.delete_outbox(task);
        }
        if let (Some(insert), Some(found)) = (done.insert, rows.jobs.get_mut(&task.job)) {
            found.tasks.insert(insert.id.number, insert);
        }
        for event in done.events {
            rows.log(task.job, now_ms, event);
        }
        Ok(true)
    }

    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, LeaseError> {
        let mut rows = self.lock();
        let (job, row) = rows.row(task).ok_or(Refusal::LeaseLost)?;
        let ended = transition::fail(job, row, lease, failure, now_ms, policy)?;
        Ok(rows.end_attempt(task.job, now_ms, ended))
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        let mut rows = self.lock();
        let mut reaped = Vec::new();
        let latest = transition::latest_expiry(now_ms, policy);
        for id in rows.under_way(|lease| lease.expires_ms <= now_ms || lease.expires_ms > latest) {
            let end =
                |rows: &mut Rows| rows.row(id).and_then(|(job, task)| transition::reap(job, task, now_ms, policy));
            if rows.take_back(id, now_ms, end) {
                reaped.push(id);
            }
        }
        Ok(reaped)
    }

    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError> {
        let mut rows = self.lock();
        let mut released = Vec::new();
        for id in rows.under_way(|lease| lease.worker == *worker) {
            let end = |rows: &mut Rows| {
                rows.row(id).and_then(|(job, task)| transition::release(job, task, worker, now_ms, policy))
            };
            if rows.take_back(id, now_ms, end) {
                released.push(id);
            }
        }
        Ok(released)
    }

    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
        let mut rows = self.lock();
        let lasts_longer = |lease: &Lease| lease.worker == *worker && lease.expires_ms > until_ms;
        let mut num_shortened = 0;
        for id in rows.under_way(lasts_longer) {
            let leases = rows.row(id).map(|(_, task)| task).into_iter().flat_map(Task::live_mut);
            for lease in leases.filter(|lease| lasts_longer(lease)) {
                lease.expires_ms = until_ms;
                num_shortened += 1;
            }
        }
        Ok(num_shortened)
    }
}
