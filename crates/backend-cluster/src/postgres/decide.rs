//! Use-cases about attempts of one job, decided in order on the loaded rows. Pure: each decision notes the writes it needs
//! in [`Changes`].

use super::locks::Lock;
use splitreel_backend::store::ClaimRequest;
use splitreel_backend::transition;
use splitreel_core::event::EventKind;
use splitreel_core::job::Job;
use splitreel_core::part::TaskResult;
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, Task};
use splitreel_core::{Failure, LeaseId};
use std::collections::{BTreeMap, BTreeSet};

/// Which use-case a decision belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UseCase {
    Claim,
    Renew,
    Complete,
    Fail,
}

impl UseCase {
    /// Lock that the use-case needs on the job's row.
    pub(super) fn lock(self) -> Lock {
        match self {
            UseCase::Claim | UseCase::Renew => Lock::KeyShare,
            UseCase::Complete => Lock::NoKeyUpdate,
            UseCase::Fail => Lock::Update,
        }
    }

    /// Answer when the job or the task does not exist.
    pub(super) fn refusal_of_nothing(self) -> Refusal {
        match self {
            UseCase::Claim => Refusal::NotClaimable,
            UseCase::Renew | UseCase::Complete | UseCase::Fail => Refusal::LeaseLost,
        }
    }
}

/// Writes that decisions ask for. When the job has ended without success (`is_closed`), its leases and outbox rows are
/// deleted, too.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Tasks whose row is to be saved.
    pub tasks: BTreeSet<u32>,
    pub is_job_changed: bool,
    pub is_closed: bool,
    /// The job is planned again: the plan, the open tasks and the outbox rows of the old generation are deleted or
    /// cancelled before any insert.
    pub is_replanned: bool,
    /// Tasks whose outbox row is to be deleted.
    pub claimed: Vec<u32>,
    pub inserts: Vec<Task>,
    /// Events with their times, in order.
    pub events: Vec<(i64, EventKind)>,
}

/// The rows that one decision is made on.
pub(super) struct State<'a> {
    pub job: &'a mut Job,
    pub task: &'a mut Task,
    pub changes: &'a mut Changes,
}

/// The rows of a transaction: a job and some of its tasks.
pub(super) struct Rows {
    pub job: Job,
    pub tasks: BTreeMap<u32, Task>,
    pub changes: Changes,
}

impl Rows {
    pub(super) fn new(job: Job, tasks: BTreeMap<u32, Task>) -> Rows {
        Rows { job, tasks, changes: Changes::default() }
    }

    /// The rows as a decision about one task sees them; `None` when the task does not exist.
    pub(super) fn state(&mut self, number: u32) -> Option<State<'_>> {
        let task = self.tasks.get_mut(&number)?;
        if self.job.state.is_ended() || !self.job.owns(task) {
            // As `rows::shown`: a task that is stored as ready was cancelled with its job, or with the plan that an
            // earlier decision of this transaction gave up.
            task.cancel();
        }
        Some(State { job: &mut self.job, task, changes: &mut self.changes })
    }
}

pub(super) fn claim(state: &mut State<'_>, request: &ClaimRequest) -> Result<Task, Refusal> {
    if let Some(event) = transition::claim(state.job, state.task, request)? {
        let number = state.task.id.number;
        state.changes.tasks.insert(number);
        state.changes.claimed.push(number);
        state.changes.events.push((request.now_ms, event));
    }
    Ok(state.task.clone())
}

