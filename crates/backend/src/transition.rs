//! Decisions on loaded rows, one function per use-case of the job store: every backend calls these inside its
//! transaction and writes what they answer, so that all backends decide alike.
//!
//! Pure: no rows are loaded or written here. A refusal leaves the rows as they were.

use crate::store::ClaimRequest;
use splitreel_core::deadline;
use splitreel_core::event::EventKind;
use splitreel_core::job::{AfterDone, Job, JobState};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::speculate::{Running, second_attempts};
use splitreel_core::task::{AfterFailure, Lease, Refusal, RetryPolicy, Task, TaskKind, TaskState};
use splitreel_core::{Failure, FailureClass, FailureCode, LeaseId, TaskId, WorkerId};
use std::collections::BTreeMap;

/// Number of running tasks that allow one more second attempt at a time.
const TASKS_PER_COPY: usize = 8;

/// What to write beside the job and the task when a task became done.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// Events, in order.
    pub events: Vec<EventKind>,
    /// The one task to insert.
    pub insert: Option<Task>,
    /// Another attempt was still to be claimed: the task's outbox row is to be deleted.
    pub is_notified: bool,
}

/// What to write beside the job and the task when an attempt ended without success. With
/// [`AfterFailure::GiveUp`] the job has failed: its open tasks are to be cancelled, its outbox rows deleted. With
/// [`AfterFailure::Replan`] also its plan is to be deleted, and `insert` to be inserted.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnded {
    /// What comes next.
    pub after: AfterFailure,
    /// The event.
    pub event: EventKind,
    /// The probe task of the next generation.
    pub insert: Option<Task>,
}

/// Gives the lease. `None`: this very lease had been given before (the answer was lost), nothing to write.
/// After `Some`, the task's outbox row is to be deleted.
///
/// # Errors
/// [`Refusal::Cancelled`] when the job has ended, else what [`Task::claim`] says.
pub fn claim(job: &Job, task: &mut Task, request: &ClaimRequest) -> Result<Option<EventKind>, Refusal> {
    if job.state.is_ended() || !job.owns(task) {
        return Err(Refusal::Cancelled);
    }
    let is_repeat =
        task.attempt == request.wakeup.attempt && task.lease.as_ref().is_some_and(|l| l.id == request.lease);
    if is_repeat {
        return Ok(None);
    }
    if job.is_paused {
        return Err(Refusal::NotClaimable);
    }
    task.claim(request.wakeup.attempt, request.lease, request.worker.clone(), request.now_ms, request.ttl_ms)?;
    Ok(Some(EventKind::Claimed {
        task: task.id.number,
        kind: task.spec.kind,
        index: task.spec.index,
        attempt: task.attempt,
        worker: request.worker.clone(),
    }))
}

/// Makes a task done and counts it. `None`: this lease had done so before, nothing to write.
///
/// # Errors
/// [`Refusal::Cancelled`] when the job has ended otherwise, else what [`Task::complete`] says.
pub fn complete(
    job: &mut Job,
    task: &mut Task,
    lease: LeaseId,
    result: TaskResult,
    now_ms: i64,
) -> Result<Option<Completed>, Refusal> {
    let is_repeat = task.state == TaskState::Done && task.done_by == Some(lease);
    if (job.state.is_ended() || !job.owns(task)) && !is_repeat {
        return Err(Refusal::Cancelled);
    }
    let held = held(task, lease).map(|(attempt, lease)| (attempt, lease.claimed_ms));
    let is_notified = task.state == TaskState::Ready;
    if !task.complete(lease, result)? {
        return Ok(None);
    }
    let (attempt, claimed_ms) = held.ok_or(Refusal::LeaseLost)?;
    if task.spec.kind == TaskKind::Segment {
        job.pace.add(task.spec.expected_cost, u64::try_from(now_ms.saturating_sub(claimed_ms)).unwrap_or(0));
    }
    let mut events =
        vec![EventKind::TaskDone { task: task.id.number, kind: task.spec.kind, index: task.spec.index, attempt }];
    let insert = match job.task_done(task.spec.kind, now_ms) {
        AfterDone::Nothing | AfterDone::AwaitPlan => None,
        AfterDone::InsertAssemble(spec) => {
            let id = TaskId { job: job.id, number: spec.number };
            Some(Task::new(id, job.generation, spec, TaskState::Ready))
        }
        AfterDone::Published => {
            events.push(EventKind::Published);
            None
        }
    };
    Ok(Some(Completed { events, insert, is_notified }))
}

