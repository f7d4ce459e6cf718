//! Routes for uploads in pieces through this service, by the tus protocol 1.0.0: `/v1/uploads`.

use super::caller::Authenticated;
use super::problem::ApiError;
use super::routes::{Access, Reach, Route, Verb};
use crate::uploads::tus::{EXTENSIONS, PIECE, VERSION, http_date, parse_count, parse_metadata};
use crate::uploads::{NewUpload, RequestedJob, StoredUpload, Uploads};
use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use splitreel_backend::uploads::{ALGORITHMS, ByteStream, Checksum};
use splitreel_client::problem::Code;
use splitreel_client::routes as paths;
use splitreel_client::types::{Scope, UploadAnswer, UploadState};
use splitreel_core::fair::Priority;
use std::collections::BTreeMap;
use std::io;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Scope that reads and writes uploads.
pub const UPLOADS_SCOPE: &str = Scope::UploadsWrite.as_str();

const fn route(method: Verb, path: &'static str, reach: Reach) -> Route {
    Route { method, path, access: Access::Scoped(Scope::UploadsWrite, reach) }
}

/// Who may use the routes of [`uploads_router`]. `OPTIONS` on the first is for everybody.
pub const ROUTES: &[Route] = &[
    route(Verb::Post, paths::UPLOADS, Reach::Own),
    route(Verb::Get, paths::UPLOAD, Reach::Thing),
    route(Verb::Patch, paths::UPLOAD, Reach::Thing),
    route(Verb::Delete, paths::UPLOAD, Reach::Thing),
    route(Verb::Post, paths::UPLOAD, Reach::Thing),
    route(Verb::Post, paths::UPLOADS_DIRECT, Reach::Own),
    route(Verb::Get, paths::UPLOAD_PARTS, Reach::Thing),
    route(Verb::Post, paths::UPLOAD_COMPLETE, Reach::Thing),
];

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// Routes that take uploads, in pieces and directly. All but `OPTIONS` need a [`crate::directory::Caller`] among the
/// extensions of the request. Pieces may be of any length and take any time: no limit of body size and no time-out
/// may lie around these routes.
pub fn uploads_router(uploads: Uploads) -> OpenApiRouter {
    let tus = OpenApiRouter::new()
        .routes(routes!(options, create))
        .routes(routes!(look, piece, remove, get_one, overridden))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(speak_tus))
        .with_state(uploads.clone());
    tus.merge(super::direct::direct_router(uploads))
}

/// Every answer names the version; requests in another one are refused. Reading an upload as JSON needs none.
async fn speak_tus(request: Request, next: Next) -> Response {
    let is_exempt = matches!(*request.method(), Method::OPTIONS | Method::GET);
    let is_spoken = request.headers().get(TUS_RESUMABLE).is_some_and(|version| version == VERSION);
    let mut response = if is_exempt || is_spoken {
        next.run(request).await
    } else {
        let status = StatusCode::PRECONDITION_FAILED;
        let detail = format!("Send the header `Tus-Resumable: {VERSION}`.");
        ApiError::other(status, "tus_version", "This version of the protocol is not spoken.", detail).into_response()
    };
    if response.status() == StatusCode::PRECONDITION_FAILED {
        response.headers_mut().insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    }
    response.headers_mut().insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    response
}

/// Lists the capabilities of the service.
#[utoipa::path(options, path = paths::UPLOADS, tag = "uploads", responses((status = 204)))]
async fn options(State(uploads): State<Uploads>) -> impl IntoResponse {
    let headers = [
        (TUS_VERSION, VERSION.to_owned()),
        (HeaderName::from_static("tus-extension"), EXTENSIONS.to_owned()),
        (HeaderName::from_static("tus-max-size"), uploads.config().max_bytes.to_string()),
        (HeaderName::from_static("tus-checksum-algorithm"), ALGORITHMS.to_owned()),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Makes an upload of a known size; a body is its first piece. `Upload-Metadata` may hold `filename`, and `profile`
/// and `priority` of a job that starts when it is complete.
#[utoipa::path(post, path = paths::UPLOADS, tag = "uploads",
    params(("Upload-Length" = u64, Header), ("Upload-Metadata" = Option<String>, Header)),
    responses(
        (status = 201, description = "The upload is at `Location`."),
        (status = 400), (status = 412, description = "Another version of the protocol."),
        (status = 413, description = "Larger than allowed."), (status = 422),
        (status = 429, description = "The tenant has too many uploads."),
    ))]
