//! Random operations on a store and on the in-memory reference side by side: same answers, same rows.

use super::StoreHarness;
use super::chance::Chance;
use super::fixture::{Answered, job_id, lease_id, plan, request, result, worker};
use crate::doorbell::Wakeup;
use crate::invariants::{Snapshot, audit_step};
use crate::memory::MemoryStore;
use crate::store::{ClaimRequest, InFlightLimit, JobFilter, JobStore, Scope};
use splitreel_core::fair::{Priority, Share, Shares};
use splitreel_core::job::{JobRequest, JobState};
use splitreel_core::speculate::LEAST_RUN_MS;
use splitreel_core::task::{Progress, RetryPolicy, Task, TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId};
use std::collections::BTreeMap;

/// Operations concern this number of the newest jobs.
const JOBS: u64 = 5;
/// Older jobs are ended and forgotten, so that a long walk stays as fast as a short one.
const MAX_JOBS: usize = 9;
/// All rows are compared after this number of operations.
const COMPARED_EVERY: usize = 25;
const TENANTS: [&str; 3] = ["a", "b", "c"];

/// Effects, and the number of operations among which one of each is expected at the least.
const EXPECTED: [(&str, usize); 12] = [
    ("published", 250),
    ("dispatched", 50),
    ("shortened", 1_500),
    ("swept", 1_500),
    ("speculated", 1_500),
    ("reaped", 1_500),
    ("released", 1_500),
    ("paused", 250),
    ("resumed", 1_000),
    ("retried", 1_500),
    ("planned again", 1_000),
    ("frames doubted", 2_500),
];

const POLICY: RetryPolicy = RetryPolicy {
    media_attempts: 2,
    media_backoff_ms: 30,
    infra_budget: 4,
    infra_backoff_ms: 10,
    infra_backoff_max_ms: 100,
    lease_ttl_ms: 200,
    stall_ms: 400,
};

/// Several hundred operations, as one behaviour of the suite.
pub async fn random_operations_match_the_reference(harness: &dyn StoreHarness) {
    let mut effects = Effects::default();
    effects.add(run(&[&*harness.open().await], 7, 600).await);
    effects.assert_eventful();
}

/// Applies operations, most of them sensible, some stale, early or mistaken, to empty stores and to the in-memory
/// reference. The seed decides them.
///
/// # Panics
/// When an answer, a row or an event differs, or an invariant breaks.
pub async fn run(stores: &[&dyn JobStore], seed: u64, num_operations: usize) -> Effects {
    let reference = MemoryStore::new();
    let mut walk = Walk::new(seed);
    let mut before: BTreeMap<JobId, Snapshot> = BTreeMap::new();
    let (mut seen_of_stores, mut seen_of_reference) = (vec![0; stores.len()], 0);
    for step in 0..num_operations {
        let operation = walk.draw();
        let expected = apply(&reference, &operation).await;
        for (number, store) in stores.iter().enumerate() {
            let answer = apply(*store, &operation).await;
            assert_eq!(answer, expected, "store {number}, seed {seed}, step {step}: {operation:?}");
        }
        walk.count(&operation, &expected);
        walk.learn(&reference);
        if step % COMPARED_EVERY == 0 || step + 1 == num_operations {
            let (rows, events) = (observe(&reference).await, new_events(&reference, &mut seen_of_reference).await);
            for (number, (store, seen)) in stores.iter().zip(&mut seen_of_stores).enumerate() {
                let at = format!("store {number}, seed {seed}, after step {step}: {operation:?}");
                assert_eq!(observe(*store).await, rows, "{at}");
                assert_eq!(new_events(*store, seen).await, events, "{at}");
            }
        }
        let after: BTreeMap<_, _> = reference.snapshots().into_iter().map(|s| (s.job.id, s)).collect();
        for (id, now) in &after {
            let mut violations = now.audit();
            violations.extend(before.get(id).map(|then| audit_step(then, now)).unwrap_or_default());
            assert!(violations.is_empty(), "seed {seed}, step {step}: {operation:?}: {violations:#?}");
        }
        before = after;
    }
    walk.effects.num_operations = num_operations;
    walk.effects
}

