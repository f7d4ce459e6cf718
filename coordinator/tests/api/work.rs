//! The lease seam over HTTP, through the project's client: the same behaviours as in process.

use crate::stage::{ROOT, Served, Stage, fresh, probe_result, until, within};
use serde_json::json;
use splitreel_backend::lease::{LeaseError, Leases, Work};
use splitreel_backend::{LeaseStore, Submissions};
use splitreel_client::types::{PROTOCOL, Presence, Scope};
use splitreel_client::{RemoteLeases, SessionTimes};
use splitreel_core::task::{Progress, Refusal, TaskKind, TaskState};
use splitreel_core::{Failure, FailureCode, LeaseId, WorkerId};
use tokio_util::sync::CancellationToken;

fn remote(served: &Served, token: &str) -> RemoteLeases {
    RemoteLeases::new(served.client(token), SessionTimes::default())
}

fn worker() -> WorkerId {
    WorkerId("w".into())
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, LeaseError>) -> Refusal {
    match answer {
        Err(LeaseError::Refused(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn leases_are_claimed_renewed_and_completed_from_afar() {
    let stage = Stage::new();
    *stage.links.base.lock().unwrap() = Some("https://storage.example".into());
    *stage.links.version.lock().unwrap() = "7".into();
    let served = Served::new(&stage.api).await;
    let token = stage.token("workers", &[Scope::Work]).await;
    let leases = remote(&served, &token);
    let job = stage.job(ROOT).await;
    let wakeup = stage.wakeup(job, 0, TaskKind::Probe);
    let lease = fresh();
    let order = leases.claim(&wakeup, &worker(), lease).await.unwrap();
    // The answer may be lost: the same claim has the same answer.
    let again = leases.claim(&wakeup, &worker(), lease).await.unwrap();
    assert_eq!((order.lease, again.lease, &again.key_prefix), (lease, lease, &order.key_prefix));
    assert!(matches!(order.work, Work::Probe { deep: false, .. }));
    let grant = order.grant.as_ref().unwrap();
    assert_eq!((grant.etag.as_deref(), grant.bytes), (Some("\"7\""), 1_000_000_000));
    assert_eq!(grant.headers, [("x-a".to_owned(), "b".to_owned())]);
    assert_eq!(leases.num_held(), 1);
    // Once.
    assert_eq!(refusal(leases.claim(&wakeup, &worker(), fresh()).await), Refusal::NotClaimable);
    let progress = Progress { done_per_mille: 300, speed_milli: 1_000, frames: 9 };
    stage.advance(4_000);
    assert_eq!(leases.renew(order.task, order.lease, progress).await.unwrap(), 15_000);
    let task = &stage.store.tasks(job).await.unwrap()[0];
    assert_eq!(task.lease.as_ref().unwrap().progress, progress);
    let stranger = LeaseId(uuid::Uuid::from_u128(1));
    assert_eq!(refusal(leases.renew(order.task, stranger, progress).await), Refusal::LeaseLost);
    // What is not the attempt's own cannot be handed in.
    let foreign = probe_result(&format!("jobs/{job}/0/1-{stranger}/"));
    assert!(matches!(leases.complete(order.task, order.lease, foreign).await, Err(LeaseError::Unavailable { .. })));
    let result = probe_result(&order.key_prefix);
    leases.complete(order.task, order.lease, result.clone()).await.unwrap();
    leases.complete(order.task, order.lease, result).await.unwrap();
    let late = probe_result(&format!("jobs/{job}/0/1-{stranger}/"));
    assert_eq!(refusal(leases.complete(order.task, stranger, late).await), Refusal::LeaseLost);
    assert_eq!(leases.num_held(), 0);
    served.stop().await;
}

#[tokio::test]
async fn an_order_holds_no_more_of_the_plan_than_its_segment() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let leases = remote(&served, ROOT);
    let job = stage.job(ROOT).await;
    stage.plan_of(job, 5).await;
    let task = stage.store.tasks(job).await.unwrap().into_iter().find(|t| t.spec.index == 3).unwrap();
    let order = leases.claim(&stage.wakeup(job, task.id.number, task.spec.kind), &worker(), fresh()).await.unwrap();
    let Work::Video { plan, segment: 3 } = &order.work else { panic!("{:?}", order.work) };
    let numbers: Vec<u32> = plan.timeline.as_ref().unwrap().segments.iter().map(|s| s.index).collect();
    assert_eq!(numbers, [3]);
    served.stop().await;
}

#[tokio::test]
async fn failures_and_cancelled_jobs_are_recorded_by_their_codes() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let leases = remote(&served, ROOT);
    let job = stage.job(ROOT).await;
    let mut wakeup = stage.wakeup(job, 0, TaskKind::Probe);
    let order = leases.claim(&wakeup, &worker(), fresh()).await.unwrap();
    assert!(order.grant.is_none());
    leases.fail(order.task, order.lease, Failure::of(FailureCode::Storage, "y")).await.unwrap();
    assert_eq!(
        refusal(leases.fail(order.task, order.lease, Failure::of(FailureCode::Storage, "y")).await),
        Refusal::LeaseLost
    );
    wakeup.attempt = 2;
    assert_eq!(
        refusal(leases.claim(&wakeup, &worker(), fresh()).await),
        Refusal::NotClaimable,
        "its back-off has not passed"
    );
    stage.advance(60_000);
    let order = leases.claim(&wakeup, &worker(), fresh()).await.unwrap();
    stage.coordinator.cancel(job).await.unwrap();
    assert_eq!(refusal(leases.renew(order.task, order.lease, Progress::default()).await), Refusal::Cancelled);
    assert_eq!(refusal(leases.claim(&wakeup, &worker(), fresh()).await), Refusal::Cancelled);
    served.stop().await;
}

#[tokio::test]
async fn without_an_answer_the_outcome_is_unknown() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let job = stage.job(ROOT).await;
    let wakeup = stage.wakeup(job, 0, TaskKind::Probe);
    let powerless = stage.token("a", &[Scope::JobsRead]).await;
    let refused = remote(&served, &powerless).claim(&wakeup, &worker(), fresh()).await;
    assert!(matches!(refused, Err(LeaseError::Unavailable { .. })), "{refused:?}");
    let leases = remote(&served, ROOT);
    served.stop().await;
    let unanswered = leases.claim(&wakeup, &worker(), fresh()).await;
    assert!(matches!(unanswered, Err(LeaseError::Unavailable { .. })), "{unanswered:?}");
}

fn hello(name: &str) -> Presence {
    Presence { worker: name.to_owned(), slots: 3, protocol: PROTOCOL, ..Presence::default() }
}

#[tokio::test]
async fn a_broken_control_stream_gives_the_work_to_another() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let leases = remote(&served, ROOT);
    let client = served.client(ROOT);
    let job = stage.job(ROOT).await;
    leases.claim(&stage.wakeup(job, 0, TaskKind::Probe), &worker(), fresh()).await.unwrap();
    let (drain, never) = (CancellationToken::new(), CancellationToken::new());
    let other = leases.clone();
    let holding = tokio::spawn(async move { client.hold_presence(&hello("w"), &other, &drain, &never).await });
    let admin = served.client(ROOT);
    until("the worker is seen", async || admin.workers().await.unwrap().workers.iter().any(|w| w.is_live)).await;
    let scale = admin.autoscale(Some(2)).await.unwrap();
    assert_eq!((scale.slots, scale.workers, scale.open_tasks, scale.suggested_workers), (3, 1, 1, 1));
    // As when its process is killed.
    holding.abort();
    let expires = async || stage.store.tasks(job).await.unwrap()[0].lease.as_ref().map(|l| l.expires_ms);
    let before = expires().await.unwrap();
    until("the lease is shortened", async || expires().await.is_none_or(|e| e < before)).await;
    stage.advance(1_000);
    until("the task is taken back", async || {
        let task = &stage.store.tasks(job).await.unwrap()[0];
        task.state == TaskState::Ready && task.attempt == 2
    })
    .await;
    until("the worker is gone", async || admin.workers().await.unwrap().workers.is_empty()).await;
    served.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_stops_shortens_nothing_and_its_workers_renew() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let address = served.address;
    let leases = remote(&served, ROOT);
    let client = served.client(ROOT);
    let job = stage.job(ROOT).await;
    leases.claim(&stage.wakeup(job, 0, TaskKind::Probe), &worker(), fresh()).await.unwrap();
    let shutdown = CancellationToken::new();
    let (other, stop) = (leases.clone(), shutdown.clone());
    let holding = tokio::spawn(async move {
        let drain = CancellationToken::new();
        client.hold_presence(&hello("w"), &other, &drain, &stop).await
    });
    let admin = served.client(ROOT);
    until("the worker is seen", async || !admin.workers().await.unwrap().workers.is_empty()).await;
    let expires = async || stage.store.tasks(job).await.unwrap()[0].lease.as_ref().unwrap().expires_ms;
    let before = expires().await;
    served.stop().await;
    assert_eq!(expires().await, before);
    stage.advance(500);
    let again = Served::at(&stage.second(), address).await;
    until("the worker is back", async || {
        stage.store.shorten_leases(&worker(), before).await.unwrap();
        let back = again.client(ROOT).workers().await.unwrap();
        back.workers.iter().any(|w| w.connected_ms > before - 15_000)
    })
    .await;
    leases.renew_all().await;
    assert_eq!(expires().await, before + 500);
    shutdown.cancel();
    within("presence ends", holding).await.unwrap();
    again.stop().await;
}

