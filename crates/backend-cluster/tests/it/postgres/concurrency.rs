//! Two coordinators at once on one database: whatever interleaves, the invariants hold and no event is missed.

use super::TestDatabase;
use splitreel_backend::Wakeup;
use splitreel_backend::conformance::fixture::{Answered, Stage, job_id, lease_id, plan, result, worker};
use splitreel_backend::invariants::audit;
use splitreel_backend::store::{ClaimRequest, JobFilter, JobStore};
use splitreel_core::event::{Event, EventKind};
use splitreel_core::fair::Shares;
use splitreel_core::job::JobState;
use splitreel_core::task::{Progress, RetryPolicy, TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode, JobId, TaskId};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use uuid::Uuid;

const JOBS: u64 = 4;
const SEGMENTS: u32 = 12;
/// Tasks that operate on the stores at the same time, half of them on each.
const ACTORS: u64 = 8;
const STEPS: u64 = 60;

const POLICY: RetryPolicy = RetryPolicy {
    media_attempts: 1_000,
    media_backoff_ms: 1,
    infra_budget: 1_000,
    infra_backoff_ms: 1,
    infra_backoff_max_ms: 1,
    lease_ttl_ms: 40,
    stall_ms: 1 << 40,
};

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What all actors share: a clock that each look moves, and lease ids that are never used twice.
#[derive(Default)]
struct Shared {
    now_ms: AtomicI64,
    leases: AtomicU64,
    is_over: AtomicBool,
}

impl Shared {
    fn now(&self) -> i64 {
        self.now_ms.fetch_add(1, Ordering::Relaxed)
    }

    fn claim(&self, wakeup: Wakeup, name: &str) -> ClaimRequest {
        let lease = lease_id(u128::from(self.leases.fetch_add(1, Ordering::Relaxed)) + 1);
        ClaimRequest { wakeup, lease, worker: worker(name), now_ms: self.now(), ttl_ms: POLICY.lease_ttl_ms }
    }
}

/// Claims a wakeup, and then completes, fails, renews or abandons the attempt.
async fn attempt(store: &dyn JobStore, shared: &Shared, wakeup: Wakeup, name: &str, chance: &mut Chance) {
    let request = shared.claim(wakeup, name);
    let lease = request.lease;
    let Ok(task) = store.claim(request).await.answered() else { return };
    let id = task.id;
    if chance.below(3) == 0 {
        let _ = store.renew(id, lease, Progress::default(), shared.now(), &POLICY).await.answered();
    }
    match chance.below(10) {
        0 => {}
        1 => {
            let _ =
                store.fail(id, lease, Failure::of(FailureCode::Storage, "y"), shared.now(), &POLICY).await.answered();
        }
        _ => {
            let result = result(task.spec.kind, task.spec.index);
            let (first, second) = tokio::join!(
                store.complete(id, lease, result.clone(), shared.now()),
                store.complete(id, lease, result, shared.now()),
            );
            assert!(!(first.answered() == Ok(true) && second.answered() == Ok(true)), "{id} was completed twice");
        }
    }
}

async fn plan_waiting(store: &dyn JobStore, shared: &Shared) {
    let waiting = JobFilter { states: vec![JobState::Planning], limit: 100, ..JobFilter::default() };
    for job in store.jobs(waiting).await.unwrap() {
        store.record_plan(job.id, 0, &plan(SEGMENTS, 1), shared.now()).await.unwrap();
    }
}