/// How often walks of random operations led to what they are there to test.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    num_operations: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Effects {
    /// Adds the effects of another walk.
    pub fn add(&mut self, other: Effects) {
        self.num_operations += other.num_operations;
        for (name, num) in other.counts {
            *self.counts.entry(name).or_default() += num;
        }
    }

    /// Checks that the walks together were eventful.
    ///
    /// # Panics
    /// When an effect was too rare for the number of operations.
    pub fn assert_eventful(&self) {
        for (name, one_in) in EXPECTED {
            let num = self.counts.get(name).copied().unwrap_or(0);
            let expected = self.num_operations / one_in;
            assert!(num >= expected, "{name}: {num} of {expected}: the walks prove too little: {:?}", self.counts);
        }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Submit(u64, Box<JobRequest>, i64),
    Plan(JobId, u32, u32, u32, i64),
    Reject(JobId, u32, i64),
    Replan(JobId, u32, i64),
    Dispatch(Scope, InFlightLimit, i64),
    MarkSent(usize, i64),
    Claim(Box<ClaimRequest>),
    Renew(TaskId, LeaseId, Progress, i64),
    Complete(TaskId, LeaseId, TaskKind, i64),
    Fail(TaskId, LeaseId, Failure, i64),
    Reap(i64),
    Release(String, i64),
    Shorten(String, i64),
    Sweep(Scope, i64),
    Speculate(Scope, i64),
    Cancel(JobId, i64),
    Pause(JobId, bool, i64),
    Retry(JobId, i64),
    Forget(JobId),
    List(JobFilter),
}

fn shares() -> Shares {
    let of = |weight, max_in_flight| Share { weight, max_in_flight };
    let tenants = [("a".to_owned(), of(1, Some(5))), ("b".to_owned(), of(3, None))];
    Shares { default: of(2, Some(7)), tenants: tenants.into() }
}

async fn apply(store: &dyn JobStore, operation: &Operation) -> String {
    match operation.clone() {
        Operation::Submit(n, request, at) => {
            format!("{:?}", store.submit(job_id(u128::from(n)), *request, at).await.unwrap())
        }
        Operation::Plan(job, generation, segments, audio, at) => {
            format!("{:?}", store.record_plan(job, generation, &plan(segments, audio), at).await.unwrap())
        }
        Operation::Reject(job, generation, at) => {
            format!("{:?}", store.reject(job, generation, Failure::of(FailureCode::Plan, "no"), at).await.unwrap())
        }
        Operation::Replan(job, generation, at) => {
            format!("{:?}", store.replan(job, generation, Failure::outdated_plan(0), at).await.unwrap())
        }
        Operation::Dispatch(scope, limit, at) => {
            format!("{:?}", store.dispatch(&scope, limit, &shares(), at).await.unwrap())
        }
        Operation::MarkSent(limit, at) => {
            let wakeups = store.unsent(&None, limit).await.unwrap();
            store.mark_sent(&wakeups, at).await.unwrap();
            format!("{wakeups:?}")
        }
        Operation::Claim(request) => format!("{:?}", store.claim(*request).await.answered()),
        Operation::Renew(task, lease, progress, at) => {
            format!("{:?}", store.renew(task, lease, progress, at, &POLICY).await.answered())
        }
        Operation::Complete(task, lease, kind, at) => {
            format!("{:?}", store.complete(task, lease, result(kind, task.number), at).await.answered())
        }
        Operation::Fail(task, lease, failure, at) => {
            format!("{:?}", store.fail(task, lease, failure, at, &POLICY).await.answered())
        }
        Operation::Reap(at) => format!("{:?}", store.reap(at, &POLICY).await.unwrap()),
        Operation::Release(name, at) => {
            format!("{:?}", store.release_worker(&worker(&name), at, &POLICY).await.unwrap())
        }
        Operation::Shorten(name, until) => {
            format!("{:?}", store.shorten_leases(&worker(&name), until).await.unwrap())
        }
        Operation::Sweep(scope, before) => format!("{:?}", store.sweep(&scope, before).await.unwrap()),
        Operation::Speculate(scope, at) => format!("{:?}", store.speculate(&scope, at).await.unwrap()),
        Operation::Cancel(job, at) => format!("{:?}", store.cancel(job, at).await.unwrap()),
        Operation::Pause(job, paused, at) => format!("{:?}", store.pause(job, paused, at).await.unwrap()),
        Operation::Retry(job, at) => format!("{:?}", store.retry(job, at).await.unwrap()),
        Operation::Forget(job) => format!("{:?}", store.forget(job).await.unwrap()),
        Operation::List(filter) => {
            let jobs = store.jobs(filter).await.unwrap();
            format!("{:?}", jobs.into_iter().map(|job| job.id).collect::<Vec<_>>())
        }
    }
}

