//! Making jobs: the body, the profile, the pinned source, the key that makes repetitions harmless, the quota.

use super::Api;
use super::body::{Body, invalid, mistake, pointer_of};
use super::caller::Authenticated;
use super::problem::ApiError;
use super::progress::{coarse, view};
use super::signing::fingerprint;
use crate::directory::Caller;
use crate::documents::put_document;
use crate::quota;
use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use splitreel_backend::grants::GrantError;
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::store::Submitted;
use splitreel_client::problem::{Code, Mistake, Problem};
use splitreel_client::types::{JobCreate, JobView, ProfileChoice};
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobRequest, output_base};
use splitreel_core::profile::{Profile, ProfileError};
use splitreel_core::source::SourceRef;
use splitreel_telemetry::labels::Submission;
use splitreel_telemetry::record;

/// The kind of records that remember keys.
pub(crate) const KEY_KIND: &str = "idempotency";
const DEFAULT_PROFILE: &str = "universal";

/// An upload that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedUpload {
    /// Where its bytes are.
    pub locator: String,
    /// What the client calls it.
    pub name: String,
}

/// Finds finished uploads.
#[async_trait]
pub trait FinishedUploads: Send + Sync {
    /// A tenant's finished upload; `None`: there is no such upload, or it is not finished.
    async fn finished(&self, tenant: &str, upload: &str) -> Result<Option<FinishedUpload>, StoreError>;
}

/// What a job is to be made of.
enum Origin {
    Named(String),
    Upload(FinishedUpload),
}

/// What is remembered of a key.
#[derive(Debug, Serialize, Deserialize)]
struct UsedKey {
    body_sha256: String,
    job: JobId,
}

fn key_record(tenant: &str, key: &str) -> RecordKey {
    RecordKey { kind: KEY_KIND.into(), tenant: tenant.to_owned(), id: fingerprint(key.as_bytes()) }
}

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

/// Mistakes of a profile as mistakes of a body.
pub(crate) fn profile_mistakes(prefix: &str, errors: Vec<ProfileError>) -> Vec<Mistake> {
    let place = |field: &str| format!("{prefix}{}", pointer_of(field));
    errors.into_iter().map(|e| Mistake { pointer: place(&e.field), message: e.message, hint: e.hint }).collect()
}

fn is_base(base: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=100).contains(&base.len())
        && base.chars().all(is_safe)
        && !base.starts_with(['.', '-'])
        && base.chars().any(|c| c.is_ascii_alphanumeric())
}

/// What the answer to a made or found job is.
fn answer(job: Job, is_new: bool) -> Response {
    let progress = coarse(&job);
    let place = format!("/v1/jobs/{}", job.id);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(header::LOCATION, place)], Json(view(job, progress, None))).into_response()
}

/// Makes a job. With an Idempotency-Key a repetition finds the job that the first one made.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = JobCreate,
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
    // What reaches the coordinator is counted there.
    if let Err(ApiError(problem)) = &made
        && (400..500).contains(&problem.status)
        && problem.known_code() != Some(Code::KeyReused)
    {
        record::job_submitted(Submission::Refused);
    }
    made
}

async fn make_job(api: &Api, caller: &Caller, headers: &HeaderMap, wanted: JobCreate) -> Result<Response, ApiError> {
    let key = idempotency_key(headers)?;
    let canonical = serde_json::to_vec(&wanted).map_err(|e| ApiError::new(Code::BadRequest, e.to_string()))?;
    let body_sha256 = fingerprint(&canonical);
    if let Some(key) = &key
        && let Some(job) = api.job_by_key(&caller.tenant, key, &body_sha256).await?
    {
        record::job_submitted(Submission::Existing);
        return Ok(answer(job, false));
    }
    let mut mistakes = Vec::new();
    if wanted.base.as_deref().is_some_and(|b| !is_base(b)) {
        let hint = "use 1 to 100 of A-Z a-z 0-9 . _ -, not starting with . or -";
        mistakes.push(mistake("/base", "this is no base name", hint));
    }
    let profile = match api.resolve(&caller.tenant, wanted.profile.as_ref()).await? {
        Ok(profile) => Some(profile),
        Err(errors) => {
            mistakes.extend(errors);
            None
        }
    };
    let origin = match api.origin(caller, &wanted).await? {
        Ok(origin) => Some(origin),
        Err(error) => {
            mistakes.push(error);
            None
        }
    };
    let (Some(profile), Some(origin), true) = (profile, origin, mistakes.is_empty()) else {
        return Err(invalid(mistakes));
    };
    api.check_quota(&caller.tenant, key.as_deref()).await?;
    let (source, name) = match origin {
        Origin::Named(locator) => (api.pin_named(&locator).await?, locator),
        Origin::Upload(upload) => (api.pin(&upload.locator).await?, upload.name),
    };
    let base = wanted.base.unwrap_or_else(|| output_base(name.rsplit('/').next().unwrap_or(&name)));
    let request = JobRequest {
        tenant: caller.tenant.clone(),
        idempotency_key: key.clone().unwrap_or_else(|| api.inner.world.ids.fresh().to_string()),
        source,
        base,
        profile,
        priority: wanted.priority,
        deep_probe: wanted.deep_probe,
        output: None,
        trace: Default::default(),
    };
    let (job, is_new) = match api.inner.coordinator.submit(request).await? {
        Submitted::Created(job) => (job, true),
        Submitted::Existing(job) => (job, false),
        Submitted::KeyReused(_) => return Err(ApiError::new(Code::KeyReused, "")),
    };
    if let Some(key) = key {
        // Remembers the body: a source that changes before a repetition must not make it look like another request.
        let used = UsedKey { body_sha256, job: job.id };
        let until = api.now().saturating_add(api.inner.config.key_kept_ms);
        let _ = put_document(
            api.inner.records.as_ref(),
            &key_record(&caller.tenant, &key),
            Expect::Absent,
            &used,
            Some(until),
            api.now(),
        )
        .await?;
    }
    Ok(answer(job, is_new))
}

