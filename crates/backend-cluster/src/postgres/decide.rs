//! What is asked about attempts of one job, decided in order on the loaded rows. Pure: the answer says what to write.

use super::locks::Lock;
use splitreel_backend::store::ClaimRequest;
use splitreel_backend::transition;
use splitreel_core::event::EventKind;
use splitreel_core::job::Job;
use splitreel_core::part::TaskResult;
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, Task};
use splitreel_core::{Failure, JobId, LeaseId};
use std::collections::{BTreeMap, BTreeSet};

/// One thing that is asked about an attempt.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Claim(ClaimRequest),
    Renew { number: u32, lease: LeaseId, progress: Progress, now_ms: i64, policy: RetryPolicy },
    Complete { number: u32, lease: LeaseId, result: Box<TaskResult>, now_ms: i64 },
    Fail { number: u32, lease: LeaseId, failure: Failure, now_ms: i64, policy: RetryPolicy },
}

/// The answer to an [`Ask`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Claim(Box<Result<Task, Refusal>>),
    Renew(Result<i64, Refusal>),
    Complete(Result<bool, Refusal>),
    Fail(Result<AfterFailure, Refusal>),
}

/// What to write. Beside it, when the job has ended without success (`is_closed`), its leases and outbox rows go.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Tasks whose row is to be saved.
    pub tasks: BTreeSet<u32>,
    pub is_job_changed: bool,
    pub is_closed: bool,
    /// Tasks whose outbox row is to be deleted.
    pub unrung: Vec<u32>,
    pub inserts: Vec<Task>,
    /// With their times, in order.
    pub events: Vec<(i64, EventKind)>,
}

impl Ask {
    /// The task it is about.
    pub(super) fn number(&self) -> u32 {
        match self {
            Ask::Claim(request) => request.wakeup.task.number,
            Ask::Renew { number, .. } | Ask::Complete { number, .. } | Ask::Fail { number, .. } => *number,
        }
    }

    /// The lock that it needs on the job's row.
    pub(super) fn lock(&self) -> Lock {
        match self {
            Ask::Claim(_) | Ask::Renew { .. } => Lock::KeyShare,
            Ask::Complete { .. } => Lock::NoKeyUpdate,
            Ask::Fail { .. } => Lock::Update,
        }
    }

    /// The answer when there is no such job or task.
    pub(super) fn about_nothing(&self) -> Answer {
        match self {
            Ask::Claim(_) => Answer::Claim(Box::new(Err(Refusal::NotClaimable))),
            Ask::Renew { .. } => Answer::Renew(Err(Refusal::LeaseLost)),
            Ask::Complete { .. } => Answer::Complete(Err(Refusal::LeaseLost)),
            Ask::Fail { .. } => Answer::Fail(Err(Refusal::LeaseLost)),
        }
    }
}

/// Decides all asks, in order, and applies them to the rows.
pub(super) fn decide(job: &mut Job, tasks: &mut BTreeMap<u32, Task>, asks: &[Ask]) -> (Vec<Answer>, Changes) {
    let mut changes = Changes::default();
    let answers = asks
        .iter()
        .map(|ask| match tasks.get_mut(&ask.number()) {
            None => ask.about_nothing(),
            Some(task) => {
                if job.state.is_ended() {
                    // As `rows::shown`: what is stored as ready was cancelled with its job.
                    task.cancel();
                }
                decide_one(job, task, ask, &mut changes)
            }
        })
        .collect();
    (answers, changes)
}

fn decide_one(job: &mut Job, task: &mut Task, ask: &Ask, changes: &mut Changes) -> Answer {
    let number = task.id.number;
    match ask {
        Ask::Claim(request) => {
            let claimed = transition::claim(job, task, request);
            if let Ok(Some(event)) = &claimed {
                changes.tasks.insert(number);
                changes.unrung.push(number);
                changes.events.push((request.now_ms, event.clone()));
            }
            Answer::Claim(Box::new(claimed.map(|_| task.clone())))
        }
        Ask::Renew { lease, progress, now_ms, policy, .. } => {
            let renewed = task.renew(*lease, *progress, *now_ms, policy);
            if renewed.is_ok() {
                changes.tasks.insert(number);
            }
            Answer::Renew(renewed)
        }
        Ask::Complete { lease, result, now_ms, .. } => {
            let completed = transition::complete(job, task, *lease, (**result).clone(), *now_ms);
            Answer::Complete(completed.map(|done| match done {
                None => false,
                Some(done) => {
                    changes.tasks.insert(number);
                    changes.is_job_changed = true;
                    changes.unrung.extend(done.is_notified.then_some(number));
                    changes.inserts.extend(done.insert);
                    changes.events.extend(done.events.into_iter().map(|event| (*now_ms, event)));
                    true
                }
            }))
        }
        Ask::Fail { lease, failure, now_ms, policy, .. } => {
            let failed = transition::fail(job, task, *lease, failure.clone(), *now_ms, policy);
            Answer::Fail(failed.map(|ended| {
                note_ended(number, ended.after, changes);
                changes.events.push((*now_ms, ended.event));
                ended.after
            }))
        }
    }
}

