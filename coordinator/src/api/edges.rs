//! The layers around every route: request id, timeout, body limit, CORS, and problem documents for every failure.

use super::Api;
use super::problem::ApiError;
use super::routes::{Verb, may_take_long};
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use splitreel_client::problem::{Code, PROBLEM_JSON};
use tower_http::catch_panic::CatchPanicLayer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Headers that pages of other origins may send and see.
const ALLOWED_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, range, \
     last-event-id, tus-resumable, upload-length, upload-offset, upload-metadata, upload-checksum, x-http-method-override";
const EXPOSED_HEADERS: &str = "etag, location, retry-after, content-range, accept-ranges, x-request-id, \
     tus-resumable, tus-version, tus-extension, tus-max-size, tus-checksum-algorithm, upload-length, upload-offset, \
     upload-metadata, upload-expires";

/// Puts the layers around the routes.
pub(crate) fn wrap(api: &Api, routes: Router<Api>) -> Router {
    routes
        .route_layer(from_fn_with_state(api.clone(), in_time))
        .fallback(unknown)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(api.inner.config.max_body_bytes))
        .layer(CatchPanicLayer::custom(|_| ApiError::new(Code::Internal, "").into_response()))
        .layer(from_fn_with_state(api.clone(), outermost))
        .with_state(api.clone())
}

async fn unknown() -> ApiError {
    ApiError::new(Code::NotFound, "There is no such route.")
}

/// The path exists, but not with this method.
async fn other_method(State(api): State<Api>, request: Request) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned()).unwrap_or_default();
    let allowed = api.allowed(&path);
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        ApiError::new(Code::MethodNotAllowed, format!("It knows {allowed}.")).into_response()
    };
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

impl Api {
    /// The methods of a path, as the header Allow lists them.
    fn allowed(&self, path: &str) -> String {
        let mut words: Vec<&str> =
            self.inner.rules.keys().filter(|(p, _)| *p == path).map(|(_, verb)| verb.as_str()).collect();
        if words.contains(&Verb::Get.as_str()) {
            words.push("HEAD");
        }
        words.push("OPTIONS");
        words.join(", ")
    }
}

/// Ends a request at the timeout. A stream answers at once, and its body is not timed.
async fn in_time(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.extensions().get::<MatchedPath>().is_some_and(|p| may_take_long(p.as_str())) {
        return next.run(request).await;
    }
    match tokio::time::timeout(api.inner.config.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(Code::Timeout, "").into_response(),
    }
}

async fn outermost(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers()).unwrap_or_else(|| api.inner.coordinator.world().ids.fresh().to_string());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && origin.is_some();
    let mut response = next.run(request).await;
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    if is_failure && !is_problem(response.headers()) {
        response = as_problem(response);
    }
    if status.is_server_error() {
        tracing::warn!(request = id, %status, "request failed");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    // Behind a proxy a path may lead elsewhere.
    if let Some(place) = response.headers_mut().get_mut(header::LOCATION)
        && let Some(path) = place.to_str().ok().filter(|place| place.starts_with('/'))
        && let Ok(address) = HeaderValue::from_str(&api.public(path))
    {
        *place = address;
    }
    if let Some(origin) = origin.and_then(|o| api.cors(o)) {
        allow_origin(response.headers_mut(), origin, is_preflight);
    }
    response
}

/// Lets pages of an origin read an answer, and with a preflight send requests.
fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue, is_preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    if is_preflight {
        let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

impl Api {
    fn cors(&self, origin: HeaderValue) -> Option<HeaderValue> {
        let allowed = &self.inner.config.cors_origins;
        if allowed.iter().any(|o| o == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        allowed.iter().any(|o| o.as_bytes() == origin.as_bytes()).then_some(origin)
    }
}

/// The caller's own id, if it is a harmless one.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(&REQUEST_ID)?.to_str().ok()?;
    let is_good =
        (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_good.then(|| text.to_owned())
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(PROBLEM_JSON.as_bytes()))
}

/// The problem document of a failure that a layer below answered in another form.
fn as_problem(response: Response) -> Response {
    let status = response.status();
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::REQUEST_TIMEOUT => Code::Timeout,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        s if s.is_client_error() => Code::BadRequest,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Internal,
    };
    let mut problem = ApiError::new(code, "");
    problem.0.status = status.as_u16();
    let mut answer = problem.into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
    }
    answer
}
