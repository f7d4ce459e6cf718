//! Attempts that go well: claim, renew, complete, publish, and what excludes what.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Answered, Stage, job_id, lease_id, result, worker};
use crate::doorbell::Wakeup;
use splitreel_core::event::EventKind;
use splitreel_core::fair::Shares;
use splitreel_core::job::JobState;
use splitreel_core::task::{Progress, Refusal, TaskKind, TaskState};
use splitreel_core::{FailureCode, TaskId};

/// Many workers, two processes, one wakeup: one lease.
pub async fn one_of_many_claims_wins(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    let second = Stage { store: harness.open().await, ..stage.clone() };
    let mut running = tokio::task::JoinSet::new();
    for (lease, stage) in (1..=10).zip([&stage, &second].into_iter().cycle()) {
        let stage = stage.clone();
        running.spawn(async move { stage.claim(1, 1, lease, 0).await });
    }
    let answers = running.join_all().await;
    let won: Vec<_> = answers.iter().filter_map(|a| a.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|a| **a == Err(Refusal::NotClaimable)).count(), 9);
    assert_eq!(stage.task(1).await, *won[0]);
    assert_eq!(stage.happened().await.iter().filter(|h| matches!(h, EventKind::Claimed { task: 1, .. })).count(), 1);
    stage.audit().await;
}

/// A claim whose answer was lost can be sent again.
pub async fn a_repeated_claim_gets_the_same_lease(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    let first = stage.claim(1, 1, 1, 3).await.unwrap();
    assert_eq!(first.lease.as_ref().map(|l| (l.id, l.expires_ms)), Some((lease_id(1), 3 + stage.policy.lease_ttl_ms)));
    assert_eq!(stage.claim(1, 1, 1, 3).await, Ok(first.clone()));
    assert_eq!(stage.happened().await.iter().filter(|h| matches!(h, EventKind::Claimed { task: 1, .. })).count(), 1);
    stage.complete(1, 1, 4).await.unwrap();
    assert_eq!(stage.claim(1, 1, 1, 5).await, Err(Refusal::NotClaimable));
}

/// Wakeups may outlive the attempts they announce.
pub async fn a_stale_or_unknown_ring_is_refused(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    for attempt in [0, 2, u32::MAX] {
        assert_eq!(stage.claim(1, attempt, 1, 0).await, Err(Refusal::NotClaimable));
    }
    assert_eq!(stage.claim(77, 1, 1, 0).await, Err(Refusal::NotClaimable));
    let elsewhere = Stage { job: job_id(9), ..stage.clone() };
    assert_eq!(elsewhere.claim(1, 1, 1, 0).await, Err(Refusal::NotClaimable));
    stage.finish(1).await;
    assert_eq!(stage.claim(1, 1, 1, 0).await, Err(Refusal::NotClaimable));
}

/// The back-off holds even when a wakeup comes early.
pub async fn a_claim_before_its_time_is_refused(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    stage
        .store
        .fail(stage.id(1), lease_id(1), splitreel_core::Failure::of(FailureCode::Storage, "y"), 100, &stage.policy)
        .await
        .unwrap();
    let due = stage.task(1).await.not_before_ms;
    assert_eq!(due, 100 + stage.policy.infra_backoff_ms);
    assert_eq!(stage.claim(1, 2, 2, due - 1).await, Err(Refusal::NotClaimable));
    assert!(stage.claim(1, 2, 2, due).await.is_ok());
}

