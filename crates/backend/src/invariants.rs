//! What holds of every job at every moment, checked on snapshots: used by the conformance suite and after each
//! step of a simulation. Reports everything that is wrong; repairs nothing.

use crate::doorbell::Wakeup;
use splitreel_core::job::{Job, JobState};
use splitreel_core::task::{Task, TaskKind, TaskState};
use std::collections::BTreeSet;

/// All rows of one job at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The job row.
    pub job: Job,
    /// Its tasks by number.
    pub tasks: Vec<Task>,
    /// Its outbox rows (notified or not).
    pub outbox: Vec<Wakeup>,
}

impl Snapshot {
    /// [`audit`] of this snapshot.
    pub fn audit(&self) -> Vec<String> {
        audit(&self.job, &self.tasks, &self.outbox)
    }
}

/// Every invariant that one snapshot breaks, in words. Empty: all hold.
pub fn audit(job: &Job, tasks: &[Task], outbox: &[Wakeup]) -> Vec<String> {
    let mut found = Violations { job: job.id.to_string(), list: Vec::new() };
    audit_job(job, tasks, &mut found);
    audit_numbers(job, tasks, &mut found);
    for task in tasks {
        audit_task(job, task, &mut found);
    }
    audit_leases(tasks, &mut found);
    audit_outbox(tasks, outbox, &mut found);
    found.list
}

/// Every invariant that the way from one snapshot of a job to a later one breaks, in words.
pub fn audit_step(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut found = Violations { job: before.job.id.to_string(), list: Vec::new() };
    let (old, new) = (&before.job, &after.job);
    found.unless(old.id == new.id && old.request == new.request && old.created_ms == new.created_ms, || {
        "the request changed".into()
    });
    found.unless(old.generation <= new.generation, || {
        format!("generation fell from {} to {}", old.generation, new.generation)
    });
    found.unless(new.generation <= old.generation.saturating_add(1), || {
        format!("generation leapt from {} to {}", old.generation, new.generation)
    });
    let is_same_plan = old.plan_hash.is_none() || old.plan_hash == new.plan_hash;
    found.unless(is_same_plan || old.generation < new.generation, || "the plan changed".into());
    found.unless(old.deep_probe <= new.deep_probe, || "frames are no longer listed by decoding".into());
    found.unless(old.state != JobState::Published || new.state == JobState::Published, || {
        format!("published became {}", new.state.as_str())
    });
    for was in &before.tasks {
        let Some(is) = after.tasks.iter().find(|t| t.id == was.id) else {
            found.add(format!("task {} disappeared", was.id.number));
            continue;
        };
        let number = was.id.number;
        found.unless(was.generation == is.generation, || format!("task {number} changed its generation"));
        let was_done = was.state == TaskState::Done;
        found.unless(was_done || is.state != TaskState::Done || new.owns(is), || {
            format!("task {number} of an earlier generation became done")
        });
        found.unless(was.spec == is.spec, || format!("task {number} changed what it does"));
        found.unless(was.attempt <= is.attempt, || {
            format!("task {number}: attempt fell from {} to {}", was.attempt, is.attempt)
        });
        found.unless(was.state != TaskState::Done || was == is, || format!("task {number} was done and changed"));
        for (attempt, lease) in was.live() {
            let took_over = is.live().any(|(n, l)| n == attempt && l.id != lease.id);
            found.unless(!took_over, || format!("task {number}: attempt {attempt} was leased twice"));
        }
    }
    found.list
}

struct Violations {
    job: String,
    list: Vec<String>,
}

impl Violations {
    fn add(&mut self, what: String) {
        self.list.push(format!("job {}: {what}", self.job));
    }

    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(what());
        }
    }
}

