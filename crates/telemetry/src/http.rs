//! What every HTTP API of ours gets: a request id, a server span that continues the caller's trace, and metrics by
//! route template. Never looks into bodies, queries or credentials.

use crate::labels::Method;
use crate::trace::Parent;
use crate::{field, record, trace};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use metrics::SharedString;
use std::time::Instant;
use tracing::Instrument;

/// Name of the header that carries the id of a request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Route label of requests that no route matched.
const UNMATCHED: &str = "unmatched";
/// Status label when the client went away before the answer.
const CLIENT_GONE: u16 = 499;
const MAX_REQUEST_ID: usize = 64;

/// Id of a request, also in the request's extensions: the caller's `x-request-id` if that is at most 64 letters,
/// digits, `.`, `_` or `-`, else a fresh one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Observes every route of a router. To be called after all routes are added.
pub fn observed<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(from_fn(observe))
}

/// The middleware behind [`observed`], for routers that order their layers themselves.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = Method::of(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!(
        target: trace::TARGET,
        "http",
        otel.name = tracing::field::Empty,
        otel.kind = "server",
        { field::HTTP_METHOD } = method.as_str(),
        { field::HTTP_ROUTE } = route.as_deref(),
        { field::URL_PATH } = request.uri().path(),
        { field::HTTP_STATUS } = tracing::field::Empty,
        { field::REQUEST } = id.0.as_str(),
    );
    let route = route.unwrap_or_else(|| UNMATCHED.to_owned());
    span.record("otel.name", format!("{} {route}", method.as_str()));
    parent(request.headers()).adopt(&span);
    request.extensions_mut().insert(id.clone());

    let mut answer = Answer { method, route: SharedString::from(route), started: Instant::now(), status: CLIENT_GONE };
    let mut response = next.run(request).instrument(span.clone()).await;
    answer.status = response.status().as_u16();
    drop(answer);
    span.record(field::HTTP_STATUS, response.status().as_u16());
    if response.status().is_server_error() {
        trace::failed(&span, response.status().as_str());
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Counts the request when it ends, also when its future is dropped because the client went away.
struct Answer {
    method: Method,
    route: SharedString,
    started: Instant,
    status: u16,
}

impl Drop for Answer {
    fn drop(&mut self) {
        record::http_request(self.method, self.route.clone(), self.status, self.started.elapsed());
    }
}

/// The trace that a request belongs to, from its headers.
pub fn parent(headers: &HeaderMap) -> Parent {
    let carried: Vec<(String, String)> = trace::HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), headers.get(*name)?.to_str().ok()?.to_owned())))
        .collect();
    trace::extract(&carried)
}

/// Puts the current trace into the headers of an outgoing request.
pub fn propagate(headers: &mut HeaderMap) {
    for (name, value) in trace::inject() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let is_fit = |id: &&str| {
        !id.is_empty()
            && id.len() <= MAX_REQUEST_ID
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_fit);
    RequestId(given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned))
}
