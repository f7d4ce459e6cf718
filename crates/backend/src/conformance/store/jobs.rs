//! Jobs as a whole: submit, plan, reject, cancel, retry, forget, events.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Stage, job_id, lease_id, plan, request};
use crate::store::{JobFilter, Submitted};
use splitreel_core::event::EventKind;
use splitreel_core::fair::Shares;
use splitreel_core::job::JobState;
use splitreel_core::task::{TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode};

/// The same request again is the same job.
pub async fn a_job_is_accepted_once_per_key(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    let Submitted::Created(job) = store.submit(job_id(1), request("t", "k"), 5).await.unwrap() else {
        panic!("not created")
    };
    assert_eq!((job.id, job.state, job.remaining, job.created_ms), (job_id(1), JobState::Probing, 1, 5));
    assert_eq!(store.submit(job_id(2), request("t", "k"), 6).await.unwrap(), Submitted::Existing(job.clone()));
    assert_eq!(store.job(job_id(1)).await.unwrap(), Some(job));
    assert_eq!(store.job(job_id(2)).await.unwrap(), None);
    let tasks = store.tasks(job_id(1)).await.unwrap();
    assert_eq!(
        tasks.iter().map(|t| (t.spec.kind, t.state, t.attempt)).collect::<Vec<_>>(),
        [(TaskKind::Probe, TaskState::Ready, 1)]
    );
}

/// A key belongs to its first request.
pub async fn a_key_with_another_request_is_told_so(harness: &dyn StoreHarness) {
    let stage = Stage::submitted(harness).await;
    let mut other = request("t", "key-1");
    other.source.version = "2".to_owned();
    assert_eq!(stage.store.submit(job_id(2), other, 0).await.unwrap(), Submitted::KeyReused(job_id(1)));
    assert_eq!(stage.store.job(job_id(2)).await.unwrap(), None);
}

/// Two tenants may use the same key.
pub async fn tenants_do_not_share_keys(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for (n, tenant) in [(1, "a"), (2, "b")] {
        assert!(matches!(store.submit(job_id(n), request(tenant, "k"), 0).await.unwrap(), Submitted::Created(_)));
    }
}

/// Of many clients with one key, one creates the job.
pub async fn concurrent_submits_make_one_job(harness: &dyn StoreHarness) {
    let mut running = tokio::task::JoinSet::new();
    let stores = [harness.open().await, harness.open().await];
    for (n, store) in (1..=10).zip(stores.iter().cycle()) {
        let store = store.clone();
        running.spawn(async move { store.submit(job_id(n), request("t", "k"), 0).await.unwrap() });
    }
    let answers = running.join_all().await;
    assert_eq!(answers.iter().filter(|a| matches!(a, Submitted::Created(_))).count(), 1, "{answers:?}");
    let all = JobFilter { limit: 100, ..JobFilter::default() };
    assert_eq!(stores[0].jobs(all).await.unwrap().len(), 1);
}

/// Newest first, by state, by scope, up to a limit.
pub async fn jobs_are_listed_newest_first(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for (n, created_ms) in [(1, 30), (2, 10), (3, 20), (4, 20)] {
        Stage::submit(store.clone(), n, created_ms).await;
    }
    store.cancel(job_id(3), 40).await.unwrap();
    let list =
        async |filter: JobFilter| store.jobs(filter).await.unwrap().into_iter().map(|j| j.id).collect::<Vec<_>>();
    let all = JobFilter { limit: 10, ..JobFilter::default() };
    assert_eq!(list(all.clone()).await, [1, 4, 3, 2].map(job_id));
    assert_eq!(list(JobFilter { limit: 2, ..all.clone() }).await, [1, 4].map(job_id));
    assert_eq!(list(JobFilter { states: vec![JobState::Cancelled], ..all.clone() }).await, [3].map(job_id));
    assert_eq!(list(JobFilter { states: vec![JobState::Probing], limit: 1, ..all.clone() }).await, [1].map(job_id));
    assert_eq!(
        list(JobFilter { only: Some(vec![job_id(2), job_id(4), job_id(9)]), ..all.clone() }).await,
        [4, 2].map(job_id)
    );
    assert!(list(JobFilter { only: Some(Vec::new()), ..all }).await.is_empty());
}

/// After the probe the job is in state `planning`.
pub async fn a_probed_job_waits_for_its_plan(harness: &dyn StoreHarness) {
    let stage = Stage::submitted(harness).await;
    assert!(!stage.store.record_plan(stage.job, 0, &plan(2, 0), 0).await.unwrap());
    stage.finish(0).await;
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining, job.generation), (JobState::Planning, 0, 0));
    stage.audit().await;
}

