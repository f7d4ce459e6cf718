//! The outbox: for which ready tasks wakeups are written, when, and how often.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Stage, job_id, lease_id, plan};
use crate::doorbell::Wakeup;
use crate::statistics::StoreStatistics;
use crate::store::InFlightLimit;
use splitreel_core::fair::{Share, Shares};
use splitreel_core::job::JobState;
use splitreel_core::task::TaskKind;
use splitreel_core::{Failure, FailureCode};

fn numbers(wakeups: &[Wakeup]) -> Vec<(u128, u32)> {
    wakeups.iter().map(|r| (r.task.job.0.as_u128(), r.task.number)).collect()
}

/// Older jobs first, whatever their ids; in a job by number.
pub async fn dispatch_goes_by_job_age_and_number(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for (n, created_ms) in [(1, 20), (2, 10), (3, 20)] {
        let stage = Stage::submit(store.clone(), n, created_ms).await;
        stage.finish(0).await;
        store.record_plan(stage.job, 0, &plan(2, 1), 30).await.unwrap();
    }
    assert_eq!(store.dispatch(&None, 100.into(), &Shares::default(), 40).await.unwrap(), 9);
    let wakeups = store.unsent(&None, 100).await.unwrap();
    assert_eq!(numbers(&wakeups), [(2, 1), (2, 2), (2, 3), (1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (3, 3)]);
    let kinds: Vec<_> = wakeups.iter().take(3).map(|r| (r.kind, r.attempt)).collect();
    assert_eq!(kinds, [(TaskKind::Segment, 1), (TaskKind::Audio, 1), (TaskKind::Segment, 1)]);
    assert_eq!(numbers(&store.unsent(&None, 2).await.unwrap()), [(2, 1), (2, 2)]);
}

/// Rows that exist count against the limit, notified or not; a claim makes room.
pub async fn dispatch_fills_the_window_and_no_more(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 6).await;
    let dispatch = async |limit: usize| stage.store.dispatch(&None, limit.into(), &Shares::default(), 0).await.unwrap();
    assert_eq!(dispatch(0).await, 0);
    assert_eq!(dispatch(3).await, 3);
    assert_eq!(dispatch(3).await, 0);
    assert_eq!(dispatch(1).await, 0);
    let wakeups = stage.store.unsent(&None, 10).await.unwrap();
    stage.store.mark_sent(&wakeups, 1).await.unwrap();
    assert_eq!(dispatch(3).await, 0);
    stage.claim(2, 1, 2, 1).await.unwrap();
    assert_eq!(dispatch(3).await, 1);
    assert_eq!(numbers(&stage.store.unsent(&None, 10).await.unwrap()), [(1, 4)]);
    assert_eq!(dispatch(100).await, 2);
    assert_eq!(dispatch(100).await, 0);
    stage.audit().await;
}

/// All who are free get a wakeup at once, however few go ahead; leases beyond the slots take nothing from those.
pub async fn dispatch_rings_for_all_free_slots(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 20).await;
    let limit = InFlightLimit { slots: 4, prefetch: 1 };
    let dispatch = async || stage.store.dispatch(&None, limit, &Shares::default(), 0).await.unwrap();
    assert_eq!(dispatch().await, 5);
    for number in 1..=3 {
        stage.claim(number, 1, u128::from(number), 1).await.unwrap();
    }
    assert_eq!(dispatch().await, 0, "two are notified: for the last slot, and ahead");
    stage.claim(4, 1, 4, 1).await.unwrap();
    assert_eq!(dispatch().await, 0, "one goes ahead");
    stage.claim(5, 1, 5, 1).await.unwrap();
    assert_eq!(dispatch().await, 1, "of five slots, one has not been heard of yet");
    for number in 1..=5 {
        stage.complete(number, u128::from(number), 2).await.unwrap();
    }
    assert_eq!(dispatch().await, 4);
    assert_eq!(stage.store.dispatch(&Some(Vec::new()), limit, &Shares::default(), 0).await.unwrap(), 0);
    stage.audit().await;
}

