//! The lease seam over HTTP, for workers and assemblers. The path names a lease; the ticket of its claim proves what may
//! be stored and read under it, so that no row is read for that.

use super::Api;
use super::body::{Body, PathParams};
use super::problem::{ApiError, invalid};
use crate::fleet::MAX_NAME_BYTES;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use splitreel_backend::blob::check_key;
use splitreel_backend::grants::{GrantError, SignedRequest};
use splitreel_backend::lease::{LeaseError, Leases, Work, WorkOrder};
use splitreel_client::problem::{Code, Mistake};
use splitreel_client::routes as paths;
use splitreel_client::types::{
    Claim, Claimed, Complete, Fail, ObjectGrants, ObjectsToRead, ObjectsToStore, Renew, Renewed,
};
use splitreel_core::key::{AttemptPrefix, job_prefix};
use splitreel_core::task::Refusal;
use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId};
use std::sync::Arc;
use utoipa::IntoParams;

/// Maximum number of objects in one request.
const MAX_OBJECTS: usize = 1_000;
const PURPOSE: &str = "write";

/// Names a lease in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct LeasePath {
    /// The job.
    #[param(value_type = uuid::Uuid)]
    job: JobId,
    /// Number of the task.
    task: u32,
    /// The lease.
    #[param(value_type = uuid::Uuid)]
    lease: LeaseId,
}

impl LeasePath {
    fn task(&self) -> TaskId {
        TaskId { job: self.job, number: self.task }
    }

    /// Key prefix of an attempt under this lease, as in its order.
    fn prefix(&self, attempt: u32) -> String {
        AttemptPrefix { task: self.task(), attempt, lease: self.lease }.to_string()
    }

    /// Whether a key lies below the prefix of this lease; the attempt may have any number.
    fn owns(&self, key: &str) -> bool {
        let is_own = |(prefix, _): (AttemptPrefix, &str)| prefix.task == self.task() && prefix.lease == self.lease;
        check_key(key).is_ok() && AttemptPrefix::split(key).is_some_and(is_own)
    }
}

fn lease_refused(error: LeaseError) -> ApiError {
    match error {
        LeaseError::Refused(Refusal::NotClaimable) => ApiError::new(Code::NotClaimable, ""),
        LeaseError::Refused(Refusal::LeaseLost) => ApiError::new(Code::LeaseLost, ""),
        LeaseError::Refused(Refusal::Cancelled) => ApiError::new(Code::Cancelled, ""),
        error @ (LeaseError::Unavailable { .. } | LeaseError::Store(_)) => {
            tracing::warn!(%error, "lease request failed; the worker will repeat it");
            ApiError::unavailable("")
        }
    }
}

impl Api {
    fn ticket(&self, prefix: &str) -> String {
        self.inner.signing.sign(&[PURPOSE, prefix])
    }

    /// Adds a signed request that reads the source. When none can be signed, the attempt fails at once and the next one
    /// is due.
    async fn with_source(&self, mut order: WorkOrder) -> Result<WorkOrder, ApiError> {
        if matches!(order.work, Work::Assemble(_)) || order.grant.is_some() {
            return Ok(order);
        }
        let (ttl_ms, now_ms) = (self.inner.config.grant_ttl_ms, self.now());
        let grant = self.inner.signed.read_source(&order.source, ttl_ms, now_ms).await;
        let failure = match grant {
            Ok(grant) => {
                order.grant = grant;
                return Ok(order);
            }
            Err(GrantError::NotFound { .. }) => Failure::of(FailureCode::SourceNotFound, "the source is gone"),
            Err(GrantError::Unusable { why, .. }) => Failure::of(FailureCode::SourceUnusable, why),
            Err(error @ GrantError::Unavailable { .. }) => {
                tracing::warn!(task = %order.task, %error, "could not sign source URL");
                Failure::of(FailureCode::NoGrant, "storage did not sign a request to the source")
            }
        };
        self.inner.coordinator.fail(order.task, order.lease, failure).await.map_err(lease_refused)?;
        Err(ApiError::new(Code::NotClaimable, "The source cannot be read now."))
    }
}

