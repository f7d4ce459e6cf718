//! Routes for profiles.

use super::Api;
use super::body::{Body, PathParams, QueryParams};
use super::caller::Authenticated;
use super::etag::{etag, expected_version};
use super::problem::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use splitreel_client::routes as paths;
use splitreel_client::types::{ProfileList, ProfileView};
use splitreel_core::profile::Profile;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// A version; the newest when absent.
    version: Option<u32>,
}

/// The built-in profiles and the tenant's own, the newest version of each.
#[utoipa::path(get, path = paths::PROFILES, tag = "profiles", responses((status = 200, body = ProfileList)))]
pub(crate) async fn list_profiles(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ProfileList>, ApiError> {
    Ok(Json(ProfileList { profiles: api.directory().profiles.list(&caller.tenant).await? }))
}

/// A profile.
#[utoipa::path(get, path = paths::PROFILE, tag = "profiles",
    params(("name" = String, Path, description = "Its name."), Which), responses((status = 200, body = ProfileView)))]
pub(crate) async fn get_profile(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(name): PathParams<String>,
    QueryParams(which): QueryParams<Which>,
) -> Result<impl IntoResponse, ApiError> {
    let found = api.directory().profiles.find(&caller.tenant, &name, which.version).await?;
    let (profile, version) = found.ok_or_else(|| ApiError::not_found("profile"))?;
    Ok(([(header::ETAG, etag(version))], Json(profile)))
}

/// Saves a profile: a new one with If-None-Match: *, a new version with If-Match and the ETag of the one before. All
/// mistakes are listed at once.
#[utoipa::path(put, path = paths::PROFILE, tag = "profiles", request_body = Profile,
    params(("name" = String, Path, description = "Its name: letters, digits, - and _."),
           ("If-Match" = Option<String>, Header, description = "The ETag of the version that is replaced."),
           ("If-None-Match" = Option<String>, Header, description = "*: there is none yet.")),
    responses((status = 200, description = "A new version.", body = ProfileView),
              (status = 201, description = "A new profile.", body = ProfileView)))]
pub(crate) async fn put_profile(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(name): PathParams<String>,
    headers: HeaderMap,
    Body(profile): Body<Profile>,
) -> Result<impl IntoResponse, ApiError> {
    let condition = expected_version(&headers)?;
    let saved = api.directory().profiles.save(&caller.tenant, &name, profile, condition).await?;
    let status = if saved.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag(saved.record_version))], Json(saved.profile)))
}

/// Deletes a profile. Jobs that were made with it keep their copy.
#[utoipa::path(delete, path = paths::PROFILE, tag = "profiles",
    params(("name" = String, Path, description = "Its name."),
           ("If-Match" = Option<String>, Header, description = "The ETag of the version that is meant.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete_profile(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(name): PathParams<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let condition = expected_version(&headers)?;
    api.directory().profiles.delete(&caller.tenant, &name, condition).await?;
    Ok(StatusCode::NO_CONTENT)
}
