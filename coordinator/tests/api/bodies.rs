//! Whatever is sent: never a 5xx, never anything but a problem document.

use crate::stage::{ROOT, Stage, config, read, request};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use splitreel_coordinator::api::router_with;
use splitreel_coordinator::api::routes::ROUTES;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;

fn post(path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("authorization", format!("Bearer {ROOT}"))
        .header("content-type", kind)
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn garbage_giant_and_deep_bodies_are_refused() {
    let stage = Stage::new();
    let id = uuid::Uuid::from_u128(1);
    for route in ROUTES.iter().filter(|r| r.method.as_str() == "POST" && r.path.starts_with("/v1/")) {
        let path = route.path.replace("{id}", &id.to_string()).replace("{job}/{task}/{lease}", &format!("{id}/1/{id}"));
        let path = path.replace("{worker}", "w");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        for body in ["", "{", "[]", "null", "\u{0}\u{1}", "{\"a\":1}", &deep, "\"x\"", "1e999"] {
            let answer = read(stage.send(post(&path, "application/json", body.to_owned())).await).await;
            if answer.status >= 400 {
                assert!(answer.status < 500, "{path} {body:.20}: {answer:?}");
                answer.code();
            }
        }
    }
    let giant = vec![b' '; 2 << 20];
    let answer = read(stage.send(post("/v1/jobs", "application/json", giant)).await).await;
    assert_eq!(answer.code(), "too_large");
    let answer = read(stage.send(post("/v1/jobs", "text/plain", "{}")).await).await;
    assert_eq!(answer.code(), "unsupported_media_type");
    // A report may be larger than other bodies.
    let report = format!("/v1/work/{id}/1/{id}/complete");
    let answer = read(stage.send(post(&report, "application/json", vec![b' '; 2 << 20])).await).await;
    assert_eq!(answer.code(), "bad_json");
    let answer = read(stage.send(post(&report, "application/json", vec![b' '; 33 << 20])).await).await;
    assert_eq!(answer.code(), "too_large");
}

#[tokio::test]
async fn unknown_routes_methods_and_names_are_problems() {
    let stage = Stage::new();
    let code = async |verb: &str, path: &str| stage.ask(verb, path, ROOT, None).await.code();
    assert_eq!(code("GET", "/nothing").await, "not_found");
    assert_eq!(code("GET", "/v2/jobs").await, "not_found");
    assert_eq!(code("GET", "/v1/jobs/not-an-id").await, "not_found");
    assert_eq!(code("POST", "/v1/work/x/y/z/renew").await, "not_found");
    let wrong = stage.ask("DELETE", "/v1/jobs", ROOT, None).await;
    assert_eq!((wrong.code().as_str(), wrong.header("allow")), ("method_not_allowed", "GET, POST, HEAD, OPTIONS"));
    let options = stage.ask("OPTIONS", "/v1/jobs", "", None).await;
    assert_eq!((options.status, options.header("allow")), (204, "GET, POST, HEAD, OPTIONS"));
    let head = stage.ask("HEAD", "/v1/me", ROOT, None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(stage.ask("HEAD", "/v1/me", "", None).await.status, 401);
    assert_eq!(stage.ask("GET", "/v1/me", ROOT, None).await.header("x-request-id").len(), 36);
}

#[tokio::test]
async fn a_route_without_a_rule_admits_nobody_and_a_body_that_never_comes_ends() {
    let mut config = config();
    config.request_timeout = Duration::from_millis(20);
    let mut stage = Stage::with(config);
    let extra = Router::new().route("/v1/extra", axum::routing::get(|| async { "never" }));
    stage.router = router_with(&stage.api, OpenApiRouter::from(extra));
    assert_eq!(stage.ask("GET", "/v1/extra", ROOT, None).await.code(), "forbidden");
    // A body that never comes.
    let endless = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let answer = read(stage.send(post("/v1/jobs", "application/json", endless)).await).await;
    assert_eq!(answer.code(), "timeout");
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_only_where_that_was_asked_for() {
    let closed = Stage::new();
    let preflight = |stage: &Stage, origin: &'static str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let request = request("OPTIONS", "/v1/jobs", "", &headers, None);
        let router = stage.router.clone();
        async move { read(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    };
    assert!(!preflight(&closed, "https://a.example").await.headers.contains_key("access-control-allow-origin"));
    let mut config = config();
    config.cors_origins = vec!["https://a.example".into()];
    let open = Stage::with(config);
    let answer = preflight(&open, "https://a.example").await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://a.example");
    for name in ["authorization", "tus-resumable", "upload-offset", "upload-checksum"] {
        assert!(answer.header("access-control-allow-headers").contains(name), "{name}");
    }
    assert!(answer.header("access-control-expose-headers").contains("upload-offset"));
    assert!(!preflight(&open, "https://b.example").await.headers.contains_key("access-control-allow-origin"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn no_request_line_or_body_makes_the_service_fail(
        path in "/(v1|play|docs)(/[a-z0-9{}.%*-]{0,12}){0,6}(\\?[a-z=&0-9-]{0,20})?",
        verb in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new();
            let request = Request::builder()
                .method(verb)
                .uri(&path)
                .header("authorization", format!("Bearer {ROOT}"))
                .header("content-type", "application/json")
                .body(Body::from(body));
            let Ok(request) = request else { return };
            let status = stage.send(request).await.status().as_u16();
            assert!(status < 500, "{verb} {path}: {status}");
        });
    }
}
