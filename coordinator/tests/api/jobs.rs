//! Making, listing and steering jobs.

use crate::stage::{ROOT, SOURCE, START_MS, Stage, fresh, probe_result, request, until};
use serde_json::{Value, json};
use splitreel_backend::conformance::fixture;
use splitreel_backend::lease::Leases;
use splitreel_backend::store::JobFilter;
use splitreel_backend::{Scheduling, Submissions};
use splitreel_client::types::Scope;
use splitreel_core::job::JobState;
use splitreel_core::part::{Cost, ProbeResult, StoredObject, TaskResult};
use splitreel_core::planner::Capabilities;
use splitreel_core::task::TaskKind;
use splitreel_core::{Failure, FailureClass, FailureCode, WorkerId};
use std::collections::BTreeSet;

const BOTH: [Scope; 2] = [Scope::JobsRead, Scope::JobsWrite];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_posts_with_one_key_make_one_job() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let tries = (0..1_000).map(|_| {
        let post = request("POST", "/v1/jobs", &token, &[("idempotency-key", "k")], Some(json!({"source": SOURCE})));
        let sent = tower::ServiceExt::oneshot(stage.router.clone(), post);
        tokio::spawn(async move { crate::stage::read(sent.await.unwrap()).await })
    });
    let (mut created, mut ids) = (0, BTreeSet::new());
    for answer in tries.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        created += usize::from(answer.status == 201);
        ids.insert(answer.json()["id"].to_string());
    }
    assert_eq!((created, ids.len()), (1, 1));
    let all = stage.store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap();
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn a_key_finds_its_job_although_the_source_has_changed_and_refuses_another_request() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let post = |body: Value| {
        let (stage, token) = (&stage, &token);
        async move { stage.ask_with("POST", "/v1/jobs", token, &[("idempotency-key", "k")], Some(body)).await }
    };
    let first = post(json!({"source": SOURCE, "priority": "normal"})).await;
    assert_eq!(first.status, 201);
    assert_eq!(first.header("location"), format!("/v1/jobs/{}", first.json()["id"].as_str().unwrap()));
    *stage.links.version.lock().unwrap() = "2".into();
    let again = post(json!({"priority": "normal", "source": SOURCE})).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]));
    let other = post(json!({"source": SOURCE, "priority": "high"})).await;
    assert_eq!((other.status, other.code().as_str()), (422, "key_reused"));
    // Keys of tenants never meet.
    let b = stage.token("b", &BOTH).await;
    let of_b =
        stage.ask_with("POST", "/v1/jobs", &b, &[("idempotency-key", "k")], Some(json!({"source": SOURCE}))).await;
    assert_eq!(of_b.status, 201);
    for bad in ["", "ä", &"k".repeat(256)] {
        let answer = stage.ask_with("POST", "/v1/jobs", &token, &[("idempotency-key", bad)], Some(json!({}))).await;
        assert_eq!(answer.status, 400, "{bad:?}");
    }
}

#[tokio::test]
async fn a_profile_that_no_worker_can_encode_is_refused_at_once() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let post = async |profile: Value| {
        stage.ask("POST", "/v1/jobs", &token, Some(json!({"source": SOURCE, "profile": profile}))).await
    };
    let av1 = json!({"name": "small", "video": {"codec": "av1"}});
    assert_eq!(post(av1.clone()).await.status, 201, "as long as nothing is known of the workers");
    let encoders = ["libx264", "aac"].map(str::to_owned).into();
    stage.coordinator.set_capabilities(Capabilities { encoders, filters: Vec::new() });
    let refused = post(av1).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "invalid"));
    let mistake = &refused.json()["errors"][0];
    assert_eq!(mistake["pointer"], "/profile");
    assert!(mistake["message"].as_str().unwrap().contains("libsvtav1"), "{mistake}");
    assert_eq!(post(json!("universal")).await.status, 201);
    assert_eq!(post(json!("passthrough")).await.status, 201);
}

