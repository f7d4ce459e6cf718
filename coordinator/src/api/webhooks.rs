//! Routes for webhooks: `/v1/webhooks`, their deliveries, ping and replay. A tenant sees its own only.

use super::body::document;
use super::caller::Authenticated;
use super::etag::match_version;
use super::problem::ApiError;
use super::routes::{Access, Reach, Route, Verb};
use crate::directory::DirectoryError;
use crate::webhooks::{
    DELIVERY_KIND, DeliveryState, EVENT_TYPES, Endpoint, Ledger, Sender, Stored, Tried, WEBHOOK_KIND, WebhookAttempt,
    WebhookKey, ping, rfc3339,
};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use splitreel_backend::records::{Expect, RecordFilter};
use splitreel_backend::{Records, Secrets, World};
use splitreel_client::problem::Code;
use splitreel_client::routes as paths;
use splitreel_client::types::Scope;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Scope that reads and writes webhooks and their deliveries.
pub const WEBHOOKS_SCOPE: &str = Scope::TokensWrite.as_str();
const MAX_ENDPOINTS: usize = 50;

const fn route(method: Verb, path: &'static str, reach: Reach) -> Route {
    Route { method, path, access: Access::Scoped(Scope::TokensWrite, reach) }
}

/// Who may use the routes of [`webhooks_router`].
pub const ROUTES: &[Route] = &[
    route(Verb::Get, paths::WEBHOOKS, Reach::Own),
    route(Verb::Post, paths::WEBHOOKS, Reach::Own),
    route(Verb::Get, paths::WEBHOOK, Reach::Thing),
    route(Verb::Put, paths::WEBHOOK, Reach::Thing),
    route(Verb::Delete, paths::WEBHOOK, Reach::Thing),
    route(Verb::Post, paths::WEBHOOK_PING, Reach::Thing),
    route(Verb::Get, paths::WEBHOOK_DELIVERIES, Reach::Thing),
    route(Verb::Post, paths::WEBHOOK_REPLAY, Reach::Thing),
];

#[derive(Clone)]
struct Webhooks {
    ledger: Ledger,
    sender: Sender,
    world: World,
    secrets: Arc<dyn Secrets>,
}

/// Routes that keep webhooks. They need a [`crate::directory::Caller`] among the extensions of the request.
pub fn webhooks_router(
    records: Arc<dyn Records>,
    sender: Sender,
    world: World,
    secrets: Arc<dyn Secrets>,
) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get_one, replace, remove))
        .routes(routes!(send_ping))
        .routes(routes!(deliveries))
        .routes(routes!(replay))
        .with_state(Webhooks { ledger: Ledger::new(records), sender, world, secrets })
}

/// An endpoint as a tenant asks for it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where events are posted to.
    #[schema(example = "https://example.com/hooks/video")]
    pub url: String,
    /// Types of events; empty = `job.published`, `job.failed`, `job.cancelled`, `job.retried`, `job.paused`,
    /// `job.resumed`.
    #[serde(default)]
    pub events: Vec<String>,
    /// Nothing is sent while it is false.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// A signing key of your own, `whsec_` and base64 of 24 to 64 bytes; absent = one is made, or stays.
    #[serde(default)]
    pub secret: Option<String>,
}

fn yes() -> bool {
    true
}

/// A stored endpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookAnswer {
    /// Its name.
    pub id: String,
    /// Raised by each change: the ETag.
    pub version: i64,
    /// Where events are posted to.
    pub url: String,
    /// Types of events; empty = the usual ones.
    pub events: Vec<String>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why it was disabled, when that was not your doing.
    pub disabled_because: Option<String>,
    /// The signing key; only in the answer to the request that made or changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// All endpoints of the tenant.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookList {
    /// By id.
    pub webhooks: Vec<WebhookAnswer>,
}

