//! Tokens, limits, quotas, tenants.

use crate::stage::{ROOT, SOURCE, Stage, config};
use serde_json::json;
use splitreel_backend::records::RecordFilter;
use splitreel_backend::world::Machine;
use splitreel_backend::{Records, World};
use splitreel_client::types::Scope;
use splitreel_coordinator::api::router;
use splitreel_coordinator::directory::{Directory, DirectoryConfig};
use splitreel_telemetry::redact::Secret;
use std::sync::Arc;

#[tokio::test]
async fn a_token_is_kept_as_a_hash_and_ends_when_it_should() {
    let stage = Stage::new();
    let body = json!({"name": "n", "tenant": "a", "scopes": ["jobs.read"], "expires_in_seconds": 60});
    let made = stage.ask("POST", "/v1/tokens", ROOT, Some(body)).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let (secret, id) = (made.json()["secret"].clone(), made.json()["token"]["id"].clone());
    let (secret, id) = (secret.as_str().unwrap(), id.as_str().unwrap());
    let filter = RecordFilter { kind: "token".into(), limit: 10, ..RecordFilter::default() };
    for record in stage.records.list(filter).await.unwrap() {
        assert!(!record.doc.to_string().contains(secret.rsplit('_').next().unwrap()));
    }
    assert!(!stage.ask("GET", "/v1/tokens", ROOT, None).await.json().to_string().contains(secret));
    let me = stage.ask("GET", "/v1/me", secret, None).await.json();
    assert_eq!(me, json!({"tenant": "a", "scopes": ["jobs.read"], "is_admin": false}));
    stage.advance(60_000);
    assert_eq!(stage.ask("GET", "/v1/me", secret, None).await.code(), "unauthenticated");
    assert_eq!(stage.ask("DELETE", &format!("/v1/tokens/{id}"), ROOT, None).await.status, 204);
    assert_eq!(stage.ask("DELETE", &format!("/v1/tokens/{id}"), ROOT, None).await.status, 404);
}

#[tokio::test]
async fn a_revoked_token_ends_here_at_once_and_elsewhere_soon() {
    let stage = Stage::new();
    let token = stage.token("a", &[Scope::JobsRead]).await;
    let id = token.split('_').nth(1).unwrap();
    let elsewhere = router(&stage.second());
    let there = async || {
        let request = crate::stage::request("GET", "/v1/me", &token, &[], None);
        tower::ServiceExt::oneshot(elsewhere.clone(), request).await.unwrap().status().as_u16()
    };
    assert_eq!((stage.ask("GET", "/v1/me", &token, None).await.status, there().await), (200, 200));
    assert_eq!(stage.ask("DELETE", &format!("/v1/tokens/{id}"), ROOT, None).await.status, 204);
    assert_eq!((stage.ask("GET", "/v1/me", &token, None).await.status, there().await), (401, 200));
    stage.advance(5_000);
    assert_eq!(there().await, 401);
}

