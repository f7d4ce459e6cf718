//! The job store seam: coarse use-cases, each one transaction, in three traits by caller. The database is the truth.
//!
//! Decisions are those of `splitreel_core` (`Task::claim`, `Job::task_done` …): a store loads rows, applies
//! the pure transition, writes rows, events and counters in one transaction, and answers.

use crate::doorbell::{Queue, Wakeup};
use crate::statistics::StoreStatistics;
use async_trait::async_trait;
use splitreel_core::event::Event;
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::part::{Presentation, TaskResult};
use splitreel_core::plan::{Plan, PlanError};
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, Task, TaskKind};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};

/// Why the store could not answer. Whether the transaction was committed may be unknown: every use-case is
/// safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, busy or timed out: try again.
    #[error("the job store did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored cannot be understood: trying again does not help.
    #[error("the job store holds something unreadable: {what}")]
    Corrupt {
        /// Which row or column, and why.
        what: String,
    },
    /// The job's plan has another format version: the job has to be planned again.
    #[error("the job's plan has format version {version}, which this version does not read")]
    PlanVersion {
        /// Format version of the stored plan.
        version: u32,
    },
}

/// Why a request about a lease was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A definite no: acknowledge and discard the wakeup, or abort and delete local state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No answer: the outcome is unknown; repeat while the lease lasts.
    #[error("the coordinator did not answer: {what}")]
    Unavailable {
        /// What failed.
        what: String,
    },
    /// The job store failed: the outcome is unknown, as above.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    /// What a stored plan that cannot be used means.
    pub fn of_plan(error: PlanError) -> Self {
        match error {
            PlanError::Outdated { version } | PlanError::Newer { version } => StoreError::PlanVersion { version },
            PlanError::Unreadable(e) => StoreError::Corrupt { what: format!("plans.plan: {e}") },
        }
    }
}

/// Answer to a submit.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// A new job.
    Created(Job),
    /// The key was used before with the same request: its job.
    Existing(Job),
    /// The key was used before with another request.
    KeyReused(JobId),
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Only these states; empty = all.
    pub states: Vec<JobState>,
    /// Only these jobs; `None` = all.
    pub only: Scope,
    /// Only this tenant's; `None` = everybody's.
    pub tenant: Option<String>,
    /// Only jobs older than this one, in the order of the list: the cursor of a paged listing. None are older
    /// than a job that does not exist.
    pub before: Option<JobId>,
    /// Maximum number of jobs to return, newest first.
    pub limit: usize,
}

/// Limit on in-flight wakeups per queue. A queue is first in, first out, so queued tasks are outside fair scheduling: keep
/// just enough in flight to occupy every free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimit {
    /// Live slots of workers: each slot without a lease may have a wakeup in flight.
    pub slots: usize,
    /// Wakeups in flight beyond the free slots; for assemblers the whole limit.
    pub prefetch: usize,
}

impl InFlightLimit {
    /// The limit of one queue. Slots count for workers only: assemblers are few and soon free again.
    pub fn of(self, queue: Queue) -> InFlightLimit {
        match queue {
            Queue::Work => self,
            Queue::Assemble => InFlightLimit { slots: 0, ..self },
        }
    }

    /// Number of wakeups that may still be sent while `leased` tasks are leased and `notified` wakeups are in flight.
    /// Leases beyond the slots (of workers that are gone) do not reduce the prefetch.
    pub fn room(self, leased: usize, notified: usize) -> usize {
        self.slots.saturating_sub(leased).saturating_add(self.prefetch).saturating_sub(notified)
    }

    /// Maximum number of wakeups in flight over all queues.
    pub fn most(self) -> usize {
        Queue::ALL.into_iter().map(|queue| self.of(queue).room(0, 0)).fold(0, usize::saturating_add)
    }
}

/// A fixed number, independent of free slots.
impl From<usize> for InFlightLimit {
    fn from(prefetch: usize) -> Self {
        InFlightLimit { slots: 0, prefetch }
    }
}