/// What became of a ping.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PingAnswer {
    /// The endpoint answered 2xx.
    pub is_delivered: bool,
    /// HTTP status, if it answered.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A delivery.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryAnswer {
    /// Its name within the endpoint.
    pub id: String,
    /// The header `webhook-id`: the same for each try.
    pub message: String,
    /// Type of the event.
    pub event: String,
    /// How far it is.
    pub state: DeliveryState,
    /// Tries so far.
    pub tries: u32,
    /// When it was queued or replayed.
    pub queued_at: String,
    /// When it was tried last.
    pub tried_at: Option<String>,
    /// When it is tried next.
    pub next_try_at: Option<String>,
    /// HTTP status of the last try.
    pub status: Option<u16>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// What is sent.
    pub body: String,
}

/// A page of deliveries.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryList {
    /// Oldest event first.
    pub deliveries: Vec<DeliveryAnswer>,
    /// Pass it as `after` to get the next page; absent at the end.
    pub next: Option<String>,
}

#[derive(Deserialize, IntoParams)]
struct DeliveryPage {
    /// From the page before.
    after: Option<String>,
    /// Deliveries per page, 1 to 200; 50 when absent.
    limit: Option<usize>,
    /// Only deliveries in this state. A page may then hold fewer than `limit` although more follow.
    #[param(inline)]
    state: Option<DeliveryState>,
}

/// Lists webhooks.
#[utoipa::path(get, path = paths::WEBHOOKS, tag = "webhooks", responses((status = 200, body = WebhookList)))]
async fn list(State(webhooks): State<Webhooks>, caller: Authenticated) -> Result<Json<WebhookList>, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    let kept = webhooks.ledger.list::<Endpoint>(all_of(&tenant)).await?;
    Ok(Json(WebhookList { webhooks: kept.into_iter().map(|kept| answer(kept, false)).collect() }))
}

fn all_of(tenant: &str) -> RecordFilter {
    RecordFilter {
        kind: WEBHOOK_KIND.to_owned(),
        tenant: Some(tenant.to_owned()),
        limit: MAX_ENDPOINTS,
        ..RecordFilter::default()
    }
}

/// Creates a webhook. The answer holds its signing key, for the only time.
#[utoipa::path(post, path = paths::WEBHOOKS, tag = "webhooks", request_body = WebhookRequest,
    responses((status = 201, body = WebhookAnswer), (status = 422, description = "All mistakes of the request.")))]
async fn create(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    body: Result<Json<WebhookRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    let request = document(body)?;
    let secret = match check(&webhooks, &request)? {
        Some(secret) => secret,
        None => WebhookKey::fresh(webhooks.secrets.as_ref()).map_err(|_| DirectoryError::NoRandomness)?,
    };
    if webhooks.ledger.list::<Endpoint>(all_of(&tenant)).await?.len() >= MAX_ENDPOINTS {
        return Err(ApiError::invalid([(String::new(), format!("at most {MAX_ENDPOINTS} webhooks are kept"))]));
    }
    let WebhookRequest { url, events, enabled, .. } = request;
    let doc = Endpoint { url, secret, events, enabled, disabled_because: None };
    let key = Ledger::endpoint_key(&tenant, &webhooks.world.ids.fresh().simple().to_string());
    let now = webhooks.world.clock.now_ms();
    let written = webhooks.ledger.put(&key, Expect::Absent, &doc, None, now).await?;
    let version = written.map_err(|_| ApiError::new(Code::Changed, ""))?;
    Ok((StatusCode::CREATED, tagged(answer(Stored { key, version, due_ms: None, doc }, true))).into_response())
}

/// Answers one webhook.
#[utoipa::path(get, path = paths::WEBHOOK, tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, body = WebhookAnswer), (status = 404)))]
async fn get_one(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    Ok(tagged(answer(find(&webhooks, &tenant, &id).await?, false)).into_response())
}

