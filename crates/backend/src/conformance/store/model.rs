//! Random operations on a store and on the in-memory reference side by side: same answers, same rows.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{job_id, lease_id, plan, request, result, worker};
use crate::doorbell::Ring;
use crate::invariants::{Snapshot, audit_step};
use crate::memory::MemoryStore;
use crate::store::{ClaimRequest, JobFilter, JobStore};
use splitreel_core::job::JobState;
use splitreel_core::task::{Progress, RetryPolicy, Task, TaskKind, TaskState};
use splitreel_core::{Failure, JobId, LeaseId, TaskId};
use std::collections::BTreeMap;

const OPERATIONS: usize = 600;
const JOBS: u64 = 4;

/// A fixed sequence of several hundred operations, most of them sensible, some stale, early or mistaken.
pub async fn random_operations_match_the_reference(harness: &dyn StoreHarness) {
    let subject = harness.open().await;
    let reference = MemoryStore::new();
    let mut walk = Walk::new(7);
    let mut before: BTreeMap<JobId, Snapshot> = BTreeMap::new();
    for step in 0..OPERATIONS {
        let operation = walk.draw();
        let expected = apply(&reference, &operation).await;
        let answer = apply(&*subject, &operation).await;
        assert_eq!(answer, expected, "step {step}: {operation:?}");
        walk.learn(&reference);
        if step % 8 == 0 || step + 1 == OPERATIONS {
            assert_eq!(observe(&*subject).await, observe(&reference).await, "after step {step}: {operation:?}");
        }
        let after: BTreeMap<_, _> = reference.snapshots().into_iter().map(|s| (s.job.id, s)).collect();
        for (id, now) in &after {
            let mut violations = now.audit();
            violations.extend(before.get(id).map(|then| audit_step(then, now)).unwrap_or_default());
            assert!(violations.is_empty(), "step {step}: {operation:?}: {violations:#?}");
        }
        before = after;
    }
    assert!(walk.num_published >= 3, "only {} jobs got through: the walk proves too little", walk.num_published);
}

#[derive(Clone, Debug)]
enum Operation {
    Submit(u64, String, i64),
    Plan(JobId, u32, u32, i64),
    Reject(JobId, i64),
    Dispatch(usize, i64),
    MarkSent(usize, i64),
    Claim(Box<ClaimRequest>),
    Renew(TaskId, LeaseId, Progress, i64),
    Complete(TaskId, LeaseId, TaskKind, i64),
    Fail(TaskId, LeaseId, Failure, i64),
    Reap(i64),
    Release(String, i64),
    Sweep(i64),
    Cancel(JobId, i64),
    Retry(JobId, i64),
    Forget(JobId),
}

const POLICY: RetryPolicy = RetryPolicy {
    media_attempts: 3,
    media_backoff_ms: 30,
    infra_budget: 4,
    infra_backoff_ms: 10,
    infra_backoff_max_ms: 100,
    lease_ttl_ms: 200,
    stall_ms: 400,
};

async fn apply(store: &dyn JobStore, operation: &Operation) -> String {
    match operation.clone() {
        Operation::Submit(n, key, at) => {
            format!("{:?}", store.submit(job_id(u128::from(n)), request("t", &key), at).await.unwrap())
        }
        Operation::Plan(job, segments, audio, at) => {
            format!("{:?}", store.record_plan(job, &plan(segments, audio), at).await.unwrap())
        }
        Operation::Reject(job, at) => {
            format!("{:?}", store.reject(job, Failure::permanent("unplannable", "no"), at).await.unwrap())
        }
        Operation::Dispatch(window, at) => format!("{:?}", store.dispatch(&None, window, at).await.unwrap()),
        Operation::MarkSent(limit, at) => {
            let rings = store.unsent(&None, limit).await.unwrap();
            store.mark_sent(&rings, at).await.unwrap();
            format!("{rings:?}")
        }
        Operation::Claim(request) => format!("{:?}", store.claim(*request).await.unwrap()),
        Operation::Renew(task, lease, progress, at) => {
            format!("{:?}", store.renew(task, lease, progress, at, &POLICY).await.unwrap())
        }
        Operation::Complete(task, lease, kind, at) => {
            format!("{:?}", store.complete(task, lease, result(kind, task.number), at).await.unwrap())
        }
        Operation::Fail(task, lease, failure, at) => {
            format!("{:?}", store.fail(task, lease, failure, at, &POLICY).await.unwrap())
        }
        Operation::Reap(at) => format!("{:?}", store.reap(at, &POLICY).await.unwrap()),
        Operation::Release(name, at) => {
            format!("{:?}", store.release_worker(&worker(&name), at, &POLICY).await.unwrap())
        }
        Operation::Sweep(before) => format!("{:?}", store.sweep(&None, before).await.unwrap()),
        Operation::Cancel(job, at) => format!("{:?}", store.cancel(job, at).await.unwrap()),
        Operation::Retry(job, at) => format!("{:?}", store.retry(job, at).await.unwrap()),
        Operation::Forget(job) => format!("{:?}", store.forget(job).await.unwrap()),
    }
}

/// Everything that can be seen of a store, but the numbering of events.
async fn observe(store: &dyn JobStore) -> Vec<String> {
    let mut seen = Vec::new();
    for job in store.jobs(JobFilter { limit: 1000, ..JobFilter::default() }).await.unwrap() {
        let (tasks, plan) = (store.tasks(job.id).await.unwrap(), store.plan(job.id).await.unwrap());
        seen.push(format!("{:?} {:?}", store.job(job.id).await.unwrap(), plan.map(|p| p.hash())));
        seen.extend(tasks.iter().map(|task| format!("{task:?}")));
        seen.push(format!("{job:?}"));
    }
    let events = store.events(None, 0, 100_000).await.unwrap();
    seen.extend(events.into_iter().map(|e| format!("{:?} {} {:?}", e.job, e.at_ms, e.what)));
    seen.push(format!("{:?}", store.unsent(&None, 1000).await.unwrap()));
    seen
}

