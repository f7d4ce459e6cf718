//! Mistakes that can be planted, each as a wrapper around a sound seam: the rules of the simulation must find every one.

use super::ledger::Inspected;
use super::lock;
use async_trait::async_trait;
use splitreel_backend::Ring;
use splitreel_backend::invariants::Snapshot;
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_backend::memory::MemoryStore;
use splitreel_backend::store::{ClaimRequest, JobFilter, JobStore, Scope, StoreError, Submitted};
use splitreel_core::event::Event;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, Task, TaskKind, TaskState};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

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
    /// A ring that was sent is taken for delivered: lost ones are never sent again.
    DoorbellTrusted,
    /// An assembly that ends after a cancel is published all the same.
    PublishedAfterCancel,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 7] = [
        Bug::CompletionWithoutLeaseCheck,
        Bug::AttemptNotRaised,
        Bug::KeySharedByAttempts,
        Bug::CountedInAnotherTransaction,
        Bug::AssembledTwice,
        Bug::DoorbellTrusted,
        Bug::PublishedAfterCancel,
    ];
}

/// Leases whose work orders name the same keys for every attempt of a task.
pub(super) struct SharedKeyLeases(pub Arc<dyn Leases>);

#[async_trait]
impl Leases for SharedKeyLeases {
    async fn claim(&self, ring: &Ring, worker: &WorkerId) -> Result<WorkOrder, LeaseError> {
        let mut order = self.0.claim(ring, worker).await?;
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

/// A memory store with a mistake.
pub(super) struct BuggyStore {
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
    /// Rings of second assemble tasks that were sent.
    second_sent: BTreeSet<JobId>,
    /// Results of jobs that were published after their cancel.
    late: BTreeMap<JobId, (TaskId, LeaseId, TaskResult)>,
}

impl Overlay {
    fn behind(&self, task: TaskId) -> u32 {
        self.behind.get(&task).copied().unwrap_or(0)
    }

    fn seen(&self, mut task: Task) -> Task {
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

    fn seen_ring(&self, mut ring: Ring) -> Ring {
        ring.attempt = ring.attempt.saturating_sub(self.behind(ring.task));
        ring
    }

    fn real_ring(&self, mut ring: Ring) -> Ring {
        ring.attempt = ring.attempt.saturating_add(self.behind(ring.task));
        ring
    }
}

fn finish(task: &mut Task, lease: LeaseId, result: &TaskResult) {
    task.state = TaskState::Done;
    task.lease = None;
    task.done_by = Some(lease);
    task.result = Some(result.clone());
}

impl BuggyStore {
    pub(super) fn new(bug: Bug) -> Self {
        BuggyStore { inner: MemoryStore::new(), bug, overlay: Mutex::default() }
    }

    /// Completes on behalf of whoever holds the task, or of nobody.
    async fn complete_anyway(
        &self,
        task: TaskId,
        result: TaskResult,
        now_ms: i64,
    ) -> Result<Result<bool, Refusal>, StoreError> {
        let rows = self.inner.tasks(task.job).await?;
        let Some(row) = rows.into_iter().find(|t| t.id == task) else { return Ok(Err(Refusal::LeaseLost)) };
        let lease = match row.lease {
            Some(live) => live.id,
            None => {
                let lease = LeaseId(Uuid::from_u64_pair(u64::from(row.attempt), u64::MAX - u64::from(task.number)));
                let ring = Ring { task, attempt: row.attempt, kind: row.spec.kind };
                let request = ClaimRequest {
                    ring,
                    lease,
                    worker: WorkerId("nobody".into()),
                    now_ms: now_ms.max(row.not_before_ms),
                    ttl_ms: 1,
                };
                if let Err(refusal) = self.inner.claim(request).await? {
                    return Ok(Err(refusal));
                }
                lease
            }
        };
        self.inner.complete(task, lease, result, now_ms).await
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
            snapshot.outbox = std::mem::take(&mut snapshot.outbox).into_iter().map(|r| overlay.seen_ring(r)).collect();
            if overlay.late.contains_key(&snapshot.job.id) {
                snapshot.job.state = JobState::Published;
            }
        }
        all
    }
}

#[async_trait]
impl JobStore for BuggyStore {
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError> {
        self.inner.submit(id, request, now_ms).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.inner.job(id).await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
        self.inner.jobs(filter).await
    }

    async fn tasks(&self, job: JobId) -> Result<Vec<Task>, StoreError> {
        let tasks = self.inner.tasks(job).await?;
        let overlay = lock(&self.overlay);
        Ok(tasks.into_iter().map(|t| overlay.seen(t)).chain(overlay.second.get(&job).cloned()).collect())
    }

    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        self.inner.plan(job).await
    }

    async fn record_plan(&self, job: JobId, plan: &Plan, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.record_plan(job, plan, now_ms).await
    }

    async fn reject(&self, job: JobId, failure: Failure, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.reject(job, failure, now_ms).await
    }

    async fn dispatch(&self, scope: &Scope, window: usize, now_ms: i64) -> Result<usize, StoreError> {
        self.inner.dispatch(scope, window, now_ms).await
    }

    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Ring>, StoreError> {
        let rings = self.inner.unsent(scope, limit).await?;
        let overlay = lock(&self.overlay);
        let second =
            overlay.second.values().filter(|t| t.state == TaskState::Ready && !overlay.second_sent.contains(&t.id.job));
        let second = second.map(|t| Ring { task: t.id, attempt: t.attempt, kind: t.spec.kind });
        Ok(rings.into_iter().map(|r| overlay.seen_ring(r)).chain(second).collect())
    }

    async fn mark_sent(&self, rings: &[Ring], now_ms: i64) -> Result<(), StoreError> {
        let real: Vec<Ring> = {
            let mut overlay = lock(&self.overlay);
            let second: Vec<JobId> = rings
                .iter()
                .filter(|r| overlay.second.get(&r.task.job).is_some_and(|t| t.id == r.task))
                .map(|r| r.task.job)
                .collect();
            overlay.second_sent.extend(second);
            rings.iter().map(|r| overlay.real_ring(r.clone())).collect()
        };
        self.inner.mark_sent(&real, now_ms).await
    }

    async fn claim(&self, mut request: ClaimRequest) -> Result<Result<Task, Refusal>, StoreError> {
        {
            let mut overlay = lock(&self.overlay);
            let id = request.ring.task;
            if let Some(second) = overlay.second.get_mut(&id.job).filter(|t| t.id == id) {
                let claimed =
                    second.claim(request.ring.attempt, request.lease, request.worker, request.now_ms, request.ttl_ms);
                return Ok(claimed.map(|()| second.clone()));
            }
            request.ring = overlay.real_ring(request.ring);
        }
        let task = self.inner.claim(request).await?;
        Ok(task.map(|t| lock(&self.overlay).seen(t)))
    }

    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Result<i64, Refusal>, StoreError> {
        {
            let mut overlay = lock(&self.overlay);
            if let Some(second) = overlay.second.get_mut(&task.job).filter(|t| t.id == task) {
                return Ok(second.renew(lease, progress, now_ms, policy));
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
    ) -> Result<Result<bool, Refusal>, StoreError> {
        if let Some(answer) = self.complete_second(task, lease, &result).await {
            return Ok(answer);
        }
        if self.bug == Bug::CountedInAnotherTransaction {
            lock(&self.overlay).uncounted.insert(task, (lease, result.clone()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = self.inner.complete(task, lease, result.clone(), now_ms).await?;
        lock(&self.overlay).uncounted.remove(&task);
        match (self.bug, answer) {
            (Bug::CompletionWithoutLeaseCheck, Err(Refusal::LeaseLost)) => {
                self.complete_anyway(task, result, now_ms).await
            }
            (Bug::AssembledTwice, Ok(true)) => {
                self.insert_second(task.job).await?;
                Ok(answer)
            }
            (Bug::PublishedAfterCancel, Err(Refusal::Cancelled)) if matches!(result, TaskResult::Assemble(_)) => {
                lock(&self.overlay).late.insert(task.job, (task, lease, result));
                Ok(Ok(true))
            }
            _ => Ok(answer),
        }
    }

    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Result<AfterFailure, Refusal>, StoreError> {
        self.inner.fail(task, lease, failure, now_ms, policy).await
    }

    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
        let tasks = self.inner.reap(now_ms, policy).await?;
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

    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
        if self.bug == Bug::DoorbellTrusted {
            return Ok(0);
        }
        self.inner.sweep(scope, sent_before_ms).await
    }

    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError> {
        self.inner.cancel(job, now_ms).await
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