/// A plan has an entry for each segment of the source, and each claim would carry all of them.
fn only_what_is_needed(mut order: WorkOrder) -> WorkOrder {
    if let Work::Video { plan, segment } = &mut order.work
        && let Some(part) = plan.for_segment(*segment)
    {
        *plan = Arc::new(part);
    }
    order
}

/// Turns a wakeup into a lease and its order, for exactly one caller.
#[utoipa::path(post, path = paths::WORK_CLAIM, tag = "work", request_body = Claim,
    responses((status = 200, body = Claimed)))]
pub(crate) async fn claim(State(api): State<Api>, Body(claim): Body<Claim>) -> Result<Json<Claimed>, ApiError> {
    if claim.worker.0.is_empty() || claim.worker.0.len() > MAX_NAME_BYTES {
        return Err(invalid(vec![Mistake::new("/worker", "invalid worker name", "use 1 to 200 characters")]));
    }
    if api.inner.fleet.is_outdated(claim.protocol) {
        return Err(ApiError::new(Code::WorkerOutdated, ""));
    }
    let order = api.inner.coordinator.claim(&claim.wakeup, &claim.worker, claim.lease).await.map_err(lease_refused)?;
    let order = only_what_is_needed(api.with_source(order).await?);
    let ticket = api.ticket(&order.key_prefix);
    Ok(Json(Claimed { order, ticket }))
}

/// Keeps a lease.
#[utoipa::path(post, path = paths::WORK_RENEW, tag = "work", request_body = Renew,
    params(LeasePath),
    responses((status = 200, body = Renewed)))]
pub(crate) async fn renew(
    State(api): State<Api>,
    PathParams(path): PathParams<LeasePath>,
    Body(renew): Body<Renew>,
) -> Result<Json<Renewed>, ApiError> {
    let kept = api.inner.coordinator.renew(path.task(), path.lease, renew.progress).await;
    Ok(Json(Renewed { remaining_ms: kept.map_err(lease_refused)? }))
}

/// Reports success. Repeating it is harmless.
#[utoipa::path(post, path = paths::WORK_COMPLETE, tag = "work", request_body = Complete,
    params(LeasePath),
    responses((status = 204, description = "It counts.")))]
pub(crate) async fn complete(
    State(api): State<Api>,
    PathParams(path): PathParams<LeasePath>,
    Body(complete): Body<Complete>,
) -> Result<StatusCode, ApiError> {
    if complete.result.keys().iter().any(|key| !path.owns(key)) {
        let hint = "name what was stored below the order's prefix";
        return Err(invalid(vec![Mistake::new("/result", "it names objects that are not the attempt's own", hint)]));
    }
    api.inner.coordinator.complete(path.task(), path.lease, complete.result).await.map_err(lease_refused)?;
    api.inner.feed.look();
    Ok(StatusCode::NO_CONTENT)
}

/// Reports failure.
#[utoipa::path(post, path = paths::WORK_FAIL, tag = "work", request_body = Fail,
    params(LeasePath),
    responses((status = 204, description = "It counts.")))]
pub(crate) async fn fail(
    State(api): State<Api>,
    PathParams(path): PathParams<LeasePath>,
    Body(fail): Body<Fail>,
) -> Result<StatusCode, ApiError> {
    api.inner.coordinator.fail(path.task(), path.lease, fail.failure).await.map_err(lease_refused)?;
    api.inner.feed.look();
    Ok(StatusCode::NO_CONTENT)
}

