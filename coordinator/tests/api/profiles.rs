//! Profiles: versions, conditions, mistakes.

use crate::stage::{SOURCE, Stage};
use serde_json::{Value, json};
use splitreel_client::types::Scope;
use splitreel_core::profile::Profile;

const SCOPES: [Scope; 3] = [Scope::ProfilesWrite, Scope::JobsRead, Scope::JobsWrite];

fn profile(gop: f64) -> Value {
    let mut profile = Profile::built_in("universal").unwrap();
    profile.name = "mine".into();
    profile.video.gop_seconds = gop;
    serde_json::to_value(profile).unwrap()
}

#[tokio::test]
async fn versions_are_added_under_conditions_and_can_be_named() {
    let stage = Stage::new();
    let token = stage.token("a", &SCOPES).await;
    let put = async |gop, headers: &[(&str, &str)]| {
        stage.ask_with("PUT", "/v1/profiles/mine", &token, headers, Some(profile(gop))).await
    };
    let first = put(1.0, &[("if-none-match", "*")]).await;
    assert_eq!((first.status, &first.json()["version"]), (201, &json!(1)));
    assert_eq!(put(2.0, &[]).await.code(), "precondition_required");
    assert_eq!(put(2.0, &[("if-none-match", "*")]).await.code(), "exists");
    let second = put(2.0, &[("if-match", first.header("etag"))]).await;
    assert_eq!((second.status, &second.json()["version"]), (200, &json!(2)));
    assert_eq!(put(3.0, &[("if-match", first.header("etag"))]).await.code(), "changed");
    let get = async |which: &str| stage.ask("GET", &format!("/v1/profiles/mine{which}"), &token, None).await;
    assert_eq!(get("").await.json()["profile"]["video"]["gop_seconds"], 2.0);
    assert_eq!(get("?version=1").await.json()["profile"]["video"]["gop_seconds"], 1.0);
    assert_eq!(get("?version=9").await.code(), "not_found");
    let job = async |name: &str| {
        stage.ask("POST", "/v1/jobs", &token, Some(json!({"source": SOURCE, "profile": name}))).await
    };
    assert_eq!((job("mine").await.status, job("mine@1").await.status, job("mine@7").await.status), (201, 201, 422));
    let listed = stage.ask("GET", "/v1/profiles", &token, None).await.json();
    let names: Vec<&str> = listed["profiles"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["universal", "efficiency", "passthrough", "mine"]);
    let delete =
        async |headers: &[(&str, &str)]| stage.ask_with("DELETE", "/v1/profiles/mine", &token, headers, None).await;
    assert_eq!(delete(&[]).await.code(), "precondition_required");
    assert_eq!(delete(&[("if-match", second.header("etag"))]).await.status, 204);
    assert_eq!((get("").await.code().as_str(), job("mine").await.status), ("not_found", 422));
    // Numbers go on: version 1 never means something else.
    assert_eq!(put(4.0, &[]).await.json()["version"], 3);
}

#[tokio::test]
async fn built_in_profiles_cannot_be_changed() {
    let stage = Stage::new();
    let token = stage.token("a", &SCOPES).await;
    let mut body = profile(2.0);
    body["name"] = json!("universal");
    assert_eq!(stage.ask("PUT", "/v1/profiles/universal", &token, Some(body)).await.code(), "read_only");
    assert_eq!(stage.ask("DELETE", "/v1/profiles/universal", &token, None).await.code(), "read_only");
    assert_eq!(stage.ask("GET", "/v1/profiles/universal", &token, None).await.json()["is_built_in"], true);
}

#[tokio::test]
async fn mistakes_are_told_all_at_once_with_remedies() {
    let stage = Stage::new();
    let token = stage.token("a", &SCOPES).await;
    let mut body = profile(99.0);
    body["name"] = json!("other");
    body["video"]["codec"] = json!("vp9");
    body["packaging"]["container"] = json!("mpegts");
    body["video"]["rungs"][1]["qp"] = json!(1);
    let answer = stage.ask("PUT", "/v1/profiles/mine", &token, Some(body.clone())).await;
    assert_eq!(answer.code(), "invalid");
    let errors = answer.json()["errors"].clone();
    let pointers: Vec<&str> = errors.as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/video/gop_seconds", "/video/rungs/1/crf", "/packaging/container", "/name"]);
    assert!(errors.as_array().unwrap().iter().all(|e| !e["hint"].as_str().unwrap().is_empty()));
    // Inline, in a job, they are reported in the same way.
    let job = json!({"source": SOURCE, "profile": body});
    let inline = stage.ask("POST", "/v1/jobs", &token, Some(job)).await.json();
    assert_eq!(inline["errors"][0]["pointer"], "/profile/video/gop_seconds");
    body["video"]["colour"] = json!(1);
    body["audio"]["kbps"] = json!("many");
    let shape = stage.ask("PUT", "/v1/profiles/mine", &token, Some(body)).await.json();
    let pointers: Vec<&str> =
        shape["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert!(pointers.contains(&"/video/colour") && pointers.contains(&"/audio/kbps"), "{pointers:?}");
}

#[tokio::test]
async fn profiles_of_tenants_do_not_meet() {
    let stage = Stage::new();
    let (a, b) = (stage.token("a", &SCOPES).await, stage.token("b", &SCOPES).await);
    assert_eq!(stage.ask("PUT", "/v1/profiles/mine", &a, Some(profile(2.0))).await.status, 201);
    assert_eq!(stage.ask("GET", "/v1/profiles/mine", &b, None).await.code(), "not_found");
    let job = json!({"source": SOURCE, "profile": "mine"});
    assert_eq!(stage.ask("POST", "/v1/jobs", &b, Some(job)).await.code(), "invalid");
    assert_eq!(stage.ask("PUT", "/v1/profiles/mine", &b, Some(profile(2.0))).await.status, 201);
}
