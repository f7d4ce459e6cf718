//! Routes for the fleet: the workers present, and the size of the backlog.

use super::Api;
use super::body::{PathParams, QueryParams};
use super::problem::{ApiError, invalid};
use crate::directory::DirectoryError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use splitreel_client::problem::{Code, Mistake};
use splitreel_client::routes as paths;
use splitreel_client::types::{Autoscale, WorkerList};
use utoipa::IntoParams;

/// The workers and assemblers that hold a control stream.
#[utoipa::path(get, path = paths::WORKERS, tag = "workers", responses((status = 200, body = WorkerList)))]
pub(crate) async fn list_workers(State(api): State<Api>) -> Result<Json<WorkerList>, ApiError> {
    Ok(Json(WorkerList { workers: api.inner.fleet.workers().await? }))
}

/// Asks a worker to take no more work, finish what it has, and end. It hears of it within seconds.
#[utoipa::path(post, path = paths::WORKER_DRAIN, tag = "workers",
    params(("worker" = String, Path, description = "Its name.")),
    responses((status = 202, description = "The worker will be asked.")))]
pub(crate) async fn drain_worker(
    State(api): State<Api>,
    PathParams(worker): PathParams<String>,
) -> Result<StatusCode, ApiError> {
    match api.inner.fleet.drain(&worker).await {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(DirectoryError::Changed) => Err(ApiError::new(Code::Changed, "Try again.")),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scaling {
    /// Slots of one more worker, 1 to 10000; 1 when absent.
    #[param(minimum = 1, maximum = 10000)]
    slots_per_worker: Option<u32>,
}

/// How much work there is, as numbers that an autoscaler can read.
#[utoipa::path(get, path = paths::AUTOSCALE, tag = "workers", params(Scaling),
    responses((status = 200, body = Autoscale)))]
pub(crate) async fn autoscale(
    State(api): State<Api>,
    QueryParams(scaling): QueryParams<Scaling>,
) -> Result<Json<Autoscale>, ApiError> {
    let slots_per_worker = scaling.slots_per_worker.unwrap_or(1);
    if !(1..=10_000).contains(&slots_per_worker) {
        return Err(invalid(vec![Mistake::new("slots_per_worker", "out of range", "use 1 to 10000")]));
    }
    Ok(Json(api.inner.fleet.autoscale(slots_per_worker).await?))
}