/// Everything that can be seen of a store but its events.
async fn observe(store: &dyn JobStore) -> Vec<String> {
    let mut seen = Vec::new();
    for job in store.jobs(JobFilter { limit: 1000, ..JobFilter::default() }).await.unwrap() {
        let (tasks, plan) = (store.tasks(job.id).await.unwrap(), store.plan(job.id).await.unwrap());
        seen.push(format!("{:?} {:?}", store.job(job.id).await.unwrap(), plan.map(|p| p.hash())));
        seen.extend(tasks.iter().map(|task| format!("{task:?}")));
        seen.push(format!("{job:?}"));
    }
    seen.push(format!("{:?}", store.unsent(&None, 1000).await.unwrap()));
    seen
}

/// What happened since the last look, without its numbering.
async fn new_events(store: &dyn JobStore, seen: &mut i64) -> Vec<String> {
    let events = store.events(None, *seen, 100_000).await.unwrap();
    *seen = events.last().map_or(*seen, |event| event.seq);
    events.into_iter().map(|e| format!("{:?} {} {:?}", e.job, e.at_ms, e.what)).collect()
}

/// Draws operations that are likely to mean something, and some that are not.
struct Walk {
    chance: Chance,
    now_ms: i64,
    num_jobs: u64,
    num_leases: u128,
    /// Operations that had an effect, by name.
    effects: Effects,
    /// Jobs that exist, oldest first, and whether they have ended.
    jobs: Vec<(JobId, bool)>,
    planning: Vec<JobId>,
    tasks: Vec<Task>,
    leases: Vec<(TaskId, LeaseId)>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Walk {
            chance: Chance::new(seed),
            now_ms: 1_000,
            num_jobs: 0,
            num_leases: 0,
            effects: Effects::default(),
            jobs: Vec::new(),
            planning: Vec::new(),
            tasks: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.chance.below(end)
    }

    /// A small number as an argument of any type.
    fn small<T: TryFrom<u64, Error: std::fmt::Debug>>(&mut self, end: u64) -> T {
        T::try_from(self.below(end)).unwrap()
    }

    fn limit(&mut self) -> InFlightLimit {
        let prefetch = self.small(12);
        InFlightLimit { slots: prefetch % 3, prefetch }
    }

    fn job(&mut self) -> JobId {
        let newest = self.num_jobs;
        let back = self.below(JOBS);
        job_id(u128::from(newest.saturating_sub(back)))
    }

    fn job_to_plan(&mut self) -> JobId {
        self.chance.pick(&self.planning).unwrap_or_else(|| self.job())
    }

    fn job_under_way(&mut self) -> JobId {
        let jobs: Vec<_> = self.tasks.iter().filter(|t| t.lease.is_some()).map(|t| t.id.job).collect();
        self.chance.pick(&jobs).unwrap_or_else(|| self.job())
    }

    fn scope(&mut self) -> Scope {
        (self.below(5) == 0).then(|| (0..self.below(4)).map(|_| self.job()).collect())
    }

    fn failure(&mut self) -> Failure {
        match self.below(12) {
            0 => Failure::of(FailureCode::Plan, "cannot be"),
            1 => Failure::of(FailureCode::EmptyFile, "bad source"),
            2..=3 => Failure::of(FailureCode::FfmpegFailed, "crashed"),
            4..=9 => Failure::of(FailureCode::TimesDiffer, "other frames"),
            _ => Failure::of(FailureCode::Storage, "no disk"),
        }
    }