pub(super) fn renew(
    state: &mut State<'_>,
    lease: LeaseId,
    progress: Progress,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<i64, Refusal> {
    let expires_ms = state.task.renew(lease, progress, now_ms, policy)?;
    state.changes.tasks.insert(state.task.id.number);
    Ok(expires_ms)
}

pub(super) fn complete(
    state: &mut State<'_>,
    lease: LeaseId,
    result: TaskResult,
    now_ms: i64,
) -> Result<bool, Refusal> {
    let Some(done) = transition::complete(state.job, state.task, lease, result, now_ms)? else { return Ok(false) };
    let (number, changes) = (state.task.id.number, &mut *state.changes);
    changes.tasks.insert(number);
    changes.is_job_changed = true;
    changes.claimed.extend(done.is_notified.then_some(number));
    changes.inserts.extend(done.insert);
    changes.events.extend(done.events.into_iter().map(|event| (now_ms, event)));
    Ok(true)
}

pub(super) fn fail(
    state: &mut State<'_>,
    lease: LeaseId,
    failure: Failure,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<AfterFailure, Refusal> {
    let ended = transition::fail(state.job, state.task, lease, failure, now_ms, policy)?;
    let after = ended.after;
    note_ended(state.task.id.number, ended, now_ms, state.changes);
    Ok(after)
}

fn note_ended(number: u32, ended: transition::AttemptEnded, now_ms: i64, changes: &mut Changes) {
    changes.tasks.insert(number);
    changes.is_job_changed |= !matches!(ended.after, AfterFailure::Retry { .. });
    changes.is_closed |= ended.after == AfterFailure::GiveUp;
    changes.is_replanned |= ended.after == AfterFailure::Replan;
    changes.inserts.extend(ended.insert);
    changes.events.push((now_ms, ended.event));
}

/// Ends the attempts that `end` ends, in the order of the tasks' numbers, until the job fails because of one. Answers the
/// tasks whose attempt was ended.
pub(super) fn take_back(
    rows: &mut Rows,
    now_ms: i64,
    end: impl Fn(&mut Job, &mut Task) -> Option<transition::AttemptEnded>,
) -> Vec<u32> {
    let mut taken = Vec::new();
    for (number, task) in &mut rows.tasks {
        if rows.job.state.is_ended() || !rows.job.owns(task) {
            break;
        }
        let before = task.clone();
        let mut is_taken = false;
        // A task may have two leases.
        while let Some(ended) = end(&mut rows.job, task) {
            note_ended(*number, ended, now_ms, &mut rows.changes);
            is_taken = true;
        }
        if is_taken {
            taken.push(*number);
        } else if *task != before {
            rows.changes.tasks.insert(*number);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use splitreel_backend::Wakeup;
    use splitreel_backend::conformance::fixture::{job_id, lease_id, plan, request, result, worker};
    use splitreel_core::FailureCode;
    use splitreel_core::TaskId;
    use splitreel_core::task::{TaskKind, TaskState};

    const TASKS: u32 = 3;
    const POLICY: RetryPolicy = RetryPolicy {
        media_attempts: 2,
        media_backoff_ms: 0,
        infra_budget: 3,
        infra_backoff_ms: 0,
        infra_backoff_max_ms: 0,
        lease_ttl_ms: 10,
        stall_ms: 5,
    };

    /// Arguments of one use-case.
    #[derive(Clone, Debug)]
    enum Call {
        Claim(ClaimRequest),
        Renew { number: u32, lease: LeaseId, progress: Progress, now_ms: i64 },
        Complete { number: u32, lease: LeaseId, result: Box<TaskResult>, now_ms: i64 },
        Fail { number: u32, lease: LeaseId, failure: Failure, now_ms: i64 },
    }

    /// The answer of a use-case, of which the tests compare the essence.
    #[derive(Clone, Debug, PartialEq)]
    enum Answer {
        Claimed(Box<Task>),
        Renewed(i64),
        Completed(bool),
        Failed(AfterFailure),
    }

    impl Call {
        fn number(&self) -> u32 {
            match self {
                Call::Claim(request) => request.wakeup.task.number,
                Call::Renew { number, .. } | Call::Complete { number, .. } | Call::Fail { number, .. } => *number,
            }
        }

        fn use_case(&self) -> UseCase {
            match self {
                Call::Claim(_) => UseCase::Claim,
                Call::Renew { .. } => UseCase::Renew,
                Call::Complete { .. } => UseCase::Complete,
                Call::Fail { .. } => UseCase::Fail,
            }
        }

        fn decide(&self, rows: &mut Rows) -> Result<Answer, Refusal> {
            let Some(mut state) = rows.state(self.number()) else { return Err(self.use_case().refusal_of_nothing()) };
            match self.clone() {
                Call::Claim(request) => claim(&mut state, &request).map(|task| Answer::Claimed(Box::new(task))),
                Call::Renew { lease, progress, now_ms, .. } => {
                    renew(&mut state, lease, progress, now_ms, &POLICY).map(Answer::Renewed)
                }
                Call::Complete { lease, result, now_ms, .. } => {
                    complete(&mut state, lease, *result, now_ms).map(Answer::Completed)
                }
                Call::Fail { lease, failure, now_ms, .. } => {
                    fail(&mut state, lease, failure, now_ms, &POLICY).map(Answer::Failed)
                }
            }
        }
    }

    fn strongest(calls: &[Call]) -> Option<Lock> {
        calls.iter().map(|call| call.use_case().lock()).max()
    }

    /// What a database would hold.
    #[derive(Clone, Debug, PartialEq)]
    struct Stored {
        job: Job,
        tasks: BTreeMap<u32, Task>,
        events: Vec<(i64, EventKind)>,
    }

    impl Stored {
        /// A job with [`TASKS`] segments, numbered from 1.
        fn running() -> Self {
            let (mut job, _) = Job::new(job_id(1), request("t", "k"), 0);
            job.task_done(TaskKind::Probe, 0);
            let (tasks, _) = transition::plan(&mut job, 0, &plan(TASKS, 0)).unwrap();
            Stored { job, tasks: tasks.into_iter().map(|t| (t.id.number, t)).collect(), events: Vec::new() }
        }

        /// One transaction, as in `batch`: loads the tasks in question, decides, writes the changes.
        fn transact(&mut self, calls: &[Call]) -> Vec<Result<Answer, Refusal>> {
            let loaded = calls.iter().filter_map(|c| Some((c.number(), self.tasks.get(&c.number())?.clone())));
            let mut rows = Rows::new(self.job.clone(), loaded.collect());
            let answers = calls.iter().map(|call| call.decide(&mut rows)).collect();
            let Rows { job, tasks, changes } = rows;
            for number in &changes.tasks {
                self.tasks.insert(*number, tasks[number].clone());
            }
            if changes.is_replanned {
                for task in self.tasks.values_mut() {
                    task.cancel();
                }
            }
            self.tasks.extend(changes.inserts.into_iter().map(|task| (task.id.number, task)));
            if changes.is_job_changed {
                self.job = job;
            } else {
                assert_eq!(self.job, job, "a change of the job would be lost");
            }
            if changes.is_closed {
                for task in self.tasks.values_mut().filter(|t| t.state == TaskState::Leased) {
                    task.cancel();
                }
            }
            self.events.extend(changes.events);
            answers
        }

        /// As readers of the store see the rows.
        fn shown(mut self) -> Self {
            if self.job.state.is_ended() {
                for task in self.tasks.values_mut() {
                    task.cancel();
                }
            }
            self
        }
    }

    fn claim_of(number: u32, attempt: u32, lease: u128, now_ms: i64) -> Call {
        let task = TaskId { job: job_id(1), number };
        let wakeup = Wakeup { task, attempt, kind: TaskKind::Segment, trace: Default::default() };
        Call::Claim(ClaimRequest { wakeup, lease: lease_id(lease), worker: worker("w"), now_ms, ttl_ms: 10 })
    }

    fn completion_of(number: u32, lease: u128) -> Call {
        let result = result(TaskKind::Segment, number);
        Call::Complete { number, lease: lease_id(lease), result: Box::new(result), now_ms: 1 }
    }

    fn failure_of(number: u32, lease: u128, failure: Failure) -> Call {
        Call::Fail { number, lease: lease_id(lease), failure, now_ms: 1 }
    }

    #[test]
    fn the_last_completion_of_a_batch_inserts_assemble() {
        let mut stored = Stored::running();
        let calls: Vec<_> = (1..=TASKS).map(|n| claim_of(n, 1, u128::from(n), 0)).collect();
        assert_eq!(strongest(&calls), Some(Lock::KeyShare));
        stored.transact(&calls);
        let calls: Vec<_> = (1..=TASKS).flat_map(|n| [n, n].map(|n| completion_of(n, u128::from(n)))).collect();
        assert_eq!(strongest(&calls), Some(Lock::NoKeyUpdate));
        let firsts = stored.transact(&calls).into_iter().filter(|a| *a == Ok(Answer::Completed(true))).count();
        assert_eq!((firsts, stored.job.remaining), (3, 1));
        assert_eq!(stored.tasks[&(TASKS + 1)].state, TaskState::Ready);
    }

    #[test]
    fn after_a_failure_that_ends_the_job_the_rest_of_the_batch_is_refused() {
        let mut stored = Stored::running();
        stored.transact(&[claim_of(1, 1, 1, 0), claim_of(2, 1, 2, 0)]);
        let calls = [
            failure_of(1, 1, Failure::of(FailureCode::Plan, "y")),
            completion_of(2, 2),
            claim_of(3, 1, 3, 0),
            completion_of(9, 9),
        ];
        assert_eq!(strongest(&calls), Some(Lock::Update));
        let answers = stored.transact(&calls);
        assert_eq!(answers[0], Ok(Answer::Failed(AfterFailure::GiveUp)));
        assert_eq!(answers[1..], [Refusal::Cancelled, Refusal::Cancelled, Refusal::LeaseLost].map(Err));
        let states: Vec<_> = stored.shown().tasks.values().map(|t| t.state).collect();
        assert_eq!(states, [TaskState::Failed, TaskState::Cancelled, TaskState::Cancelled]);
    }

    fn calls() -> impl Strategy<Value = Call> {
        let number = 1..=TASKS + 2;
        let lease = 1..4_u128;
        prop_oneof![
            4 => (number.clone(), 1..4_u32, lease.clone()).prop_map(|(n, attempt, l)| claim_of(n, attempt, l, 5)),
            4 => (number.clone(), lease.clone()).prop_map(|(n, l)| completion_of(n, l)),
            2 => (number.clone(), lease.clone(), 0..9_i64).prop_map(|(number, l, now_ms)| Call::Renew {
                number,
                lease: lease_id(l),
                progress: Progress { frames: 1, ..Progress::default() },
                now_ms,
            }),
            2 => (number.clone(), lease.clone()).prop_map(|(n, l)| failure_of(n, l, Failure::of(FailureCode::Storage, "y"))),
            1 => (number.clone(), lease.clone()).prop_map(|(n, l)| failure_of(n, l, Failure::of(FailureCode::FfmpegFailed, "y"))),
            2 => (number, lease).prop_map(|(n, l)| failure_of(n, l, Failure::of(FailureCode::TimesDiffer, "y"))),
        ]
    }

    proptest! {
        /// A batch and the same calls one by one give the same answers, rows and events.
        #[test]
        fn a_batch_decides_as_one_after_the_other(calls in proptest::collection::vec(calls(), 0..24)) {
            let (mut together, mut alone) = (Stored::running(), Stored::running());
            let answers = together.transact(&calls);
            let expected: Vec<_> = calls.iter().flat_map(|call| alone.transact(std::slice::from_ref(call))).collect();
            // No caller within the batch can know an assemble task that the batch itself inserted.
            let inserted = alone.tasks.len() > TASKS as usize;
            prop_assume!(!inserted || calls.iter().all(|call| call.number() <= TASKS));
            prop_assert_eq!(answers, expected);
            prop_assert_eq!(together.shown(), alone.shown());
        }
    }
}
