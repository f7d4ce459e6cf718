//! Planning a job again: what becomes of the generation before, and how often a list of frames is doubted.

use super::super::StoreHarness;
use super::super::fixture::{Answered, Stage, lease_id, plan, result};
use splitreel_core::event::EventKind;
use splitreel_core::fair::Shares;
use splitreel_core::job::JobState;
use splitreel_core::task::{AfterFailure, Progress, Refusal, TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode};

fn wrong_times() -> Failure {
    Failure::of(FailureCode::TimesDiffer, "frame times differ from the source's")
}

/// Fails a task for its frame times until nothing is left to try; answers what the last failure led to.
async fn fail_for_times(stage: &Stage, number: u32) -> AfterFailure {
    loop {
        let task = stage.task(number).await;
        let (lease, now_ms) = (5000 + u128::from(number) * 100 + u128::from(task.attempt), task.not_before_ms);
        stage.claim(number, task.attempt, lease, now_ms).await.unwrap();
        let failed = stage.store.fail(stage.id(number), lease_id(lease), wrong_times(), now_ms, &stage.policy).await;
        match failed.unwrap() {
            AfterFailure::Retry { .. } => {}
            after => return after,
        }
    }
}

/// Three segments: the first is done, the second proved the list of frames wrong, the third was leased (lease 3).
async fn doubted(harness: &dyn StoreHarness) -> Stage {
    let stage = Stage::planned(harness, 3).await;
    stage.finish(1).await;
    stage.claim(3, 1, 3, 0).await.unwrap();
    assert_eq!(fail_for_times(&stage, 2).await, AfterFailure::Replan);
    stage
}

/// A wrong list of frames leads to the next generation: a deep probe, and nothing of the old plan is left open.
pub async fn a_wrong_list_of_frames_is_decoded(harness: &dyn StoreHarness) {
    let stage = doubted(harness).await;
    let job = stage.job().await;
    assert_eq!((job.state, job.generation, job.remaining, job.deep_probe), (JobState::Probing, 2, 1, true));
    assert_eq!(job.replanned.as_ref().map(|r| (r.failure.code.as_str(), r.first_task)), Some(("times_differ", 4)));
    assert_eq!((job.plan_hash, job.failure, stage.store.plan(stage.job).await.unwrap()), (None, None, None));
    let states: Vec<_> = stage.tasks().await.iter().map(|t| t.state).collect();
    let [done, failed, cancelled, ready] = [TaskState::Done, TaskState::Failed, TaskState::Cancelled, TaskState::Ready];
    assert_eq!(states, [done, done, failed, cancelled, ready]);
    let probe = stage.task(4).await;
    assert_eq!((probe.spec.kind, probe.generation, probe.attempt), (TaskKind::Probe, 2, 1));
    let happened = stage.happened().await;
    let Some(EventKind::Replanned { generation: 2, task: Some(2), attempt, .. }) = happened.last() else {
        panic!("{happened:?}")
    };
    assert_eq!(*attempt, Some(stage.task(2).await.attempt));
    assert_eq!(stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap(), 1);
    assert_eq!(stage.store.unsent(&None, 10).await.unwrap()[0].task.number, 4);
    stage.audit().await;
}

/// A part of the old generation that comes late is refused, however its worker asks.
pub async fn a_late_part_of_an_earlier_generation_is_refused(harness: &dyn StoreHarness) {
    let stage = doubted(harness).await;
    let late = stage.store.complete(stage.id(3), lease_id(3), result(TaskKind::Segment, 2), 1).await.answered();
    assert_eq!(late, Err(Refusal::Cancelled));
    let renewed = stage.store.renew(stage.id(3), lease_id(3), Progress::default(), 1, &stage.policy).await.answered();
    assert_eq!(renewed, Err(Refusal::Cancelled));
    let failed = stage.store.fail(stage.id(3), lease_id(3), wrong_times(), 1, &stage.policy).await.answered();
    assert_eq!(failed, Err(Refusal::Cancelled));
    assert!(stage.claim(3, 1, 30, 1).await.is_err());
    assert_eq!(stage.store.reap(1 << 40, &stage.policy).await.unwrap(), []);
    assert_eq!(stage.job().await.remaining, 1);
    stage.audit().await;
}

