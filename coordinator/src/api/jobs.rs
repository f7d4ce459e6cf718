//! Seeing and steering jobs.

use super::Api;
use super::body::{PathParams, QueryParams};
use super::caller::Authenticated;
use super::problem::{ApiError, invalid};
use super::progress::{coarse, exact, view, waiting};
use crate::directory::Caller;
use crate::outputs;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use splitreel_backend::StoreError;
use splitreel_backend::store::JobFilter;
use splitreel_client::problem::{Code, Mistake};
use splitreel_client::routes as paths;
use splitreel_client::types::{JobList, JobView};
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobState};
use utoipa::IntoParams;

/// Above this number of tasks progress comes from the job's own row: a GET does not read a million rows.
const MAX_TASKS_READ: u32 = 20_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobPage {
    /// Only these states, separated by commas.
    state: Option<String>,
    /// Another tenant than one's own: administrators only; `*` = all.
    tenant: Option<String>,
    /// Jobs per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Lists jobs, newest first.
#[utoipa::path(get, path = paths::JOBS, tag = "jobs", params(JobPage), responses((status = 200, body = JobList)))]
pub(crate) async fn list_jobs(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    QueryParams(page): QueryParams<JobPage>,
) -> Result<Json<JobList>, ApiError> {
    let mut mistakes = Vec::new();
    let mut states = Vec::new();
    for word in page.state.iter().flat_map(|s| s.split(',')).filter(|w| !w.is_empty()) {
        match JobState::parse(word.trim()) {
            Some(state) => states.push(state),
            None => mistakes.push(Mistake::new(
                "state",
                format!("unknown state {word:?}"),
                "use probing, planning, running, published, failed, cancelled",
            )),
        }
    }
    let limit = page.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        mistakes.push(Mistake::new("limit", "out of range", "use 1 to 200"));
    }
    let before = page.cursor.as_deref().map(str::parse::<JobId>);
    if matches!(before, Some(Err(_))) {
        mistakes.push(Mistake::new("cursor", "invalid cursor", "use next of the page before"));
    }
    if !mistakes.is_empty() {
        return Err(invalid(mistakes));
    }
    let tenant = match page.tenant {
        None => Some(caller.tenant),
        Some(tenant) if tenant == caller.tenant => Some(tenant),
        Some(_) if !caller.is_admin => return Err(ApiError::new(Code::Forbidden, "This is another tenant.")),
        Some(tenant) => Some(tenant).filter(|t| t != "*"),
    };
    let filter = JobFilter { states, tenant, before: before.and_then(Result::ok), limit, ..JobFilter::default() };
    let jobs = api.store().jobs(filter).await?;
    let next = jobs.last().filter(|_| jobs.len() == limit).map(|j| j.id.to_string());
    let jobs = jobs
        .into_iter()
        .map(|job| {
            let progress = coarse(&job);
            view(job, progress, None)
        })
        .collect();
    Ok(Json(JobList { jobs, next }))
}

impl Api {
    /// A job with the progress of its tasks.
    pub(crate) async fn detailed(&self, job: Job) -> Result<JobView, StoreError> {
        if job.next_task > MAX_TASKS_READ {
            let progress = coarse(&job);
            return Ok(view(job, progress, None));
        }
        let tasks = self.store().tasks(job.id).await?;
        let now = self.now();
        let progress = exact(&job, &tasks, now);
        let is_waiting = waiting(&job, &tasks, 1, now);
        // The fleet matters only to a job that waits in the queue.
        let waiting = match is_waiting {
            Some(w) if w.reason == "queued" => waiting(&job, &tasks, self.inner.fleet.live_slots().await?, now),
            other => other,
        };
        Ok(view(job, progress, waiting))
    }

    async fn shown(&self, id: JobId) -> Result<Json<JobView>, ApiError> {
        let job = self.store().job(id).await?.ok_or_else(|| ApiError::not_found("job"))?;
        Ok(Json(self.detailed(job).await?))
    }
}

/// A job with its progress, and why it waits if it does.
#[utoipa::path(get, path = paths::JOB, tag = "jobs", params(("id" = uuid::Uuid, Path, description = "The job.")),
    responses((status = 200, body = JobView)))]
pub(crate) async fn get_job(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Json<JobView>, ApiError> {
    let job = api.visible_job(&caller, id).await?;
    let output = outputs::view(api.inner.accept.records().as_ref(), &job).await?;
    Ok(Json(JobView { output, ..api.detailed(job).await? }))
}

/// Cancels a job: running attempts are stopped, nothing is published. Cancelling it twice is fine.
#[utoipa::path(post, path = paths::JOB_CANCEL, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job.")), responses((status = 200, body = JobView)))]
pub(crate) async fn cancel_job(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Json<JobView>, ApiError> {
    api.visible_job(&caller, id).await?;
    if !api.inner.coordinator.cancel(id).await? {
        let job = api.visible_job(&caller, id).await?;
        if job.state != JobState::Cancelled {
            return Err(ApiError::new(Code::JobEnded, format!("It is {}.", job.state.as_str())));
        }
    }
    api.inner.feed.look();
    api.shown(id).await
}

async fn set_paused(api: &Api, caller: &Caller, id: JobId, paused: bool) -> Result<Json<JobView>, ApiError> {
    api.visible_job(caller, id).await?;
    if !api.inner.coordinator.pause(id, paused).await? {
        let job = api.visible_job(caller, id).await?;
        if job.state.is_ended() {
            return Err(ApiError::new(Code::JobEnded, format!("It is {}.", job.state.as_str())));
        }
    }
    api.inner.feed.look();
    api.shown(id).await
}

/// Pauses a job: no new attempt starts, running ones continue. Pausing it twice is fine.
#[utoipa::path(post, path = paths::JOB_PAUSE, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job.")), responses((status = 200, body = JobView)))]
pub(crate) async fn pause_job(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Json<JobView>, ApiError> {
    set_paused(&api, &caller, id, true).await
}

/// Resumes a paused job.
#[utoipa::path(post, path = paths::JOB_RESUME, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job.")), responses((status = 200, body = JobView)))]
pub(crate) async fn resume_job(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Json<JobView>, ApiError> {
    set_paused(&api, &caller, id, false).await
}

/// Re-opens a failed or cancelled job: what is done stays done.
#[utoipa::path(post, path = paths::JOB_RETRY, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job.")), responses((status = 200, body = JobView)))]
pub(crate) async fn retry_job(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Json<JobView>, ApiError> {
    let job = api.visible_job(&caller, id).await?;
    if !api.inner.coordinator.retry(id).await? {
        return Err(ApiError::new(Code::NothingToRetry, format!("It is {}.", job.state.as_str())));
    }
    api.inner.feed.look();
    api.shown(id).await
}