#[tokio::test]
async fn a_bad_request_tells_all_its_mistakes() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let body = json!({"base": "../x", "profile": "nope@x", "source": SOURCE, "upload": "u"});
    let answer = stage.ask("POST", "/v1/jobs", &token, Some(body)).await;
    assert_eq!(answer.code(), "invalid");
    let pointers: BTreeSet<String> =
        answer.json()["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect();
    assert_eq!(pointers, ["/base", "/profile", "/upload"].map(str::to_owned).into());
    let code = async |source: &str| stage.ask("POST", "/v1/jobs", &token, Some(json!({"source": source}))).await.code();
    assert_eq!(code("s3://films/gone.mp4").await, "source_not_found");
    assert_eq!(code("/etc/passwd").await, "source_unusable");
    assert_eq!(code("").await, "invalid");
}

#[tokio::test]
async fn jobs_are_steered_and_say_how_they_are() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let job = stage.job(&token).await;
    let at = |what: &str| format!("/v1/jobs/{job}{what}");
    let ask = async |verb: &str, what: &str| stage.ask(verb, &at(what), &token, None).await;
    assert_eq!(ask("GET", "").await.json()["waiting"]["reason"], "no_workers");
    assert_eq!(ask("POST", "/pause").await.json()["waiting"]["reason"], "paused");
    assert_eq!(ask("POST", "/pause").await.status, 200);
    assert_eq!(ask("POST", "/resume").await.json()["is_paused"], false);
    assert_eq!(ask("POST", "/retry").await.code(), "nothing_to_retry");
    assert_eq!(ask("GET", "/plan").await.code(), "not_planned");
    assert_eq!(ask("GET", "/files").await.code(), "not_published");
    assert_eq!(ask("POST", "/cancel").await.json()["state"], "cancelled");
    assert_eq!(ask("POST", "/cancel").await.status, 200);
    assert_eq!(ask("POST", "/pause").await.code(), "job_ended");
    assert_eq!(ask("POST", "/retry").await.json()["state"], "probing");
    let log = ask("GET", "/events").await.json();
    let words: Vec<&str> = log["events"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(words, ["submitted", "paused", "resumed", "cancelled", "retried"]);
    let second = stage.ask("GET", &at("/events?limit=2&after=1"), &token, None).await.json();
    assert_eq!((second["events"].as_array().unwrap().len(), &second["next"]), (2, &second["events"][1]["seq"]));
}

#[tokio::test]
async fn tasks_come_with_their_attempts_and_failures() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let job = stage.job(&token).await;
    let mut wakeup = stage.wakeup(job, 0, TaskKind::Probe);
    let order = stage.coordinator.claim(&wakeup, &WorkerId("w1".into()), fresh()).await.unwrap();
    stage
        .coordinator
        .fail(order.task, order.lease, Failure::of(FailureCode::NoSpace, "the disk is full"))
        .await
        .unwrap();
    stage.advance(60_000);
    wakeup.attempt = 2;
    stage.coordinator.claim(&wakeup, &WorkerId("w2".into()), fresh()).await.unwrap();
    let tasks = stage.ask("GET", &format!("/v1/jobs/{job}/tasks"), &token, None).await.json();
    let task = &tasks["tasks"][0];
    assert_eq!((&task["state"], &task["lease"]["worker"]), (&json!("leased"), &json!("w2")));
    assert_eq!(task["attempts"][0]["failure"]["code"], "no_space");
    assert!(!task["attempts"][0]["failure"]["hint"].as_str().unwrap().is_empty());
    assert_eq!(
        (&task["attempts"][0]["outcome"], &task["attempts"][1]["outcome"]),
        (&json!("failed"), &json!("running"))
    );
    stage.plan(stage.job(&token).await).await;
    let page = stage.ask("GET", &format!("/v1/jobs/{job}/tasks?limit=0"), &token, None).await;
    assert_eq!(page.code(), "invalid");
}

