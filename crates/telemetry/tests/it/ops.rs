//! The ops port.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::exposition;
use splitreel_telemetry::ops::{Lifecycle, Ops, OpsError, Version, router, serve_ops, serve_ops_on};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

fn ops(checks: Checks) -> Ops {
    let (recorder, exposition) = exposition::recorder().unwrap();
    metrics::with_local_recorder(&recorder, || exposition::prime(&[], "9.9.9"));
    Ops {
        version: Version { role: "worker", version: "9.9.9" },
        lifecycle: Lifecycle::default(),
        checks: Arc::new(checks),
        exposition,
    }
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get_json(router: &Router, path: &str) -> (StatusCode, Value) {
    let (status, body) = get(router, path).await;
    (status, serde_json::from_str(&body).unwrap())
}

fn good() -> std::future::Ready<Result<(), String>> {
    std::future::ready(Ok(()))
}

#[tokio::test]
async fn a_process_starts_works_and_drains() {
    let ops = ops(Checks::default().with("store", good).with("broker", good));
    let lifecycle = ops.lifecycle.clone();
    let router = router(ops);
    for path in ["/livez", "/healthz"] {
        assert_eq!(get_json(&router, path).await, (StatusCode::OK, json!({"status": "ok"})));
    }
    let failed = (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "failed"}));
    assert_eq!(get_json(&router, "/startupz").await, failed);
    assert_eq!(get_json(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);

    lifecycle.started();
    assert_eq!(get_json(&router, "/startupz").await.0, StatusCode::OK);
    let (status, ready) = get_json(&router, "/readyz").await;
    assert_eq!(status, StatusCode::OK);
    let checks = json!([{"name": "store", "is_ok": true}, {"name": "broker", "is_ok": true}]);
    assert_eq!(ready, json!({"status": "ok", "is_started": true, "is_draining": false, "checks": checks}));

    lifecycle.draining();
    assert_eq!(get_json(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get_json(&router, "/livez").await.0, StatusCode::OK);
}

#[tokio::test]
async fn one_failing_check_makes_it_unready() {
    let ops = ops(Checks::default().with("store", good).with("broker", || std::future::ready(Err("refused"))));
    ops.lifecycle.started();
    let (status, body) = get_json(&router(ops), "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["status"], "failed");
    assert_eq!(body["checks"][0], json!({"name": "store", "is_ok": true}));
    assert_eq!(body["checks"][1], json!({"name": "broker", "is_ok": false, "error": "refused"}));
}

#[tokio::test]
async fn version_and_metrics_are_shown() {
    let router = router(ops(Checks::default()));
    let (status, body) = get_json(&router, "/version").await;
    assert_eq!((status, body), (StatusCode::OK, json!({"role": "worker", "version": "9.9.9"})));
    let response = router.clone().oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(get(&router, "/metrics").await.1.contains("splitreel_build_info{version=\"9.9.9\"} 1"));
    assert_eq!(get(&router, "/else").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn it_is_served_until_the_shutdown_even_with_a_connection_kept_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_ops_on(listener, ops(Checks::default()), shutdown.clone()));
    let mut connection = TcpStream::connect(addr).await.unwrap();
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: ops\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
    ended.unwrap().unwrap().unwrap();
    drop(connection);
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let result = serve_ops(addr, ops(Checks::default()), CancellationToken::new()).await;
    assert!(matches!(result, Err(OpsError::Bind { addr: named, .. }) if named == addr));
}
