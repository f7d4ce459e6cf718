//! Two attempts of one task beside each other.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Answered, Stage, lease_id, worker};
use splitreel_core::event::EventKind;
use splitreel_core::fair::{Share, Shares};
use splitreel_core::task::{AfterFailure, Progress, Refusal, TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode, TaskId};

/// Late by then: the first segment took 10 ms.
const LATE: i64 = 5_000;
const BESIDE_UNTIL: i64 = LATE + 15_000;

/// Segment 1 done after 10 ms, segments 2 .. leased since.
async fn with_stragglers(harness: &dyn StoreHarness, segments: u32) -> Stage {
    let stage = Stage::planned(harness, segments).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    assert_eq!(stage.complete(1, 1, 10).await, Ok(true));
    for number in 2..=segments {
        stage.claim(number, 1, u128::from(number), 10).await.unwrap();
    }
    stage
}

async fn speculate(stage: &Stage, now_ms: i64) -> Vec<TaskId> {
    stage.store.speculate(&None, now_ms).await.unwrap()
}

/// A straggler gets a second attempt once nothing else waits; it is dispatched as any other.
pub async fn a_straggler_gets_a_second_attempt(harness: &dyn StoreHarness) {
    let stage = with_stragglers(harness, 3).await;
    assert!(speculate(&stage, 100).await.is_empty(), "it has not run for long");
    assert!(stage.store.speculate(&Some(Vec::new()), LATE).await.unwrap().is_empty(), "not of the scope");
    assert!(stage.store.pause(stage.job, true, 50).await.unwrap());
    assert!(speculate(&stage, LATE).await.is_empty(), "not while paused");
    assert!(stage.store.pause(stage.job, false, 50).await.unwrap());
    assert_eq!(speculate(&stage, LATE).await, [stage.id(2)]);
    assert_eq!(stage.happened().await.last(), Some(&EventKind::Speculated { task: 2, attempt: 2 }));
    assert!(speculate(&stage, LATE).await.is_empty(), "the copy waits, so nobody is idle");
    let task = stage.task(2).await;
    assert_eq!((task.state, task.attempt, task.not_before_ms), (TaskState::Ready, 2, LATE));
    stage.audit().await;
    assert_eq!(stage.store.dispatch(&None, 9.into(), &Shares::default(), LATE).await.unwrap(), 1);
    assert!(speculate(&stage, LATE).await.is_empty(), "it is notified");
    assert!(stage.claim(2, 2, 20, LATE).await.is_ok());
    let task = stage.task(2).await;
    assert_eq!(task.live().map(|(n, l)| (n, l.id)).collect::<Vec<_>>(), [(1, lease_id(2)), (2, lease_id(20))]);
    assert_eq!(speculate(&stage, LATE).await, [stage.id(3)], "one at a time");
    stage.audit().await;
}

/// Assemblers take no place of a worker.
pub async fn what_waits_for_an_assembler_holds_up_no_second_attempt(harness: &dyn StoreHarness) {
    let stage = with_stragglers(harness, 2).await;
    let other = Stage::submit(stage.store.clone(), 2, 0).await;
    other.finish(0).await;
    assert!(other.store.record_plan(other.job, 0, &crate::conformance::fixture::plan(1, 0), 0).await.unwrap());
    other.finish(1).await;
    assert_eq!(stage.store.dispatch(&None, 9.into(), &Shares::default(), LATE).await.unwrap(), 1);
    assert_eq!(stage.store.unsent(&None, 9).await.unwrap()[0].kind, TaskKind::Assemble);
    assert_eq!(speculate(&stage, LATE).await, [stage.id(2)]);
    stage.audit().await;
}

/// The first attempt to complete wins; the other is refused from then on.
pub async fn the_first_of_two_attempts_to_complete_wins(harness: &dyn StoreHarness) {
    let stage = with_stragglers(harness, 2).await;
    assert_eq!(speculate(&stage, LATE).await, [stage.id(2)]);
    assert_eq!(stage.store.dispatch(&None, 9.into(), &Shares::default(), LATE).await.unwrap(), 1);
    // The older one is through before anybody claimed the newer: its wakeup is of no use.
    assert_eq!(stage.complete(2, 2, LATE).await, Ok(true));
    assert!(stage.store.unsent(&None, 9).await.unwrap().is_empty());
    assert_eq!(stage.claim(2, 2, 20, LATE).await, Err(Refusal::NotClaimable));
    assert!(stage.happened().await.iter().any(|h| matches!(h, EventKind::TaskDone { task: 2, attempt: 1, .. })));
    stage.audit().await;

    let other = Stage::submit(stage.store.clone(), 2, 0).await;
    other.finish(0).await;
    assert!(other.store.record_plan(other.job, 0, &crate::conformance::fixture::plan(2, 0), 0).await.unwrap());
    other.finish(1).await;
    other.claim(2, 1, 102, 0).await.unwrap();
    assert_eq!(other.store.speculate(&Some(vec![other.job]), LATE).await.unwrap(), [other.id(2)]);
    other.claim(2, 2, 120, LATE).await.unwrap();
    let renew = async |lease| {
        other.store.renew(other.id(2), lease_id(lease), Progress::default(), LATE, &other.policy).await.answered()
    };
    assert_eq!((renew(102).await, renew(120).await), (Ok(BESIDE_UNTIL), Ok(BESIDE_UNTIL)));
    assert_eq!(other.complete(2, 120, LATE).await, Ok(true));
    assert_eq!(other.complete(2, 120, LATE).await, Ok(false));
    assert_eq!(other.complete(2, 102, LATE).await, Err(Refusal::LeaseLost));
    assert_eq!(renew(102).await, Err(Refusal::LeaseLost));
    assert_eq!(other.task(2).await.done_by, Some(lease_id(120)));
    other.audit().await;
}

