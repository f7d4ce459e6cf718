//! Routes for rules: `/v1/rules`. A rule reads buckets for a tenant, so that only an administrator may write it.

use super::body::document;
use super::caller::Authenticated;
use super::etag::match_version;
use super::problem::ApiError;
use super::routes::{Access, Reach, Route, Verb};
use crate::directory::ProfileLookupError;
use crate::documents::put_document;
use crate::triggers::{Intake, NamedRule, RULE_KIND, Verdict, validate};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use splitreel_backend::records::{Conflict, Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, StoreError, World};
use splitreel_client::problem::Code;
use splitreel_client::routes as paths;
use splitreel_client::types::{Rule, RuleFit, RuleList, RuleSaying, RuleTest, RuleVerdict, Scope, StoredRule};
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Scope that reads and writes rules.
pub const RULES_SCOPE: &str = Scope::Admin.as_str();

const fn route(method: Verb, path: &'static str) -> Route {
    Route { method, path, access: Access::Scoped(Scope::Admin, Reach::Deployment) }
}

/// Who may use the routes of [`rules_router`] and of [`super::events_router`], which checks its senders itself.
pub const ROUTES: &[Route] = &[
    route(Verb::Get, paths::RULES),
    route(Verb::Post, paths::RULES),
    route(Verb::Get, paths::RULE),
    route(Verb::Put, paths::RULE),
    route(Verb::Delete, paths::RULE),
    route(Verb::Post, paths::RULES_TEST),
    Route { method: Verb::Get, path: paths::EVENTS_S3, access: Access::Public },
    Route { method: Verb::Post, path: paths::EVENTS_S3, access: Access::Public },
];

#[derive(Clone)]
struct Rules {
    records: Arc<dyn Records>,
    intake: Intake,
    world: World,
}

/// Routes that keep rules. They need a [`crate::directory::Caller`] among the extensions of the request.
pub fn rules_router(records: Arc<dyn Records>, intake: Intake, world: World) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get_one, replace, remove))
        .routes(routes!(test))
        .with_state(Rules { records, intake, world })
}

#[derive(Deserialize, IntoParams)]
struct Which {
    /// The tenant; without it, the caller's own.
    tenant: Option<String>,
}

#[derive(Deserialize, IntoParams)]
struct Page {
    /// Only this tenant's rules; without it, all.
    tenant: Option<String>,
    /// From the page before.
    after: Option<String>,
    /// Rules per page, 1 to 500; 100 when absent.
    limit: Option<usize>,
}

fn key(tenant: &str, id: &str) -> RecordKey {
    RecordKey { kind: RULE_KIND.to_owned(), tenant: tenant.to_owned(), id: id.to_owned() }
}

fn stored(record: Record) -> Result<StoredRule, ApiError> {
    let rule = serde_json::from_value(record.doc)
        .map_err(|error| ApiError::from(StoreError::Corrupt { what: format!("rule {}: {error}", record.key.id) }))?;
    Ok(StoredRule { id: record.key.id, tenant: record.key.tenant, version: record.version, rule })
}

/// Lists rules.
#[utoipa::path(get, path = paths::RULES, tag = "rules", params(Page), responses((status = 200, body = RuleList)))]
async fn list(
    State(rules): State<Rules>,
    caller: Authenticated,
    Query(page): Query<Page>,
) -> Result<Json<RuleList>, ApiError> {
    caller.require(RULES_SCOPE)?;
    let limit = page.limit.unwrap_or(100).clamp(1, 500);
    let after = match page.after.as_deref().map(|after| after.split_once('/')) {
        None => None,
        Some(Some((id, tenant))) => Some((tenant.to_owned(), id.to_owned())),
        Some(None) => return Err(ApiError::invalid([("after".to_owned(), "is no cursor of a page".to_owned())])),
    };
    let filter =
        RecordFilter { kind: RULE_KIND.to_owned(), tenant: page.tenant, after, limit, ..RecordFilter::default() };
    let records = rules.records.list(filter).await?;
    let next = records.last().filter(|_| records.len() == limit).map(|r| format!("{}/{}", r.key.id, r.key.tenant));
    let rules = records.into_iter().map(stored).collect::<Result<_, _>>()?;
    Ok(Json(RuleList { rules, next }))
}

/// Creates a rule.
#[utoipa::path(post, path = paths::RULES, tag = "rules", params(Which), request_body = Rule,
    responses((status = 201, body = StoredRule), (status = 422, description = "All mistakes of the rule.")))]
async fn create(
    State(rules): State<Rules>,
    caller: Authenticated,
    Query(which): Query<Which>,
    body: Result<Json<Rule>, JsonRejection>,
) -> Result<Response, ApiError> {
    let tenant = which.tenant.unwrap_or_else(|| caller.0.tenant.clone());
    caller.require(RULES_SCOPE)?;
    let rule = document(body)?;
    check(&rules, &tenant, &rule).await?;
    let key = key(&tenant, &rules.world.ids.fresh().simple().to_string());
    let version = write(&rules, &key, Expect::Absent, &rule).await?.map_err(|_| ApiError::new(Code::Changed, ""))?;
    Ok((StatusCode::CREATED, answer(StoredRule { id: key.id, tenant, version, rule })).into_response())
}