/// Replaces a webhook; with `If-Match`, only the version that it names. Without a `secret`, the old one stays.
#[utoipa::path(put, path = paths::WEBHOOK, tag = "webhooks", params(("id" = String, Path)),
    request_body = WebhookRequest,
    responses((status = 200, body = WebhookAnswer), (status = 404), (status = 412), (status = 422)))]
async fn replace(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<WebhookRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    let request = document(body)?;
    let before = find(&webhooks, &tenant, &id).await?;
    match_version(&headers, before.version)?;
    let secret = check(&webhooks, &request)?;
    let is_new_secret = secret.is_some();
    let WebhookRequest { url, events, enabled, .. } = request;
    let secret = secret.unwrap_or(before.doc.secret);
    let doc = Endpoint { url, secret, events, enabled, disabled_because: None };
    let now = webhooks.world.clock.now_ms();
    let written = webhooks.ledger.put(&before.key, Expect::Version(before.version), &doc, None, now).await?;
    let version = written.map_err(|_| ApiError::new(Code::Changed, ""))?;
    let kept = Stored { key: before.key, version, due_ms: None, doc };
    Ok(tagged(answer(kept, is_new_secret)).into_response())
}

/// Deletes a webhook. What was not delivered is forgotten.
#[utoipa::path(delete, path = paths::WEBHOOK, tag = "webhooks", params(("id" = String, Path)),
    responses((status = 204), (status = 404)))]
async fn remove(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    let kept = find(&webhooks, &tenant, &id).await?;
    webhooks.ledger.delete(&kept.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Posts a test event now and returns the result.
#[utoipa::path(post, path = paths::WEBHOOK_PING, tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, body = PingAnswer), (status = 404)))]
async fn send_ping(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<PingAnswer>, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    let kept = find(&webhooks, &tenant, &id).await?;
    let message = format!("ping_{}", webhooks.world.ids.fresh().simple());
    let body = ping(&id, webhooks.world.clock.now_ms()).unwrap_or_default();
    Ok(Json(match webhooks.sender.post(&kept.doc, &message, &body).await {
        Tried::Delivered { status } => PingAnswer { is_delivered: true, status: Some(status), error: None },
        Tried::Gone => {
            PingAnswer { is_delivered: false, status: Some(410), error: Some("the endpoint is gone".to_owned()) }
        }
        Tried::Failed { status, why, .. } => PingAnswer { is_delivered: false, status, error: Some(why.to_owned()) },
    }))
}

/// Lists deliveries of a webhook: pending ones, and for some time delivered and failed ones.
#[utoipa::path(get, path = paths::WEBHOOK_DELIVERIES, tag = "webhooks",
    params(("id" = String, Path), DeliveryPage), responses((status = 200, body = DeliveryList), (status = 404)))]
async fn deliveries(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    Path(id): Path<String>,
    Query(page): Query<DeliveryPage>,
) -> Result<Json<DeliveryList>, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    find(&webhooks, &tenant, &id).await?;
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let filter = RecordFilter {
        kind: DELIVERY_KIND.to_owned(),
        tenant: Some(tenant.clone()),
        id_prefix: format!("{id}/"),
        after: page.after.map(|after| (tenant, format!("{id}/{after}"))),
        limit,
    };
    let kept = webhooks.ledger.list::<WebhookAttempt>(filter).await?;
    let next = kept.last().filter(|_| kept.len() == limit).map(|kept| part(&kept.key.id).to_owned());
    let is_shown = |kept: &Stored<WebhookAttempt>| page.state.is_none_or(|state| state == kept.doc.state);
    let deliveries = kept.into_iter().filter(is_shown).map(delivery_answer).collect();
    Ok(Json(DeliveryList { deliveries, next }))
}

/// Sends a delivery again, for another 24 hours if need be.
#[utoipa::path(post, path = paths::WEBHOOK_REPLAY, tag = "webhooks",
    params(("id" = String, Path), ("delivery" = String, Path)),
    responses((status = 202, body = DeliveryAnswer), (status = 404), (status = 409, description = "The webhook is disabled, or the delivery is under way.")))]
