//! Tenants: weights and quotas, kept as records, and read as shares by dispatch.

use super::Api;
use super::body::{Body, Named, invalid, mistake};
use super::etag::{etag, expected_version};
use super::problem::ApiError;
use crate::documents::put_document;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use splitreel_backend::records::{Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, StoreError};
use splitreel_client::problem::Code;
use splitreel_client::types::{Tenant, TenantList, TenantSettings};
use splitreel_core::fair::{Share, Shares};

/// The kind of tenant records.
pub const TENANT_KIND: &str = "tenant";
const PAGE: usize = 500;

/// 1 to 64 letters, digits, `.`, `-`, `_`.
pub(crate) fn is_tenant_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// A tenant's settings as they are now.
pub(crate) async fn tenant_settings(records: &dyn Records, tenant: &str) -> Result<TenantSettings, StoreError> {
    match records.get(&key(tenant)).await? {
        Some(record) => settings_of(&record),
        None => Ok(TenantSettings::default()),
    }
}

fn settings_of(record: &Record) -> Result<TenantSettings, StoreError> {
    serde_json::from_value(record.doc.clone())
        .map_err(|e| StoreError::Corrupt { what: format!("tenant {}: {e}", record.key.id) })
}

fn key(tenant: &str) -> RecordKey {
    RecordKey { kind: TENANT_KIND.into(), tenant: String::new(), id: tenant.to_owned() }
}

async fn all(records: &dyn Records) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|r: &Record| (r.key.tenant.clone(), r.key.id.clone()));
        let filter = RecordFilter { kind: TENANT_KIND.into(), after, limit: PAGE, ..RecordFilter::default() };
        let page = records.list(filter).await?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// How the tenants share the places, as set through the API: for dispatch.
///
/// # Errors
/// When the records do not answer, or hold something unreadable.
pub async fn shares(records: &dyn Records) -> Result<Shares, StoreError> {
    let mut shares = Shares::default();
    for record in all(records).await? {
        let TenantSettings { weight, max_in_flight, .. } = settings_of(&record)?;
        shares.tenants.insert(record.key.id, Share { weight, max_in_flight });
    }
    Ok(shares)
}

fn tenant_of(record: &Record) -> Result<Tenant, StoreError> {
    Ok(Tenant { tenant: record.key.id.clone(), settings: settings_of(record)?, version: record.version })
}

/// Lists the tenants that have settings of their own.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", responses((status = 200, body = TenantList)))]
pub(crate) async fn list_tenants(State(api): State<Api>) -> Result<Json<TenantList>, ApiError> {
    let records = all(api.inner.records.as_ref()).await?;
    Ok(Json(TenantList { tenants: records.iter().map(tenant_of).collect::<Result<_, _>>()? }))
}

/// A tenant's settings; those of one that was never set are the defaults, with version 0.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "Its name.")), responses((status = 200, body = Tenant)))]
pub(crate) async fn get_tenant(
    State(api): State<Api>,
    Named(tenant): Named<String>,
) -> Result<impl IntoResponse, ApiError> {
    if !is_tenant_name(&tenant) {
        return Err(ApiError::not_found("tenant"));
    }
    let found = match api.inner.records.get(&key(&tenant)).await? {
        Some(record) => tenant_of(&record)?,
        None => Tenant { tenant, settings: TenantSettings::default(), version: 0 },
    };
    Ok(([(header::ETAG, etag(found.version))], Json(found)))
}

/// Sets a tenant's weight and quotas. With If-Match only if nobody changed them meanwhile.
#[utoipa::path(put, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "Its name."),
           ("If-Match" = Option<String>, Header, description = "The ETag that is replaced.")),
    request_body = TenantSettings, responses((status = 200, body = Tenant)))]
pub(crate) async fn put_tenant(
    State(api): State<Api>,
    Named(tenant): Named<String>,
    headers: HeaderMap,
    Body(settings): Body<TenantSettings>,
) -> Result<impl IntoResponse, ApiError> {
    let mut mistakes = Vec::new();
    if !is_tenant_name(&tenant) {
        mistakes.push(mistake("tenant", "this is no name of a tenant", "use 1 to 64 letters, digits, . - _"));
    }
    if !(1..=1000).contains(&settings.weight) {
        mistakes.push(mistake("/weight", "it is out of range", "use 1 to 1000"));
    }
    if settings.requests_per_second.is_some_and(|r| !(1..=100_000).contains(&r)) {
        mistakes.push(mistake("/requests_per_second", "it is out of range", "use 1 to 100000"));
    }
    if settings.source_prefixes.as_ref().is_some_and(|p| p.len() > 100 || p.iter().any(String::is_empty)) {
        mistakes.push(mistake("/source_prefixes", "these are no prefixes", "use at most 100, none of them empty"));
    }
    if !mistakes.is_empty() {
        return Err(invalid(mistakes));
    }
    let expect = expected_version(&headers)?.unwrap_or(Expect::Any);
    let written = put_document(api.inner.records.as_ref(), &key(&tenant), expect, &settings, None, api.now()).await?;
    let version = written.map_err(|_| ApiError::new(Code::Changed, ""))?;
    api.inner.limits.forget(&tenant);
    api.inner.coordinator.wake();
    Ok(([(header::ETAG, etag(version))], Json(Tenant { tenant, settings, version })))
}

/// Takes a tenant's settings back to the defaults.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "Its name.")),
    responses((status = 204, description = "It has the defaults.")))]
pub(crate) async fn delete_tenant(
    State(api): State<Api>,
    Named(tenant): Named<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let expect = expected_version(&headers)?.unwrap_or(Expect::Any);
    api.inner.records.delete(&key(&tenant), expect).await?.map_err(|_| ApiError::new(Code::Changed, ""))?;
    api.inner.limits.forget(&tenant);
    Ok(StatusCode::NO_CONTENT)
}