/// However many jobs wait for assemblers, and however long: workers get as many wakeups as if there were none, and the
/// other way round.
pub async fn who_waits_for_assemblers_takes_no_place_of_workers(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    let limit = InFlightLimit { slots: 2, prefetch: 1 };
    let shares = Shares { default: Share { weight: 1, max_in_flight: Some(3) }, tenants: [].into() };
    let dispatch = async |shares: &Shares| store.dispatch(&None, limit, shares, 0).await.unwrap();
    for n in 1..=6 {
        let stage = Stage::submit(store.clone(), n, 0).await;
        stage.finish(0).await;
        store.record_plan(stage.job, 0, &plan(1, 0), 0).await.unwrap();
        stage.finish(1).await;
    }
    assert_eq!(dispatch(&shares).await, 1, "as many assemblies as go prefetch: the slots are those of workers");
    let late = Stage::submit(store.clone(), 7, 0).await;
    assert_eq!(dispatch(&shares).await, 1, "its probe");
    late.finish(0).await;
    store.record_plan(late.job, 0, &plan(9, 0), 0).await.unwrap();
    assert_eq!(dispatch(&shares).await, 3, "the limit holds no more, and the tenant may have no more");
    assert_eq!(dispatch(&Shares::default()).await, 0);
    let wakeups = store.unsent(&None, 100).await.unwrap();
    assert_eq!(numbers(&wakeups), [(1, 2), (7, 1), (7, 2), (7, 3)]);

    store.mark_sent(&wakeups, 0).await.unwrap();
    let assembler = Stage { job: job_id(1), ..late.clone() };
    assembler.claim(2, 1, 1, 0).await.unwrap();
    assert_eq!(dispatch(&shares).await, 1, "the next assembly");
    assembler.complete(2, 1, 0).await.unwrap();
    assert_eq!(dispatch(&shares).await, 0, "it waits for an assembler");
    assert_eq!(numbers(&store.unsent(&None, 100).await.unwrap()), [(2, 2)]);
    let most = Shares { default: Share { weight: 1, max_in_flight: Some(2) }, tenants: [].into() };
    assert_eq!(store.dispatch(&None, 9.into(), &most, 0).await.unwrap(), 1, "one assembly more, and no more segments");
    late.audit().await;
}

/// A task in back-off waits, and does not hold up the ones behind it.
pub async fn dispatch_skips_what_is_not_due(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    stage.store.fail(stage.id(1), lease_id(1), Failure::of(FailureCode::Storage, "y"), 0, &stage.policy).await.unwrap();
    let due = stage.task(1).await.not_before_ms;
    assert_eq!(stage.store.dispatch(&None, 10.into(), &Shares::default(), due - 1).await.unwrap(), 1);
    assert_eq!(stage.store.dispatch(&None, 10.into(), &Shares::default(), due).await.unwrap(), 1);
    let wakeups = stage.store.unsent(&None, 10).await.unwrap();
    assert_eq!(wakeups.iter().map(|r| (r.task.number, r.attempt)).collect::<Vec<_>>(), [(2, 1), (1, 2)]);
}

/// Two processes that serve their own jobs do not see or count each other's rows.
pub async fn dispatch_serves_only_its_scope(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for n in [1, 2] {
        Stage::submit(store.clone(), n, 0).await;
    }
    let only = |n: u128| Some(vec![job_id(n)]);
    assert_eq!(store.dispatch(&Some(Vec::new()), 10.into(), &Shares::default(), 0).await.unwrap(), 0);
    assert_eq!(store.dispatch(&only(2), 1.into(), &Shares::default(), 0).await.unwrap(), 1);
    assert_eq!(store.dispatch(&only(1), 1.into(), &Shares::default(), 0).await.unwrap(), 1);
    assert_eq!(numbers(&store.unsent(&only(1), 10).await.unwrap()), [(1, 0)]);
    assert_eq!(numbers(&store.unsent(&None, 10).await.unwrap()), [(2, 0), (1, 0)]);
    let wakeups = store.unsent(&None, 10).await.unwrap();
    store.mark_sent(&wakeups, 5).await.unwrap();
    assert_eq!(store.sweep(&only(2), 6).await.unwrap(), 1);
    assert_eq!(store.dispatch(&None, 10.into(), &Shares::default(), 6).await.unwrap(), 1);
    assert_eq!(numbers(&store.unsent(&None, 10).await.unwrap()), [(2, 0)]);
}

