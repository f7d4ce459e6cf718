//! Who calls: bearer tokens, their scopes, and the decision whether a route may be used.

use super::Api;
use super::problem::ApiError;
use super::routes::{Access, Verb};
use super::signing::{fingerprint, is_same};
use super::tokens::{TOKEN_KIND, TokenDocument, split_token};
use crate::directory::Caller;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use splitreel_backend::StoreError;
use splitreel_backend::records::RecordKey;
use splitreel_client::problem::Code;
use splitreel_client::types::Scope;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A token is looked up again after this time: a token that was revoked elsewhere ends within it.
const KEPT_MS: i64 = 5_000;
const REMEMBERED: usize = 10_000;
/// How browsers, which cannot set headers on WebSockets, hand a token over: as an offered subprotocol.
const SUBPROTOCOL_PREFIX: &str = "bearer.";

/// Tokens that were looked up.
#[derive(Default)]
pub(crate) struct KnownTokens {
    by_id: Mutex<HashMap<String, (i64, TokenDocument)>>,
}

impl KnownTokens {
    fn get(&self, id: &str, now_ms: i64) -> Option<TokenDocument> {
        let all = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(id).filter(|(at, _)| now_ms.saturating_sub(*at) < KEPT_MS).map(|(_, token)| token.clone())
    }

    fn put(&self, id: &str, token: TokenDocument, now_ms: i64) {
        let mut all = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(id.to_owned(), (now_ms, token));
    }

    pub(crate) fn forget(&self, id: &str) {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The caller and the name of the token.
#[derive(Clone, Debug)]
pub(crate) struct Identified {
    pub(crate) caller: Caller,
    pub(crate) token: String,
}

impl Api {
    /// Who the headers say calls. `None`: no token, or none that is valid.
    ///
    /// # Errors
    /// When the records do not answer.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Option<Caller>, StoreError> {
        Ok(self.identified(headers).await?.map(|i| i.caller))
    }

    async fn identified(&self, headers: &HeaderMap) -> Result<Option<Identified>, StoreError> {
        let Some(token) = token_of(headers) else { return Ok(None) };
        let hash = fingerprint(token.as_bytes());
        if self.inner.bootstrap_hash.as_ref().is_some_and(|known| is_same(known, &hash)) {
            let caller = Caller {
                tenant: self.inner.config.bootstrap_tenant.clone(),
                scopes: Scope::ALL.iter().map(|s| s.as_str().to_owned()).collect(),
                is_admin: true,
            };
            return Ok(Some(Identified { caller, token: "bootstrap".to_owned() }));
        }
        if self.inner.work_hash.as_ref().is_some_and(|known| is_same(known, &hash)) {
            let scopes = [Scope::Work.as_str().to_owned()].into();
            let caller = Caller { tenant: self.inner.config.bootstrap_tenant.clone(), scopes, is_admin: false };
            return Ok(Some(Identified { caller, token: "work".to_owned() }));
        }
        let Some(id) = split_token(token) else { return Ok(None) };
        let now = self.now();
        let document = match self.inner.tokens.get(id, now) {
            Some(document) => document,
            None => {
                let key = RecordKey { kind: TOKEN_KIND.into(), tenant: String::new(), id: id.to_owned() };
                let Some(record) = self.inner.records.get(&key).await? else { return Ok(None) };
                let document = TokenDocument::read(&record)?;
                self.inner.tokens.put(id, document.clone(), now);
                document
            }
        };
        let is_over = document.expires_ms.is_some_and(|end| end <= now);
        if is_over || !is_same(&document.sha256, &hash) {
            return Ok(None);
        }
        let caller = Caller {
            is_admin: document.scopes.contains(&Scope::Admin),
            scopes: document.scopes.iter().map(|s| s.as_str().to_owned()).collect(),
            tenant: document.tenant,
        };
        Ok(Some(Identified { caller, token: id.to_owned() }))
    }
}

/// The token among the headers; two of them are none.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = given.next() {
        if given.next().is_some() {
            return None;
        }
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|t| !t.is_empty());
    }
    headers
        .get(header::SEC_WEBSOCKET_PROTOCOL)?
        .to_str()
        .ok()?
        .split(',')
        .find_map(|p| p.trim().strip_prefix(SUBPROTOCOL_PREFIX))
        .filter(|t| !t.is_empty())
}

/// Admits a request to its route by the table, counts it, and leaves the caller among its extensions.
pub(crate) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    // What a path can do is no secret; where a route answers to OPTIONS itself, it is asked.
    if request.method() == Method::OPTIONS {
        return Ok(next.run(request).await);
    }
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let rule = path.as_deref().zip(Verb::of(request.method())).and_then(|(path, verb)| api.rule(verb, path));
    let Some(rule) = rule else {
        tracing::error!(path, method = %request.method(), "a route without a rule admits nobody");
        return Err(ApiError::new(Code::Forbidden, ""));
    };
    if rule.access == Access::Public {
        return Ok(next.run(request).await);
    }
    let identified = api.identified(request.headers()).await?.ok_or_else(ApiError::unauthenticated)?;
    if let Access::Scoped(scope, _) = rule.access {
        let word = scope.as_str();
        if !identified.caller.is_admin && !identified.caller.scopes.contains(word) {
            return Err(ApiError::scope_missing(word));
        }
    }
    // Workers renew often and many share a token: what they may do is bounded by their leases.
    if !matches!(rule.access, Access::Scoped(Scope::Work, _)) {
        api.inner.limits.admit(&identified.token, &identified.caller.tenant).await?;
    }
    request.extensions_mut().insert(identified.caller);
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect()
    }

    #[test]
    fn the_token_is_found_in_one_header_only() {
        let auth = |v| headers(&[(header::AUTHORIZATION, v)]);
        assert_eq!(token_of(&auth("Bearer abc")), Some("abc"));
        assert_eq!(token_of(&auth("bearer abc")), Some("abc"));
        assert_eq!(token_of(&auth("Basic abc")), None);
        assert_eq!(token_of(&auth("Bearer ")), None);
        let mut two = auth("Bearer abc");
        two.append(header::AUTHORIZATION, "Bearer def".parse().unwrap());
        assert_eq!(token_of(&two), None);
        assert_eq!(token_of(&headers(&[(header::SEC_WEBSOCKET_PROTOCOL, "splitreel, bearer.abc")])), Some("abc"));
        assert_eq!(token_of(&HeaderMap::new()), None);
    }
}
