//! Routes for tokens.

use super::Api;
use super::body::{Body, PathParams, QueryParams};
use super::caller::Authenticated;
use super::problem::ApiError;
use crate::directory::Caller;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use splitreel_client::routes as paths;
use splitreel_client::types::{Scope, TokenCreate, TokenCreated, TokenList, TokenView, WhoAmI};
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenPage {
    /// `next` of the page before.
    after: Option<String>,
}

/// Who the service takes the caller for.
#[utoipa::path(get, path = paths::ME, tag = "tokens", responses((status = 200, body = WhoAmI)))]
pub(crate) async fn who_am_i(caller: Authenticated) -> Json<WhoAmI> {
    let Authenticated(Caller { tenant, scopes, is_admin }) = caller;
    Json(WhoAmI { tenant, scopes: scopes.iter().filter_map(|s| Scope::parse(s)).collect(), is_admin })
}

/// Makes a token. Its secret is in this answer only.
#[utoipa::path(post, path = paths::TOKENS, tag = "tokens", request_body = TokenCreate,
    responses((status = 201, body = TokenCreated)))]
pub(crate) async fn create_token(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Body(wanted): Body<TokenCreate>,
) -> Result<impl IntoResponse, ApiError> {
    let created = api.directory().tokens.create(&caller, wanted).await?;
    let location = paths::path(paths::TOKEN, &[&created.token.id]);
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::CREATED, headers, Json(created)))
}

/// Lists the tenant's tokens; administrators see all.
#[utoipa::path(get, path = paths::TOKENS, tag = "tokens", params(TokenPage),
    responses((status = 200, body = TokenList)))]
pub(crate) async fn list_tokens(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    QueryParams(page): QueryParams<TokenPage>,
) -> Result<Json<TokenList>, ApiError> {
    Ok(Json(api.directory().tokens.list(&caller, page.after).await?))
}

/// A token, without its secret.
#[utoipa::path(get, path = paths::TOKEN, tag = "tokens",
    params(("id" = String, Path, description = "Its identifier.")),
    responses((status = 200, body = TokenView)))]
pub(crate) async fn get_token(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<String>,
) -> Result<Json<TokenView>, ApiError> {
    Ok(Json(api.directory().tokens.find(&caller, &id).await?))
}

/// Revokes a token. Other coordinators hear of it within 5 seconds.
#[utoipa::path(delete, path = paths::TOKEN, tag = "tokens",
    params(("id" = String, Path, description = "Its identifier.")),
    responses((status = 204, description = "It is valid no more.")))]
pub(crate) async fn revoke_token(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<String>,
) -> Result<StatusCode, ApiError> {
    api.directory().tokens.revoke(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
