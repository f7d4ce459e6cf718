//! Attempts that go wrong: budgets, giving up, expired leases, lost workers.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Answered, Stage, lease_id, worker};
use splitreel_core::event::EventKind;
use splitreel_core::fair::Shares;
use splitreel_core::job::JobState;
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, TaskState};
use splitreel_core::{Failure, FailureClass, FailureCode};

async fn fail(stage: &Stage, number: u32, lease: u128, failure: Failure, now_ms: i64) -> Result<AfterFailure, Refusal> {
    stage.store.fail(stage.id(number), lease_id(lease), failure, now_ms, &stage.policy).await.answered()
}

/// A failure with budget left makes the task ready for a later attempt.
pub async fn a_failed_attempt_is_retried_later(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    let failure =
        Failure::of(FailureCode::FfmpegFailed, "3 frames are missing").with_evidence(vec!["a \"line\"".to_owned()]);
    let not_before_ms = 10 + stage.policy.media_backoff_ms;
    assert_eq!(fail(&stage, 1, 2, failure.clone(), 10).await, Err(Refusal::LeaseLost));
    assert_eq!(fail(&stage, 1, 1, failure.clone(), 10).await, Ok(AfterFailure::Retry { not_before_ms }));
    assert_eq!(fail(&stage, 1, 1, failure.clone(), 10).await, Err(Refusal::LeaseLost));
    let task = stage.task(1).await;
    assert_eq!((task.state, task.attempt, task.media_failures, task.infra_failures), (TaskState::Ready, 2, 1, 0));
    assert_eq!((task.not_before_ms, task.failure.as_ref()), (not_before_ms, Some(&failure)));
    assert_eq!(task.failed_on, [worker("w1")]);
    assert_eq!(
        stage.happened().await.last(),
        Some(&EventKind::TaskRetried { task: 1, attempt: 1, failure, not_before_ms })
    );
    assert_eq!(stage.job().await.state, JobState::Running);
    stage.audit().await;
}

/// The clock is set back while an attempt waits: the back-off, which lies an hour ahead now, has passed.
pub async fn a_clock_set_back_ends_a_back_off(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    let hour = 3_600_000;
    stage.claim(1, 1, 1, hour).await.unwrap();
    let failure = Failure::of(FailureCode::FfmpegFailed, "ffmpeg crashed");
    let after = fail(&stage, 1, 1, failure, hour).await.unwrap();
    assert_eq!(after, AfterFailure::Retry { not_before_ms: hour + stage.policy.media_backoff_ms });
    assert_eq!(stage.claim(1, 2, 2, hour).await, Err(Refusal::NotClaimable));
    stage.store.dispatch(&None, 10.into(), &Shares::default(), hour).await.unwrap();
    assert!(stage.store.unsent(&None, 10).await.unwrap().iter().all(|w| w.task.number != 1), "its time has not come");
    stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap();
    assert!(
        stage.store.unsent(&None, 10).await.unwrap().iter().any(|w| w.task.number == 1),
        "it waits for the old clock"
    );
    stage.claim(1, 2, 2, 0).await.unwrap();
    stage.audit().await;
}

/// The clock is set back under a lease: it ends after its length from now on, and its holder may renew it before.
pub async fn a_clock_set_back_does_not_lengthen_leases(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    let (hour, ttl) = (3_600_000, stage.policy.lease_ttl_ms);
    stage.claim(1, 1, 1, hour).await.unwrap();
    stage.claim(2, 1, 2, hour).await.unwrap();
    assert!(stage.store.reap(0, &stage.policy).await.unwrap().is_empty(), "a live attempt was taken back");
    let expires = stage.task(1).await.lease.map(|lease| lease.expires_ms);
    assert_eq!(expires, Some(ttl));
    stage.store.renew(stage.id(2), lease_id(2), Progress::default(), ttl, &stage.policy).await.unwrap();
    assert_eq!(stage.store.reap(ttl, &stage.policy).await.unwrap(), [stage.id(1)]);
    stage.audit().await;
}

