//! What belongs to a job: tasks with their attempts, events, plan, report.

use super::Api;
use super::attempts::Attempts;
use super::body::{PathParams, QueryParams};
use super::caller::Authenticated;
use super::problem::{ApiError, invalid};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use splitreel_backend::StoreError;
use splitreel_backend::store::TaskFilter;
use splitreel_client::problem::{Code, Mistake};
use splitreel_client::routes as paths;
use splitreel_client::types::{EventList, TaskList};
use splitreel_core::JobId;
use utoipa::IntoParams;

/// Events that are read for the attempts of one page of tasks.
const MAX_EVENTS_READ: usize = 100_000;
const EVENT_PAGE: usize = 1_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskPage {
    /// Only tasks with a higher number.
    after: Option<u32>,
    /// Tasks per page, 1 to 1000; 200 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventPage {
    /// Only events after this position; 0, the beginning, when absent.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Events per page, 1 to 1000; 200 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

fn page_size(limit: Option<usize>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(200);
    if (1..=1000).contains(&limit) {
        Ok(limit)
    } else {
        Err(invalid(vec![Mistake::new("limit", "out of range", "use 1 to 1000")]))
    }
}

/// The tasks of a job by number, each with its attempts.
#[utoipa::path(get, path = paths::JOB_TASKS, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job."), TaskPage), responses((status = 200, body = TaskList)))]
pub(crate) async fn list_tasks(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
    QueryParams(page): QueryParams<TaskPage>,
) -> Result<Json<TaskList>, ApiError> {
    api.visible_job(&caller, id).await?;
    let limit = page_size(page.limit)?;
    // One more than requested shows whether more follow.
    let filter = TaskFilter { kind: None, after: page.after, limit: Some(limit.saturating_add(1)) };
    let mut tasks = api.store().tasks_like(id, filter).await?;
    let has_more = tasks.len() > limit;
    tasks.truncate(limit);
    let mut attempts = api.attempts(id).await?;
    let next = tasks.last().filter(|_| has_more).map(|t| t.id.number);
    Ok(Json(TaskList { tasks: tasks.iter().map(|t| attempts.view(t)).collect(), next }))
}

impl Api {
    async fn attempts(&self, job: JobId) -> Result<Attempts, StoreError> {
        let mut attempts = Attempts::default();
        let (mut after, mut seen) = (0, 0);
        while seen < MAX_EVENTS_READ {
            let events = self.store().events(Some(job), after, EVENT_PAGE).await?;
            for event in &events {
                attempts.note(event);
                after = event.seq;
            }
            seen += events.len();
            if events.len() < EVENT_PAGE {
                break;
            }
        }
        Ok(attempts)
    }
}

/// The event log of a job, oldest first.
#[utoipa::path(get, path = paths::JOB_EVENTS, tag = "events",
    params(("id" = uuid::Uuid, Path, description = "The job."), EventPage),
    responses((status = 200, body = EventList)))]
pub(crate) async fn list_job_events(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
    QueryParams(page): QueryParams<EventPage>,
) -> Result<Json<EventList>, ApiError> {
    api.visible_job(&caller, id).await?;
    let limit = page_size(page.limit)?;
    let after = page.after.unwrap_or(0).max(0);
    let events = api.store().events(Some(id), after, limit).await?;
    let next = events.last().map_or(after, |e| e.seq);
    Ok(Json(EventList { events, next }))
}

/// The event log of all jobs of the tenant, oldest first; administrators see every tenant's. A page may hold fewer
/// events than requested, or none, although more follow: continue until `next` stays the same.
#[utoipa::path(get, path = paths::EVENTS, tag = "events", params(EventPage),
    responses((status = 200, body = EventList)))]
pub(crate) async fn list_events(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    QueryParams(page): QueryParams<EventPage>,
) -> Result<Json<EventList>, ApiError> {
    let limit = page_size(page.limit)?;
    let after = page.after.unwrap_or(0).max(0);
    let mut events = api.store().events(None, after, limit).await?;
    let next = events.last().map_or(after, |e| e.seq);
    let mut filter = super::stream::TenantFilter::new(&caller);
    let mut kept = Vec::with_capacity(events.len());
    for event in events.drain(..) {
        if filter.sees(&api, event.job).await? {
            kept.push(event);
        }
    }
    Ok(Json(EventList { events: kept, next }))
}

/// The plan of a job.
#[utoipa::path(get, path = paths::JOB_PLAN, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job.")),
    responses((status = 200, description = "The plan: segments, renditions, sound, and why.", body = Object)))]
pub(crate) async fn get_plan(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Response, ApiError> {
    api.visible_job(&caller, id).await?;
    let plan = api.store().plan(id).await?.ok_or_else(|| ApiError::new(Code::NotPlanned, ""))?;
    Ok(Json(plan).into_response())
}

/// The report of the published presentation: the certificate and what it cost.
#[utoipa::path(get, path = paths::JOB_REPORT, tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job.")),
    responses((status = 200, description = "The report.", body = Object)))]
pub(crate) async fn get_report(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Response, ApiError> {
    let job = api.visible_job(&caller, id).await?;
    let published = api.inner.presentations.of(&job).await?;
    let report = published.catalogue.object("report.json").ok_or_else(|| ApiError::not_found("report"))?;
    let bytes = api.inner.presentations.whole(report).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}