async fn create(State(uploads): State<Uploads>, caller: Authenticated, request: Request) -> Result<Response, ApiError> {
    let tenant = caller.require(UPLOADS_SCOPE)?.tenant.clone();
    let (parts, body) = request.into_parts();
    let bytes = count(&parts.headers, &UPLOAD_LENGTH)?;
    let sent = text(&parts.headers, &UPLOAD_METADATA)?.unwrap_or_default();
    let metadata = parse_metadata(sent).ok_or_else(|| bad("Upload-Metadata is malformed."))?;
    let is_piece = is_piece(&parts.headers);
    if !is_piece && body.size_hint().lower() > 0 {
        return Err(ApiError::new(Code::UnsupportedMediaType, format!("A first piece has the type {PIECE}.")));
    }
    let checksum = checksum(&parts.headers)?;
    let new =
        NewUpload { bytes, name: name(&metadata), metadata: sent.to_owned(), wish: wish(&metadata)?, is_direct: false };
    let mut kept = uploads.create(&tenant, new).await?;
    let location = paths::path(paths::UPLOAD, &[&kept.id.to_string()]);
    if is_piece && bytes > 0 {
        // The upload exists: if its first piece fails, the answer holds the offset to resume at.
        match append(&uploads, &tenant, kept.id, 0, &parts.headers, body, checksum).await {
            Ok(appended) => kept = appended,
            Err(refused) if refused.status().is_client_error() => {
                let gone = uploads.remove(&tenant, kept.id).await;
                if let Err(error) = gone {
                    tracing::info!(%error, "could not delete an upload whose first piece was refused; it will expire");
                }
                return Err(refused);
            }
            Err(refused) => {
                tracing::info!(code = %refused.0.code, "first piece of an upload not stored; the client may resume");
                kept = uploads.get(&tenant, kept.id).await?;
            }
        }
    }
    let mut response = (StatusCode::CREATED, progress(&kept)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Returns the offset at which the upload continues.
#[utoipa::path(head, path = paths::UPLOAD, tag = "uploads", params(("id" = Uuid, Path)),
    responses((status = 200), (status = 404), (status = 410, description = "It has expired."),
              (status = 412, description = "Another version of the protocol.")))]
async fn look(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    let tenant = caller.require(UPLOADS_SCOPE)?.tenant.clone();
    let kept = uploads.get(&tenant, id).await?;
    let mut response = (StatusCode::OK, progress(&kept)).into_response();
    let headers = response.headers_mut();
    headers.insert(UPLOAD_LENGTH, HeaderValue::from(kept.upload.bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(metadata) = HeaderValue::try_from(&kept.upload.metadata)
        && !metadata.is_empty()
    {
        headers.insert(UPLOAD_METADATA, metadata);
    }
    Ok(response)
}

/// Stores a piece at the end of the upload.
#[utoipa::path(patch, path = paths::UPLOAD, tag = "uploads",
    params(("id" = Uuid, Path), ("Upload-Offset" = u64, Header), ("Upload-Checksum" = Option<String>, Header)),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "Stored."), (status = 400), (status = 404),
        (status = 409, description = "Another offset is expected."),
        (status = 410, description = "It has expired."),
        (status = 412, description = "Another version of the protocol."),
        (status = 413, description = "Beyond the size of the upload."),
        (status = 415), (status = 423, description = "Another request is writing."),
        (status = 460, description = "The piece does not match its checksum; nothing of it was stored."),
    ))]
async fn piece(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
    request: Request,
) -> Result<Response, ApiError> {
    let tenant = caller.require(UPLOADS_SCOPE)?.tenant.clone();
    let (parts, body) = request.into_parts();
    if !is_piece(&parts.headers) {
        return Err(ApiError::new(Code::UnsupportedMediaType, format!("A piece has the type {PIECE}.")));
    }
    let offset = count(&parts.headers, &UPLOAD_OFFSET)?;
    let checksum = checksum(&parts.headers)?;
    let kept = append(&uploads, &tenant, id, offset, &parts.headers, body, checksum).await?;
    Ok((StatusCode::NO_CONTENT, progress(&kept)).into_response())
}

/// Deletes the upload.
#[utoipa::path(delete, path = paths::UPLOAD, tag = "uploads", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404), (status = 410),
              (status = 412, description = "Another version of the protocol."), (status = 423)))]