/// Three media failures end the job; the others are cancelled, what is done is kept.
pub async fn media_failures_use_up_their_attempts(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 4).await;
    stage.finish(1).await;
    stage.claim(3, 1, 3, 0).await.unwrap();
    let mut now_ms = 0;
    for attempt in 1..=stage.policy.media_attempts {
        let lease = 100 + u128::from(attempt);
        stage.claim(2, attempt, lease, now_ms).await.unwrap();
        stage.store.dispatch(&None, 10.into(), &Shares::default(), now_ms).await.unwrap();
        let after =
            fail(&stage, 2, lease, Failure::of(FailureCode::FfmpegFailed, "ffmpeg crashed"), now_ms).await.unwrap();
        match after {
            AfterFailure::Retry { not_before_ms } => now_ms = not_before_ms,
            AfterFailure::GiveUp => assert_eq!(attempt, stage.policy.media_attempts),
            AfterFailure::Replan => panic!("a crash calls for no new plan"),
        }
    }
    let job = stage.job().await;
    let failure = Failure::of(FailureCode::FfmpegFailed, "segment 1: ffmpeg crashed");
    assert_eq!((job.state, job.ended_ms, job.failure.as_ref()), (JobState::Failed, Some(now_ms), Some(&failure)));
    let attempt = Some(stage.policy.media_attempts);
    assert_eq!(stage.happened().await.last(), Some(&EventKind::Failed { task: Some(2), attempt, failure }));
    let states: Vec<_> = stage.tasks().await.into_iter().map(|t| t.state).collect();
    assert_eq!(
        states,
        [TaskState::Done, TaskState::Done, TaskState::Failed, TaskState::Cancelled, TaskState::Cancelled]
    );
    assert!(stage.store.unsent(&None, 10).await.unwrap().is_empty());
    assert_eq!(stage.complete(3, 3, now_ms).await, Err(Refusal::Cancelled));
    assert_eq!(fail(&stage, 3, 3, Failure::of(FailureCode::Storage, "y"), now_ms).await, Err(Refusal::Cancelled));
    assert_eq!(stage.claim(4, 1, 9, now_ms).await, Err(Refusal::Cancelled));
    stage.audit().await;
}

/// No second attempt where none can succeed.
pub async fn a_permanent_failure_ends_the_job(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.finish(1).await;
    stage.finish(2).await;
    stage.claim(3, 1, 3, 0).await.unwrap();
    assert_eq!(
        fail(&stage, 3, 3, Failure::of(FailureCode::Plan, "parts do not fit"), 5).await,
        Ok(AfterFailure::GiveUp)
    );
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining), (JobState::Failed, 1));
    assert_eq!(job.failure.unwrap().message, "assemble: parts do not fit");
    stage.audit().await;
}

/// When the source is to blame, the user reads that and not which task found out.
pub async fn a_source_failure_is_told_as_it_is(harness: &dyn StoreHarness) {
    let stage = Stage::submitted(harness).await;
    stage.claim(0, 1, 1, 0).await.unwrap();
    let failure = Failure::of(FailureCode::EmptyFile, "the file is empty");
    assert_eq!(failure.class, FailureClass::Source);
    assert_eq!(fail(&stage, 0, 1, failure.clone(), 1).await, Ok(AfterFailure::GiveUp));
    let job = stage.job().await;
    assert_eq!((job.state, job.failure), (JobState::Failed, Some(failure)));
    stage.audit().await;
}

/// The budget for infrastructure failures is large, but ends.
pub async fn the_infra_budget_holds(harness: &dyn StoreHarness) {
    let mut stage = Stage::planned(harness, 1).await;
    stage.policy = RetryPolicy { infra_budget: 5, ..RetryPolicy::default() };
    let mut now_ms = 0;
    for attempt in 1..=5 {
        stage.claim(1, attempt, u128::from(attempt), now_ms).await.unwrap();
        let after =
            fail(&stage, 1, u128::from(attempt), Failure::of(FailureCode::Storage, "full"), now_ms).await.unwrap();
        let AfterFailure::Retry { not_before_ms } = after else { panic!("gave up at {attempt}") };
        now_ms = not_before_ms;
    }
    stage.claim(1, 6, 6, now_ms).await.unwrap();
    assert_eq!(fail(&stage, 1, 6, Failure::of(FailureCode::Storage, "full"), now_ms).await, Ok(AfterFailure::GiveUp));
    assert_eq!(stage.job().await.failure.unwrap().message, "whole: full");
    stage.audit().await;
}

/// Only expired leases are taken, and only once.
pub async fn reap_takes_only_expired_leases(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 4).await;
    for (number, now_ms) in [(3, 0), (1, 0), (2, 100)] {
        stage.claim(number, 1, u128::from(number), now_ms).await.unwrap();
    }
    let expiry = stage.policy.lease_ttl_ms;
    assert!(stage.store.reap(expiry - 1, &stage.policy).await.unwrap().is_empty());
    assert_eq!(stage.store.reap(expiry, &stage.policy).await.unwrap(), [stage.id(1), stage.id(3)]);
    assert!(stage.store.reap(expiry, &stage.policy).await.unwrap().is_empty());
    let task = stage.task(1).await;
    assert_eq!((task.state, task.attempt, task.infra_failures), (TaskState::Ready, 2, 1));
    assert_eq!(task.not_before_ms, expiry);
    assert_eq!(task.failure.unwrap().code, "lease_expired");
    assert_eq!(stage.task(2).await.state, TaskState::Leased);
    assert_eq!(stage.happened().await.iter().filter(|h| matches!(h, EventKind::TaskRetried { .. })).count(), 2);
    stage.audit().await;
}

