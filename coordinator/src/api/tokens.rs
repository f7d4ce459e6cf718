//! Tokens: made of 256 random bits, shown once, kept as a hash.

use super::Api;
use super::body::{Body, Named, Params, invalid, mistake};
use super::caller::Authenticated;
use super::problem::ApiError;
use super::signing::fingerprint;
use super::tenants::is_tenant_name;
use crate::directory::Caller;
use crate::documents::put_document;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use splitreel_backend::records::{Expect, Record, RecordFilter, RecordKey};
use splitreel_client::problem::Code;
use splitreel_client::types::{Scope, TokenCreate, TokenCreated, TokenList, TokenView, WhoAmI};
use splitreel_core::plan::hex;
use std::collections::BTreeSet;
use utoipa::IntoParams;

/// The kind of token records.
pub const TOKEN_KIND: &str = "token";
const PREFIX: &str = "splitreel_";
/// Tokens per page.
const PAGE: usize = 100;

/// Where secrets come from.
pub trait Secrets: Send + Sync {
    /// Fills the bytes with random ones that nobody can guess. False: there are none to be had.
    fn fill(&self, bytes: &mut [u8]) -> bool;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSecrets;

impl Secrets for SystemSecrets {
    fn fill(&self, bytes: &mut [u8]) -> bool {
        rustls::crypto::ring::default_provider().secure_random.fill(bytes).is_ok()
    }
}

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TokenDocument {
    pub(crate) name: String,
    pub(crate) tenant: String,
    pub(crate) scopes: BTreeSet<Scope>,
    pub(crate) sha256: String,
    pub(crate) created_ms: i64,
    #[serde(default)]
    pub(crate) expires_ms: Option<i64>,
}

impl TokenDocument {
    pub(crate) fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_value(record.doc.clone())
            .map_err(|e| StoreError::Corrupt { what: format!("token {}: {e}", record.key.id) })
    }

    fn view(self, id: String) -> TokenView {
        TokenView {
            id,
            name: self.name,
            tenant: self.tenant,
            scopes: self.scopes,
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
        }
    }
}

/// The identifier inside of a token, if it has the form of one.
pub(crate) fn split_token(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex(id, 32) && is_hex(secret, 64)).then_some(id)
}

fn key(id: &str) -> RecordKey {
    RecordKey { kind: TOKEN_KIND.into(), tenant: String::new(), id: id.to_owned() }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenPage {
    /// `next` of the page before.
    after: Option<String>,
}

/// Who the service takes the caller for.
#[utoipa::path(get, path = "/v1/me", tag = "tokens", responses((status = 200, body = WhoAmI)))]
pub(crate) async fn who_am_i(caller: Authenticated) -> Json<WhoAmI> {
    let Authenticated(Caller { tenant, scopes, is_admin }) = caller;
    Json(WhoAmI { tenant, scopes: scopes.iter().filter_map(|s| Scope::parse(s)).collect(), is_admin })
}

/// Makes a token. Its secret is in this answer only.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenCreate,
    responses((status = 201, body = TokenCreated)))]
pub(crate) async fn create_token(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Body(wanted): Body<TokenCreate>,
) -> Result<impl IntoResponse, ApiError> {
    let mut mistakes = Vec::new();
    let length = wanted.name.chars().count();
    if !(1..=100).contains(&length) || wanted.name.chars().any(char::is_control) {
        mistakes.push(mistake("/name", "this is no name", "use 1 to 100 characters"));
    }
    if wanted.scopes.is_empty() {
        mistakes.push(mistake("/scopes", "a token without scopes allows nothing", "name at least one scope"));
    }
    let tenant = wanted.tenant.unwrap_or_else(|| caller.tenant.clone());
    if !is_tenant_name(&tenant) {
        mistakes.push(mistake("/tenant", "this is no name of a tenant", "use 1 to 64 letters, digits, . - _"));
    }
    if wanted.expires_in_seconds == Some(0) {
        mistakes.push(mistake("/expires_in_seconds", "it would never be valid", "use 1 or more"));
    }
    if !mistakes.is_empty() {
        return Err(invalid(mistakes));
    }
    if !caller.is_admin {
        if tenant != caller.tenant {
            return Err(ApiError::new(Code::Forbidden, "Only an administrator makes tokens of another tenant."));
        }
        if let Some(scope) = wanted.scopes.iter().find(|s| !caller.scopes.contains(s.as_str())) {
            let detail = format!("A token without `{}` cannot give it to another.", scope.as_str());
            return Err(ApiError::new(Code::Forbidden, detail));
        }
    }
    let mut random = [0u8; 32];
    if !api.inner.secrets.fill(&mut random) {
        return Err(ApiError::unavailable("No random numbers are to be had."));
    }
    let id = api.inner.world.ids.fresh().simple().to_string();
    let secret = format!("{PREFIX}{id}_{}", hex(&random));
    let now = api.now();
    let document = TokenDocument {
        name: wanted.name,
        tenant,
        scopes: wanted.scopes,
        sha256: fingerprint(secret.as_bytes()),
        created_ms: now,
        expires_ms: wanted.expires_in_seconds.map(|s| now.saturating_add(i64::from(s).saturating_mul(1000))),
    };
    put_document(api.inner.records.as_ref(), &key(&id), Expect::Absent, &document, None, api.now())
        .await?
        .map_err(|_| ApiError::new(Code::Exists, ""))?;
    tracing::info!(token = id, tenant = document.tenant, "token made");
    let token = document.view(id);
    let headers = [(header::LOCATION, format!("/v1/tokens/{}", token.id)), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::CREATED, headers, Json(TokenCreated { secret, token })))
}