async fn remove(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    let tenant = caller.require(UPLOADS_SCOPE)?.tenant.clone();
    uploads.remove(&tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers the upload as a document, with its job.
#[utoipa::path(get, path = paths::UPLOAD, tag = "uploads", params(("id" = Uuid, Path)),
    responses((status = 200, body = UploadAnswer), (status = 404), (status = 410)))]
async fn get_one(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
) -> Result<Json<UploadAnswer>, ApiError> {
    let tenant = caller.require(UPLOADS_SCOPE)?.tenant.clone();
    Ok(Json(uploads.get(&tenant, id).await?.into()))
}

/// The other methods for clients that can only post: `X-HTTP-Method-Override` names the one that is meant.
#[utoipa::path(post, path = paths::UPLOAD, tag = "uploads",
    params(("id" = Uuid, Path), ("X-HTTP-Method-Override" = String, Header)), 
    responses((status = 204), (status = 405), (status = 412, description = "Another version of the protocol.")))]
async fn overridden(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
    request: Request,
) -> Result<Response, ApiError> {
    let meant = request.headers().get(METHOD_OVERRIDE).map(|method| method.as_bytes().to_ascii_uppercase());
    match meant.as_deref() {
        Some(b"PATCH") => piece(State(uploads), caller, Path(id), request).await,
        Some(b"DELETE") => Ok(remove(State(uploads), caller, Path(id)).await?.into_response()),
        Some(b"HEAD") => look(State(uploads), caller, Path(id)).await,
        _ => Err(ApiError::new(Code::MethodNotAllowed, "")),
    }
}

/// Stores a piece in a task of its own, which a broken connection does not cancel: what came is kept.
async fn append(
    uploads: &Uploads,
    tenant: &str,
    id: Uuid,
    offset: u64,
    headers: &HeaderMap,
    body: Body,
    checksum: Option<Checksum>,
) -> Result<StoredUpload, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(parse_count);
    let stream = bytes_of(body, uploads.config().idle);
    let (uploads, tenant) = (uploads.clone(), tenant.to_owned());
    let task = async move { uploads.append(&tenant, id, offset, length, stream, checksum).await };
    match tokio::spawn(task).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "upload writer panicked");
            Err(ApiError::new(Code::Internal, ""))
        }
    }
}

/// The body as a stream that ends with an error when nothing comes for `idle`.
fn bytes_of(body: Body, idle: std::time::Duration) -> ByteStream {
    let stream = body.into_data_stream();
    futures::stream::unfold(Some(stream), move |stream| async move {
        let mut stream = stream?;
        match tokio::time::timeout(idle, stream.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(stream))),
            Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
            Ok(None) => None,
            Err(error) => Some((Err(io::Error::new(io::ErrorKind::TimedOut, error)), None)),
        }
    })
    .boxed()
}

fn progress(kept: &StoredUpload) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(UPLOAD_OFFSET, HeaderValue::from(kept.upload.offset));
    if kept.upload.state == UploadState::Open
        && let Ok(date) = HeaderValue::try_from(http_date(kept.upload.expires_ms))
    {
        headers.insert(UPLOAD_EXPIRES, date);
    }
    headers
}

fn is_piece(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(PIECE))
}

fn bad(detail: impl Into<String>) -> ApiError {
    ApiError::new(Code::BadRequest, detail)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ApiError> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| bad(format!("{name} is not text.")))
}

fn count(headers: &HeaderMap, name: &HeaderName) -> Result<u64, ApiError> {
    text(headers, name)?.and_then(parse_count).ok_or_else(|| bad(format!("{name} must be a number of bytes.")))
}

fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, ApiError> {
    let header = text(headers, &UPLOAD_CHECKSUM)?;
    header.map(Checksum::parse).transpose().map_err(|error| bad(error.to_string()))
}

fn name(metadata: &BTreeMap<String, String>) -> String {
    let given = metadata.get("filename").or_else(|| metadata.get("name")).map_or("video", String::as_str);
    given.chars().filter(|c| !c.is_control()).take(255).collect()
}

fn wish(metadata: &BTreeMap<String, String>) -> Result<Option<RequestedJob>, ApiError> {
    let Some(profile) = metadata.get("profile") else { return Ok(None) };
    let priority = match metadata.get("priority").map(String::as_str) {
        None | Some("normal") => Priority::Normal,
        Some("low") => Priority::Low,
        Some("high") => Priority::High,
        Some(_) => {
            return Err(ApiError::invalid([(
                "Upload-Metadata".to_owned(),
                "priority is low, normal or high".to_owned(),
            )]));
        }
    };
    Ok(Some(RequestedJob { profile: profile.clone(), priority }))
}