/// Each lease is taken back, shortened and released by itself.
pub async fn leases_beside_each_other_end_one_by_one(harness: &dyn StoreHarness) {
    let stage = with_stragglers(harness, 2).await;
    assert_eq!(speculate(&stage, LATE).await, [stage.id(2)]);
    let request = crate::store::ClaimRequest { worker: worker("newer"), ..stage.request(2, 2, 20, LATE) };
    stage.store.claim(request).await.unwrap();
    // The older lease, from 10 ms on, has run out; the newer has not.
    assert_eq!(stage.store.reap(15_010, &stage.policy).await.unwrap(), [stage.id(2)]);
    let task = stage.task(2).await;
    assert_eq!((task.state, task.attempt, task.infra_failures, task.superseded), (TaskState::Leased, 2, 1, None));
    assert_eq!(stage.complete(2, 2, 15_011).await, Err(Refusal::LeaseLost));
    stage.audit().await;

    assert_eq!(speculate(&stage, 18_000).await, [stage.id(2)]);
    stage.claim(2, 3, 30, 18_000).await.unwrap();
    let shorten = async |name| stage.store.shorten_leases(&worker(name), 19_000).await.unwrap();
    assert_eq!((shorten("newer").await, shorten("newer").await, shorten("w2").await), (1, 0, 1));
    let expiries: Vec<_> = stage.task(2).await.live().map(|(_, l)| l.expires_ms).collect();
    assert_eq!(expiries, [19_000, 19_000]);
    assert_eq!(stage.store.release_worker(&worker("newer"), 18_500, &stage.policy).await.unwrap(), [stage.id(2)]);
    let task = stage.task(2).await;
    assert_eq!(task.live().map(|(n, l)| (n, l.id)).collect::<Vec<_>>(), [(3, lease_id(30))]);
    let failure = Failure::of(FailureCode::FfmpegFailed, "crashed");
    let failed = stage.store.fail(stage.id(2), lease_id(30), failure, 18_600, &stage.policy).await.answered();
    assert_eq!(failed, Ok(AfterFailure::Retry { not_before_ms: 48_600 }));
    assert_eq!(stage.task(2).await.attempt, 4);
    stage.audit().await;
}

/// The end of a job ends both attempts.
pub async fn cancel_ends_attempts_beside_each_other(harness: &dyn StoreHarness) {
    let stage = with_stragglers(harness, 3).await;
    assert_eq!(speculate(&stage, LATE).await, [stage.id(2)]);
    stage.claim(2, 2, 20, LATE).await.unwrap();
    assert_eq!(speculate(&stage, LATE).await, [stage.id(3)]);
    assert!(stage.store.cancel(stage.job, LATE).await.unwrap());
    for (number, lease) in [(2, 2), (2, 20), (3, 3)] {
        assert_eq!(stage.complete(number, lease, LATE).await, Err(Refusal::Cancelled));
    }
    assert!(stage.store.reap(1 << 40, &stage.policy).await.unwrap().is_empty());
    assert!(stage.tasks().await.iter().all(|t| t.live().count() == 0));
    stage.audit().await;
    assert!(stage.store.retry(stage.job, LATE).await.unwrap());
    assert_eq!(stage.tasks().await.iter().map(|t| t.attempt).collect::<Vec<_>>(), [1, 1, 3, 3]);
    stage.audit().await;
}

/// A tenant's quota counts both attempts.
pub async fn attempts_beside_each_other_count_for_the_quota(harness: &dyn StoreHarness) {
    let stage = with_stragglers(harness, 3).await;
    assert_eq!(speculate(&stage, LATE).await, [stage.id(2)]);
    let of_at_most = |most| Shares { default: Share { weight: 1, max_in_flight: Some(most) }, tenants: [].into() };
    assert_eq!(stage.store.dispatch(&None, 9.into(), &of_at_most(2), LATE).await.unwrap(), 0);
    assert_eq!(stage.store.dispatch(&None, 9.into(), &of_at_most(3), LATE).await.unwrap(), 1);
}