    fn held(&mut self) -> (TaskId, LeaseId) {
        let live: Vec<_> = self.tasks.iter().flat_map(|t| t.live().map(|(_, l)| (t.id, l.id))).collect();
        let leases = if self.below(5) == 0 { self.leases.clone() } else { live };
        self.chance.pick(&leases).unwrap_or((TaskId { job: job_id(99), number: 0 }, lease_id(99)))
    }

    /// Prefers a task that failed before, so that budgets get spent.
    fn held_before_failure(&mut self) -> (TaskId, LeaseId) {
        let failed_before = self.tasks.iter().filter(|t| t.media_failures > 0);
        let live: Vec<_> = failed_before.flat_map(|t| t.live().map(|(_, l)| (t.id, l.id))).collect();
        self.chance.pick(&live).filter(|_| self.below(4) > 0).unwrap_or_else(|| self.held())
    }

    /// The generation of a job, now and then that of an earlier reading.
    fn generation(&mut self, job: JobId) -> u32 {
        let newest = self.tasks.iter().filter(|t| t.id.job == job).map(|t| t.generation).max().unwrap_or(0);
        newest.saturating_sub(u32::from(self.below(8) == 0))
    }

    fn worker(&mut self) -> String {
        format!("w{}", self.below(3))
    }

    fn submit(&mut self) -> Operation {
        self.num_jobs += 1;
        let tenant = self.chance.pick(&TENANTS).unwrap_or_default();
        let key = format!("k{}", self.num_jobs.saturating_sub(self.below(2) * self.below(6)));
        let priority = [Priority::Low, Priority::Normal, Priority::High];
        let mut request = request(tenant, &key);
        request.priority = self.chance.pick(&priority).unwrap_or_default();
        Operation::Submit(self.num_jobs, Box::new(request), self.now_ms)
    }

    fn claim(&mut self) -> Operation {
        let is_any = self.below(5) == 0;
        let tasks: Vec<_> = self.tasks.iter().filter(|t| is_any || t.state == TaskState::Ready).cloned().collect();
        let task = self.chance.pick(&tasks);
        let id = task.as_ref().map_or(TaskId { job: job_id(99), number: 0 }, |t| t.id);
        let kind = task.as_ref().map_or(TaskKind::Segment, |t| t.spec.kind);
        let attempt = task.map_or(1, |t| t.attempt).saturating_sub(u32::from(self.below(10) == 0));
        self.num_leases += 1;
        let lease = lease_id(self.num_leases);
        self.leases.push((id, lease));
        let worker = worker(&self.worker());
        Operation::Claim(Box::new(ClaimRequest {
            wakeup: Wakeup { task: id, attempt, kind, trace: Default::default() },
            lease,
            worker,
            now_ms: self.now_ms,
            ttl_ms: POLICY.lease_ttl_ms,
        }))
    }

    fn list(&mut self) -> Operation {
        let states = [JobState::Running, JobState::Cancelled, JobState::Published];
        Operation::List(JobFilter {
            states: (0..self.below(3)).filter_map(|_| self.chance.pick(&states)).collect(),
            only: self.scope(),
            tenant: (self.below(2) == 0).then(|| self.chance.pick(&TENANTS).unwrap_or_default().to_owned()),
            before: (self.below(2) == 0).then(|| self.job()),
            limit: self.small(6),
        })
    }