/// Draws operations that are likely to mean something, and some that are not.
struct Walk {
    state: u64,
    now_ms: i64,
    num_jobs: u64,
    num_leases: u128,
    num_published: usize,
    planning: Vec<JobId>,
    tasks: Vec<Task>,
    leases: Vec<(TaskId, LeaseId)>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Walk {
            state: seed,
            now_ms: 1_000,
            num_jobs: 0,
            num_leases: 0,
            num_published: 0,
            planning: Vec::new(),
            tasks: Vec::new(),
            leases: Vec::new(),
        }
    }

    /// SplitMix64.
    fn next(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.next(from.len() as u64);
        from.get(usize::try_from(at).unwrap()).cloned()
    }

    fn job(&mut self) -> JobId {
        let newest = self.num_jobs;
        let back = self.next(JOBS);
        job_id(u128::from(newest.saturating_sub(back)))
    }

    fn job_to_plan(&mut self) -> JobId {
        let planning = self.planning.clone();
        self.pick(&planning).unwrap_or_else(|| self.job())
    }

    fn failure(&mut self) -> Failure {
        match self.next(12) {
            0 => Failure::permanent("p", "cannot be"),
            1 => Failure::source("s", "bad source"),
            2..=5 => Failure::media("m", "crashed"),
            _ => Failure::infra("i", "no disk"),
        }
    }

    fn held(&mut self) -> (TaskId, LeaseId) {
        let live: Vec<_> = self.tasks.iter().filter_map(|t| Some((t.id, t.lease.as_ref()?.id))).collect();
        let leases = if self.next(5) == 0 { self.leases.clone() } else { live };
        self.pick(&leases).unwrap_or((TaskId { job: job_id(99), number: 0 }, lease_id(99)))
    }

    fn claim(&mut self) -> Operation {
        let is_any = self.next(5) == 0;
        let tasks: Vec<_> = self.tasks.iter().filter(|t| is_any || t.state == TaskState::Ready).cloned().collect();
        let task = self.pick(&tasks);
        let id = task.as_ref().map_or(TaskId { job: job_id(99), number: 0 }, |t| t.id);
        let kind = task.as_ref().map_or(TaskKind::Segment, |t| t.spec.kind);
        let attempt = task.map_or(1, |t| t.attempt).saturating_sub(u32::from(self.next(10) == 0));
        self.num_leases += 1;
        let lease = lease_id(self.num_leases);
        self.leases.push((id, lease));
        let worker = worker(&format!("w{}", self.next(3)));
        Operation::Claim(Box::new(ClaimRequest {
            ring: Ring { task: id, attempt, kind },
            lease,
            worker,
            now_ms: self.now_ms,
            ttl_ms: POLICY.lease_ttl_ms,
        }))
    }

    fn draw(&mut self) -> Operation {
        self.now_ms += i64::try_from(self.next(25)).unwrap();
        let now_ms = self.now_ms;
        match self.next(100) {
            0..=3 => {
                self.num_jobs += 1;
                let key = format!("k{}", self.next(self.num_jobs * 4));
                Operation::Submit(self.num_jobs, key, now_ms)
            }
            4..=12 => Operation::Plan(
                self.job_to_plan(),
                1 + u32::try_from(self.next(4)).unwrap(),
                u32::try_from(self.next(2)).unwrap(),
                now_ms,
            ),
            13 => Operation::Reject(self.job(), now_ms),
            14..=20 => Operation::Dispatch(usize::try_from(self.next(8)).unwrap(), now_ms),
            21..=24 => Operation::MarkSent(usize::try_from(self.next(4)).unwrap(), now_ms),
            25..=54 => self.claim(),
            55..=60 => {
                let (task, lease) = self.held();
                let progress = Progress {
                    done_per_mille: u16::try_from(self.next(1000)).unwrap(),
                    speed_milli: 1,
                    frames: self.next(99),
                };
                Operation::Renew(task, lease, progress, now_ms)
            }
            61..=85 => {
                let (task, lease) = self.held();
                let kind = self.tasks.iter().find(|t| t.id == task).map_or(TaskKind::Segment, |t| t.spec.kind);
                Operation::Complete(task, lease, kind, now_ms)
            }
            86..=89 => {
                let (task, lease) = self.held();
                Operation::Fail(task, lease, self.failure(), now_ms)
            }
            90..=91 => Operation::Reap(now_ms),
            92 => Operation::Release(format!("w{}", self.next(3)), now_ms),
            93..=94 => Operation::Sweep(now_ms - 100),
            95 => Operation::Cancel(self.job(), now_ms),
            96..=98 => Operation::Retry(self.job(), now_ms),
            _ => Operation::Forget(self.job()),
        }
    }

    /// Takes over which jobs are worth planning, which tasks worth claiming, and which leases worth using late.
    fn learn(&mut self, reference: &MemoryStore) {
        let snapshots = reference.snapshots();
        let of = |state: JobState| snapshots.iter().filter(move |s| s.job.state == state);
        self.num_published = self.num_published.max(of(JobState::Published).count());
        self.planning = of(JobState::Planning).map(|s| s.job.id).collect();
        self.tasks =
            snapshots.iter().flat_map(|s| s.tasks.iter()).filter(|t| t.state != TaskState::Done).cloned().collect();
        let surplus = self.leases.len().saturating_sub(12);
        self.leases.drain(..surplus);
    }
}
