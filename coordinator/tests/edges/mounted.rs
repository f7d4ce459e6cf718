//! All these routes mounted beside the API's own: its tokens admit, its table has a rule for each.

use crate::fixture::{ADMIN, Deployment, call, json_request, read_json, rule};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use splitreel_backend::memory::MemoryBlobs;
use splitreel_backend::world::Machine;
use splitreel_backend_embedded::LocalUploads;
use splitreel_coordinator::api::{
    Api, ApiConfig, ApiSeams, RULES_ROUTES, UPLOADS_ROUTES, WEBHOOKS_ROUTES, events_router, openapi, router_with,
    rules_router, uploads_router, webhooks_router,
};
use splitreel_coordinator::uploads::{Uploads, UploadsConfig};
use splitreel_coordinator::webhooks::{Sender, SenderConfig};
use splitreel_telemetry::redact::Secret;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

struct Mounted {
    here: Deployment,
    api: Api,
    more: OpenApiRouter,
    router: Router,
}

fn mounted(folder: &Path) -> Mounted {
    let here = Deployment::new();
    let Deployment { records, world, coordinator, grants, directory, accept, intake, .. } = &here;
    let storage = Arc::new(LocalUploads::new(folder).unwrap());
    let config = UploadsConfig::default();
    let uploads = Uploads::new(storage, records.clone(), accept.clone(), world.clone(), config);
    let seams = ApiSeams {
        accept: accept.clone(),
        coordinator: coordinator.clone(),
        records: records.clone(),
        grants: grants.clone(),
        blobs: Arc::new(MemoryBlobs::new()),
        uploads: Some(uploads.clone()),
        more_rules: [RULES_ROUTES, WEBHOOKS_ROUTES, UPLOADS_ROUTES].concat(),
    };
    let api = Api::new(ApiConfig::new(Secret::new(vec![7; 32])), seams).unwrap();
    let sender = Sender::new(records.clone(), world.clone(), SenderConfig::default()).unwrap();
    let more = OpenApiRouter::new()
        .merge(rules_router(records.clone(), intake.clone(), world.clone()))
        .merge(events_router(intake.clone(), directory.tokens.clone(), Vec::new()))
        .merge(webhooks_router(records.clone(), sender, world.clone(), Arc::new(Machine)))
        .merge(uploads_router(uploads));
    let router = router_with(&api, more.clone());
    Mounted { here, api, more, router }
}

impl Mounted {
    async fn ask(&self, token: Option<&str>, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = json_request(method, path, body);
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let (status, body) = read_json(call(&self.router, None, request).await).await;
        (status.as_u16(), body)
    }