fn audit_job(job: &Job, tasks: &[Task], found: &mut Violations) {
    let state = job.state.as_str();
    let current = || tasks.iter().filter(|t| job.owns(t));
    let count = |is: fn(&Task) -> bool| current().filter(|t| is(t)).count();
    let num_open = count(|t| !t.state.is_final());
    let num_not_done = count(|t| t.state != TaskState::Done);
    let num_assemble = count(|t| t.spec.kind == TaskKind::Assemble);
    let has_done = |kind: TaskKind| current().any(|t| t.spec.kind == kind && t.state == TaskState::Done);
    let num_left_open = tasks.iter().filter(|t| !job.owns(t) && !t.state.is_final()).count();
    found.unless(num_left_open == 0, || format!("{num_left_open} open tasks of earlier generations"));

    found.unless(job.remaining as usize == num_not_done, || {
        format!("remaining is {}, but {num_not_done} tasks are not done", job.remaining)
    });
    found
        .unless(job.state.is_ended() == job.ended_ms.is_some(), || format!("{state} with ended_ms {:?}", job.ended_ms));
    found.unless((job.state == JobState::Failed) == job.failure.is_some(), || {
        format!("{state} with failure {:?}", job.failure)
    });
    let is_unplanned = matches!(job.state, JobState::Probing | JobState::Planning);
    let fits = (job.generation > 0 || !job.is_planned()) && !(is_unplanned && job.is_planned());
    found.unless(fits, || format!("{state} in generation {} with plan hash {:?}", job.generation, job.plan_hash));
    found.unless((job.generation > 1) == job.replanned.is_some(), || {
        format!("generation {} with the reason {:?}", job.generation, job.replanned)
    });
    let first = current().next().map(|task| task.id.number);
    found.unless(first == Some(job.first_task()), || {
        format!("the generation begins with task {first:?}, not {}", job.first_task())
    });
    found.unless(num_assemble <= 1, || format!("{num_assemble} assemble tasks"));
    if num_assemble > 0 {
        let num_parts_open = count(|t| t.spec.kind != TaskKind::Assemble && t.state != TaskState::Done);
        found.unless(num_parts_open == 0, || {
            format!("an assemble task beside {num_parts_open} tasks that are not done")
        });
    }
    match job.state {
        JobState::Probing => {
            found.unless(!has_done(TaskKind::Probe) && num_open == 1, || {
                "probing without exactly its probe task open".into()
            });
        }
        JobState::Planning => {
            found.unless(has_done(TaskKind::Probe) && current().count() == 1, || {
                "planning without a probe result or with tasks".into()
            });
        }
        JobState::Running => {
            found.unless(job.is_planned() && num_open > 0, || "running without a plan or without an open task".into())
        }
        JobState::Published => {
            found.unless(has_done(TaskKind::Assemble), || "published without a done assemble task".into())
        }
        JobState::Failed | JobState::Cancelled => {
            found.unless(!has_done(TaskKind::Assemble), || format!("{state}, yet assembled"))
        }
    }
    if job.state.is_ended() {
        found.unless(num_open == 0, || format!("{state} with {num_open} open tasks"));
    } else {
        let num_dead = count(|t| matches!(t.state, TaskState::Failed | TaskState::Cancelled));
        found.unless(num_dead == 0, || format!("{state} with {num_dead} failed or cancelled tasks"));
    }
}

fn audit_numbers(job: &Job, tasks: &[Task], found: &mut Violations) {
    found.unless(tasks.len() == job.next_task as usize, || {
        format!("{} tasks, but the next number is {}", tasks.len(), job.next_task)
    });
    for (expected, task) in (0u32..).zip(tasks) {
        let number = task.id.number;
        found.unless(number == expected && task.spec.number == number && task.id.job == job.id, || {
            format!("task {number} stands where {expected} belongs")
        });
        let before = number.checked_sub(1).and_then(|at| tasks.get(at as usize));
        let is_first = before.is_none_or(|before| before.generation < task.generation && task.generation > 1);
        found.unless(is_first == (task.spec.kind == TaskKind::Probe), || {
            format!("task {number} is {}", task.spec.kind.as_str())
        });
    }
}