fn granted(grant: Result<Option<SignedRequest>, GrantError>) -> Result<SignedRequest, ApiError> {
    match grant {
        Ok(Some(grant)) => Ok(grant),
        Ok(None) => Err(ApiError::new(Code::NoGrants, "")),
        Err(GrantError::NotFound { .. }) => Err(ApiError::not_found("object")),
        Err(GrantError::Unusable { why, .. }) => Err(ApiError::new(Code::BadRequest, why)),
        Err(error @ GrantError::Unavailable { .. }) => {
            tracing::warn!(%error, "could not sign object URL");
            Err(ApiError::unavailable("Storage did not answer."))
        }
    }
}

impl Api {
    /// The ticket must be of this lease, and the job open.
    async fn check_ticket(&self, path: &LeasePath, attempt: u32, ticket: &str) -> Result<String, ApiError> {
        let prefix = path.prefix(attempt);
        if !self.inner.signing.is_signature(&[PURPOSE, &prefix], ticket) {
            return Err(ApiError::new(Code::LeaseLost, "The ticket is not of this lease."));
        }
        match self.store().job(path.job).await? {
            Some(job) if !job.state.is_ended() => Ok(prefix),
            _ => Err(ApiError::new(Code::Cancelled, "")),
        }
    }
}

/// Signs requests that store objects below the lease's prefix.
#[utoipa::path(post, path = paths::WORK_OBJECTS, tag = "work", request_body = ObjectsToStore,
    params(LeasePath),
    responses((status = 200, body = ObjectGrants)))]
pub(crate) async fn store_objects(
    State(api): State<Api>,
    PathParams(path): PathParams<LeasePath>,
    Body(wanted): Body<ObjectsToStore>,
) -> Result<Json<ObjectGrants>, ApiError> {
    let prefix = api.check_ticket(&path, wanted.attempt, &wanted.ticket).await?;
    if wanted.objects.len() > MAX_OBJECTS {
        return Err(invalid(vec![Mistake::new("/objects", "these are too many", "ask for at most 1000 at a time")]));
    }
    let is_below = |key: &str| key.len() > prefix.len() && key.starts_with(&prefix) && check_key(key).is_ok();
    if let Some((at, _)) = wanted.objects.iter().enumerate().find(|(_, o)| !is_below(&o.key)) {
        let place = format!("/objects/{at}/key");
        return Err(invalid(vec![Mistake::new(
            &place,
            "it lies outside of the lease's prefix",
            "use the order's prefix",
        )]));
    }
    let mut grants = Vec::with_capacity(wanted.objects.len());
    for object in &wanted.objects {
        let grant = api.inner.signed.write_object(&object.key, object.bytes, api.inner.config.grant_ttl_ms).await;
        grants.push(granted(grant)?);
    }
    Ok(Json(ObjectGrants { grants }))
}

/// Signs requests that read objects of the lease's job.
#[utoipa::path(post, path = paths::WORK_READS, tag = "work", request_body = ObjectsToRead,
    params(LeasePath),
    responses((status = 200, body = ObjectGrants)))]
pub(crate) async fn read_objects(
    State(api): State<Api>,
    PathParams(path): PathParams<LeasePath>,
    Body(wanted): Body<ObjectsToRead>,
) -> Result<Json<ObjectGrants>, ApiError> {
    api.check_ticket(&path, wanted.attempt, &wanted.ticket).await?;
    if wanted.keys.len() > MAX_OBJECTS {
        return Err(invalid(vec![Mistake::new("/keys", "these are too many", "ask for at most 1000 at a time")]));
    }
    let root = job_prefix(path.job);
    if let Some((at, _)) = wanted.keys.iter().enumerate().find(|(_, k)| !k.starts_with(&root) || check_key(k).is_err())
    {
        let place = format!("/keys/{at}");
        return Err(invalid(vec![Mistake::new(&place, "it is no object of the job", "use the order's job")]));
    }
    let mut grants = Vec::with_capacity(wanted.keys.len());
    for key in &wanted.keys {
        grants.push(granted(api.inner.signed.read_object(key, api.inner.config.redirect_ttl_ms).await)?);
    }
    Ok(Json(ObjectGrants { grants }))
}
