//! Routes for tenants: weights, quotas and allowed sources.

use super::Api;
use super::body::{Body, PathParams};
use super::etag::{etag, expected_version};
use super::problem::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use splitreel_backend::records::Expect;
use splitreel_client::routes as paths;
use splitreel_client::types::{Tenant, TenantList, TenantSettings};

fn tagged(tenant: Tenant) -> impl IntoResponse {
    ([(header::ETAG, etag(tenant.version))], Json(tenant))
}

/// Lists the tenants that have settings of their own.
#[utoipa::path(get, path = paths::TENANTS, tag = "tenants", responses((status = 200, body = TenantList)))]
pub(crate) async fn list_tenants(State(api): State<Api>) -> Result<Json<TenantList>, ApiError> {
    Ok(Json(TenantList { tenants: api.directory().tenants.list().await? }))
}

/// A tenant's settings; those of one that was never set are the defaults, with version 0.
#[utoipa::path(get, path = paths::TENANT, tag = "tenants",
    params(("tenant" = String, Path, description = "Its name.")), responses((status = 200, body = Tenant)))]
pub(crate) async fn get_tenant(
    State(api): State<Api>,
    PathParams(tenant): PathParams<String>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(tagged(api.directory().tenants.find(&tenant).await?))
}

/// Sets a tenant's weight and quotas. With If-Match only if they have not changed since.
#[utoipa::path(put, path = paths::TENANT, tag = "tenants",
    params(("tenant" = String, Path, description = "Its name."),
           ("If-Match" = Option<String>, Header, description = "The ETag that is replaced.")),
    request_body = TenantSettings, responses((status = 200, body = Tenant)))]
pub(crate) async fn put_tenant(
    State(api): State<Api>,
    PathParams(tenant): PathParams<String>,
    headers: HeaderMap,
    Body(settings): Body<TenantSettings>,
) -> Result<impl IntoResponse, ApiError> {
    let expect = expected_version(&headers)?.unwrap_or(Expect::Any);
    let saved = api.directory().tenants.save(&tenant, settings, expect).await?;
    api.inner.coordinator.wake();
    Ok(tagged(saved))
}

/// Takes a tenant's settings back to the defaults.
#[utoipa::path(delete, path = paths::TENANT, tag = "tenants",
    params(("tenant" = String, Path, description = "Its name.")),
    responses((status = 204, description = "It has the defaults.")))]
pub(crate) async fn delete_tenant(
    State(api): State<Api>,
    PathParams(tenant): PathParams<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let expect = expected_version(&headers)?.unwrap_or(Expect::Any);
    api.directory().tenants.reset(&tenant, expect).await?;
    Ok(StatusCode::NO_CONTENT)
}