/// Answers one rule.
#[utoipa::path(get, path = paths::RULE, tag = "rules", params(("id" = String, Path), Which),
    responses((status = 200, body = StoredRule), (status = 404)))]
async fn get_one(
    State(rules): State<Rules>,
    caller: Authenticated,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let tenant = which.tenant.unwrap_or_else(|| caller.0.tenant.clone());
    caller.require(RULES_SCOPE)?;
    let record = rules.records.get(&key(&tenant, &id)).await?.ok_or_else(|| ApiError::not_found("rule"))?;
    Ok(answer(stored(record)?).into_response())
}

/// Replaces a rule. With `If-Match`, only the version that it names.
#[utoipa::path(put, path = paths::RULE, tag = "rules", params(("id" = String, Path), Which), request_body = Rule,
    responses((status = 200, body = StoredRule), (status = 404), (status = 412), (status = 422)))]
async fn replace(
    State(rules): State<Rules>,
    caller: Authenticated,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
    body: Result<Json<Rule>, JsonRejection>,
) -> Result<Response, ApiError> {
    let tenant = which.tenant.unwrap_or_else(|| caller.0.tenant.clone());
    caller.require(RULES_SCOPE)?;
    let rule = document(body)?;
    let key = key(&tenant, &id);
    let record = rules.records.get(&key).await?.ok_or_else(|| ApiError::not_found("rule"))?;
    match_version(&headers, record.version)?;
    check(&rules, &tenant, &rule).await?;
    let written = write(&rules, &key, Expect::Version(record.version), &rule).await?;
    let version = written.map_err(|_| ApiError::new(Code::Changed, ""))?;
    Ok(answer(StoredRule { id, tenant, version, rule }).into_response())
}

/// Deletes a rule. Its jobs stay.
#[utoipa::path(delete, path = paths::RULE, tag = "rules", params(("id" = String, Path), Which),
    responses((status = 204), (status = 404)))]
async fn remove(
    State(rules): State<Rules>,
    caller: Authenticated,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<StatusCode, ApiError> {
    let tenant = which.tenant.unwrap_or_else(|| caller.0.tenant.clone());
    caller.require(RULES_SCOPE)?;
    let key = key(&tenant, &id);
    rules.records.get(&key).await?.ok_or_else(|| ApiError::not_found("rule"))?;
    let _ = rules.records.delete(&key, Expect::Any).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows which rule would take an object, and each rule's verdict; storage is not asked.
#[utoipa::path(post, path = paths::RULES_TEST, tag = "rules", request_body = RuleTest,
    responses((status = 200, body = RuleVerdict), (status = 422)))]
async fn test(
    State(rules): State<Rules>,
    caller: Authenticated,
    body: Result<Json<RuleTest>, JsonRejection>,
) -> Result<Json<RuleVerdict>, ApiError> {
    caller.require(RULES_SCOPE)?;
    let RuleTest { bucket, key } = document(body)?;
    let set = rules.intake.rules().await.map_err(|error| {
        tracing::warn!(%error, "reading the rules failed");
        ApiError::unavailable("The rules cannot be read.")
    })?;
    let saying = |named: &NamedRule, fit| RuleSaying { id: named.id.clone(), tenant: named.tenant.clone(), fit };
    let verdict = set.decide(&bucket, &key, None);
    Ok(Json(RuleVerdict {
        taken_by: match verdict {
            Verdict::Take(named) => Some(saying(named, RuleFit::Fits)),
            Verdict::OwnOutput | Verdict::NoRule => None,
        },
        is_own_output: verdict == Verdict::OwnOutput,
        rules: set.explain(&bucket, &key).map(|(named, fit)| saying(named, fit)).collect(),
    }))
}

async fn check(rules: &Rules, tenant: &str, rule: &Rule) -> Result<(), ApiError> {
    let mut mistakes: Vec<(String, String)> = validate(rule, rules.intake.own_places())
        .into_iter()
        .map(|error| (format!("/{}", error.field), error.message))
        .collect();
    match rules.intake.profiles().resolve(tenant, &rule.profile).await {
        Ok(_) => {}
        Err(error @ (ProfileLookupError::Unknown { .. } | ProfileLookupError::Version { .. })) => {
            mistakes.push(("/profile".to_owned(), error.to_string()))
        }
        Err(ProfileLookupError::Store(error)) => return Err(error.into()),
    }
    if mistakes.is_empty() { Ok(()) } else { Err(ApiError::invalid(mistakes)) }
}

async fn write(rules: &Rules, key: &RecordKey, expect: Expect, rule: &Rule) -> Result<Result<i64, Conflict>, ApiError> {
    let now = rules.world.clock.now_ms();
    Ok(put_document(rules.records.as_ref(), key, expect, rule, None, now).await?)
}

fn answer(rule: StoredRule) -> impl IntoResponse {
    ([(header::ETAG, format!("\"{}\"", rule.version))], Json(rule))
}