/// Ends the attempt of a live lease with a failure.
///
/// # Errors
/// [`Refusal::Cancelled`] when the job has ended, else what [`Task::fail`] says.
pub fn fail(
    job: &mut Job,
    task: &mut Task,
    lease: LeaseId,
    failure: Failure,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<AttemptEnded, Refusal> {
    if job.state.is_ended() || !job.owns(task) {
        return Err(Refusal::Cancelled);
    }
    let attempt = held(task, lease).map_or(task.attempt, |(attempt, _)| attempt);
    let after = task.fail(lease, failure.clone(), now_ms, policy)?;
    Ok(attempt_ended(job, task, attempt, failure, after, now_ms))
}

/// The latest expiry that a lease can have now; later ones were given before the clock was set back.
pub const fn latest_expiry(now_ms: i64, policy: &RetryPolicy) -> i64 {
    deadline::latest(now_ms, policy.lease_ttl_ms)
}

/// Takes an expired lease back. `None`: nothing to take; a task may have two. Leases that expire after
/// [`latest_expiry`] are shortened: the task is to be saved then, too.
pub fn reap(job: &mut Job, task: &mut Task, now_ms: i64, policy: &RetryPolicy) -> Option<AttemptEnded> {
    task.bound_leases(now_ms, policy);
    let (attempt, lease) = task.live().find(|(_, lease)| lease.expires_ms <= now_ms)?;
    let failure = Failure::of(FailureCode::LeaseExpired, format!("worker {} stopped answering", lease.worker));
    let after = task.lose(lease.id, failure.clone(), now_ms, policy).ok()?;
    Some(attempt_ended(job, task, attempt, failure, after, now_ms))
}

/// Takes a lease of a dead worker back; the next attempt is due at once. `None`: it holds none; it may have held two.
pub fn release(
    job: &mut Job,
    task: &mut Task,
    worker: &WorkerId,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Option<AttemptEnded> {
    let (attempt, lease) = task.live().find(|(_, lease)| lease.worker == *worker)?;
    let failure = Failure::of(FailureCode::WorkerLost, format!("worker {worker} is gone"));
    let id = lease.id;
    let mut after = task.fail(id, failure.clone(), now_ms, policy).ok()?;
    if let AfterFailure::Retry { not_before_ms } = &mut after {
        *not_before_ms = now_ms;
        task.not_before_ms = now_ms;
    }
    Some(attempt_ended(job, task, attempt, failure, after, now_ms))
}

/// Calls for second attempts of tasks that take much longer than they should. `tasks` are those of the job that are
/// leased. Answers the events; the tasks they name are to be saved, their attempts wait to be dispatched.
pub fn speculate(job: &Job, tasks: &mut BTreeMap<u32, Task>, now_ms: i64) -> Vec<EventKind> {
    if job.state != JobState::Running || job.is_paused {
        return Vec::new();
    }
    let running: Vec<Running> = tasks
        .values()
        .filter(|t| t.spec.kind == TaskKind::Segment && t.superseded.is_none())
        .filter_map(|t| {
            let lease = t.lease.as_ref()?;
            Some(Running {
                task: t.id,
                expected_cost: t.spec.expected_cost,
                claimed_ms: lease.claimed_ms,
                done_per_mille: lease.progress.done_per_mille,
            })
        })
        .collect();
    let num_ready = (job.remaining as usize).saturating_sub(tasks.len());
    let places = 1 + tasks.len() / TASKS_PER_COPY;
    let late = second_attempts(&running, job.pace, num_ready, places, now_ms);
    let mut events = Vec::new();
    for id in late {
        if let Some(task) = tasks.get_mut(&id.number).filter(|t| t.id == id)
            && task.speculate(now_ms)
        {
            events.push(EventKind::Speculated { task: id.number, attempt: task.attempt });
        }
    }
    events
}

/// Records the plan on the job: the tasks to insert and the event. `None`: the job does not wait for a plan in
/// `generation`, or the plan has no tasks.
pub fn plan(job: &mut Job, generation: u32, plan: &Plan) -> Option<(Vec<Task>, EventKind)> {
    if job.generation != generation {
        return None;
    }
    let specs = plan.tasks(job.next_task);
    let num_tasks = u32::try_from(specs.len()).ok()?;
    if !job.planned(plan.hash(), num_tasks, plan.has_decoded_frames()) {
        return None;
    }
    let tasks = specs
        .into_iter()
        .map(|spec| Task::new(TaskId { job: job.id, number: spec.number }, job.generation, spec, TaskState::Ready))
        .collect();
    Some((tasks, EventKind::Planned { num_tasks }))
}

/// Calls for a new plan of a running job whose plan of `generation` cannot be carried out: the probe task to insert and
/// the event. The job's other open tasks are to be cancelled, its outbox rows and its plan deleted. `None`: the job does
/// not run, or not by this plan.
pub fn replan(job: &mut Job, generation: u32, failure: Failure, now_ms: i64) -> Option<(Task, EventKind)> {
    if job.state != JobState::Running || job.generation != generation {
        return None;
    }
    next_generation(job, None, None, failure, false, now_ms)
}

fn next_generation(
    job: &mut Job,
    task: Option<u32>,
    attempt: Option<u32>,
    failure: Failure,
    deep: bool,
    now_ms: i64,
) -> Option<(Task, EventKind)> {
    let spec = job.replan(failure.clone(), deep, now_ms)?;
    let generation = job.generation;
    let probe = Task::new(TaskId { job: job.id, number: spec.number }, generation, spec, TaskState::Ready);
    Some((probe, EventKind::Replanned { generation, task, attempt, failure }))
}

/// Ends a job that cannot be planned in `generation`; its open tasks are to be cancelled. `None`: it had ended, been
/// planned, or reached another generation.
pub fn reject(job: &mut Job, generation: u32, failure: Failure, now_ms: i64) -> Option<EventKind> {
    let is_unplanned = job.generation == generation && !job.is_planned();
    (is_unplanned && job.fail(failure.clone(), now_ms)).then_some(EventKind::Failed {
        task: None,
        attempt: None,
        failure,
    })
}

/// A live lease and its attempt.
fn held(task: &Task, lease: LeaseId) -> Option<(u32, &Lease)> {
    task.live().find(|(_, held)| held.id == lease)
}

fn attempt_ended(
    job: &mut Job,
    task: &Task,
    attempt: u32,
    failure: Failure,
    after: AfterFailure,
    now_ms: i64,
) -> AttemptEnded {
    let number = task.id.number;
    if let AfterFailure::Retry { not_before_ms } = after {
        let event = EventKind::TaskRetried { task: number, attempt, failure, not_before_ms };
        return AttemptEnded { after, event, insert: None };
    }
    let failure = named(task, failure);
    if job.needs_decoded_frames(&failure)
        && let Some((probe, event)) = next_generation(job, Some(number), Some(attempt), failure.clone(), true, now_ms)
    {
        return AttemptEnded { after: AfterFailure::Replan, event, insert: Some(probe) };
    }
    job.fail(failure.clone(), now_ms);
    let event = EventKind::Failed { task: Some(number), attempt: Some(attempt), failure };
    AttemptEnded { after, event, insert: None }
}

/// The failure as stored for the job: names the task, unless the source is to blame.
fn named(task: &Task, mut failure: Failure) -> Failure {
    if failure.class != FailureClass::Source {
        failure.message = match task.spec.kind {
            TaskKind::Segment | TaskKind::Audio => {
                format!("{} {}: {}", task.spec.kind.as_str(), task.spec.index, failure.message)
            }
            TaskKind::Probe | TaskKind::Whole | TaskKind::Assemble => {
                format!("{}: {}", task.spec.kind.as_str(), failure.message)
            }
        };
    }
    failure
}
