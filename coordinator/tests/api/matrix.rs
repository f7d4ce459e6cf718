//! Every route × every kind of caller: what is expected is derived from the table of routes alone.

use crate::stage::{ROOT, SOURCE, Stage, fresh, probe_result, request, tokens};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use splitreel_client::routes::{WORK_OPENAPI, WORK_PREFIX};
use splitreel_client::types::Scope;
use splitreel_coordinator::api::routes::{Access, ROUTES, Reach, Route};
use splitreel_coordinator::api::{openapi, worker_protocol};
use splitreel_core::task::TaskKind;
use std::collections::{BTreeMap, BTreeSet};

/// Things of tenant `a` that routes can be tried on.
struct Things {
    job: String,
    published: String,
    failed: String,
    token: String,
    etag: String,
    lease: String,
    ticket: String,
    play: String,
}

async fn things(stage: &Stage, all: &BTreeMap<Scope, String>) -> Things {
    let write = &all[&Scope::JobsWrite];
    let (job, published, failed) = (stage.job(write).await, stage.job(write).await, stage.job(write).await);
    stage.plan(job).await;
    stage.publish(published, &[("report.json", b"{}"), ("master.m3u8", b"#EXTM3U\n")]).await;
    stage.coordinator.cancel(failed).await.unwrap();
    let token = json!({"name": "x", "scopes": ["tokens.write"], "tenant": "a"});
    let token = stage.ask("POST", "/v1/tokens", ROOT, Some(token)).await.json()["token"]["id"].clone();
    let mut profile = serde_json::to_value(splitreel_core::profile::Profile::built_in("universal").unwrap()).unwrap();
    profile["name"] = json!("mine");
    let saved = stage.ask("PUT", "/v1/profiles/mine", &all[&Scope::ProfilesWrite], Some(profile)).await;
    assert_eq!(saved.status, 201, "{saved:?}");
    let claimed = stage.job(write).await;
    let claim = json!({"ring": stage.wakeup(claimed, 0, TaskKind::Probe), "worker": "w", "lease": fresh(), "protocol": splitreel_client::types::PROTOCOL});
    let order = stage.ask("POST", "/v1/work/claim", ROOT, Some(claim)).await.json();
    let lease = format!("{claimed}/0/{}", order["order"]["lease"].as_str().unwrap());
    let playback = stage.ask("POST", &format!("/v1/jobs/{published}/playback"), ROOT, None).await.json();
    let hello = json!({"worker": "w", "slots": 2, "protocol": splitreel_client::types::PROTOCOL});
    drop(stage.send(request("POST", "/v1/work/presence", ROOT, &[], Some(hello))).await);
    Things {
        job: job.to_string(),
        published: published.to_string(),
        failed: failed.to_string(),
        token: token.as_str().unwrap().to_owned(),
        etag: saved.header("etag").to_owned(),
        lease,
        ticket: order["ticket"].as_str().unwrap().to_owned(),
        play: playback["base"].as_str().unwrap().to_owned(),
    }
}