async fn step(store: &dyn JobStore, shared: &Shared, chance: &mut Chance, name: &str) {
    let job = job_id(u128::from(1 + chance.below(JOBS)));
    match chance.below(24) {
        0 => drop(store.cancel(job, shared.now()).await.unwrap()),
        1..=2 => drop(store.retry(job, shared.now()).await.unwrap()),
        3 => drop(store.pause(job, true, shared.now()).await.unwrap()),
        4..=5 => drop(store.pause(job, false, shared.now()).await.unwrap()),
        6 => drop(store.reap(shared.now(), &POLICY).await.unwrap()),
        7 => drop(store.release_worker(&worker("a1"), shared.now(), &POLICY).await.unwrap()),
        8 => drop(store.sweep(&None, shared.now() - 20).await.unwrap()),
        9 => drop(store.shorten_leases(&worker("a2"), shared.now()).await.unwrap()),
        10..=11 => plan_waiting(store, shared).await,
        12..=14 => {
            store.dispatch(&None, 10.into(), &Shares::default(), shared.now()).await.unwrap();
        }
        15..=16 => {
            // A stale message: any task, whether it was dispatched or not.
            let tasks = store.tasks(job).await.unwrap();
            if !tasks.is_empty() {
                let task = &tasks[usize::try_from(chance.below(tasks.len() as u64)).unwrap()];
                let wakeup =
                    Wakeup { task: task.id, attempt: task.attempt, kind: task.spec.kind, trace: Default::default() };
                attempt(store, shared, wakeup, name, chance).await;
            }
        }
        _ => {
            let wakeups = store.unsent(&None, 4).await.unwrap();
            store.mark_sent(&wakeups, shared.now()).await.unwrap();
            for wakeup in wakeups {
                attempt(store, shared, wakeup, name, chance).await;
            }
        }
    }
}

async fn outbox(connection: &mut PgConnection) -> Vec<Wakeup> {
    let rows = sqlx::query("SELECT job, number, attempt, kind FROM outbox").fetch_all(connection).await.unwrap();
    let wakeup = |row: &sqlx::postgres::PgRow| Wakeup {
        task: TaskId { job: JobId(row.get::<Uuid, _>("job")), number: row.get::<i32, _>("number").cast_unsigned() },
        attempt: row.get::<i32, _>("attempt").cast_unsigned(),
        kind: TaskKind::parse(row.get("kind")).unwrap(),
        trace: Default::default(),
    };
    rows.iter().map(wakeup).collect()
}

async fn violations(store: &dyn JobStore, connection: &mut PgConnection) -> Vec<String> {
    let wakeups = outbox(connection).await;
    let mut found = Vec::new();
    for job in store.jobs(JobFilter { limit: 100, ..JobFilter::default() }).await.unwrap() {
        let of_job: Vec<_> = wakeups.iter().filter(|r| r.task.job == job.id).cloned().collect();
        found.extend(audit(&job, &store.tasks(job.id).await.unwrap(), &of_job));
    }
    found
}

