//! Playback links: a signature over job, tenant and expiry in the path stands for a token, so that players need none.

use super::Api;
use super::body::{MaybeBody, PathParams};
use super::caller::Authenticated;
use super::files::Caching;
use super::problem::{ApiError, invalid};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use splitreel_client::problem::{Code, Mistake};
use splitreel_client::routes as paths;
use splitreel_client::types::{PlaybackCreate, PlaybackGrant};
use splitreel_core::JobId;
use splitreel_core::job::Job;

const DEFAULT_SECONDS: u32 = 3_600;
const MAX_SECONDS: u32 = 7 * 24 * 3_600;
const PURPOSE: &str = "playback";

/// Makes a link below which the files of a published job can be read without a token until it expires.
#[utoipa::path(post, path = paths::JOB_PLAYBACK, tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The job.")), request_body = PlaybackCreate,
    responses((status = 200, body = PlaybackGrant)))]
pub(crate) async fn create_playback(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
    MaybeBody(wanted): MaybeBody<PlaybackCreate>,
) -> Result<Json<PlaybackGrant>, ApiError> {
    let job = api.visible_job(&caller, id).await?;
    let seconds = wanted.ttl_seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(invalid(vec![Mistake::new("/ttl_seconds", "out of range", "use 1 to 604800")]));
    }
    let published = api.inner.presentations.of(&job).await?;
    let expires_ms = api.now().saturating_add(i64::from(seconds) * 1000);
    let base = api.public(&paths::path(paths::PLAY, &[&api.grant(&job, expires_ms), ""]));
    let below = |path: &str| format!("{base}{path}");
    // Multivariant playlist, MPD and MP4 lie at the top of a presentation.
    let top = |ending: &str| {
        let mut paths = published.catalogue.files().map(|file| file.path);
        paths.find(|p| p.ends_with(ending) && !p.contains('/')).map(|p| below(&p))
    };
    Ok(Json(PlaybackGrant { hls: top(".m3u8"), dash: top(".mpd"), mp4: top(".mp4"), base, expires_ms }))
}

/// A file of a presentation through a signed link.
#[utoipa::path(get, path = paths::PLAY, tag = "files",
    params(("grant" = String, Path, description = "From the playback link."),
           ("path" = String, Path, description = "Its path in the presentation."),
           ("Range" = Option<String>, Header, description = "One range of bytes.")),
    responses((status = 200, description = "The file.", content_type = "*/*", body = serde_json::Value),
              (status = 206, description = "The range.", content_type = "*/*", body = serde_json::Value),
              (status = 302, description = "A signed link to the file."),
              (status = 304, description = "It has not changed.")))]
pub(crate) async fn play(
    State(api): State<Api>,
    PathParams((grant, path)): PathParams<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("link");
    let (id, expires_ms, signature) = split(&grant).ok_or_else(missing)?;
    let job = api.store().job(id).await?.ok_or_else(missing)?;
    let expiry = expires_ms.to_string();
    let parts = [PURPOSE, &job.request.tenant, &id.to_string(), &expiry];
    if !api.inner.signing.is_signature(&parts, signature) {
        return Err(missing());
    }
    let left_ms = expires_ms.saturating_sub(api.now());
    if left_ms <= 0 {
        return Err(ApiError::new(Code::GrantExpired, "Ask for a new one."));
    }
    api.serve_file(&job, &path, &method, &headers, Caching { who: "private", seconds: left_ms / 1000 }).await
}

/// `JOB.EXPIRY.SIGNATURE`.
fn split(grant: &str) -> Option<(JobId, i64, &str)> {
    let (job, rest) = grant.split_once('.')?;
    let (expiry, signature) = rest.split_once('.')?;
    let is_decimal = expiry.len() <= 15 && expiry.bytes().all(|b| b.is_ascii_digit());
    Some((job.parse().ok()?, is_decimal.then(|| expiry.parse().ok())??, signature))
}

impl Api {
    fn grant(&self, job: &Job, expires_ms: i64) -> String {
        let (id, expiry) = (job.id.to_string(), expires_ms.to_string());
        let signature = self.inner.signing.sign(&[PURPOSE, &job.request.tenant, &id, &expiry]);
        format!("{}.{expiry}.{signature}", job.id.0.simple())
    }
}