/// The next generation is counted, assembled and published by itself.
pub async fn the_next_generation_is_published(harness: &dyn StoreHarness) {
    let stage = doubted(harness).await;
    stage.finish(4).await;
    assert_eq!(stage.job().await.state, JobState::Planning);
    stage.audit().await;
    let late = Failure::of(FailureCode::Plan, "of the first probe");
    assert!(!stage.store.record_plan(stage.job, 0, &plan(3, 0), 0).await.unwrap(), "made from the first probe");
    assert!(!stage.store.reject(stage.job, 0, late, 0).await.unwrap(), "decided from the first probe");
    stage.audit().await;
    assert!(stage.store.record_plan(stage.job, 2, &plan(2, 0), 0).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.generation, job.remaining, job.next_task), (JobState::Running, 2, 2, 7));
    assert!(stage.store.plan(stage.job).await.unwrap().is_some());
    stage.audit().await;
    for number in [5, 6, 7] {
        assert_eq!(stage.task(number).await.generation, 2);
        stage.finish(number).await;
        stage.audit().await;
    }
    assert_eq!(stage.job().await.state, JobState::Published);
    assert!(stage.store.presentation(stage.job).await.unwrap().is_some());
}

/// A list of frames that was decoded is not doubted again; a retry then keeps to the current generation.
pub async fn a_decoded_list_of_frames_is_not_decoded_again(harness: &dyn StoreHarness) {
    let stage = doubted(harness).await;
    stage.finish(4).await;
    assert!(stage.store.record_plan(stage.job, 2, &plan(2, 0), 0).await.unwrap());
    stage.finish(5).await;
    assert_eq!(fail_for_times(&stage, 6).await, AfterFailure::GiveUp);
    assert_eq!(stage.job().await.state, JobState::Failed);
    stage.audit().await;
    assert!(stage.store.retry(stage.job, 7).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.generation, job.remaining), (JobState::Running, 2, 1));
    let ready: Vec<_> =
        stage.tasks().await.into_iter().filter(|t| t.state == TaskState::Ready).map(|t| t.id.number).collect();
    assert_eq!(ready, [6]);
    stage.audit().await;
    stage.finish(6).await;
    stage.finish(7).await;
    assert_eq!(stage.job().await.state, JobState::Published);
}

/// A second probe that failed is probed again by a retry, and none of the old plan with it.
pub async fn retry_of_a_failed_second_probe_probes_again(harness: &dyn StoreHarness) {
    let stage = doubted(harness).await;
    stage.claim(4, 1, 44, 0).await.unwrap();
    let failure = Failure::of(FailureCode::EmptyFile, "nothing decodable");
    let failed = stage.store.fail(stage.id(4), lease_id(44), failure, 0, &stage.policy).await.answered();
    assert_eq!(failed, Ok(AfterFailure::GiveUp));
    stage.audit().await;
    assert!(stage.store.retry(stage.job, 7).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.generation, job.remaining), (JobState::Probing, 2, 1));
    stage.audit().await;
    stage.finish(4).await;
    assert_eq!(stage.job().await.state, JobState::Planning);
}

/// A plan that this version does not read is made again, also when only the assembly is left; once per generation.
pub async fn a_plan_of_another_version_is_made_again(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    let outdated = || Failure::outdated_plan(1);
    stage.finish(1).await;
    stage.finish(2).await;
    stage.claim(3, 1, 3, 0).await.unwrap();
    assert!(!stage.store.replan(stage.job, 2, outdated(), 5).await.unwrap(), "of another generation");
    assert!(stage.store.replan(stage.job, 1, outdated(), 5).await.unwrap());
    assert!(!stage.store.replan(stage.job, 1, outdated(), 5).await.unwrap(), "done before");
    let job = stage.job().await;
    assert_eq!((job.state, job.generation, job.deep_probe), (JobState::Probing, 2, false));
    assert_eq!((job.first_task(), job.generation_started_ms()), (4, 5));
    assert_eq!(stage.complete(3, 3, 6).await, Err(Refusal::Cancelled));
    stage.audit().await;
    stage.finish(4).await;
    assert!(stage.store.record_plan(stage.job, 2, &plan(1, 0), 6).await.unwrap());
    stage.finish(5).await;
    assert_eq!(stage.task(6).await.spec.kind, TaskKind::Assemble);
    stage.audit().await;
    stage.finish(6).await;
    assert_eq!(stage.job().await.state, JobState::Published);
    assert!(!stage.store.replan(stage.job, 2, outdated(), 9).await.unwrap(), "published");
    stage.audit().await;
}