async fn replay(
    State(webhooks): State<Webhooks>,
    caller: Authenticated,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let tenant = caller.require(WEBHOOKS_SCOPE)?.tenant.clone();
    let endpoint = find(&webhooks, &tenant, &id).await?;
    if !endpoint.doc.enabled {
        return Err(ApiError::new(Code::ReadOnly, "The webhook is disabled: enable it first."));
    }
    let key = Ledger::delivery_key(&tenant, &id, &delivery);
    let kept = webhooks.ledger.get::<WebhookAttempt>(&key).await?.ok_or_else(|| ApiError::not_found("delivery"))?;
    let now = webhooks.world.clock.now_ms();
    let before = kept.doc;
    let doc = WebhookAttempt::new(before.message, &before.event, before.body, now);
    let written = webhooks.ledger.put(&key, Expect::Version(kept.version), &doc, Some(now), now).await?;
    let version = written.map_err(|_| ApiError::new(Code::Exists, "It is being sent right now."))?;
    let answer = delivery_answer(Stored { key, version, due_ms: Some(now), doc });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

async fn find(webhooks: &Webhooks, tenant: &str, id: &str) -> Result<Stored<Endpoint>, ApiError> {
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let key = Ledger::endpoint_key(tenant, id);
    let kept = if is_id { webhooks.ledger.get(&key).await? } else { None };
    kept.ok_or_else(|| ApiError::not_found("webhook"))
}

/// Reports every mistake; answers the secret of the request.
fn check(webhooks: &Webhooks, request: &WebhookRequest) -> Result<Option<WebhookKey>, ApiError> {
    let mut mistakes = Vec::new();
    if let Err(error) = webhooks.sender.policy().check_url(&request.url) {
        mistakes.push(("/url".to_owned(), error.to_string()));
    }
    if request.events.len() > EVENT_TYPES.len() {
        mistakes.push(("/events".to_owned(), format!("there are {} types", EVENT_TYPES.len())));
    }
    for (at, event) in request.events.iter().enumerate().take(EVENT_TYPES.len()) {
        if !EVENT_TYPES.contains(&event.as_str()) {
            mistakes.push((format!("/events/{at}"), format!("must be one of {}", EVENT_TYPES.join(", "))));
        }
    }
    let secret = request.secret.as_deref().map(WebhookKey::parse);
    if matches!(secret, Some(None)) {
        mistakes.push(("/secret".to_owned(), "must be `whsec_` and base64 of 24 to 64 bytes".to_owned()));
    }
    if mistakes.is_empty() { Ok(secret.flatten()) } else { Err(ApiError::invalid(mistakes)) }
}

fn answer(kept: Stored<Endpoint>, is_secret_shown: bool) -> WebhookAnswer {
    let Endpoint { url, secret, events, enabled, disabled_because } = kept.doc;
    let secret = is_secret_shown.then(|| secret.reveal().to_owned());
    WebhookAnswer { id: kept.key.id, version: kept.version, url, events, enabled, disabled_because, secret }
}

fn tagged(answer: WebhookAnswer) -> impl IntoResponse {
    ([(header::ETAG, format!("\"{}\"", answer.version))], Json(answer))
}

fn part(id: &str) -> &str {
    id.split_once('/').map_or(id, |(_, part)| part)
}

fn delivery_answer(kept: Stored<WebhookAttempt>) -> DeliveryAnswer {
    let WebhookAttempt { message, event, body, state, tries, queued_ms, tried_ms, status, error } = kept.doc;
    DeliveryAnswer {
        id: part(&kept.key.id).to_owned(),
        message,
        event,
        state,
        tries,
        queued_at: rfc3339(queued_ms),
        tried_at: tried_ms.map(rfc3339),
        next_try_at: kept.due_ms.filter(|_| state == DeliveryState::Pending).map(rfc3339),
        status,
        error,
        body,
    }
}
