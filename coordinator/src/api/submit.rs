//! The route that makes jobs.

use super::Api;
use super::body::Body;
use super::caller::Authenticated;
use super::problem::{ApiError, invalid};
use super::progress::{coarse, view};
use crate::accept::{Accepted, NewJob, Repetition, Source};
use crate::directory::Caller;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use splitreel_backend::StoreError;
use splitreel_client::problem::{Code, Mistake};
use splitreel_client::routes as paths;
use splitreel_client::types::{JobCreate, JobView};
use splitreel_core::digest::sha256_hex;
use splitreel_core::job::Job;
use splitreel_core::names::is_output_base;
use splitreel_core::planner::check_encoders;
use splitreel_telemetry::labels::Submission;
use splitreel_telemetry::record;

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let is_good = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !is_good || given.next().is_some() {
        return Err(ApiError::new(Code::BadRequest, "Idempotency-Key takes 1 to 255 visible ASCII characters, once."));
    }
    Ok(Some(text.to_owned()))
}

fn answer(job: Job, is_new: bool) -> Response {
    let progress = coarse(&job);
    let location = paths::path(paths::JOB, &[&job.id.to_string()]);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(header::LOCATION, location)], Json(view(job, progress, None))).into_response()
}

/// Makes a job. With an Idempotency-Key a repetition finds the job that the first one made.
#[utoipa::path(post, path = paths::JOBS, tag = "jobs", request_body = JobCreate,
    params(("Idempotency-Key" = Option<String>, Header,
            description = "Any text; the same request with the same key makes one job. Kept for at least 7 days.")),
    responses((status = 201, description = "A new job.", body = JobView),
              (status = 200, description = "The job that the key made before.", body = JobView)))]
pub(crate) async fn create_job(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Body(wanted): Body<JobCreate>,
) -> Result<Response, ApiError> {
    let made = make_job(&api, &caller, &headers, wanted).await;
    // Requests that reach the coordinator are counted there.
    if let Err(ApiError(problem)) = &made
        && (400..500).contains(&problem.status)
        && problem.known_code() != Some(Code::KeyReused)
    {
        record::job_submitted(Submission::Refused);
    }
    made
}

async fn make_job(api: &Api, caller: &Caller, headers: &HeaderMap, wanted: JobCreate) -> Result<Response, ApiError> {
    let repetition = match idempotency_key(headers)? {
        None => Repetition::Never,
        Some(key) => {
            let canonical = serde_json::to_vec(&wanted).map_err(|e| ApiError::new(Code::BadRequest, e.to_string()))?;
            Repetition::Client { key, request_sha256: sha256_hex(&canonical) }
        }
    };
    if let Some(job) = api.inner.accept.earlier(&caller.tenant, &repetition).await? {
        return Ok(answer(job, false));
    }
    let new = validate(api, caller, wanted, repetition).await?;
    let Accepted { job, is_new } = api.inner.accept.accept(new).await?;
    Ok(answer(job, is_new))
}

/// Turns a request into one that [`crate::accept::Accept::accept`] takes, or lists every mistake.
async fn validate(api: &Api, caller: &Caller, wanted: JobCreate, repetition: Repetition) -> Result<NewJob, ApiError> {
    let mut mistakes = Vec::new();
    if wanted.base.as_deref().is_some_and(|b| !is_output_base(b)) {
        let hint = "use letters, digits, . _ - in normalization form C, at most 180 bytes, not starting with . or -";
        mistakes.push(Mistake::new("/base", "invalid base name", hint));
    }
    let profile = api.directory().profiles.choose(&caller.tenant, wanted.profile.as_ref()).await?;
    let profile = profile.map_err(|errors| mistakes.extend(errors)).ok();
    if let Some(Err(failure)) =
        profile.as_ref().map(|profile| check_encoders(profile, &api.inner.coordinator.capabilities()))
    {
        let hint = "use another profile, or start workers whose ffmpeg has the encoder";
        mistakes.push(Mistake::new("/profile", failure.message, hint));
    }
    let source = source(api, caller, &wanted).await?.map_err(|error| mistakes.push(error)).ok();
    let (Some(mut profile), Some(source), true) = (profile, source, mistakes.is_empty()) else {
        return Err(invalid(mistakes));
    };
    if let Some(number) = wanted.programme {
        profile.source.programme = number;
    }
    Ok(NewJob {
        tenant: caller.tenant.clone(),
        repetition,
        source,
        base: wanted.base,
        profile,
        priority: wanted.priority,
        deep_probe: wanted.deep_probe,
        output: None,
    })
}

/// The source that a request names: a locator or a finished upload.
async fn source(api: &Api, caller: &Caller, wanted: &JobCreate) -> Result<Result<Source, Mistake>, StoreError> {
    match (&wanted.source, &wanted.upload) {
        (Some(locator), None) => {
            let checked = api.directory().tenants.check_source(&caller.tenant, locator).await?;
            Ok(checked.map(|()| Source::Named(locator.clone())))
        }
        (None, Some(upload)) => {
            let Some(uploads) = &api.inner.uploads else {
                return Ok(Err(Mistake::new("/upload", "uploads are not enabled", "name a source instead")));
            };
            let finished = uploads.finished(&caller.tenant, upload).await?;
            let missing = || Mistake::new("/upload", "there is no finished upload like this", "finish it first");
            Ok(finished.ok_or_else(missing))
        }
        (Some(_), Some(_)) => Ok(Err(Mistake::new("/upload", "source and upload exclude each other", "keep one"))),
        (None, None) => Ok(Err(Mistake::new("/source", "there is no source", "give source or upload"))),
    }
}