/// Marked rows are not handed out again, until they are swept and dispatched anew.
pub async fn a_ring_is_sent_once_until_swept(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap();
    let wakeups = stage.store.unsent(&None, 10).await.unwrap();
    let stale = Wakeup { attempt: 9, ..wakeups[1].clone() };
    let unknown = Wakeup { task: splitreel_core::TaskId { job: job_id(9), number: 0 }, ..stale.clone() };
    stage.store.mark_sent(&[wakeups[0].clone(), stale, unknown], 100).await.unwrap();
    stage.store.mark_sent(&[], 100).await.unwrap();
    assert_eq!(stage.store.unsent(&None, 10).await.unwrap(), wakeups[1..]);
    stage.store.mark_sent(&wakeups, 200).await.unwrap();
    assert!(stage.store.unsent(&None, 10).await.unwrap().is_empty());

    assert_eq!(stage.store.sweep(&None, 100).await.unwrap(), 0, "notified at 100, not before");
    assert_eq!(stage.store.sweep(&None, 101).await.unwrap(), 1, "a second mark does not move the time");
    assert_eq!(stage.store.dispatch(&None, 10.into(), &Shares::default(), 300).await.unwrap(), 1);
    assert_eq!(stage.store.unsent(&None, 10).await.unwrap(), wakeups[..1]);
    assert_eq!(stage.store.sweep(&None, 1 << 40).await.unwrap(), 1, "what was never notified stays");
    stage.audit().await;
}

/// What is leased is not notified for.
pub async fn a_claim_takes_its_outbox_row(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap();
    stage.claim(1, 1, 1, 0).await.unwrap();
    let wakeups = stage.store.unsent(&None, 10).await.unwrap();
    assert_eq!(numbers(&wakeups), [(1, 2)]);
    assert_eq!(stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap(), 0);
    stage.store.release_worker(&crate::conformance::fixture::worker("w1"), 5, &stage.policy).await.unwrap();
    assert_eq!(stage.store.dispatch(&None, 10.into(), &Shares::default(), 5).await.unwrap(), 1);
    let wakeups = stage.store.unsent(&None, 10).await.unwrap();
    assert_eq!(wakeups.iter().map(|r| (r.task.number, r.attempt)).collect::<Vec<_>>(), [(2, 1), (1, 2)]);
    stage.audit().await;
}

/// The statistics counts what is open and in flight, and nothing of ended jobs.
pub async fn statistics_count_what_is_open(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    let count = async || stage.store.statistics().await.unwrap();
    assert_eq!(
        count().await,
        StoreStatistics { jobs: [(JobState::Running, 1)].into(), waiting_work: 3, ..StoreStatistics::default() }
    );
    assert_eq!(stage.store.dispatch(&None, 2.into(), &Shares::default(), 5).await.unwrap(), 2);
    let wakeups = stage.store.unsent(&None, 1).await.unwrap();
    stage.store.mark_sent(&wakeups, 6).await.unwrap();
    stage.claim(3, 1, 3, 6).await.unwrap();
    let busy = StoreStatistics {
        jobs: [(JobState::Running, 1)].into(),
        leases: [(TaskKind::Segment, 1)].into(),
        waiting_work: 2,
        unsent: 1,
        sent: 1,
        oldest_unsent_ms: Some(5),
        ..StoreStatistics::default()
    };
    assert_eq!(count().await, busy);
    assert!(stage.store.pause(stage.job, true, 7).await.unwrap());
    let paused = StoreStatistics { waiting_work: 0, unsent: 0, sent: 0, oldest_unsent_ms: None, ..busy };
    assert_eq!(count().await, paused);
    assert!(stage.store.pause(stage.job, false, 8).await.unwrap());
    assert_eq!(stage.complete(3, 3, 8).await, Ok(true));
    stage.finish(1).await;
    stage.finish(2).await;
    let last =
        StoreStatistics { jobs: [(JobState::Running, 1)].into(), waiting_assemble: 1, ..StoreStatistics::default() };
    assert_eq!(count().await, last);
    stage.finish(4).await;
    assert_eq!(count().await, StoreStatistics::default());
}