/// A good request to a route and the status of its success.
fn sample(route: &Route, t: &Things, token: &str) -> (Request<Body>, u16) {
    let path = route.path.replace("{*path}", "report.json");
    let published = path.replace("{id}", &t.published);
    let open = path.replace("{id}", &t.job);
    let work = path.replace("{job}/{task}/{lease}", &t.lease);
    let (job, lease) = (t.lease.split('/').next().unwrap(), t.lease.rsplit('/').next().unwrap());
    let get = |path: &str, status| (request("GET", path, token, &[], None), status);
    let send = |verb: &str, path: &str, body: Option<Value>, status| (request(verb, path, token, &[], body), status);
    let profile = |name: &str| {
        let profile = splitreel_core::profile::Profile::built_in("universal").unwrap();
        let mut profile = serde_json::to_value(profile).unwrap();
        profile["name"] = json!(name);
        Some(profile)
    };
    match (route.method.as_str(), route.path) {
        ("GET", "/play/{grant}/{*path}") => get(&format!("{}report.json", t.play), 200),
        ("GET", "/v1/jobs/{id}/report" | "/v1/jobs/{id}/files" | "/v1/jobs/{id}/files/{*path}") => get(&published, 200),
        // It is no WebSocket's handshake; that is found out after who may is.
        ("GET", "/v1/jobs/{id}/events/ws" | "/v1/events/ws") => get(&open, 400),
        ("GET", "/v1/profiles/{name}") => get("/v1/profiles/mine", 200),
        ("GET", "/v1/tokens/{id}") => get(&format!("/v1/tokens/{}", t.token), 200),
        ("GET", "/v1/tenants/{tenant}") => get("/v1/tenants/a", 200),
        ("GET", _) => get(&open, 200),
        ("POST", "/v1/jobs") => send("POST", &path, Some(json!({"source": SOURCE})), 201),
        ("POST", "/v1/jobs/{id}/retry") => send("POST", &path.replace("{id}", &t.failed), None, 200),
        ("POST", "/v1/jobs/{id}/playback") => send("POST", &published, None, 200),
        ("POST", "/v1/quote") => send("POST", &path, Some(json!({"source": SOURCE})), 200),
        ("POST", "/v1/tokens") => send("POST", &path, Some(json!({"name": "y", "scopes": ["tokens.write"]})), 201),
        ("POST", "/v1/workers/{worker}/drain") => send("POST", "/v1/workers/w/drain", None, 202),
        ("POST", "/v1/work/presence") => send(
            "POST",
            &path,
            Some(json!({"worker": "v", "slots": 1, "protocol": splitreel_client::types::PROTOCOL})),
            200,
        ),
        ("POST", "/v1/work/claim") => {
            let wakeup = json!({"task": {"job": t.job, "number": 1}, "attempt": 1, "kind": "whole"});
            send(
                "POST",
                &path,
                Some(
                    json!({"ring": wakeup, "worker": "w", "lease": fresh(), "protocol": splitreel_client::types::PROTOCOL}),
                ),
                200,
            )
        }
        ("POST", "/v1/work/{job}/{task}/{lease}/renew") => {
            let progress = json!({"done_per_mille": 5, "speed_milli": 0, "frames": 1});
            send("POST", &work, Some(json!({"progress": progress})), 200)
        }
        ("POST", "/v1/work/{job}/{task}/{lease}/complete") => {
            let result = probe_result(&format!("jobs/{job}/0/1-{lease}/"));
            send("POST", &work, Some(json!({"result": result})), 204)
        }
        ("POST", "/v1/work/{job}/{task}/{lease}/fail") => {
            let failure = json!({"class": "infra", "code": "x", "message": "y"});
            send("POST", &work, Some(json!({"failure": failure})), 204)
        }
        ("POST", "/v1/work/{job}/{task}/{lease}/objects") => {
            let objects = json!([{"key": format!("jobs/{job}/0/1-{lease}/o"), "bytes": 1}]);
            send("POST", &work, Some(json!({"attempt": 1, "ticket": t.ticket, "objects": objects})), 200)
        }
        ("POST", "/v1/work/{job}/{task}/{lease}/reads") => {
            let keys = json!([format!("jobs/{job}/0/1-{lease}/o")]);
            send("POST", &work, Some(json!({"attempt": 1, "ticket": t.ticket, "keys": keys})), 200)
        }
        ("POST", _) => send("POST", &open, None, 200),
        ("PUT", "/v1/profiles/{name}") => send("PUT", "/v1/profiles/new", profile("new"), 201),
        ("PUT", "/v1/tenants/{tenant}") => send("PUT", "/v1/tenants/a", Some(json!({"weight": 2})), 200),
        ("DELETE", "/v1/profiles/{name}") => {
            let if_match = [("if-match", t.etag.as_str())];
            (request("DELETE", "/v1/profiles/mine", token, &if_match, None), 204)
        }
        ("DELETE", "/v1/tokens/{id}") => send("DELETE", &format!("/v1/tokens/{}", t.token), None, 204),
        ("DELETE", "/v1/tenants/{tenant}") => send("DELETE", "/v1/tenants/a", None, 204),
        (verb, path) => panic!("{verb} {path} has no sample: give it one"),
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
enum Who {
    Nobody,
    WrongToken,
    Own(Scope),
    OtherTenant(Scope),
    Root,
}

/// A stage with things and with tokens of two tenants.
struct Scene {
    stage: Stage,
    own: BTreeMap<Scope, String>,
    other: BTreeMap<Scope, String>,
    things: Things,
    wrong: String,
}

impl Scene {
    async fn new(route: &Route) -> Scene {
        let stage = Stage::new();
        if route.path.contains("/work/") {
            *stage.links.base.lock().unwrap() = Some("http://127.0.0.1:1/o".to_owned());
        }
        let (own, other) = (tokens(&stage, "a").await, tokens(&stage, "b").await);
        let things = things(&stage, &own).await;
        let wrong = format!("splitreel_{}_{}", "0".repeat(32), "1".repeat(64));
        Scene { stage, own, other, things, wrong }
    }

    fn token(&self, who: Who) -> &str {
        match who {
            Who::Nobody => "",
            Who::WrongToken => &self.wrong,
            Who::Own(scope) => &self.own[&scope],
            Who::OtherTenant(scope) => &self.other[&scope],
            Who::Root => ROOT,
        }
    }
}

/// What the table says; `None`: whatever a success is.
fn expected(access: Access, who: Who) -> Option<u16> {
    let Access::Scoped(scope, reach) = access else {
        let needs_token = access == Access::AnyToken;
        return matches!(who, Who::Nobody | Who::WrongToken).then_some(401).filter(|_| needs_token);
    };
    match who {
        Who::Nobody | Who::WrongToken => Some(401),
        Who::Root => None,
        Who::Own(Scope::Admin) | Who::OtherTenant(Scope::Admin) => None,
        Who::Own(held) => (held != scope).then_some(403),
        Who::OtherTenant(held) if held != scope => Some(403),
        Who::OtherTenant(_) => (reach == Reach::Thing).then_some(404),
    }
}

#[tokio::test]
async fn every_route_admits_whom_the_table_says() {
    let mut whos = vec![Who::Nobody, Who::WrongToken, Who::Root];
    whos.extend(Scope::ALL.map(Who::Own));
    whos.extend(Scope::ALL.map(Who::OtherTenant));
    let mut wrong = Vec::new();
    let mut tried = 0;
    for route in ROUTES {
        // Who is refused changes nothing: all of them meet the same things. A success has things of its own.
        let shared = Scene::new(route).await;
        for who in &whos {
            // Administrators of another tenant act on what a tenant keeps under names of its own: not on this.
            let is_named_by_tenant = route.path.starts_with("/v1/profiles/{name}");
            if is_named_by_tenant && matches!(who, Who::OtherTenant(Scope::Admin) | Who::Root) {
                continue;
            }
            let refusal = expected(route.access, *who);
            let own;
            let scene = match refusal {
                Some(_) => &shared,
                None => {
                    own = Scene::new(route).await;
                    &own
                }
            };
            let (request, success) = sample(route, &scene.things, scene.token(*who));
            let expected = refusal.unwrap_or(success);
            let found = scene.stage.send(request).await.status().as_u16();
            tried += 1;
            if found != expected {
                let (verb, path) = (route.method.as_str(), route.path);
                wrong.push(format!("{verb} {path} by {who:?}: {found}, expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 800, "{tried}");
}

#[tokio::test]
async fn the_table_the_router_and_the_document_name_the_same_routes() {
    let stage = Stage::new();
    let is_work = |path: &str| path.starts_with(WORK_PREFIX);
    let is_documented = |path: &str| (path.starts_with("/v1/") || path.starts_with("/play/")) && path != WORK_OPENAPI;
    for (text, is_protocol) in [(openapi(&stage.api), false), (worker_protocol(&stage.api), true)] {
        let document: Value = serde_json::from_str(&text).unwrap();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let verbs = ["get", "post", "put", "patch", "delete"].into_iter().filter(|v| item.get(*v).is_some());
                verbs.map(|v| (v.to_uppercase(), path.clone())).collect::<Vec<_>>()
            })
            .collect();
        let ruled: BTreeSet<(String, String)> = ROUTES
            .iter()
            .filter(|r| is_documented(r.path) && is_work(r.path) == is_protocol)
            .map(|r| (r.method.as_str().to_owned(), r.path.replace("{*", "{")))
            .collect();
        assert_eq!(documented, ruled);
    }
}

#[tokio::test]
async fn another_tenants_things_look_like_things_that_never_were() {
    let stage = Stage::new();
    let (a, b) = (stage.token("a", &[Scope::JobsWrite]).await, stage.token("b", &[Scope::JobsRead]).await);
    let job = stage.job(&a).await;
    let never = uuid::Uuid::from_u128(7);
    for what in ["", "/tasks", "/events", "/plan", "/report", "/files", "/files/x"] {
        let there = stage.ask("GET", &format!("/v1/jobs/{job}{what}"), &b, None).await;
        let not_there = stage.ask("GET", &format!("/v1/jobs/{never}{what}"), &b, None).await;
        assert_eq!((there.status, &there.body), (404, &not_there.body), "{what}");
    }
    let list = stage.ask("GET", "/v1/jobs", &b, None).await.json();
    assert_eq!(list["jobs"], json!([]));
    assert_eq!(stage.ask("GET", "/v1/jobs?tenant=a", &b, None).await.status, 403);
    assert_eq!(stage.ask("GET", "/v1/events", &b, None).await.json()["events"], json!([]));
}
