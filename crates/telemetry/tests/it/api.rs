//! The middleware of HTTP APIs.

use crate::lines::{Lines, attempt, quiet};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use splitreel_core::Trace;
use splitreel_telemetry::exposition;
use splitreel_telemetry::http::{RequestId, observed, propagate};
use splitreel_telemetry::{Format, trace};
use tower::ServiceExt;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn api() -> Router {
    observed(
        Router::new()
            .route("/v1/jobs/{id}", get(|Path(id): Path<String>| async move { id }))
            .route(
                "/v1/trace",
                get(|| async { trace::Parent::current().kept().as_str().unwrap_or_default().to_owned() }),
            )
            .route("/v1/id", get(|Extension(id): Extension<RequestId>| async move { id.0 }))
            .route("/v1/broken", post(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .route("/v1/never", get(std::future::pending::<()>)),
    )
}

async fn send(request: Request<Body>) -> (Response<()>, String) {
    let (head, body) = api().oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (Response::from_parts(head, ()), String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn requests_are_counted_by_route_template_and_status() {
    let (recorder, exposition) = exposition::recorder().unwrap();
    let recording = metrics::set_default_local_recorder(&recorder);
    send(request("GET", "/v1/jobs/1")).await;
    send(request("GET", "/v1/jobs/2")).await;
    send(request("POST", "/v1/broken")).await;
    send(request("GET", "/no/such/../route")).await;
    send(request("BREW", "/v1/jobs/1")).await;
    // The client goes away.
    let gone = tokio::time::timeout(std::time::Duration::from_millis(1), send(request("GET", "/v1/never"))).await;
    assert!(gone.is_err());
    drop(recording);
    let text = exposition.render();
    for line in [
        r#"splitreel_http_requests_answered_total{method="GET",route="/v1/jobs/{id}",status="200"} 2"#,
        r#"splitreel_http_requests_answered_total{method="POST",route="/v1/broken",status="500"} 1"#,
        r#"splitreel_http_requests_answered_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"splitreel_http_requests_answered_total{method="other",route="/v1/jobs/{id}",status="405"} 1"#,
        r#"splitreel_http_requests_answered_total{method="GET",route="/v1/never",status="499"} 1"#,
        r#"splitreel_http_request_seconds_count{method="GET",route="/v1/jobs/{id}"} 2"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
    }
}

#[tokio::test]
async fn a_fit_request_id_is_kept_and_any_other_replaced() {
    let long = "x".repeat(65);
    for (given, is_kept) in [("req-1.a_B", true), ("", false), (long.as_str(), false), ("a b", false), ("ä", false)] {
        let mut request = request("GET", "/v1/id");
        request.headers_mut().insert("x-request-id", given.as_bytes().try_into().unwrap());
        let (response, seen) = send(request).await;
        assert_eq!(response.headers()["x-request-id"], seen.as_str());
        assert_eq!(seen == given, is_kept, "{given:?} became {seen:?}");
        assert!(!seen.is_empty() && seen.len() <= 64);
    }
    let (first, second) = (send(request("GET", "/v1/id")).await.1, send(request("GET", "/v1/id")).await.1);
    assert_ne!(first, second);
}

#[tokio::test]
async fn the_callers_trace_goes_on() {
    let (subscriber, _guard) = quiet(Format::Json, "off", Lines::default());
    let _subscribed = tracing::subscriber::set_default(subscriber);
    let mut request = request("GET", "/v1/trace");
    request.headers_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    let (_, seen) = send(request).await;
    assert_eq!(seen[..35], TRACEPARENT[..35], "another trace");
    assert_ne!(seen[36..52], TRACEPARENT[36..52], "no span of its own");
    assert_eq!(&seen[53..], "01", "the caller's choice to sample is lost");
    // And out again.
    let span = attempt(&trace::Parent::resumed(&Trace::new(Some(seen))));
    let mut headers = HeaderMap::new();
    span.in_scope(|| propagate(&mut headers));
    assert_eq!(headers["traceparent"].to_str().unwrap()[..35], TRACEPARENT[..35]);
}
