//! Upload events: recorded documents of each flavour start exactly one job, however often and in whatever order.

use crate::fixture::{ADMIN, Deployment, call, caller, json_request, read_json, rule};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::json;
use splitreel_client::types::Scope;
use splitreel_coordinator::api::{SharedSecret, events_router};
use splitreel_coordinator::triggers::{Outcome, Rule, UploadEvent, parse};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const OBJECT: &str = "s3://media-in/in/holiday film+1.mp4";
const ETAG: &str = "d41d8cd98f00b204e9800998ecf8427e-2";

/// Name and text of the recorded documents.
fn recorded() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    found
}

fn uploads() -> Vec<(String, String)> {
    let found: Vec<_> = recorded().into_iter().filter(|(name, _)| !name.starts_with("other-")).collect();
    assert_eq!(found.len(), 7);
    found
}

#[tokio::test]
async fn each_flavour_starts_exactly_one_job() {
    for (name, body) in uploads() {
        let here = Deployment::new();
        here.save_rule("studio", "r", &rule()).await;
        here.grants.set(OBJECT, 4096, ETAG);
        let parsed = parse(body.as_bytes()).unwrap();
        assert_eq!(parsed.events.len(), 1, "{name}");
        assert_eq!(parsed.events[0].bytes, Some(4096), "{name}");
        let outcome = here.intake.offer(&parsed.events[0], None).await.unwrap();
        let Outcome::Started(job) = outcome else { panic!("{name}: {outcome:?}") };
        let jobs = here.jobs().await;
        assert_eq!(jobs.len(), 1, "{name}");
        let request = &jobs[0].request;
        assert_eq!((jobs[0].id, request.source.locator.as_str(), request.source.bytes), (job, OBJECT, 4096), "{name}");
        assert_eq!((request.tenant.as_str(), request.base.as_str()), ("studio", "holiday_film_1"), "{name}");
        assert_eq!(request.output.as_deref(), Some("s3://media-out/hls/"));
    }
}

#[tokio::test]
async fn other_documents_start_nothing() {
    let mut num_confirmations = 0;
    for (name, body) in recorded().into_iter().filter(|(name, _)| name.starts_with("other-")) {
        let parsed = parse(body.as_bytes()).unwrap();
        assert!(parsed.events.is_empty(), "{name}");
        assert_eq!(parsed.num_ignored + parsed.confirm.len(), 1, "{name}");
        num_confirmations += parsed.confirm.len();
    }
    assert_eq!(num_confirmations, 1);
}