/// The first plan counts, and comes back equal.
pub async fn a_plan_is_recorded_once_and_read_back(harness: &dyn StoreHarness) {
    let stage = Stage::probed(harness).await;
    assert_eq!(stage.store.plan(stage.job).await.unwrap(), None);
    assert!(!stage.store.record_plan(stage.job, 0, &plan(0, 0), 1).await.unwrap(), "an empty plan");
    let first = plan(3, 1);
    assert!(stage.store.record_plan(stage.job, 0, &first, 1).await.unwrap());
    assert!(!stage.store.record_plan(stage.job, 0, &plan(2, 0), 2).await.unwrap());
    assert!(!stage.store.record_plan(job_id(9), 0, &first, 2).await.unwrap());
    assert_eq!(stage.store.plan(stage.job).await.unwrap(), Some(first.clone()));
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining, job.generation, job.next_task), (JobState::Running, 4, 1, 5));
    assert_eq!(job.plan_hash, Some(first.hash()));
    let specs: Vec<_> = stage.tasks().await.into_iter().skip(1).map(|t| t.spec).collect();
    assert_eq!(specs, first.tasks(1));
    stage.audit().await;
}

/// A job may fail between probe and plan, once.
pub async fn a_job_that_cannot_be_planned_is_rejected(harness: &dyn StoreHarness) {
    let stage = Stage::probed(harness).await;
    let failure = Failure::of(FailureCode::EmptyFile, "no video and no audio");
    assert!(stage.store.reject(stage.job, 0, failure.clone(), 7).await.unwrap());
    assert!(!stage.store.reject(stage.job, 0, failure.clone(), 8).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.ended_ms, job.failure), (JobState::Failed, Some(7), Some(failure.clone())));
    assert_eq!(
        stage.happened().await.last(),
        Some(&EventKind::Failed { task: None, attempt: None, failure: failure.clone() })
    );
    assert!(!stage.store.record_plan(stage.job, 0, &plan(1, 0), 9).await.unwrap());
    stage.audit().await;

    let planned = Stage::submit(stage.store.clone(), 2, 0).await;
    planned.finish(0).await;
    assert!(planned.store.record_plan(planned.job, 0, &plan(1, 0), 0).await.unwrap());
    assert!(!planned.store.reject(planned.job, 0, failure, 1).await.unwrap());
}

/// Cancel ends the job, its open tasks and its outbox rows, once.
pub async fn cancel_ends_a_job_and_its_tasks(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    stage.finish(1).await;
    stage.claim(2, 1, 2, 0).await.unwrap();
    stage.store.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap();
    assert!(stage.store.cancel(stage.job, 9).await.unwrap());
    assert!(!stage.store.cancel(stage.job, 10).await.unwrap());
    assert!(!stage.store.cancel(job_id(9), 10).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.ended_ms, job.remaining), (JobState::Cancelled, Some(9), 2));
    let states: Vec<_> = stage.tasks().await.into_iter().map(|t| t.state).collect();
    assert_eq!(states, [TaskState::Done, TaskState::Done, TaskState::Cancelled, TaskState::Cancelled]);
    assert!(stage.store.unsent(&None, 10).await.unwrap().is_empty());
    assert_eq!(stage.happened().await.last(), Some(&EventKind::Cancelled));
    stage.audit().await;
}

/// Retry re-opens what is not done and nothing else, and the job can then finish.
pub async fn retry_keeps_what_is_done(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    assert!(!stage.store.retry(stage.job, 0).await.unwrap(), "a running job");
    stage.finish(1).await;
    stage.claim(2, 1, 2, 0).await.unwrap();
    let broken = Failure::of(FailureCode::Plan, "broken");
    stage.store.fail(stage.id(2), lease_id(2), broken, 1, &stage.policy).await.unwrap();
    assert_eq!(stage.job().await.state, JobState::Failed);
    let done = stage.task(1).await;

    assert!(stage.store.retry(stage.job, 50).await.unwrap());
    assert!(!stage.store.retry(stage.job, 51).await.unwrap());
    assert!(!stage.store.retry(job_id(9), 51).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining, job.failure, job.ended_ms), (JobState::Running, 2, None, None));
    assert_eq!(stage.task(1).await, done);
    for number in [2, 3] {
        let task = stage.task(number).await;
        assert_eq!((task.state, task.attempt, task.not_before_ms), (TaskState::Ready, 2, 50));
        assert_eq!((task.media_failures, task.infra_failures), (0, 0));
    }
    assert_eq!(stage.happened().await.last(), Some(&EventKind::Retried));
    stage.audit().await;
    for number in [2, 3, 4] {
        stage.finish(number).await;
    }
    assert_eq!(stage.job().await.state, JobState::Published);
    assert!(!stage.store.retry(stage.job, 60).await.unwrap(), "a published job");
    stage.audit().await;
}