    fn draw(&mut self) -> Operation {
        self.now_ms += self.small::<i64>(25);
        self.now_ms += match self.below(300) {
            0 => 600_000,
            // The clock is set back, further than any wait is long.
            1 => -900_000,
            2..=9 => POLICY.lease_ttl_ms,
            _ => 0,
        };
        let now_ms = self.now_ms;
        if let Some(&(job, has_ended)) = self.jobs.first().filter(|_| self.jobs.len() > MAX_JOBS) {
            return if has_ended { Operation::Forget(job) } else { Operation::Cancel(job, now_ms) };
        }
        match self.below(158) {
            0..=3 => self.submit(),
            4..=12 => {
                let job = self.job_to_plan();
                Operation::Plan(job, self.generation(job), 1 + self.small::<u32>(4), self.small(2), now_ms)
            }
            13 => {
                let job = self.job();
                Operation::Reject(job, self.generation(job), now_ms)
            }
            14..=21 | 120..=126 => Operation::Dispatch(self.scope(), self.limit(), now_ms),
            22..=24 => Operation::MarkSent(self.small(4), now_ms),
            25..=54 => self.claim(),
            55..=60 => {
                let (task, lease) = self.held();
                let progress = Progress { done_per_mille: self.small(1000), speed_milli: 1, frames: self.below(99) };
                Operation::Renew(task, lease, progress, now_ms)
            }
            61..=85 | 143..=146 | 150..=153 => {
                let (task, lease) = self.held();
                let kind = self.tasks.iter().find(|t| t.id == task).map_or(TaskKind::Segment, |t| t.spec.kind);
                Operation::Complete(task, lease, kind, now_ms)
            }
            86..=89 | 130..=132 | 139..=141 => {
                let (task, lease) = self.held_before_failure();
                Operation::Fail(task, lease, self.failure(), now_ms)
            }
            90..=91 | 137..=138 => Operation::Reap(now_ms),
            92 | 127 => Operation::Release(self.worker(), now_ms),
            93..=94 | 114..=119 => Operation::Sweep(self.scope(), now_ms - 50),
            95 => Operation::Cancel(self.job(), now_ms),
            96..=99 => Operation::Retry(self.job(), now_ms),
            100 => Operation::Forget(self.job()),
            101..=103 | 147..=149 => Operation::Shorten(self.worker(), now_ms + self.small::<i64>(250)),
            104..=105 | 128 => Operation::Pause(self.job(), true, now_ms),
            106..=110 => Operation::Pause(self.job(), false, now_ms),
            // As seen by a coordinator whose clock runs ahead: every running attempt is late.
            111..=113 | 133..=136 | 154..=157 => {
                Operation::Speculate(Some(vec![self.job_under_way()]), now_ms + LEAST_RUN_MS)
            }
            129 | 142 => Operation::Replan(self.job_under_way(), 1 + self.small::<u32>(2), now_ms),
            _ => self.list(),
        }
    }

    /// Takes over which jobs are worth planning, which tasks worth claiming, and which leases worth using late.
    fn learn(&mut self, reference: &MemoryStore) {
        let snapshots = reference.snapshots();
        self.jobs = snapshots.iter().map(|s| (s.job.id, s.job.state.is_ended())).collect();
        self.planning = snapshots.iter().filter(|s| s.job.state == JobState::Planning).map(|s| s.job.id).collect();
        self.tasks =
            snapshots.iter().flat_map(|s| s.tasks.iter()).filter(|t| t.state != TaskState::Done).cloned().collect();
        let surplus = self.leases.len().saturating_sub(12);
        self.leases.drain(..surplus);
    }

    fn count(&mut self, operation: &Operation, answer: &str) {
        let name = match operation {
            Operation::Submit(..) if answer.starts_with("Existing") => "the same request again",
            Operation::Submit(..) if answer.starts_with("KeyReused") => "a key used again",
            Operation::Complete(_, _, TaskKind::Assemble, _) if answer == "Ok(true)" => "published",
            Operation::Dispatch(..) if answer != "0" => "dispatched",
            Operation::Shorten(..) if answer != "0" => "shortened",
            Operation::Sweep(..) if answer != "0" => "swept",
            Operation::Speculate(..) if answer != "[]" => "speculated",
            Operation::Reap(..) if answer != "[]" => "reaped",
            Operation::Release(..) if answer != "[]" => "released",
            Operation::Pause(_, true, _) if answer == "true" => "paused",
            Operation::Pause(_, false, _) if answer == "true" => "resumed",
            Operation::Retry(..) if answer == "true" => "retried",
            Operation::Replan(..) if answer == "true" => "planned again",
            Operation::Fail(..) if answer == "Ok(Replan)" => "frames doubted",
            _ => return,
        };
        *self.effects.counts.entry(name).or_default() += 1;
    }
}