#[tokio::test]
async fn nobody_gives_or_takes_more_than_he_has() {
    let stage = Stage::new();
    let own = stage.token("a", &[Scope::TokensWrite, Scope::JobsRead]).await;
    let strong = stage.token("a", &[Scope::Admin]).await;
    let make = async |body| stage.ask("POST", "/v1/tokens", &own, Some(body)).await;
    assert_eq!(make(json!({"name": "n", "scopes": ["jobs.read"]})).await.status, 201);
    for scope in ["admin", "work", "jobs.write"] {
        assert_eq!(make(json!({"name": "n", "scopes": [scope]})).await.code(), "forbidden", "{scope}");
    }
    assert_eq!(make(json!({"name": "n", "scopes": ["jobs.read"], "tenant": "b"})).await.code(), "forbidden");
    assert_eq!(
        make(json!({"name": "", "scopes": [], "tenant": "/"})).await.json()["errors"].as_array().unwrap().len(),
        3
    );
    let id = strong.split('_').nth(1).unwrap();
    assert_eq!(stage.ask("DELETE", &format!("/v1/tokens/{id}"), &own, None).await.code(), "forbidden");
    // Of other tenants none is listed.
    stage.token("b", &[Scope::JobsRead]).await;
    let listed = stage.ask("GET", "/v1/tokens", &own, None).await.json();
    assert!(listed["tokens"].as_array().unwrap().iter().all(|t| t["tenant"] == "a"));
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn requests_are_counted_by_token_and_let_through_again() {
    let stage = Stage::new();
    let (token, other) = (stage.token("a", &[Scope::JobsRead]).await, stage.token("a", &[Scope::JobsRead]).await);
    let limits = json!({"requests_per_second": 2});
    assert_eq!(stage.ask("PUT", "/v1/tenants/a", ROOT, Some(limits)).await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(stage.ask("GET", "/v1/me", &token, None).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    let refused = stage.ask("GET", "/v1/me", &token, None).await;
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("rate_limited", "1"));
    assert_eq!(stage.ask("GET", "/v1/me", &other, None).await.status, 200);
    stage.advance(1_000);
    assert_eq!(stage.ask("GET", "/v1/me", &token, None).await.status, 200);
}

#[tokio::test]
async fn a_tenant_has_no_more_open_jobs_than_it_may() {
    let stage = Stage::new();
    let token = stage.token("a", &[Scope::JobsRead, Scope::JobsWrite]).await;
    assert_eq!(stage.ask("PUT", "/v1/tenants/a", ROOT, Some(json!({"max_open_jobs": 2}))).await.status, 200);
    let post = async |key: &str| {
        let body = Some(json!({"source": SOURCE}));
        stage.ask_with("POST", "/v1/jobs", &token, &[("idempotency-key", key)], body).await
    };
    let first = post("1").await;
    assert_eq!((first.status, post("2").await.status), (201, 201));
    let third = post("3").await;
    assert_eq!(third.code(), "quota_exceeded");
    third.header("retry-after");
    assert_eq!(post("1").await.status, 200, "a repetition is no new job");
    let job = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(stage.ask("POST", &format!("/v1/jobs/{job}/cancel"), &token, None).await.status, 200);
    assert_eq!(post("3").await.status, 201);
}

#[tokio::test]
async fn a_tenants_sources_may_be_kept_to_places() {
    let stage = Stage::new();
    let token = stage.token("a", &[Scope::JobsWrite]).await;
    let places = json!({"source_prefixes": ["s3://films/a/"]});
    assert_eq!(stage.ask("PUT", "/v1/tenants/a", ROOT, Some(places)).await.status, 200);
    let post = async |source| stage.ask("POST", "/v1/jobs", &token, Some(json!({"source": source}))).await.status;
    assert_eq!(post("s3://films/a/here.mp4").await, 201);
    for bad in ["s3://films/b/here.mp4", "s3://films/a/../b/here.mp4", "s3://films/a-here.mp4"] {
        assert_eq!(post(bad).await, 422, "{bad}");
    }
}

#[tokio::test]
async fn tenants_are_the_shares_of_dispatch() {
    let stage = Stage::new();
    let settings = json!({"weight": 5, "max_in_flight": 7});
    let saved = stage.ask("PUT", "/v1/tenants/a", ROOT, Some(settings)).await;
    let directory =
        Directory::new(DirectoryConfig::default(), stage.records.clone(), World::machine(), Arc::new(Machine)).unwrap();
    let shares = directory.tenants.shares().await.unwrap();
    assert_eq!((shares.of("a").weight, shares.of("a").max_in_flight), (5, Some(7)));
    assert_eq!(shares.of("b").weight, 1);
    let stale = [("if-match", "\"v9\"")];
    let refused = stage.ask_with("PUT", "/v1/tenants/a", ROOT, &stale, Some(json!({}))).await;
    assert_eq!(refused.code(), "changed");
    let fresh = [("if-match", saved.header("etag"))];
    assert_eq!(stage.ask_with("PUT", "/v1/tenants/a", ROOT, &fresh, Some(json!({}))).await.status, 200);
    let bad = json!({"weight": 0, "requests_per_second": 0});
    assert_eq!(stage.ask("PUT", "/v1/tenants/a", ROOT, Some(bad)).await.json()["errors"].as_array().unwrap().len(), 2);
    assert_eq!(stage.ask("GET", "/v1/tenants/none", ROOT, None).await.json()["version"], 0);
}

#[test]
fn unsafe_settings_are_refused() {
    let mut short = config();
    short.signing_key = Secret::new(b"short".to_vec());
    let mut origin = config();
    origin.cors_origins = vec!["example.org".into()];
    for bad in [short, origin] {
        assert!(std::panic::catch_unwind(|| Stage::with(bad)).is_err());
    }
}