/// A job that was cancelled while probing starts at the probe.
pub async fn retry_of_a_failed_probe_probes_again(harness: &dyn StoreHarness) {
    let stage = Stage::submitted(harness).await;
    stage.store.cancel(stage.job, 1).await.unwrap();
    assert!(stage.store.retry(stage.job, 2).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining), (JobState::Probing, 1));
    stage.audit().await;
    stage.finish(0).await;
    assert_eq!(stage.job().await.state, JobState::Planning);
}

/// A rejected job has a probe result: only planning is repeated.
pub async fn retry_of_a_rejected_job_plans_again(harness: &dyn StoreHarness) {
    let stage = Stage::probed(harness).await;
    stage.store.reject(stage.job, 0, Failure::of(FailureCode::Plan, "y"), 1).await.unwrap();
    assert!(stage.store.retry(stage.job, 2).await.unwrap());
    let job = stage.job().await;
    assert_eq!((job.state, job.remaining), (JobState::Planning, 0));
    assert!(stage.store.record_plan(stage.job, 0, &plan(1, 0), 3).await.unwrap());
    stage.audit().await;
}

/// Forgetting removes every row and frees the key; an open job stays.
pub async fn an_ended_job_can_be_forgotten(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 2).await;
    let other = Stage::submit(stage.store.clone(), 2, 0).await;
    assert!(!stage.store.forget(stage.job).await.unwrap());
    stage.store.cancel(stage.job, 1).await.unwrap();
    assert!(stage.store.forget(stage.job).await.unwrap());
    assert!(!stage.store.forget(stage.job).await.unwrap());
    assert_eq!(stage.store.job(stage.job).await.unwrap(), None);
    assert_eq!(stage.store.plan(stage.job).await.unwrap(), None);
    assert!(stage.tasks().await.is_empty());
    assert!(stage.happened().await.is_empty());
    assert_eq!(other.happened().await, [EventKind::Submitted]);
    let again = stage.store.submit(job_id(3), request("t", "key-1"), 2).await.unwrap();
    assert!(matches!(again, Submitted::Created(_)), "{again:?}");
}

/// Events rise in number over all jobs and can be read on from any point.
pub async fn events_are_ordered_and_paged(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 1).await;
    let other = Stage::submit(stage.store.clone(), 2, 7).await;
    stage.finish(1).await;
    stage.finish(2).await;
    let kinds: Vec<String> = stage
        .happened()
        .await
        .iter()
        .map(|h| serde_json::to_value(h).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    let expected =
        ["submitted", "claimed", "task_done", "planned", "claimed", "task_done", "claimed", "task_done", "published"];
    assert_eq!(kinds, expected);

    let all = stage.store.events(None, 0, 100).await.unwrap();
    assert_eq!(all.len(), expected.len() + 1);
    assert!(all.is_sorted_by(|a, b| a.seq < b.seq));
    let of_other: Vec<_> = all.iter().filter(|e| e.job == other.job).cloned().collect();
    assert_eq!(stage.store.events(Some(other.job), 0, 100).await.unwrap(), of_other);
    assert_eq!((of_other[0].at_ms, &of_other[0].what), (7, &EventKind::Submitted));
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map_or(0, |e: &splitreel_core::event::Event| e.seq);
        let page = stage.store.events(None, after, 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// A restart loses nothing that was answered.
pub async fn state_survives_reopening(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 3).await;
    stage.finish(1).await;
    stage.claim(2, 1, 2, 4).await.unwrap();
    stage.store.dispatch(&None, 10.into(), &Shares::default(), 4).await.unwrap();
    let before =
        (stage.job().await, stage.tasks().await, stage.happened().await, stage.store.unsent(&None, 10).await.unwrap());
    let plan = stage.store.plan(stage.job).await.unwrap();
    let Stage { job, policy, store } = stage;
    drop(store);
    let stage = Stage { store: harness.open().await, job, policy };
    let after =
        (stage.job().await, stage.tasks().await, stage.happened().await, stage.store.unsent(&None, 10).await.unwrap());
    assert_eq!(before, after);
    assert_eq!(stage.store.plan(stage.job).await.unwrap(), plan);
    assert_eq!(stage.complete(2, 2, 5).await, Ok(true));
}