/// Lists the tenant's tokens; administrators see all.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(TokenPage),
    responses((status = 200, body = TokenList)))]
pub(crate) async fn list_tokens(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Params(page): Params<TokenPage>,
) -> Result<Json<TokenList>, ApiError> {
    let mut after = page.after;
    let mut tokens = Vec::new();
    loop {
        let filter = RecordFilter {
            kind: TOKEN_KIND.into(),
            tenant: Some(String::new()),
            after: after.clone().map(|id| (String::new(), id)),
            limit: PAGE,
            ..RecordFilter::default()
        };
        let records = api.inner.records.list(filter).await?;
        let is_last = records.len() < PAGE;
        for record in records {
            let document = TokenDocument::read(&record)?;
            after = Some(record.key.id.clone());
            if caller.is_admin || document.tenant == caller.tenant {
                tokens.push(document.view(record.key.id));
            }
            if tokens.len() == PAGE {
                return Ok(Json(TokenList { tokens, next: after }));
            }
        }
        if is_last {
            return Ok(Json(TokenList { tokens, next: None }));
        }
    }
}

impl Api {
    async fn token(&self, caller: &Caller, id: &str) -> Result<TokenDocument, ApiError> {
        let missing = || ApiError::not_found("token");
        if id.len() > 64 {
            return Err(missing());
        }
        let record = self.inner.records.get(&key(id)).await?.ok_or_else(missing)?;
        let document = TokenDocument::read(&record)?;
        if caller.is_admin || document.tenant == caller.tenant { Ok(document) } else { Err(missing()) }
    }
}

/// A token, without its secret.
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "Its identifier.")),
    responses((status = 200, body = TokenView)))]
pub(crate) async fn get_token(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Named(id): Named<String>,
) -> Result<Json<TokenView>, ApiError> {
    Ok(Json(api.token(&caller, &id).await?.view(id)))
}

/// Revokes a token. Other coordinators hear of it within 5 seconds.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "Its identifier.")),
    responses((status = 204, description = "It is valid no more.")))]
pub(crate) async fn revoke_token(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Named(id): Named<String>,
) -> Result<StatusCode, ApiError> {
    let document = api.token(&caller, &id).await?;
    // Whoever holds less may not end what holds more.
    if !caller.is_admin && document.scopes.iter().any(|s| !caller.scopes.contains(s.as_str())) {
        return Err(ApiError::new(Code::Forbidden, "The token has scopes that the caller's has not."));
    }
    api.inner.records.delete(&key(&id), Expect::Any).await?.map_err(|_| ApiError::new(Code::Changed, ""))?;
    api.inner.tokens.forget(&id);
    tracing::info!(token = id, "token revoked");
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_split() {
        let (id, secret) = ("a".repeat(32), "b".repeat(64));
        assert_eq!(split_token(&format!("splitreel_{id}_{secret}")), Some(id.as_str()));
        for bad in [String::new(), "splitreel_".into(), format!("splitreel_{id}"), format!("other_{id}_{secret}")] {
            assert_eq!(split_token(&bad), None, "{bad}");
        }
        assert_eq!(split_token(&format!("splitreel_{id}_{}", "z".repeat(64))), None);
    }

    #[test]
    fn secrets_differ() {
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        assert!(SystemSecrets.fill(&mut a) && SystemSecrets.fill(&mut b));
        assert_ne!(a, b);
    }
}