#[tokio::test]
async fn a_hundred_replays_of_all_flavours_in_any_order_are_one_job_per_object() {
    let here = Deployment::new();
    here.save_rule("studio", "r", &rule()).await;
    here.grants.set(OBJECT, 4096, ETAG);
    let other = "s3://media-in/in/second.mp4";
    here.grants.set(other, 5, "e2");
    let mut documents: Vec<String> = Vec::new();
    for (_, body) in recorded() {
        documents.extend(std::iter::repeat_n(body.clone(), 100));
        documents.push(body.replace("in/holiday+film%2B1.mp4", "in/second.mp4").replace(ETAG, "e2"));
    }
    documents.shuffle(&mut SmallRng::seed_from_u64(7));
    let mut num_started = 0;
    for body in &documents {
        for event in parse(body.as_bytes()).unwrap().events {
            match here.intake.offer(&event, None).await.unwrap() {
                Outcome::Started(_) => num_started += 1,
                Outcome::Existing(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let jobs = here.jobs().await;
    assert_eq!((num_started, jobs.len()), (2, 2));
    // A new version of the object is a new job, and only one.
    here.grants.set(OBJECT, 4097, "another");
    let event = UploadEvent::exact("media-in", "in/holiday film+1.mp4");
    assert!(matches!(here.intake.offer(&event, None).await.unwrap(), Outcome::Started(_)));
    assert!(matches!(here.intake.offer(&event, None).await.unwrap(), Outcome::Existing(_)));
}

#[tokio::test]
async fn concurrent_replays_are_one_job() {
    let here = Arc::new(Deployment::new());
    here.save_rule("studio", "r", &rule()).await;
    here.grants.set(OBJECT, 4096, ETAG);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let here = here.clone();
            let event = UploadEvent::exact("media-in", "in/holiday film+1.mp4");
            tokio::spawn(async move { here.intake.offer(&event, None).await.unwrap() })
        })
        .collect();
    let mut num_started = 0;
    for task in tasks {
        num_started += usize::from(matches!(task.await.unwrap(), Outcome::Started(_)));
    }
    assert_eq!((num_started, here.jobs().await.len()), (1, 1));
}

#[tokio::test]
async fn storage_decides_what_an_event_means() {
    let here = Deployment::new();
    here.save_rule("studio", "r", &rule()).await;
    let mut event = UploadEvent::exact("media-in", "in/a.mp4");
    assert_eq!(here.intake.offer(&event, None).await.unwrap(), Outcome::Gone);
    here.grants.set("s3://media-in/in/a.mp4", 0, "v");
    assert_eq!(here.intake.offer(&event, None).await.unwrap(), Outcome::NotReady);
    here.grants.set("s3://media-in/in/a.mp4", 9, "v");
    here.grants.is_down.store(true, Ordering::SeqCst);
    assert!(here.intake.offer(&event, None).await.unwrap_err().is_temporary());
    here.grants.is_down.store(false, Ordering::SeqCst);
    assert_eq!(here.intake.offer(&event, Some("nobody")).await.unwrap(), Outcome::NoRule);
    event.keys = vec!["out/a.mp4".into()];
    assert_eq!(here.intake.offer(&event, None).await.unwrap(), Outcome::NoRule);
    for (bucket, key) in [("media-out", "hls/a.mp4"), ("work", "jobs/x/a.mp4")] {
        let heads = here.grants.num_heads.load(Ordering::SeqCst);
        let event = UploadEvent::exact(bucket, key);
        assert_eq!(here.intake.offer(&event, None).await.unwrap(), Outcome::OwnOutput);
        assert_eq!(here.grants.num_heads.load(Ordering::SeqCst), heads);
    }
    assert!(here.jobs().await.is_empty());
    // Both readings of a key exist: the entity tag decides which was meant.
    here.grants.set("s3://media-in/in/x y.mp4", 9, "\"space\"");
    here.grants.set("s3://media-in/in/x+y.mp4", 9, "\"plus\"");
    for (etag, locator) in [("plus", "in/x+y.mp4"), ("space", "in/x y.mp4")] {
        let body = json!({ "Records": [{ "eventName": "ObjectCreated:Put", "eventSource": "ceph:s3", "s3": {
            "bucket": { "name": "media-in" }, "object": { "key": "in/x+y.mp4", "eTag": etag } } }] });
        let event = parse(body.to_string().as_bytes()).unwrap().events.remove(0);
        assert!(matches!(here.intake.offer(&event, None).await.unwrap(), Outcome::Started(_)));
        assert_eq!(here.jobs().await[0].request.source.locator, format!("s3://media-in/{locator}"));
    }
}

#[tokio::test]
async fn an_upload_that_has_to_rest_is_taken_when_it_does() {
    let here = Deployment::new();
    here.save_rule("studio", "r", &Rule { settle_seconds: 10, ..rule() }).await;
    let event = UploadEvent::exact("media-in", "in/a.mp4");
    here.grants.set("s3://media-in/in/a.mp4", 10, "v1");
    for _ in 0..5 {
        assert_eq!(here.intake.offer(&event, None).await.unwrap(), Outcome::NotReady);
        assert!(here.intake.release_held().await.unwrap().is_empty());
        here.clock.advance(1000);
    }
    here.grants.set("s3://media-in/in/a.mp4", 20, "v2");
    here.clock.advance(5000);
    assert_eq!(here.intake.release_held().await.unwrap(), [Outcome::NotReady]);
    here.clock.advance(9999);
    assert!(here.intake.release_held().await.unwrap().is_empty());
    here.clock.advance(1);
    here.grants.is_down.store(true, Ordering::SeqCst);
    assert!(here.intake.release_held().await.unwrap().is_empty());
    here.grants.is_down.store(false, Ordering::SeqCst);
    here.clock.advance(30_000);
    assert!(matches!(here.intake.release_held().await.unwrap()[..], [Outcome::Started(_)]));
    assert!(here.intake.release_held().await.unwrap().is_empty());
    assert_eq!(here.jobs().await[0].request.source.version, "v2");
}

#[tokio::test]
async fn what_the_quota_has_no_room_for_waits_and_starts_when_there_is() {
    let here = Deployment::new();
    here.save_rule("studio", "r", &rule()).await;
    here.save_quota("studio", Some(2)).await;
    let offer = async |n: u32| {
        here.grants.set(&format!("s3://media-in/in/{n}.mp4"), 9, "v");
        here.clock.advance(10);
        here.intake.offer(&UploadEvent::exact("media-in", &format!("in/{n}.mp4")), None).await.unwrap()
    };
    for n in 0..2 {
        assert!(matches!(offer(n).await, Outcome::Started(_)));
    }
    for n in 2..7 {
        assert_eq!(offer(n).await, Outcome::Waiting);
    }
    // A replay of what has its job, and of what waits, changes nothing.
    assert!(matches!(offer(0).await, Outcome::Existing(_)));
    assert_eq!(offer(3).await, Outcome::Waiting);
    here.clock.advance(30_000);
    let heads = here.grants.num_heads.load(Ordering::SeqCst);
    assert_eq!(here.intake.release_held().await.unwrap(), [Outcome::Waiting]);
    assert_eq!(here.grants.num_heads.load(Ordering::SeqCst), heads + 1, "storage is asked once for all that wait");
    let open = async || here.jobs().await.into_iter().filter(|job| !job.state.is_ended()).count();
    for left in [3, 1, 0] {
        here.cancel_all().await;
        here.clock.advance(30_100);
        let released = here.intake.release_held().await.unwrap();
        let num_started = released.iter().filter(|outcome| matches!(outcome, Outcome::Started(_))).count();
        assert_eq!((num_started, open().await), if left > 0 { (2, 2) } else { (1, 1) }, "{released:?}");
    }
    let bases: Vec<String> = here.jobs().await.into_iter().rev().map(|job| job.request.base).collect();
    assert_eq!(bases, ["0", "1", "2", "3", "4", "5", "6"], "the longest waiting first");
}

#[tokio::test]
async fn the_route_checks_the_sender_and_tells_outcomes() {
    let here = Deployment::new();
    here.save_rule("studio", "r", &rule()).await;
    here.grants.set(OBJECT, 4096, ETAG);
    let secrets = vec![SharedSecret::new("a secret of the topic", Some("studio".into())).unwrap()];
    assert!(SharedSecret::new("short", None).is_none());
    let (router, _) = events_router(here.intake.clone(), here.directory.tokens.clone(), secrets).split_for_parts();
    let studio = here.token("studio", &[Scope::Ingest]).await;
    let other = here.token("other", &[Scope::Ingest]).await;
    let reader = here.token("studio", &[Scope::JobsRead]).await;
    let (_, aws) = uploads().remove(0);
    let post = |uri: &str, token: Option<&str>, secret: Option<&str>, body: &str| {
        let mut builder = Request::builder().method("POST").uri(uri).header("content-type", "text/plain");
        if let Some(token) = token {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        if let Some(secret) = secret {
            builder = builder.header("x-splitreel-secret", secret);
        }
        builder.body(Body::from(body.to_owned())).unwrap()
    };
    let path = "/v1/events/s3";
    for (uri, token, secret, status) in [
        (path, None, None, 401),
        (path, Some("wrong"), None, 401),
        (path, Some(reader.as_str()), None, 403),
        (path, None, Some("not the secret of the topic"), 401),
        (path, Some(studio.as_str()), Some("not the secret of the topic"), 401),
        ("/v1/events/s3?secret=nope", None, None, 401),
    ] {
        let (answered, body) = read_json(call(&router, None, post(uri, token, secret, &aws)).await).await;
        assert_eq!(answered.as_u16(), status, "{uri} {token:?} {secret:?} {body}");
        assert!(body["code"].is_string());
    }
    assert!(here.jobs().await.is_empty());
    let outcome = |token: &str| {
        let (router, request) = (router.clone(), post(path, Some(token), None, &aws));
        async move { read_json(call(&router, None, request).await).await }
    };
    let (status, body) = outcome(&other).await;
    assert_eq!((status, body["events"][0]["outcome"].as_str()), (StatusCode::OK, Some("no_rule")));
    here.grants.is_down.store(true, Ordering::SeqCst);
    let response = call(&router, None, post(path, Some(&studio), None, &aws)).await;
    assert_eq!(
        (response.status(), response.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "5")
    );
    here.grants.is_down.store(false, Ordering::SeqCst);
    let (_, body) = outcome(&studio).await;
    assert_eq!(body["events"][0]["outcome"], "started");
    let (_, body) = outcome(ADMIN).await;
    assert_eq!(body["events"][0]["outcome"], "existing");
    for request in [
        post("/v1/events/s3?secret=a%20secret%20of%20the%20topic", None, None, &aws),
        post(path, None, Some("a secret of the topic"), &aws),
    ] {
        let (_, body) = read_json(call(&router, None, request).await).await;
        assert_eq!(body["events"][0]["outcome"], "existing");
    }
    let confirmation = recorded().into_iter().find(|(name, _)| name == "other-sns-confirmation").unwrap().1;
    let (status, body) = read_json(call(&router, None, post(path, Some(ADMIN), None, &confirmation)).await).await;
    assert_eq!((status, &body["is_confirmation_needed"]), (StatusCode::OK, &json!(true)));
    let giant = "x".repeat(2 << 20);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for (body, status) in [("", 400), ("{}", 400), ("garbage", 400), (&*deep, 400), (&*giant, 413)] {
        assert_eq!(call(&router, None, post(path, Some(ADMIN), None, body)).await.status().as_u16(), status);
    }
    for method in ["GET", "HEAD"] {
        assert_eq!(call(&router, None, json_request(method, path, None)).await.status(), StatusCode::OK);
    }
    assert_eq!(call(&router, Some(&caller("t", &[])), json_request("PUT", path, None)).await.status().as_u16(), 405);
    assert_eq!(here.jobs().await.len(), 1);
}