/// A task whose workers keep dying fails in the end, and takes the expired leases beside it with it.
pub async fn reap_gives_up_when_the_budget_is_spent(harness: &dyn StoreHarness) {
    let mut stage = Stage::planned(harness, 2).await;
    stage.policy = RetryPolicy { infra_budget: 0, ..RetryPolicy::default() };
    stage.claim(1, 1, 1, 0).await.unwrap();
    stage.claim(2, 1, 2, 0).await.unwrap();
    assert_eq!(stage.store.reap(1 << 40, &stage.policy).await.unwrap(), [stage.id(1)]);
    let states: Vec<_> = stage.tasks().await.into_iter().map(|t| t.state).collect();
    assert_eq!(states, [TaskState::Done, TaskState::Failed, TaskState::Cancelled]);
    let job = stage.job().await;
    assert_eq!((job.state, job.ended_ms), (JobState::Failed, Some(1 << 40)));
    assert_eq!(job.failure.unwrap().message, "segment 0: worker w1 stopped answering");
    stage.audit().await;
}

/// A worker that is known to be dead gives its tasks back without waiting for expiry or back-off.
pub async fn a_lost_worker_is_replaced_at_once(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    stage.claim(2, 1, 2, 0).await.unwrap();
    assert_eq!(stage.store.release_worker(&worker("w1"), 7, &stage.policy).await.unwrap(), [stage.id(1)]);
    assert!(stage.store.release_worker(&worker("w1"), 8, &stage.policy).await.unwrap().is_empty());
    let task = stage.task(1).await;
    assert_eq!((task.state, task.attempt, task.not_before_ms, task.infra_failures), (TaskState::Ready, 2, 7, 1));
    let failure = task.failure.unwrap();
    assert_eq!(
        stage.happened().await.last(),
        Some(&EventKind::TaskRetried { task: 1, attempt: 1, failure, not_before_ms: 7 })
    );
    assert_eq!(stage.task(2).await.state, TaskState::Leased);
    assert_eq!(stage.complete(1, 1, 8).await, Err(Refusal::LeaseLost));
    assert!(stage.claim(1, 2, 3, 8).await.is_ok());
    stage.audit().await;
}

/// A worker whose control stream broke loses its leases soon, unless it renews: it only.
pub async fn shortened_leases_end_early_unless_renewed(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 4).await;
    for (number, name) in [(1, "broken"), (2, "broken"), (3, "sound")] {
        let request = stage.request(number, 1, u128::from(number), 0);
        let request = crate::store::ClaimRequest { worker: worker(name), ..request };
        stage.store.claim(request).await.unwrap();
    }
    let ttl = stage.policy.lease_ttl_ms;
    let shorten = async |name, until_ms| stage.store.shorten_leases(&worker(name), until_ms).await.unwrap();
    assert_eq!(shorten("broken", ttl).await, 0, "they end then anyway");
    assert_eq!(shorten("broken", ttl + 1).await, 0, "no lease gets longer");
    assert_eq!(shorten("unknown", 0).await, 0);
    assert_eq!(shorten("broken", 2_000).await, 2);
    assert_eq!(shorten("broken", 2_000).await, 0, "again");
    let expiry = async |number| stage.task(number).await.lease.map(|l| l.expires_ms);
    assert_eq!((expiry(1).await, expiry(2).await, expiry(3).await), (Some(2_000), Some(2_000), Some(ttl)));
    let renewed =
        stage.store.renew(stage.id(2), lease_id(2), Progress::default(), 1_500, &stage.policy).await.answered();
    assert_eq!(renewed, Ok(1_500 + ttl));
    assert!(stage.store.reap(1_999, &stage.policy).await.unwrap().is_empty());
    assert_eq!(stage.store.reap(2_000, &stage.policy).await.unwrap(), [stage.id(1)]);
    assert_eq!(stage.complete(1, 1, 2_000).await, Err(Refusal::LeaseLost));
    assert_eq!(stage.complete(2, 2, 2_000).await, Ok(true));
    assert_eq!(shorten("broken", 0).await, 0, "it holds nothing");
    assert_eq!(stage.complete(3, 3, 2_000).await, Ok(true));
    stage.audit().await;
}
