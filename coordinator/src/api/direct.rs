//! Routes for uploads whose parts a client puts into storage itself: `/v1/uploads:direct`. The service signs; no byte
//! of the source passes through it.

use super::body::document;
use super::caller::Authenticated;
use super::problem::ApiError;
use crate::uploads::{NewUpload, RequestedJob, StoredUpload, Uploads};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::uploads::PutPart;
use splitreel_client::routes as paths;
use splitreel_client::types::{Scope, UploadAnswer};
use splitreel_core::fair::Priority;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

const SCOPE: &str = Scope::UploadsWrite.as_str();
/// Maximum number of signed requests in one answer.
const MAX_SIGNED: u32 = 200;
/// Most parts of an object (S3).
const MAX_PARTS: usize = 10_000;

pub(super) fn direct_router(uploads: Uploads) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(begin)).routes(routes!(parts)).routes(routes!(complete)).with_state(uploads)
}

/// A direct upload to be started.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectRequest {
    /// Size of the whole, at least 1.
    pub bytes: u64,
    /// What the client calls it.
    #[serde(default)]
    pub filename: Option<String>,
    /// Profile of a job that starts when it is complete.
    #[serde(default)]
    pub profile: Option<String>,
    /// Priority class of that job.
    #[serde(default)]
    #[schema(value_type = String, example = "normal")]
    pub priority: Priority,
}

/// Where to put the parts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DirectAnswer {
    /// The upload.
    pub id: Uuid,
    /// Size of each part but the last.
    pub part_bytes: u64,
    /// How many parts there are.
    pub num_parts: u64,
    /// Requests that put the first parts; get more from `/v1/uploads/{id}/parts`.
    pub parts: Vec<PartRequest>,
}

/// A request that puts one part. Keep the `ETag` of its answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PartRequest {
    /// From 1.
    pub number: u32,
    /// HTTP method.
    pub method: String,
    /// URL with its signature.
    pub url: String,
    /// Headers that must be sent along: name and value.
    pub headers: Vec<Vec<String>>,
    /// When it runs out, milliseconds since the epoch.
    pub expires_ms: i64,
}

/// Which parts to sign.
#[derive(Deserialize, IntoParams)]
struct PartRange {
    /// Number of the first, from 1.
    first: Option<u32>,
    /// How many, at most 200.
    limit: Option<u32>,
}

/// The parts that were put.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// In the order of their numbers.
    pub parts: Vec<CompletedPart>,
}

/// A part that was put.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletedPart {
    /// From 1.
    pub number: u32,
    /// The header `ETag` of the answer.
    pub etag: String,
}

/// Begins a direct upload.
#[utoipa::path(post, path = paths::UPLOADS_DIRECT, tag = "uploads", request_body = DirectRequest,
    responses((status = 201, body = DirectAnswer), (status = 413), (status = 422), (status = 429),
        (status = 501, description = "Direct uploads are not enabled: use tus.")))]
async fn begin(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    body: Result<Json<DirectRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<DirectAnswer>), ApiError> {
    let tenant = caller.require(SCOPE)?.tenant.clone();
    let request = document(body)?;
    if request.bytes == 0 {
        return Err(ApiError::invalid([("/bytes".to_owned(), "must be at least 1".to_owned())]));
    }
    let given = request.filename.as_deref().unwrap_or("video");
    let new = NewUpload {
        bytes: request.bytes,
        name: given.chars().filter(|c| !c.is_control()).take(255).collect(),
        metadata: String::new(),
        wish: request.profile.map(|profile| RequestedJob { profile, priority: request.priority }),
        is_direct: true,
    };
    let kept = uploads.create(&tenant, new).await?;
    let (kept, signed) = uploads.sign_parts(&tenant, kept.id, 1, MAX_SIGNED).await?;
    Ok((StatusCode::CREATED, Json(answer(&kept, 1, signed))))
}

/// Signs more requests, or the same again when they have run out.
#[utoipa::path(get, path = paths::UPLOAD_PARTS, tag = "uploads", params(("id" = Uuid, Path), PartRange),
    responses((status = 200, body = DirectAnswer), (status = 404), (status = 409), (status = 410)))]
async fn parts(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
    Query(range): Query<PartRange>,
) -> Result<Json<DirectAnswer>, ApiError> {
    let tenant = caller.require(SCOPE)?.tenant.clone();
    let first = range.first.unwrap_or(1).max(1);
    let limit = range.limit.unwrap_or(MAX_SIGNED).clamp(1, MAX_SIGNED);
    let (kept, signed) = uploads.sign_parts(&tenant, id, first, limit).await?;
    Ok(Json(answer(&kept, first, signed)))
}

/// Makes the parts one object and starts the job that was asked for.
#[utoipa::path(post, path = paths::UPLOAD_COMPLETE, tag = "uploads", params(("id" = Uuid, Path)),
    request_body = CompleteRequest,
    responses((status = 200, body = UploadAnswer), (status = 404), (status = 409), (status = 410), (status = 422),
        (status = 423)))]
async fn complete(
    State(uploads): State<Uploads>,
    caller: Authenticated,
    Path(id): Path<Uuid>,
    body: Result<Json<CompleteRequest>, JsonRejection>,
) -> Result<Json<UploadAnswer>, ApiError> {
    let tenant = caller.require(SCOPE)?.tenant.clone();
    let request = document(body)?;
    let is_ordered = request.parts.iter().zip(1..).all(|(part, number)| part.number == number);
    let is_sized = (1..=MAX_PARTS).contains(&request.parts.len()) && request.parts.iter().all(|p| p.etag.len() <= 256);
    if !is_ordered || !is_sized {
        let message = "name all parts in the order of their numbers, from 1, with their entity tags";
        return Err(ApiError::invalid([("/parts".to_owned(), message.to_owned())]));
    }
    let parts: Vec<PutPart> =
        request.parts.into_iter().map(|part| PutPart { number: part.number, etag: part.etag }).collect();
    // In a task of its own: a client that goes away must not leave it half done.
    let task = async move { uploads.complete(&tenant, id, &parts).await };
    match tokio::spawn(task).await {
        Ok(done) => Ok(Json(done?.into())),
        Err(error) => {
            tracing::error!(%error, "upload completion panicked");
            Err(ApiError::new(splitreel_client::problem::Code::Internal, ""))
        }
    }
}

fn answer(kept: &StoredUpload, first: u32, signed: Vec<SignedRequest>) -> DirectAnswer {
    let part_bytes = kept.upload.part_bytes.unwrap_or(0);
    let request = |(number, signed): (u32, SignedRequest)| PartRequest {
        number,
        method: signed.method,
        url: signed.url,
        headers: signed.headers.into_iter().map(|(name, value)| vec![name, value]).collect(),
        expires_ms: signed.expires_ms,
    };
    DirectAnswer {
        id: kept.id,
        part_bytes,
        num_parts: kept.upload.bytes.div_ceil(part_bytes.max(1)),
        parts: (first..).zip(signed).map(request).collect(),
    }
}