#[tokio::test]
async fn a_job_that_is_planned_again_starts_at_zero_and_shows_its_dropped_tasks() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let job = stage.job(&token).await;
    let percent =
        async || stage.ask("GET", "/v1/jobs", &token, None).await.json()["jobs"][0]["progress"]["percent"].clone();
    stage.plan_of(job, 4).await;
    let reason = Failure::of(FailureCode::TimesDiffer, "other times");
    assert!(stage.store.replan(job, 1, reason, START_MS).await.unwrap());
    stage.finish(&stage.wakeup(job, 5, TaskKind::Probe), probe_result).await;
    assert!(stage.store.record_plan(job, 2, &fixture::plan(4, 0), START_MS).await.unwrap());
    assert_eq!(percent().await, 0.0);
    for number in [6, 7] {
        stage
            .finish(&stage.wakeup(job, number, TaskKind::Segment), |_| fixture::result(TaskKind::Segment, number - 6))
            .await;
    }
    assert_eq!(percent().await, 50.0);
    let tasks = stage.ask("GET", &format!("/v1/jobs/{job}/tasks"), &token, None).await.json();
    let generations: Vec<&Value> = tasks["tasks"].as_array().unwrap().iter().map(|t| &t["generation"]).collect();
    assert_eq!(generations, [0, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
}

#[tokio::test]
async fn pages_of_jobs_hold_each_once() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let mut made = BTreeSet::new();
    for _ in 0..7 {
        made.insert(stage.job(&token).await.to_string());
    }
    let (mut found, mut path, mut pages) = (Vec::new(), "/v1/jobs?limit=3".to_owned(), 0);
    loop {
        let page = stage.ask("GET", &path, &token, None).await.json();
        found.extend(page["jobs"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/jobs?limit=3&cursor={next}"),
            None => break,
        }
        assert!(pages < 10);
    }
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (7, made));
    let none = stage.ask("GET", "/v1/jobs?state=failed,published", &token, None).await.json();
    assert_eq!(none["jobs"], json!([]));
    for bad in ["state=odd", "limit=201", "cursor=x", "unknown=1", "limit=x"] {
        let answer = stage.ask("GET", &format!("/v1/jobs?{bad}"), &token, None).await;
        assert!([400, 422].contains(&answer.status), "{bad}: {answer:?}");
        answer.code();
    }
}

#[tokio::test]
async fn a_quote_says_what_it_rests_on() {
    let stage = Stage::new();
    let token = stage.token("a", &BOTH).await;
    let by_size = stage.ask("POST", "/v1/quote", &token, Some(json!({"source": SOURCE}))).await.json();
    assert_eq!(by_size["basis"], "size");
    let (low, high) = (&by_size["duration_seconds"]["low"], &by_size["duration_seconds"]["high"]);
    assert!(low.as_f64().unwrap() < high.as_f64().unwrap());
    let known = json!({"duration_seconds": 60, "profile": "efficiency", "height": 720});
    let known = stage.ask("POST", "/v1/quote", &token, Some(known)).await.json();
    assert_eq!((&known["basis"], &known["renditions"]), (&json!("duration"), &json!(3)));
    assert_eq!(stage.ask("POST", "/v1/quote", &token, Some(json!({}))).await.code(), "invalid");
}

#[tokio::test]
async fn a_probe_result_that_cannot_be_read_fails_its_job() {
    fails_for_its_probe_result(|_| ()).await;
    fails_for_its_probe_result(|stored| stored.sha256 = "0".repeat(64)).await;
    fails_for_its_probe_result(|stored| stored.bytes += 1).await;
}

/// A job whose probe result is JSON of another shape, and recorded as `damage` leaves it.
async fn fails_for_its_probe_result(damage: impl FnOnce(&mut StoredObject)) {
    let stage = Stage::new();
    let job = stage.job(ROOT).await;
    let mut info = stage.object(&format!("jobs/{job}/0/1-x/source-info.json"), b"{\"container\": 7}").await;
    damage(&mut info);
    let probe = TaskResult::Probe(ProbeResult { info, ffmpeg_build: "9".into(), cost: Cost::default() });
    let order = {
        let wakeup = stage.wakeup(job, 0, TaskKind::Probe);
        stage.coordinator.claim(&wakeup, &WorkerId("w".into()), fresh()).await.unwrap()
    };
    let engine = stage.coordinator.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { engine.run(stopped).await });
    stage.coordinator.complete(order.task, order.lease, probe).await.unwrap();
    until("the job fails", || async { stage.store.job(job).await.unwrap().unwrap().state == JobState::Failed }).await;
    let failure = stage.store.job(job).await.unwrap().unwrap().failure.unwrap();
    assert_eq!((failure.code, failure.class), (FailureCode::SourceInfo, FailureClass::Permanent));
    stop.cancel();
    running.await.unwrap();
}
