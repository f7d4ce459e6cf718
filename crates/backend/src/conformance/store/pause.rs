//! Pause and resume: what stops, what goes on, and what cannot be paused.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Answered, Stage, job_id, lease_id, plan};
use crate::store::JobStore;
use splitreel_core::event::EventKind;
use splitreel_core::fair::Shares;
use splitreel_core::job::JobState;
use splitreel_core::task::{Progress, Refusal, TaskState};
use splitreel_core::{Failure, FailureCode};

async fn dispatch(store: &dyn JobStore, now_ms: i64) -> usize {
    store.dispatch(&None, 100.into(), &Shares::default(), now_ms).await.unwrap()
}

/// No wakeup and no claim while it is paused; wakeups that were under way are answered with a clear no.
pub async fn a_paused_job_starts_nothing(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    let other = Stage::submit(stage.store.clone(), 2, 5).await;
    assert_eq!(dispatch(&*stage.store, 0).await, 4);
    let before = stage.job().await;
    assert!(!before.is_paused);
    assert!(stage.store.pause(stage.job, true, 7).await.unwrap());
    assert!(!stage.store.pause(stage.job, true, 8).await.unwrap(), "it was so already");
    let job = stage.job().await;
    assert_eq!((job.is_paused, job.state, job.remaining), (true, before.state, before.remaining));
    assert_eq!(stage.happened().await.last(), Some(&EventKind::Paused));
    assert!(stage.store.unsent(&Some(vec![stage.job]), 10).await.unwrap().is_empty(), "its wakeups are forgotten");
    assert_eq!(stage.store.unsent(&None, 10).await.unwrap().len(), 1, "the other job's wakeup is not");
    assert_eq!(stage.claim(1, 1, 1, 9).await, Err(Refusal::NotClaimable));
    assert_eq!(dispatch(&*stage.store, 9).await, 0);
    assert!(other.claim(0, 1, 2, 9).await.is_ok());
    assert!(harness.open().await.job(stage.job).await.unwrap().unwrap().is_paused);
    stage.audit().await;
}

/// Resumed, it goes on where it was, to its end.
pub async fn a_resumed_job_goes_on(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    assert!(!stage.store.pause(stage.job, false, 1).await.unwrap(), "it was not paused");
    dispatch(&*stage.store, 1).await;
    assert!(stage.store.pause(stage.job, true, 2).await.unwrap());
    assert!(stage.store.pause(stage.job, false, 3).await.unwrap());
    assert!(!stage.job().await.is_paused);
    let last: Vec<_> = stage.happened().await.into_iter().rev().take(2).collect();
    assert_eq!(last, [EventKind::Resumed, EventKind::Paused]);
    assert_eq!(dispatch(&*stage.store, 3).await, 3);
    for number in 1..=4 {
        stage.finish(number).await;
    }
    assert_eq!(stage.job().await.state, JobState::Published);
    stage.audit().await;
}

/// Leases that live are renewed, completed and taken back as ever; what follows from it waits.
pub async fn running_attempts_outlast_a_pause(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    for number in 1..=3 {
        stage.claim(number, 1, u128::from(number), 0).await.unwrap();
    }
    assert!(stage.store.pause(stage.job, true, 1).await.unwrap());
    assert_eq!(stage.claim(1, 1, 1, 2).await.map(|t| t.id.number), Ok(1), "a claim whose answer was lost");
    let progress = Progress { frames: 1, ..Progress::default() };
    assert!(stage.store.renew(stage.id(1), lease_id(1), progress, 3, &stage.policy).await.answered().is_ok());
    assert_eq!(stage.complete(1, 1, 4).await, Ok(true));
    stage.store.fail(stage.id(2), lease_id(2), Failure::of(FailureCode::Storage, "y"), 4, &stage.policy).await.unwrap();
    let later = 1 << 40;
    assert_eq!(stage.store.reap(later, &stage.policy).await.unwrap(), [stage.id(3)]);
    stage.audit().await;
    for number in [2, 3] {
        assert_eq!(stage.task(number).await.state, TaskState::Ready);
        assert_eq!(stage.claim(number, 2, 9, later + 60_000).await, Err(Refusal::NotClaimable));
    }
    assert_eq!(dispatch(&*stage.store, later + 60_000).await, 0);
    assert!(stage.store.pause(stage.job, false, later).await.unwrap());
    assert_eq!(dispatch(&*stage.store, later + 60_000).await, 2);
    stage.audit().await;
}

/// A job that is paused while it is probed or while its last task runs takes the next step, and starts nothing.
pub async fn a_paused_job_can_be_planned_and_wait_for_its_assembly(harness: &dyn StoreHarness) {
    let stage = Stage::submitted(harness).await;
    stage.claim(0, 1, 1, 0).await.unwrap();
    assert!(stage.store.pause(stage.job, true, 1).await.unwrap());
    assert_eq!(stage.complete(0, 1, 2).await, Ok(true));
    assert!(stage.store.record_plan(stage.job, 0, &plan(1, 0), 3).await.unwrap());
    assert!(stage.job().await.is_paused);
    assert_eq!(dispatch(&*stage.store, 4).await, 0);
    stage.store.pause(stage.job, false, 5).await.unwrap();
    stage.claim(1, 1, 2, 6).await.unwrap();
    stage.store.pause(stage.job, true, 7).await.unwrap();
    assert_eq!(stage.complete(1, 2, 8).await, Ok(true));
    assert_eq!(stage.task(2).await.state, TaskState::Ready);
    assert_eq!((dispatch(&*stage.store, 9).await, stage.claim(2, 1, 3, 9).await), (0, Err(Refusal::NotClaimable)));
    stage.store.pause(stage.job, false, 10).await.unwrap();
    stage.claim(2, 1, 3, 11).await.unwrap();
    stage.store.pause(stage.job, true, 12).await.unwrap();
    assert_eq!(stage.complete(2, 3, 13).await, Ok(true));
    let job = stage.job().await;
    assert_eq!((job.state, job.is_paused), (JobState::Published, false), "an ended job is not paused");
    stage.audit().await;
}

/// What has ended is neither paused nor resumed, and is not paused when it is retried.
pub async fn an_ended_job_is_not_paused(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    assert!(stage.store.pause(stage.job, true, 1).await.unwrap());
    assert!(stage.store.cancel(stage.job, 2).await.unwrap());
    assert!(!stage.job().await.is_paused);
    for paused in [true, false] {
        assert!(!stage.store.pause(stage.job, paused, 3).await.unwrap());
        assert!(!stage.store.pause(job_id(9), paused, 3).await.unwrap());
    }
    assert_eq!(stage.happened().await.last(), Some(&EventKind::Cancelled));
    assert!(stage.store.retry(stage.job, 4).await.unwrap());
    assert_eq!(dispatch(&*stage.store, 4).await, 2);
    stage.audit().await;
}