/// Renewal moves the expiry and keeps the progress; other leases are lost.
pub async fn renew_extends_only_the_live_lease(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    let progress = Progress { done_per_mille: 250, speed_milli: 1500, frames: u64::MAX };
    let renew = async |number, lease, now_ms| {
        stage.store.renew(stage.id(number), lease_id(lease), progress, now_ms, &stage.policy).await.answered()
    };
    assert_eq!(renew(1, 1, 4_000).await, Ok(4_000 + stage.policy.lease_ttl_ms));
    let lease = stage.task(1).await.lease.unwrap();
    assert_eq!(
        (lease.expires_ms, lease.claimed_ms, lease.progressed_ms),
        (4_000 + stage.policy.lease_ttl_ms, 0, 4_000)
    );
    assert_eq!((lease.progress, lease.worker), (progress, worker("w1")));
    assert_eq!(renew(1, 2, 4_001).await, Err(Refusal::LeaseLost));
    assert_eq!(renew(2, 1, 4_001).await, Err(Refusal::LeaseLost));
    assert_eq!(renew(77, 1, 4_001).await, Err(Refusal::LeaseLost));
    assert!(stage.store.reap(4_000 + stage.policy.lease_ttl_ms - 1, &stage.policy).await.unwrap().is_empty());
    stage.store.cancel(stage.job, 4_002).await.unwrap();
    assert_eq!(renew(1, 1, 4_003).await, Err(Refusal::Cancelled));
}

/// A worker that renews without getting on loses its lease to the reaper.
pub async fn a_lease_without_progress_is_lost(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    let renew = async |now_ms| {
        stage.store.renew(stage.id(1), lease_id(1), Progress::default(), now_ms, &stage.policy).await.answered()
    };
    let stall_ms = stage.policy.stall_ms;
    assert!(renew(stall_ms).await.is_ok());
    let before = stage.task(1).await;
    assert_eq!(renew(stall_ms + 1).await, Err(Refusal::LeaseLost));
    assert_eq!(stage.task(1).await, before);
}

/// A completion whose answer was lost can be sent again; another lease cannot complete.
pub async fn complete_is_idempotent_on_its_lease(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    assert_eq!(stage.complete(1, 2, 1).await, Err(Refusal::LeaseLost));
    assert_eq!(stage.complete(1, 1, 1).await, Ok(true));
    let done = stage.task(1).await;
    assert_eq!((done.state, done.done_by), (TaskState::Done, Some(lease_id(1))));
    assert_eq!(done.result, Some(result(TaskKind::Segment, 0)));
    assert_eq!(stage.job().await.remaining, 1);
    assert_eq!(stage.complete(1, 1, 2).await, Ok(false));
    assert_eq!(stage.complete(1, 2, 2).await, Err(Refusal::LeaseLost));
    assert_eq!((stage.task(1).await, stage.job().await.remaining), (done, 1));
    assert_eq!(stage.happened().await.iter().filter(|h| matches!(h, EventKind::TaskDone { task: 1, .. })).count(), 1);
    let unknown = stage
        .store
        .complete(TaskId { job: job_id(9), number: 1 }, lease_id(1), result(TaskKind::Segment, 0), 1)
        .await
        .answered();
    assert_eq!(unknown, Err(Refusal::LeaseLost));
    stage.audit().await;
}

/// A zombie comes too late, whatever the next attempt does.
pub async fn a_reaped_lease_cannot_complete(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.claim(1, 1, 1, 0).await.unwrap();
    let expiry = stage.policy.lease_ttl_ms;
    assert_eq!(stage.store.reap(expiry, &stage.policy).await.unwrap(), [stage.id(1)]);
    assert_eq!(stage.complete(1, 1, expiry).await, Err(Refusal::LeaseLost));
    let due = stage.task(1).await.not_before_ms;
    stage.claim(1, 2, 2, due).await.unwrap();
    assert_eq!(stage.complete(1, 1, due).await, Err(Refusal::LeaseLost));
    assert_eq!(stage.complete(1, 2, due).await, Ok(true));
    assert_eq!(stage.complete(1, 1, due).await, Err(Refusal::LeaseLost));
    stage.audit().await;
}