    async fn token(&self, tenant: &str, scopes: &[&str]) -> String {
        let body = json!({ "name": "test", "tenant": tenant, "scopes": scopes });
        let (status, made) = self.ask(Some(ADMIN), "POST", "/v1/tokens", Some(body)).await;
        assert_eq!(status, 201, "{made}");
        made["secret"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn every_route_has_a_rule_and_every_rule_a_route() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = mounted(folder.path());
    let document = serde_json::to_value(mounted.more.clone().into_openapi()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let verbs = ["get", "post", "put", "patch", "delete"];
        documented.extend(verbs.iter().filter(|v| item.get(v).is_some()).map(|v| (v.to_uppercase(), path.clone())));
    }
    let ruled: BTreeSet<_> = [RULES_ROUTES, WEBHOOKS_ROUTES, UPLOADS_ROUTES]
        .concat()
        .iter()
        .map(|route| (route.method.as_str().to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(documented, ruled);
    for (method, path) in ruled.iter().filter(|(_, path)| path != "/v1/events/s3") {
        let path = path.replace("{id}", "0190f3c4-0000-7000-8000-000000000000").replace("{delivery}", "1");
        assert_eq!(mounted.ask(None, method, &path, None).await.0, 401, "{method} {path}");
        assert_eq!(mounted.ask(Some("sr_wrong"), method, &path, None).await.0, 401, "{method} {path}");
    }
    // RustFS asks the root of an address before it sends events there.
    for path in ["/", "/v1/events/s3"] {
        assert_eq!(mounted.ask(None, "HEAD", path, None).await.0, 200, "{path}");
    }
    let unscoped = mounted.token("studio", &["jobs.read"]).await;
    for (method, path) in ruled.iter().filter(|(_, path)| path != "/v1/events/s3") {
        let path = path.replace("{id}", "0190f3c4-0000-7000-8000-000000000000").replace("{delivery}", "1");
        assert_eq!(mounted.ask(Some(&unscoped), method, &path, None).await.0, 403, "{method} {path}");
    }
}

#[tokio::test]
async fn a_tenants_profile_an_upload_and_an_event_meet() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = mounted(folder.path());
    let here = &mounted.here;
    let studio =
        mounted.token("studio", &["jobs.read", "jobs.write", "profiles.write", "uploads.write", "ingest"]).await;
    let mut profile = serde_json::to_value(splitreel_core::profile::Profile::built_in("universal").unwrap()).unwrap();
    profile["name"] = json!("house");
    let (status, saved) = mounted.ask(Some(&studio), "PUT", "/v1/profiles/house", Some(profile)).await;
    assert!(status == 200 || status == 201, "{status} {saved}");

    // An event, by the tenant's own profile.
    let house = json!({ "bucket": "media-in", "prefix": "in/", "profile": "house@1" });
    let (status, made) = mounted.ask(Some(ADMIN), "POST", "/v1/rules?tenant=studio", Some(house)).await;
    assert_eq!(status, 201, "{made}");
    let missing = json!({ "bucket": "media-in", "profile": "house@2" });
    assert_eq!(mounted.ask(Some(ADMIN), "POST", "/v1/rules?tenant=studio", Some(missing)).await.0, 422);
    here.save_rule("other", "r", &rule()).await;
    here.grants.set("s3://media-in/in/a.mp4", 9, "v");
    let event = json!({ "EventName": "s3:ObjectCreated:Put", "Key": "media-in/in/a.mp4" });
    let path = "/v1/events/s3";
    assert_eq!(mounted.ask(None, "POST", path, Some(event.clone())).await.0, 401);
    let (status, answer) = mounted.ask(Some(&studio), "POST", path, Some(event)).await;
    assert_eq!((status, &answer["events"][0]["outcome"]), (200, &json!("started")));
    let job = &here.jobs().await[0];
    assert_eq!((job.request.tenant.as_str(), job.request.profile.name.as_str()), ("studio", "house"));
    let reader = mounted.token("studio", &["jobs.read"]).await;
    assert_eq!(mounted.ask(Some(&reader), "POST", path, Some(json!({}))).await.0, 403);

    // An upload, and a job made of it by hand.
    let request = Request::builder()
        .method("POST")
        .uri("/v1/uploads")
        .header("authorization", format!("Bearer {studio}"))
        .header("tus-resumable", "1.0.0")
        .header("upload-length", "3")
        .header("content-type", "application/offset+octet-stream")
        .body(Body::from("abc"))
        .unwrap();
    let response = call(&mounted.router, None, request).await;
    assert_eq!(response.status().as_u16(), 201);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let id = location.rsplit('/').next().unwrap();
    let (_, upload) = mounted.ask(Some(&studio), "GET", &location, None).await;
    assert_eq!(upload["state"], "done");
    let (status, job) = mounted.ask(Some(&studio), "POST", "/v1/jobs", Some(json!({ "upload": id }))).await;
    assert_eq!(status, 201, "{job}");
    let other = mounted.token("other", &["jobs.write"]).await;
    let (status, _) = mounted.ask(Some(&other), "POST", "/v1/jobs", Some(json!({ "upload": id }))).await;
    assert!((400..500).contains(&status), "{status}");
    assert!(openapi(&mounted.api).contains("/v1/jobs"));
}