fn audit_task(job: &Job, task: &Task, found: &mut Violations) {
    let (number, state) = (task.id.number, task.state.as_str());
    let is_done = task.state == TaskState::Done;
    found.unless((task.state == TaskState::Leased) == task.lease.is_some(), || {
        format!("task {number} is {state} with lease {:?}", task.lease)
    });
    if let Some(superseded) = &task.superseded {
        let runs_beside =
            matches!(task.state, TaskState::Ready | TaskState::Leased) && superseded.attempt < task.attempt;
        found.unless(runs_beside, || format!("task {number} is {state} beside attempt {}", superseded.attempt));
    }
    found.unless(is_done == task.result.is_some(), || {
        format!("task {number} is {state}, has a result: {}", task.result.is_some())
    });
    found.unless(is_done == task.done_by.is_some(), || format!("task {number} is {state}, done by {:?}", task.done_by));
    let is_known = task.generation <= job.generation && (task.generation > 0 || number == 0);
    found.unless(is_known, || format!("task {number} is of generation {}", task.generation));
    let num_failures = task.media_failures.saturating_add(task.infra_failures);
    let num_live = u32::from(task.state != TaskState::Failed) + u32::from(task.superseded.is_some());
    let num_ended = task.attempt.saturating_sub(num_live);
    found.unless(task.attempt >= 1 && num_failures <= num_ended, || {
        format!("task {number}: {num_failures} failures in {num_ended} ended attempts")
    });
}

fn audit_leases(tasks: &[Task], found: &mut Violations) {
    let mut seen = BTreeSet::new();
    for task in tasks {
        for lease in task.live().map(|(_, lease)| lease.id).chain(task.done_by) {
            found.unless(seen.insert(lease), || format!("task {}: lease {lease} is another task's", task.id.number));
        }
    }
}