impl Api {
    async fn job_by_key(&self, tenant: &str, key: &str, body_sha256: &str) -> Result<Option<Job>, ApiError> {
        let Some(record) = self.inner.records.get(&key_record(tenant, key)).await? else { return Ok(None) };
        let used: UsedKey = serde_json::from_value(record.doc)
            .map_err(|e| StoreError::Corrupt { what: format!("idempotency key: {e}") })?;
        // A job that retention forgot frees its key.
        let Some(job) = self.inner.store.job(used.job).await? else { return Ok(None) };
        if used.body_sha256 != body_sha256 {
            record::job_submitted(Submission::KeyReused);
            return Err(ApiError::new(Code::KeyReused, ""));
        }
        Ok(Some(job))
    }

    /// The settings that a choice means, or every mistake in it.
    pub(crate) async fn resolve(
        &self,
        tenant: &str,
        choice: Option<&ProfileChoice>,
    ) -> Result<Result<Profile, Vec<Mistake>>, StoreError> {
        let (name, version) = match choice {
            Some(ProfileChoice::Inline(profile)) => {
                let mistakes = profile_mistakes("/profile", profile.validate());
                return Ok(if mistakes.is_empty() { Ok((**profile).clone()) } else { Err(mistakes) });
            }
            Some(ProfileChoice::Name(text)) => match text.split_once('@') {
                None => (text.as_str(), None),
                Some((name, version)) => match version.parse::<u32>() {
                    Ok(version) => (name, Some(version)),
                    Err(_) => {
                        let error = mistake("/profile", "the version is no number", "use name or name@3");
                        return Ok(Err(vec![error]));
                    }
                },
            },
            None => (DEFAULT_PROFILE, None),
        };
        Ok(self.profile_by_name(tenant, name, version).await?.map(|p| p.profile).ok_or_else(|| {
            vec![mistake("/profile", format!("there is no profile {name:?} like this"), "see GET /v1/profiles")]
        }))
    }

    async fn origin(&self, caller: &Caller, wanted: &JobCreate) -> Result<Result<Origin, Mistake>, StoreError> {
        match (&wanted.source, &wanted.upload) {
            (Some(source), None) => Ok(self.allowed_source(caller, source).await?.map(Origin::Named)),
            (None, Some(upload)) => {
                let Some(uploads) = &self.inner.uploads else {
                    let error = mistake("/upload", "this installation takes no uploads", "name a source instead");
                    return Ok(Err(error));
                };
                let found = uploads.finished(&caller.tenant, upload).await?;
                Ok(found
                    .map(Origin::Upload)
                    .ok_or_else(|| mistake("/upload", "there is no finished upload like this", "finish it first")))
            }
            (Some(_), Some(_)) => Ok(Err(mistake("/upload", "source and upload exclude each other", "keep one"))),
            (None, None) => Ok(Err(mistake("/source", "there is no source", "give source or upload"))),
        }
    }

    /// Checks a source's place against those that the tenant may read.
    pub(crate) async fn allowed_source(
        &self,
        caller: &Caller,
        source: &str,
    ) -> Result<Result<String, Mistake>, StoreError> {
        if source.is_empty() || source.len() > 4096 || source.chars().any(char::is_control) {
            return Ok(Err(mistake("/source", "this is no place of a source", "for example s3://bucket/key")));
        }
        let settings = self.inner.limits.settings(&caller.tenant).await?;
        let is_allowed = settings.source_prefixes.is_none_or(|prefixes| {
            let climbs = source.split('/').any(|step| step == "..");
            !climbs && prefixes.iter().any(|p| source.starts_with(p.as_str()))
        });
        if !is_allowed {
            let hint = "ask an administrator for the tenant's source_prefixes";
            return Ok(Err(mistake("/source", "the tenant's sources may not be there", hint)));
        }
        Ok(Ok(source.to_owned()))
    }

    /// Pins what is there now, unless it is kept there for others: uploads go by their ids.
    pub(crate) async fn pin_named(&self, locator: &str) -> Result<SourceRef, ApiError> {
        let source = self.pin(locator).await?;
        let is_reserved = self.inner.config.reserved_sources.iter().any(|place| source.locator.starts_with(place));
        if is_reserved { Err(ApiError::new(Code::SourceNotFound, "")) } else { Ok(source) }
    }

    /// Pins what is there now.
    pub(crate) async fn pin(&self, locator: &str) -> Result<SourceRef, ApiError> {
        self.inner.grants.pin(locator).await.map_err(|error| match error {
            GrantError::NotFound { .. } => ApiError::new(Code::SourceNotFound, ""),
            GrantError::Unusable { why, .. } => ApiError::new(Code::SourceUnusable, why),
            GrantError::Unavailable { source, .. } => {
                tracing::warn!(error = %source, "a source could not be pinned");
                ApiError::unavailable("Storage did not answer.")
            }
        })
    }

    async fn check_quota(&self, tenant: &str, key: Option<&str>) -> Result<(), ApiError> {
        let Some(most) = self.inner.limits.settings(tenant).await?.max_open_jobs else { return Ok(()) };
        if !quota::is_used_up(self.inner.store.as_ref(), tenant, Some(most), key).await? {
            return Ok(());
        }
        let problem = Problem::new(Code::QuotaExceeded, format!("At most {most} open jobs."));
        Err(ApiError(Box::new(problem.retry_after(30))))
    }
}