fn note_ended(number: u32, after: AfterFailure, changes: &mut Changes) {
    changes.tasks.insert(number);
    if after == AfterFailure::GiveUp {
        changes.is_job_changed = true;
        changes.is_closed = true;
    }
}

/// Ends the attempts that `end` ends, in the order of the tasks' numbers, until the job fails over it. Answers the
/// tasks whose attempt was ended.
pub(super) fn take_back(
    job: &mut Job,
    tasks: &mut BTreeMap<u32, Task>,
    now_ms: i64,
    end: impl Fn(&mut Job, &mut Task) -> Option<transition::AttemptEnded>,
) -> (Vec<u32>, Changes) {
    let mut changes = Changes::default();
    let mut taken = Vec::new();
    for (number, task) in tasks {
        if job.state.is_ended() {
            break;
        }
        let mut is_taken = false;
        // A task may have two leases.
        while let Some(ended) = end(job, task) {
            note_ended(*number, ended.after, &mut changes);
            changes.events.push((now_ms, ended.event));
            is_taken = true;
        }
        if is_taken {
            taken.push(*number);
        }
    }
    (taken, changes)
}

/// Names the job of an ask in messages.
pub(super) fn mixed_up(job: JobId) -> splitreel_backend::StoreError {
    splitreel_backend::StoreError::Corrupt { what: format!("an answer about job {job} is not to what was asked") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use splitreel_backend::Wakeup;
    use splitreel_backend::conformance::fixture::{job_id, lease_id, plan, request, result, worker};
    use splitreel_core::FailureCode;
    use splitreel_core::TaskId;
    use splitreel_core::task::TaskState;

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

    /// What a database would hold.
    #[derive(Clone, Debug, PartialEq)]
    struct Stored {
        job: Job,
        tasks: BTreeMap<u32, Task>,
        events: Vec<(i64, EventKind)>,
    }

    impl Stored {
        /// A job with so many segments, numbers from 1.
        fn running() -> Self {
            let (mut job, _) = Job::new(job_id(1), request("t", "k"), 0);
            job.task_done(splitreel_core::task::TaskKind::Probe, 0);
            let (tasks, _) = transition::plan(&mut job, &plan(TASKS, 0)).unwrap();
            Stored { job, tasks: tasks.into_iter().map(|t| (t.id.number, t)).collect(), events: Vec::new() }
        }

        /// As `batch` does: loads what is asked about, decides, writes what changed.
        fn ask(&mut self, asks: &[Ask]) -> Vec<Answer> {
            let mut loaded: BTreeMap<u32, Task> =
                asks.iter().filter_map(|ask| Some((ask.number(), self.tasks.get(&ask.number())?.clone()))).collect();
            let mut job = self.job.clone();
            let (answers, changes) = decide(&mut job, &mut loaded, asks);
            for number in &changes.tasks {
                self.tasks.insert(*number, loaded[number].clone());
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

        /// As everybody sees it.
        fn shown(mut self) -> Self {
            if self.job.state.is_ended() {
                for task in self.tasks.values_mut() {
                    task.cancel();
                }
            }
            self
        }
    }

    fn claim(number: u32, attempt: u32, lease: u128, now_ms: i64) -> Ask {
        let task = TaskId { job: job_id(1), number };
        let wakeup = Wakeup { task, attempt, kind: splitreel_core::task::TaskKind::Segment, trace: Default::default() };
        Ask::Claim(ClaimRequest { wakeup, lease: lease_id(lease), worker: worker("w"), now_ms, ttl_ms: 10 })
    }

    fn complete(number: u32, lease: u128) -> Ask {
        let result = result(splitreel_core::task::TaskKind::Segment, number);
        Ask::Complete { number, lease: lease_id(lease), result: Box::new(result), now_ms: 1 }
    }

    fn fail(number: u32, lease: u128, failure: Failure) -> Ask {
        Ask::Fail { number, lease: lease_id(lease), failure, now_ms: 1, policy: POLICY }
    }

    #[test]
    fn the_last_completion_of_a_batch_inserts_assemble() {
        let mut stored = Stored::running();
        let asks: Vec<_> = (1..=TASKS).map(|n| claim(n, 1, u128::from(n), 0)).collect();
        assert_eq!(asks.iter().map(Ask::lock).max(), Some(Lock::KeyShare));
        stored.ask(&asks);
        let asks: Vec<_> = (1..=TASKS).flat_map(|n| [complete(n, u128::from(n)), complete(n, u128::from(n))]).collect();
        assert_eq!(asks.iter().map(Ask::lock).max(), Some(Lock::NoKeyUpdate));
        let firsts = stored.ask(&asks).into_iter().filter(|a| *a == Answer::Complete(Ok(true))).count();
        assert_eq!((firsts, stored.job.remaining), (3, 1));
        assert_eq!(stored.tasks[&(TASKS + 1)].state, TaskState::Ready);
    }

    #[test]
    fn after_a_failure_that_ends_the_job_the_rest_of_the_batch_is_refused() {
        let mut stored = Stored::running();
        stored.ask(&[claim(1, 1, 1, 0), claim(2, 1, 2, 0)]);
        let asks = [fail(1, 1, Failure::of(FailureCode::Plan, "y")), complete(2, 2), claim(3, 1, 3, 0), complete(9, 9)];
        assert_eq!(asks.iter().map(Ask::lock).max(), Some(Lock::Update));
        let answers = stored.ask(&asks);
        assert_eq!(answers[0], Answer::Fail(Ok(AfterFailure::GiveUp)));
        assert_eq!(answers[1], Answer::Complete(Err(Refusal::Cancelled)));
        assert_eq!(answers[2], Answer::Claim(Box::new(Err(Refusal::Cancelled))));
        assert_eq!(answers[3], Answer::Complete(Err(Refusal::LeaseLost)));
        let states: Vec<_> = stored.shown().tasks.values().map(|t| t.state).collect();
        assert_eq!(states, [TaskState::Failed, TaskState::Cancelled, TaskState::Cancelled]);
    }

    fn asks() -> impl Strategy<Value = Ask> {
        let number = 1..=TASKS + 2;
        let lease = 1..4_u128;
        prop_oneof![
            4 => (number.clone(), 1..4_u32, lease.clone()).prop_map(|(n, attempt, l)| claim(n, attempt, l, 5)),
            4 => (number.clone(), lease.clone()).prop_map(|(n, l)| complete(n, l)),
            2 => (number.clone(), lease.clone(), 0..9_i64).prop_map(|(number, l, now_ms)| Ask::Renew {
                number,
                lease: lease_id(l),
                progress: Progress { frames: 1, ..Progress::default() },
                now_ms,
                policy: POLICY,
            }),
            2 => (number.clone(), lease.clone()).prop_map(|(n, l)| fail(n, l, Failure::of(FailureCode::Storage, "y"))),
            1 => (number, lease).prop_map(|(n, l)| fail(n, l, Failure::of(FailureCode::FfmpegFailed, "y"))),
        ]
    }

    proptest! {
        /// Together or one by one: the same answers, rows and events.
        #[test]
        fn a_batch_decides_as_one_after_the_other(asks in proptest::collection::vec(asks(), 0..24)) {
            let (mut together, mut alone) = (Stored::running(), Stored::running());
            let answers = together.ask(&asks);
            let expected: Vec<_> = asks.iter().flat_map(|ask| alone.ask(std::slice::from_ref(ask))).collect();
            // An assemble task that the batch itself inserted cannot be known to those who ask in it.
            let inserted = alone.tasks.len() > TASKS as usize;
            prop_assume!(!inserted || asks.iter().all(|ask| ask.number() <= TASKS));
            prop_assert_eq!(answers, expected);
            prop_assert_eq!(together.shown(), alone.shown());
        }
    }
}