fn audit_outbox(tasks: &[Task], outbox: &[Wakeup], found: &mut Violations) {
    let mut seen = BTreeSet::new();
    for wakeup in outbox {
        let number = wakeup.task.number;
        found.unless(seen.insert(number), || format!("task {number} has two outbox rows"));
        match tasks.iter().find(|t| t.id == wakeup.task) {
            None => found.add(format!("outbox row of task {number}, which does not exist")),
            Some(task) => {
                let fits =
                    task.state == TaskState::Ready && task.attempt == wakeup.attempt && task.spec.kind == wakeup.kind;
                found.unless(fits, || {
                    format!(
                        "outbox row {wakeup:?} of a task that is {} at attempt {}",
                        task.state.as_str(),
                        task.attempt
                    )
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::fixture::{job_id, lease_id, plan, request, worker};
    use crate::memory::MemoryStore;
    use crate::store::{ClaimRequest, LeaseStore, Scheduling, Submissions};
    use splitreel_core::fair::Shares;
    use splitreel_core::job::Replanned;
    use splitreel_core::task::RetryPolicy;
    use splitreel_core::{Failure, FailureCode, TaskId};

    type Fault = fn(&mut Snapshot);

    fn replanned(first_task: u32) -> Replanned {
        Replanned { failure: Failure::of(FailureCode::TimesDiffer, "x"), first_task, at_ms: 0 }
    }

    /// A job with two segments, the first of them leased, the second in the outbox.
    async fn running() -> Snapshot {
        let store = MemoryStore::new();
        let job = job_id(1);
        store.submit(job, request("t", "k"), 0).await.unwrap();
        let claim = async |number, kind| {
            let wakeup = Wakeup { task: TaskId { job, number }, attempt: 1, kind, trace: Default::default() };
            let lease = lease_id(u128::from(number) + 1);
            store.claim(ClaimRequest { wakeup, lease, worker: worker("w"), now_ms: 0, ttl_ms: 10 }).await.unwrap()
        };
        let probe = claim(0, TaskKind::Probe).await;
        let result = crate::conformance::fixture::result(TaskKind::Probe, 0);
        store.complete(probe.id, lease_id(1), result, 0).await.unwrap();
        assert!(store.record_plan(job, 0, &plan(2, 0), 0).await.unwrap());
        claim(1, TaskKind::Segment).await;
        store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap();
        store.snapshots().remove(0)
    }

    #[tokio::test]
    async fn a_sound_job_breaks_nothing() {
        let snapshot = running().await;
        assert_eq!(snapshot.audit(), Vec::<String>::new());
        assert_eq!(audit_step(&snapshot, &snapshot), Vec::<String>::new());
    }

    #[tokio::test]
    async fn every_planted_fault_is_reported() {
        let sound = running().await;
        let faults: [(&str, Fault); 17] = [
            ("beside attempt", |s| {
                let lease = s.tasks[1].lease.clone().unwrap();
                s.tasks[1].superseded = Some(splitreel_core::task::SupersededAttempt { attempt: 1, lease });
            }),
            ("remaining", |s| s.job.remaining -= 1),
            ("ended_ms", |s| s.job.ended_ms = Some(1)),
            ("without a plan", |s| s.job.plan_hash = None),
            ("with the reason", |s| {
                s.job.replanned = Some(replanned(0));
            }),
            ("begins with task", |s| s.job.replanned = Some(replanned(1))),
            ("of earlier generations", |s| s.job.generation = 2),
            ("is of generation", |s| s.tasks[2].generation = 7),
            ("next number", |s| s.job.next_task += 1),
            ("2 open tasks", |s| (s.job.state, s.job.ended_ms) = (JobState::Cancelled, Some(1))),
            ("published without", |s| (s.job.state, s.job.ended_ms) = (JobState::Published, Some(1))),
            ("with lease", |s| s.tasks[1].lease = None),
            ("has a result", |s| s.tasks[0].result = None),
            ("failures in", |s| s.tasks[1].media_failures = 1),
            ("is another task's", |s| s.tasks[0].done_by = s.tasks[1].lease.as_ref().map(|l| l.id)),
            ("outbox row", |s| s.outbox[0].attempt = 2),
            ("assemble task beside", |s| s.tasks[2].spec.kind = TaskKind::Assemble),
        ];
        for (expected, plant) in faults {
            let mut broken = sound.clone();
            plant(&mut broken);
            let found = broken.audit();
            assert!(found.iter().any(|v| v.contains(expected)), "{expected}: {found:?}");
        }
    }

    #[tokio::test]
    async fn every_forbidden_step_is_reported() {
        let mut before = running().await;
        before.job.deep_probe = true;
        let steps: [(&str, Fault); 10] = [
            ("attempt fell", |s| s.tasks[1].attempt = 0),
            ("was done and changed", |s| s.tasks[0].attempt = 2),
            ("disappeared", |s| drop(s.tasks.remove(2))),
            ("leased twice", |s| s.tasks[1].lease.as_mut().unwrap().id = lease_id(99)),
            ("generation fell", |s| s.job.generation = 0),
            ("generation leapt", |s| s.job.generation = 3),
            ("the plan changed", |s| s.job.plan_hash = Some("other".into())),
            ("no longer listed", |s| s.job.deep_probe = false),
            ("changed its generation", |s| s.tasks[1].generation = 2),
            ("earlier generation became done", |s| {
                s.job.generation = 2;
                s.tasks[1].state = TaskState::Done;
            }),
        ];
        for (expected, step) in steps {
            let mut after = before.clone();
            step(&mut after);
            let found = audit_step(&before, &after);
            assert!(found.iter().any(|v| v.contains(expected)), "{expected}: {found:?}");
        }
        let mut reaped = before.clone();
        let Snapshot { job, tasks, .. } = &mut reaped;
        crate::transition::reap(job, &mut tasks[1], 1 << 40, &RetryPolicy::default()).unwrap();
        assert_eq!(audit_step(&before, &reaped), Vec::<String>::new());
    }
}
