//! Files of a published presentation: listed, redirected to storage's own signed links, or passed through.

use super::Api;
use super::body::PathParams;
use super::caller::Authenticated;
use super::problem::ApiError;
use super::range::{Wanted, wanted};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use splitreel_backend::outputs::content_type;
use splitreel_client::problem::Code;
use splitreel_client::routes as paths;
use splitreel_client::types::{FileList, FileView};
use splitreel_core::JobId;
use splitreel_core::job::Job;
use splitreel_core::part::PresentationFile;
use splitreel_core::part::StoredObject;

/// Whether a file names others by relative URLs: a redirect would resolve them against another base.
fn names_others(path: &str) -> bool {
    matches!(path.rsplit('.').next(), Some("m3u8" | "mpd" | "json" | "vtt"))
}

/// Who may keep a file, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caching {
    /// `public` or `private`.
    pub(crate) who: &'static str,
    /// Seconds for what can never change under its name.
    pub(crate) seconds: i64,
}

/// The files of a published job.
#[utoipa::path(get, path = paths::JOB_FILES, tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The job.")), responses((status = 200, body = FileList)))]
pub(crate) async fn list_files(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
) -> Result<Json<FileList>, ApiError> {
    let job = api.visible_job(&caller, id).await?;
    let published = api.inner.presentations.of(&job).await?;
    let files = published
        .catalogue
        .files()
        .map(|PresentationFile { path, object }| FileView {
            content_type: content_type(&path).to_owned(),
            path,
            bytes: object.bytes,
            sha256: object.sha256,
        })
        .collect();
    Ok(Json(FileList { files, hash: published.hash.clone() }))
}

/// A file of a published job, or a range of it. Where storage can serve it itself, the answer is a redirect to a
/// signed link.
#[utoipa::path(get, path = paths::JOB_FILE, tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The job."),
           ("path" = String, Path, description = "Its path in the presentation."),
           ("Range" = Option<String>, Header, description = "One range of bytes.")),
    responses((status = 200, description = "The file.", content_type = "*/*", body = serde_json::Value),
              (status = 206, description = "The range.", content_type = "*/*", body = serde_json::Value),
              (status = 302, description = "A signed link to the file."),
              (status = 304, description = "It has not changed.")))]
pub(crate) async fn get_file(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams((id, path)): PathParams<(JobId, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = api.visible_job(&caller, id).await?;
    api.serve_file(&job, &path, &method, &headers, Caching { who: "private", seconds: 31_536_000 }).await
}

impl Api {
    /// Answers with a file of a job's presentation.
    pub(crate) async fn serve_file(
        &self,
        job: &Job,
        path: &str,
        method: &Method,
        request: &HeaderMap,
        caching: Caching,
    ) -> Result<Response, ApiError> {
        let published = self.inner.presentations.of(job).await?;
        let object = published.catalogue.object(path).ok_or_else(|| ApiError::not_found("file"))?.clone();
        if !names_others(path)
            && method == Method::GET
            && let Some(place) = self.signed_link(&object, caching.seconds).await?
        {
            let headers = [(header::LOCATION, place), (header::CACHE_CONTROL, "no-store".to_owned())];
            return Ok((StatusCode::FOUND, headers).into_response());
        }
        let tag = format!("\"{}\"", object.sha256);
        let mut headers = file_headers(path, &tag, caching);
        if is_known(request, &tag) {
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        // A range is of the version that If-Range names, or not given at all (RFC 9110 §13.1.5).
        let text = |name| request.get(name).and_then(|v| v.to_str().ok());
        let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|t| t == tag));
        let (status, start, end) = match wanted(range, object.bytes) {
            Wanted::Whole => (StatusCode::OK, 0, object.bytes),
            Wanted::Part { start, end } => {
                let place = format!("bytes {start}-{}/{}", end.saturating_sub(1), object.bytes);
                insert(&mut headers, header::CONTENT_RANGE, &place);
                (StatusCode::PARTIAL_CONTENT, start, end)
            }
            Wanted::Outside => {
                let mut refused = ApiError::new(Code::Range, "").into_response();
                insert(refused.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", object.bytes));
                return Ok(refused);
            }
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
        let body = if method == Method::HEAD { Body::empty() } else { self.pass_through(object, start, end).await? };
        Ok((status, headers, body).into_response())
    }

    /// Storage's own link, if it has one that needs nothing but its address. It lasts `seconds` at most.
    async fn signed_link(&self, object: &StoredObject, seconds: i64) -> Result<Option<String>, ApiError> {
        let ttl_ms = self.inner.config.redirect_ttl_ms.min(seconds.max(1).saturating_mul(1000));
        let grant = self.inner.signed.read_object(&object.key, ttl_ms).await;
        let grant = grant.map_err(|error| {
            tracing::warn!(%error, "could not sign object URL");
            ApiError::unavailable("Storage did not answer.")
        })?;
        Ok(grant.filter(|g| g.headers.iter().all(|(name, _)| name == "host")).map(|g| g.url))
    }

    /// The bytes of an object as a stream. The first are read before anything is answered, so that a failure there is
    /// still a problem document.
    async fn pass_through(&self, object: StoredObject, start: u64, end: u64) -> Result<Body, ApiError> {
        let key = object.key.clone();
        let mut bytes = Box::pin(self.inner.presentations.stream(object, start..end));
        let first = bytes.try_next().await.map_err(|error| {
            tracing::warn!(key, %error, "reading a stored file failed");
            ApiError::unavailable("Storage did not answer.")
        })?;
        Ok(Body::from_stream(futures::stream::iter(first.map(Ok)).chain(bytes)))
    }
}

/// The headers of a file, whatever part of it is sent.
fn file_headers(path: &str, tag: &str, caching: Caching) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    insert(&mut headers, header::ETAG, tag);
    let lifetime = format!("{}, max-age={}, immutable", caching.who, caching.seconds.max(0));
    insert(&mut headers, header::CACHE_CONTROL, &lifetime);
    headers
}

/// Sets a header to a text without control characters.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let Some(tags) = request.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) else { return false };
    tags.split(',').map(|t| t.trim().trim_start_matches("W/")).any(|t| t == tag || t == "*")
}