#[tokio::test]
async fn the_control_stream_tells_of_ended_jobs_and_of_draining() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let leases = remote(&served, ROOT);
    let client = served.client(ROOT);
    let job = stage.job(ROOT).await;
    let order = leases.claim(&stage.wakeup(job, 0, TaskKind::Probe), &worker(), fresh()).await.unwrap();
    let (drain, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let (other, told, stop) = (leases.clone(), drain.clone(), shutdown.clone());
    let holding = tokio::spawn(async move { client.hold_presence(&hello("w"), &other, &told, &stop).await });
    let admin = served.client(ROOT);
    until("the worker is seen", async || !admin.workers().await.unwrap().workers.is_empty()).await;
    let nudged = tokio::spawn({
        let leases = leases.clone();
        async move { leases.nudged(order.lease).await }
    });
    admin.cancel_job(job).await.unwrap();
    within("the worker is notified", nudged).await.unwrap();
    assert_eq!(refusal(leases.renew(order.task, order.lease, Progress::default()).await), Refusal::Cancelled);
    assert!(!drain.is_cancelled());
    admin.drain_worker("w").await.unwrap();
    // Looked for every 5 s.
    within("the worker is asked to drain", drain.cancelled()).await;
    assert!(admin.workers().await.unwrap().workers[0].is_draining);
    assert_eq!(admin.autoscale(None).await.unwrap().slots, 0);
    shutdown.cancel();
    within("presence ends", holding).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_too_old_gets_no_lease_and_is_told_to_drain() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let wakeup = stage.wakeup(stage.job(ROOT).await, 0, TaskKind::Probe);
    let claim = json!({"ring": wakeup, "worker": "old", "lease": fresh()});
    let answer = stage.ask("POST", "/v1/work/claim", ROOT, Some(claim)).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("worker_outdated")));

    let (drain, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let (client, leases) = (served.client(ROOT), remote(&served, ROOT));
    let old = Presence { version: "0.0.1".into(), protocol: PROTOCOL - 1, ..hello("old") };
    let (told, stop) = (drain.clone(), shutdown.clone());
    let holding = tokio::spawn(async move { client.hold_presence(&old, &leases, &told, &stop).await });
    within("the worker is asked to drain", drain.cancelled()).await;
    let workers = served.client(ROOT).workers().await.unwrap().workers;
    assert_eq!((workers[0].version.as_str(), workers[0].is_draining), ("0.0.1", true));
    shutdown.cancel();
    let end = within("presence ends", holding).await.unwrap();
    assert!(matches!(end, splitreel_client::PresenceEnd::Outdated), "{end:?}");

    // The next one gets what the old one did not.
    remote(&served, ROOT).claim(&wakeup, &worker(), fresh()).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_worker_that_may_not_be_there_is_told_once() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let token = stage.token("a", &[Scope::JobsRead]).await;
    let (leases, never) = (remote(&served, &token), CancellationToken::new());
    let held = served.client(&token).hold_presence(&hello("w"), &leases, &never, &never).await;
    assert!(matches!(held, splitreel_client::PresenceEnd::Refused(_)), "{held:?}");
    let (root, nameless) = (served.client(ROOT), hello(""));
    let held = within("a refusal", root.hold_presence(&nameless, &leases, &never, &never)).await;
    assert!(matches!(held, splitreel_client::PresenceEnd::Refused(_)), "{held:?}");
    served.stop().await;
}