/// Which tasks of a job to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskFilter {
    /// Only this kind; `None` = all.
    pub kind: Option<TaskKind>,
    /// Only those with a greater number: the cursor of a paged listing.
    pub after: Option<u32>,
    /// Maximum number of tasks to return, the smallest numbers first; `None` = all.
    pub limit: Option<usize>,
}

impl TaskFilter {
    /// What a filter makes of all tasks of a job, given by number.
    pub fn of(self, tasks: impl Iterator<Item = Task>) -> Vec<Task> {
        tasks
            .filter(|task| self.kind.is_none_or(|kind| task.spec.kind == kind))
            .filter(|task| self.after.is_none_or(|after| task.id.number > after))
            .take(self.limit.unwrap_or(usize::MAX))
            .collect()
    }
}

/// Jobs that a process serves: all (`None`) or just some (a laptop run serves its own).
pub type Scope = Option<Vec<JobId>>;

/// What a claim needs to know.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// From the message.
    pub wakeup: Wakeup,
    /// Fresh and random: becomes the fence.
    pub lease: LeaseId,
    /// Who asks.
    pub worker: WorkerId,
    /// Now.
    pub now_ms: i64,
    /// Lease length.
    pub ttl_ms: i64,
}

/// Jobs as their clients see them: submit, read, steer. All methods are atomic and safe to repeat.
#[async_trait]
pub trait Submissions: Send + Sync {
    /// Accepts a job, at most one per (tenant, idempotency key). Two requests are the same when they are equal.
    async fn submit(&self, id: JobId, request: JobRequest, now_ms: i64) -> Result<Submitted, StoreError>;
    /// One job.
    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError>;
    /// Jobs, newest first.
    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, StoreError>;
    /// Those tasks of a job that the filter wants, by number.
    async fn tasks_like(&self, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError>;
    /// All tasks of a job by number, with their results: a lot in a long film.
    async fn tasks(&self, job: JobId) -> Result<Vec<Task>, StoreError> {
        self.tasks_like(job, TaskFilter::default()).await
    }
    /// The result of a job's assembly; `None` while there is none.
    async fn presentation(&self, job: JobId) -> Result<Option<Presentation>, StoreError> {
        let assembly = self.tasks_like(job, TaskFilter { kind: Some(TaskKind::Assemble), ..TaskFilter::default() });
        Ok(assembly.await?.into_iter().find_map(|task| match task.result {
            Some(TaskResult::Assemble(presentation)) => Some(presentation),
            _ => None,
        }))
    }
    /// The plan of the job's current generation.
    async fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError>;
    /// Cancels a job and its open tasks. False: it had ended.
    async fn cancel(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError>;
    /// Pauses or resumes an open job: while it is paused no task of it is dispatched or claimed, and its wakeups
    /// are forgotten; running attempts go on. False: it has ended, or was so already.
    async fn pause(&self, job: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError>;
    /// Re-opens a failed or cancelled job: done tasks are kept, the others become ready. False: nothing to retry.
    async fn retry(&self, job: JobId, now_ms: i64) -> Result<bool, StoreError>;
    /// Events after `after_seq`, oldest first, of one job or all.
    async fn events(&self, job: Option<JobId>, after_seq: i64, limit: usize) -> Result<Vec<Event>, StoreError>;
    /// Forgets a job with all its rows (retention). Only ended jobs; false otherwise.
    async fn forget(&self, job: JobId) -> Result<bool, StoreError>;
}

/// What the engine does with jobs between submit and publication: plans, the outbox, second attempts. All methods are
/// atomic and safe to repeat.
#[async_trait]
pub trait Scheduling: Send + Sync {
    /// Records the plan of a job in state `planning` and inserts its tasks as ready. `generation` is the job's when
    /// the probe result behind the plan was read. False: the job does not wait for a plan of this generation (another
    /// coordinator was faster, or the job was cancelled).
    async fn record_plan(&self, job: JobId, generation: u32, plan: &Plan, now_ms: i64) -> Result<bool, StoreError>;
    /// Plans a running job again whose plan of `generation` cannot be carried out: the next generation begins with a
    /// probe, the other open tasks are cancelled, their parts are garbage. False: the job does not run, or not by this
    /// plan. A failed attempt may do the same, see [`LeaseStore::fail`].
    async fn replan(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError>;
    /// Ends a job that cannot be planned in `generation`. False: it had ended, been planned, or reached another
    /// generation.
    async fn reject(&self, job: JobId, generation: u32, failure: Failure, now_ms: i64) -> Result<bool, StoreError>;
    /// Writes outbox rows for ready, due tasks that have none, as long as the limit has room within the scope.
    /// Which jobs they are of is decided by [`splitreel_core::fair::allot`]; within a job tasks go by number.
    /// Each queue has its part of the limit and the shares to itself: what waits for assemblers that are away keeps no
    /// worker idle.
    /// Paused and ended jobs get none. Answers how many were written.
    async fn dispatch(
        &self,
        scope: &Scope,
        limit: InFlightLimit,
        shares: &Shares,
        now_ms: i64,
    ) -> Result<usize, StoreError>;
    /// Outbox rows that were not yet notified, oldest first.
    async fn unsent(&self, scope: &Scope, limit: usize) -> Result<Vec<Wakeup>, StoreError>;
    /// Marks outbox rows as notified. They go away with the claim, or with `sweep`.
    async fn mark_sent(&self, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError>;
    /// Deletes outbox rows notified before `sent_before_ms` (their message may be lost), so that dispatch writes
    /// them again. Answers how many.
    async fn sweep(&self, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError>;
    /// Calls for second attempts of tasks that take much longer than they should ([`transition::speculate`]), in jobs
    /// of the scope all of whose open tasks are leased. Does nothing while the scope has an outbox row for workers, because
    /// other work waits then. Answers the tasks.
    ///
    /// [`transition::speculate`]: crate::transition::speculate
    async fn speculate(&self, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError>;
    /// Counts what an operator watches. Reads open jobs and what is in flight, never all tasks of a job; what changes
    /// meanwhile may be counted before or after.
    async fn statistics(&self) -> Result<StoreStatistics, StoreError>;
}

/// Leases of tasks: given, renewed, ended and taken back. All methods are atomic and safe to repeat; a refusal
/// ([`LeaseError::Refused`]) changes nothing.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Gives the lease. Refused when the job is not open any more, or by `Task::claim`.
    async fn claim(&self, request: ClaimRequest) -> Result<Task, LeaseError>;
    /// Extends a lease; answers its new expiry.
    async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, LeaseError>;
    /// Makes a task done, counts it, inserts the assemble task or publishes, in one transaction.
    /// `Ok(false)`: this lease had done so before. Refused with `Cancelled` when the job has ended otherwise.
    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult, now_ms: i64)
    -> Result<bool, LeaseError>;
    /// Ends an attempt. When the task gives up, the job fails and its open tasks are cancelled; or, where the container's
    /// list of frames may be wrong, the job is planned again from a decoded list ([`Job::needs_decoded_frames`]).
    async fn fail(
        &self,
        task: TaskId,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, LeaseError>;
    /// Takes back every expired lease. Answers the tasks.
    async fn reap(&self, now_ms: i64, policy: &RetryPolicy) -> Result<Vec<TaskId>, StoreError>;
    /// The named worker is known to be dead: its leases end now, as infrastructure failures whose next
    /// attempt is due at once. Answers the tasks.
    async fn release_worker(
        &self,
        worker: &WorkerId,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// The named worker's control stream broke: it is dead or will renew. Its live leases end no later than
    /// `until_ms`; a renewal extends them as ever. Answers how many would have lasted longer.
    async fn shorten_leases(&self, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError>;
}

/// Durable truth about jobs, tasks, leases and events: one store with all three faces.
pub trait JobStore: Submissions + Scheduling + LeaseStore {}

impl<T: Submissions + Scheduling + LeaseStore> JobStore for T {}