/// What the log of one job must not say.
fn check_log(events: &[Event]) {
    let (mut claimed, mut done, mut num_published, mut is_open, mut is_paused) =
        (BTreeSet::new(), BTreeSet::new(), 0, true, false);
    for event in events {
        match &event.what {
            EventKind::Claimed { task, attempt, .. } => {
                assert!(claimed.insert((*task, *attempt)), "{}: {task} was claimed twice at {attempt}", event.job);
                assert!(is_open && !is_paused, "{}: {task} was claimed after the end or a pause", event.job);
            }
            EventKind::TaskDone { task, .. } => {
                assert!(done.insert(*task), "{}: {task} was done twice", event.job);
                assert!(is_open, "{}: {task} was done after the end", event.job);
            }
            EventKind::Published => num_published += 1,
            EventKind::Cancelled | EventKind::Failed { .. } => (is_open, is_paused) = (false, false),
            EventKind::Retried => is_open = true,
            EventKind::Paused => is_paused = true,
            EventKind::Resumed => is_paused = false,
            EventKind::Submitted
            | EventKind::Planned { .. }
            | EventKind::TaskRetried { .. }
            | EventKind::Replanned { .. }
            | EventKind::Speculated { .. } => {}
        }
    }
    assert!(num_published <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariants_hold_whatever_interleaves() {
    let database = TestDatabase::new().await;
    let stores: [Arc<dyn JobStore>; 2] = [Arc::new(database.store().await), Arc::new(database.store().await)];
    for n in 1..=JOBS {
        Stage::submit(stores[0].clone(), u128::from(n), 0).await;
    }
    let shared = Arc::new(Shared::default());
    // Reads the log page by page while it is written.
    let reader = tokio::spawn({
        let (store, shared) = (stores[1].clone(), shared.clone());
        async move {
            let mut seen: Vec<Event> = Vec::new();
            loop {
                let is_last = shared.is_over.load(Ordering::SeqCst);
                let after = seen.last().map_or(0, |e| e.seq);
                let page = store.events(None, after, 50).await.unwrap();
                if is_last && page.is_empty() {
                    return seen;
                }
                seen.extend(page);
            }
        }
    });
    let mut actors = tokio::task::JoinSet::new();
    for n in 0..ACTORS {
        let (store, shared) = (stores[usize::try_from(n % 2).unwrap()].clone(), shared.clone());
        actors.spawn(async move {
            let mut chance = Chance(n);
            for _ in 0..STEPS {
                step(&*store, &shared, &mut chance, &format!("a{n}")).await;
            }
        });
    }
    actors.join_all().await;
    let mut connection = database.connection().await;
    assert_eq!(violations(&*stores[0], &mut connection).await, Vec::<String>::new());

    // Without faults every job gets through.
    for n in 1..=JOBS {
        let job = job_id(u128::from(n));
        stores[0].retry(job, shared.now()).await.unwrap();
        stores[0].pause(job, false, shared.now()).await.unwrap();
    }
    for _ in 0..200 {
        plan_waiting(&*stores[0], &shared).await;
        stores[0].reap(i64::MAX / 2, &RetryPolicy { infra_backoff_ms: 0, ..POLICY }).await.unwrap();
        let now_ms = i64::MAX / 2;
        stores[0].sweep(&None, i64::MAX).await.unwrap();
        stores[0].dispatch(&None, 100.into(), &Shares::default(), now_ms).await.unwrap();
        let wakeups = stores[0].unsent(&None, 100).await.unwrap();
        for wakeup in &wakeups {
            let request = ClaimRequest { now_ms, ..shared.claim(wakeup.clone(), "last") };
            let lease = request.lease;
            let task = stores[0].claim(request).await.unwrap();
            let result = result(task.spec.kind, task.spec.index);
            assert_eq!(stores[0].complete(task.id, lease, result, now_ms).await.answered(), Ok(true));
        }
        if wakeups.is_empty() {
            break;
        }
    }
    let jobs = stores[1].jobs(JobFilter { limit: 100, ..JobFilter::default() }).await.unwrap();
    assert_eq!(jobs.iter().filter(|j| j.state == JobState::Published).count() as u64, JOBS, "{jobs:#?}");
    assert_eq!(violations(&*stores[1], &mut connection).await, Vec::<String>::new());

    shared.is_over.store(true, Ordering::SeqCst);
    let seen = reader.await.unwrap();
    let all = stores[0].events(None, 0, 1_000_000).await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.seq < b.seq));
    assert_eq!(seen, all, "a reader missed an event, or saw one twice");
    let mut by_job: BTreeMap<JobId, Vec<Event>> = BTreeMap::new();
    for event in all {
        by_job.entry(event.job).or_default().push(event);
    }
    for (job, events) in by_job {
        assert_eq!(stores[1].events(Some(job), 0, 1_000_000).await.unwrap(), events);
        check_log(&events);
    }
}

/// Two coordinators that dispatch at the same time do not write more rows than the window holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_window_is_filled_once() {
    const WINDOW: usize = 7;
    let database = TestDatabase::new().await;
    let stores: [Arc<dyn JobStore>; 2] = [Arc::new(database.store().await), Arc::new(database.store().await)];
    for n in 1..=3 {
        let stage = Stage::submit(stores[0].clone(), n, 0).await;
        stage.finish(0).await;
        assert!(stores[0].record_plan(stage.job, 0, &plan(20, 0), 0).await.unwrap());
    }
    let mut connection = database.connection().await;
    for round in 0..5_u64 {
        let mut running = tokio::task::JoinSet::new();
        for store in stores.iter().cycle().take(6) {
            let store = store.clone();
            running.spawn(async move { store.dispatch(&None, WINDOW.into(), &Shares::default(), 0).await.unwrap() });
        }
        let num_written: usize = running.join_all().await.iter().sum();
        let wakeups = outbox(&mut connection).await;
        assert_eq!(wakeups.len(), WINDOW, "round {round}");
        assert!(num_written <= WINDOW);
        for (n, wakeup) in (0_u64..).zip(wakeups.into_iter().take(4)) {
            let lease = lease_id(u128::from(round * 100 + n + 1));
            let request = ClaimRequest { wakeup, lease, worker: worker("w"), now_ms: 0, ttl_ms: 1_000 };
            assert_eq!(stores[0].claim(request).await.unwrap().state, TaskState::Leased);
        }
    }
}
