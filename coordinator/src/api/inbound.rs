//! Events by HTTP: the route that stores and topics post their notifications to.

use crate::directory::Tokens;
use crate::triggers::{Intake, IntakeError, MAX_DOCUMENT_BYTES, Outcome, counted, parse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use splitreel_core::JobId;
use splitreel_telemetry::labels::{TriggerOutcome, TriggerSource};
use splitreel_telemetry::record;
use splitreel_telemetry::redact::Secret;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::identify;
use super::problem::ApiError;
use splitreel_client::problem::Code;
use splitreel_client::routes as paths;
use splitreel_client::types::Scope;

/// Header that carries a shared secret, for senders that cannot send a bearer token.
pub const SECRET_HEADER: &str = "x-splitreel-secret";

/// A secret that stands for a bearer token, sent in `?secret=` or in the header [`SECRET_HEADER`].
#[derive(Clone, Debug)]
pub struct SharedSecret {
    /// At least [`SharedSecret::MIN_BYTES`] long.
    hash: Secret<[u8; 32]>,
    /// Whose rules it sets off; `None` = of all tenants.
    tenant: Option<String>,
}

impl SharedSecret {
    /// Shortest secret that is accepted, bytes.
    pub const MIN_BYTES: usize = 16;

    /// A secret for the rules of one tenant, or of all. `None`: it is too short.
    pub fn new(secret: &str, tenant: Option<String>) -> Option<Self> {
        (secret.len() >= Self::MIN_BYTES)
            .then(|| SharedSecret { hash: Secret::new(Sha256::digest(secret).into()), tenant })
    }

    fn is(&self, given: &[u8; 32]) -> bool {
        self.hash.expose().ct_eq(given).into()
    }
}

#[derive(Clone)]
struct Inbound {
    intake: Intake,
    tokens: Tokens,
    secrets: Arc<[SharedSecret]>,
}

/// Routes that take event documents: `POST /v1/events/s3`, and `GET`, `HEAD` for senders that look first. They check
/// the sender themselves, by its token or one of the `secrets`: mount them outside of the layer that asks for a token.
pub fn events_router(intake: Intake, tokens: Tokens, secrets: Vec<SharedSecret>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(receive, look))
        .layer(DefaultBodyLimit::max(MAX_DOCUMENT_BYTES))
        .with_state(Inbound { intake, tokens, secrets: secrets.into() })
}

#[derive(Deserialize)]
struct SecretQuery {
    secret: Option<String>,
}

/// What became of an event document.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventsAnswer {
    /// One entry per uploaded object, in the order of the document.
    pub events: Vec<EventAnswer>,
    /// Records about other things.
    pub num_ignored: usize,
    /// A topic awaits confirmation: open the URL in its message, which is also in the log.
    pub is_confirmation_needed: bool,
}

/// What became of one event.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventAnswer {
    /// `started`, `existing`, `no_rule`, `gone`, `not_ready`, `own_output` or `failed`.
    pub outcome: String,
    /// The job, if there is one.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
}

/// Answers senders that check the address first.
#[utoipa::path(get, path = paths::EVENTS_S3, tag = "events", responses((status = 200, description = "Listening.")))]
async fn look() -> StatusCode {
    StatusCode::OK
}

/// Takes an upload notification of any S3-like store, alone or wrapped by SNS or EventBridge.
#[utoipa::path(
    post, path = paths::EVENTS_S3, tag = "events", request_body(content = String, content_type = "application/json"),
    params(("secret" = Option<String>, Query, description = "Shared secret, in place of a bearer token.")),
    responses(
        (status = 200, body = EventsAnswer, description = "All events were followed."),
        (status = 400, description = "No event document."),
        (status = 401, description = "Neither a token nor a secret."),
        (status = 403, description = "The token lacks the scope `ingest`."),
        (status = 413, description = "The document is too large."),
        (status = 503, description = "Storage or database did not answer: send it again."),
    )
)]
async fn receive(
    State(inbound): State<Inbound>,
    Query(query): Query<SecretQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<EventsAnswer>, ApiError> {
    let tenant = admit(&inbound, query.secret.as_deref(), &headers).await?;
    let parsed = parse(&body).map_err(|error| {
        tracing::info!(%error, "event document rejected");
        record::trigger_event(TriggerSource::Http, TriggerOutcome::Rejected);
        ApiError::new(Code::BadRequest, error.to_string())
    })?;
    for confirm in &parsed.confirm {
        let url = confirm.url.as_deref().unwrap_or("none at the sender's own domain");
        tracing::warn!(topic = %confirm.topic, url, "topic subscription awaits confirmation: open the URL once");
    }
    let mut events = Vec::with_capacity(parsed.events.len());
    if !parsed.events.is_empty() {
        let rules = inbound.intake.rules().await.map_err(|error| unavailable(&error))?;
        for event in &parsed.events {
            events.push(
                match counted(TriggerSource::Http, inbound.intake.offer_by(&rules, event, tenant.as_deref()).await) {
                    Ok(outcome) => answer(outcome),
                    Err(error) if error.is_temporary() => return Err(unavailable(&error)),
                    Err(error) => {
                        tracing::error!(%error, bucket = %event.bucket, "upload event failed permanently");
                        EventAnswer { outcome: "failed".to_owned(), job: None }
                    }
                },
            );
        }
    }
    let is_confirmation_needed = !parsed.confirm.is_empty();
    Ok(Json(EventsAnswer { events, num_ignored: parsed.num_ignored, is_confirmation_needed }))
}

/// The tenant whose rules a sender may set off; `None` = all tenants.
async fn admit(inbound: &Inbound, query: Option<&str>, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let in_header = headers.get(SECRET_HEADER).and_then(|value| value.to_str().ok());
    if let Some(given) = in_header.or(query) {
        let given: [u8; 32] = Sha256::digest(given).into();
        let known = inbound.secrets.iter().find(|secret| secret.is(&given));
        return known.map(|secret| secret.tenant.clone()).ok_or_else(ApiError::unauthenticated);
    }
    let identified = identify(&inbound.tokens, headers).await.map_err(|error| {
        tracing::warn!(%error, "event sender lookup failed (store unavailable)");
        ApiError::other(StatusCode::SERVICE_UNAVAILABLE, "refused", "The sender was refused.", "")
    })?;
    let caller = identified.ok_or_else(ApiError::unauthenticated)?.caller;
    if caller.is_admin {
        return Ok(None);
    }
    if !caller.has_scope(Scope::Ingest.as_str()) {
        return Err(ApiError::scope_missing(Scope::Ingest.as_str()));
    }
    Ok(Some(caller.tenant))
}

fn unavailable(error: &IntakeError) -> ApiError {
    tracing::warn!(%error, "event document failed; the sender should retry");
    ApiError::unavailable("Send the document again later.")
}

fn answer(outcome: Outcome) -> EventAnswer {
    let (word, job) = match outcome {
        Outcome::Started(job) => ("started", Some(job)),
        Outcome::Existing(job) => ("existing", Some(job)),
        Outcome::NoRule => ("no_rule", None),
        Outcome::Gone => ("gone", None),
        Outcome::NotReady => ("not_ready", None),
        Outcome::Waiting => ("waiting", None),
        Outcome::OwnOutput => ("own_output", None),
    };
    EventAnswer { outcome: word.to_owned(), job }
}