/// All tasks complete at once, each reported twice, through two processes: the counter is right.
pub async fn concurrent_completes_insert_one_assemble(harness: &dyn StoreHarness) {
    const SEGMENTS: u32 = 12;
    let stage = Stage::planned(harness, SEGMENTS).await;
    let second = Stage { store: harness.open().await, ..stage.clone() };
    for number in 1..=SEGMENTS {
        stage.claim(number, 1, u128::from(number), 0).await.unwrap();
    }
    let mut running = tokio::task::JoinSet::new();
    for number in 1..=SEGMENTS {
        for stage in [stage.clone(), second.clone()] {
            running.spawn(async move { stage.complete(number, u128::from(number), 1).await.unwrap() });
        }
    }
    let answers = running.join_all().await;
    assert_eq!(answers.into_iter().filter(|is_first| *is_first).count(), SEGMENTS as usize);
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining, job.next_task), (JobState::Running, 1, SEGMENTS + 2));
    let assemble: Vec<_> = stage.tasks().await.into_iter().filter(|t| t.spec.kind == TaskKind::Assemble).collect();
    assert_eq!(assemble.len(), 1);
    assert_eq!((assemble[0].id.number, assemble[0].state, assemble[0].generation), (SEGMENTS + 1, TaskState::Ready, 1));
    stage.audit().await;
}

/// The job ends with the assemble task, once.
pub async fn completing_assemble_publishes_once(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 1).await;
    stage.finish(1).await;
    stage.claim(2, 1, 2, 5).await.unwrap();
    assert_eq!(stage.complete(2, 2, 6).await, Ok(true));
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining, job.ended_ms), (JobState::Published, 0, Some(6)));
    assert_eq!(stage.complete(2, 2, 7).await, Ok(false));
    assert_eq!(stage.complete(2, 3, 7).await, Err(Refusal::Cancelled));
    assert!(!stage.store.cancel(stage.job, 8).await.unwrap());
    assert_eq!(stage.happened().await.iter().filter(|h| **h == EventKind::Published).count(), 1);
    assert_eq!(stage.job().await, job);
    stage.audit().await;
}

/// Cancelled first: the result is refused.
pub async fn cancel_before_complete_wins(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 1).await;
    stage.finish(1).await;
    stage.claim(2, 1, 2, 0).await.unwrap();
    assert!(stage.store.cancel(stage.job, 1).await.unwrap());
    assert_eq!(stage.complete(2, 2, 2).await, Err(Refusal::Cancelled));
    assert_eq!(stage.complete(1, 1001, 2).await, Ok(false), "what was done stays done");
    assert_eq!(stage.job().await.state, JobState::Cancelled);
    stage.audit().await;
}

/// Completed first: there is nothing left to cancel.
pub async fn complete_before_cancel_wins(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 1).await;
    stage.finish(1).await;
    stage.finish(2).await;
    assert!(!stage.store.cancel(stage.job, 1).await.unwrap());
    assert_eq!(stage.job().await.state, JobState::Published);
    stage.audit().await;
}

/// At the same time: one of the two, never both.
pub async fn cancel_and_publish_exclude_each_other(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 1).await;
    let second = harness.open().await;
    stage.finish(1).await;
    stage.claim(2, 1, 2, 0).await.unwrap();
    let publish = tokio::spawn({
        let stage = stage.clone();
        async move { stage.complete(2, 2, 1).await }
    });
    let cancel = tokio::spawn({
        let job = stage.job;
        async move { second.cancel(job, 1).await.unwrap() }
    });
    let (is_published, is_cancelled) = (publish.await.unwrap(), cancel.await.unwrap());
    let expected =
        if is_cancelled { (Err(Refusal::Cancelled), JobState::Cancelled) } else { (Ok(true), JobState::Published) };
    assert_eq!((is_published, stage.job().await.state), expected);
    stage.audit().await;
}

/// A wakeup that was under way when the job was cancelled gets a clear answer.
pub async fn no_claim_after_cancel(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap();
    let wakeups = stage.store.unsent(&None, 10).await.unwrap();
    assert_eq!(wakeups.len(), 2);
    stage.store.cancel(stage.job, 1).await.unwrap();
    for Wakeup { task, attempt, .. } in wakeups {
        assert_eq!(stage.claim(task.number, attempt, 5, 2).await, Err(Refusal::Cancelled));
    }
}
