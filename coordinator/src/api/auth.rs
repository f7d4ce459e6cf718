//! Who may use a route: finds the bearer token of a request, identifies the caller, and holds both against the table of
//! routes.

use super::Api;
use super::problem::ApiError;
use super::routes::{Access, Verb};
use crate::directory::{Identified, Tokens};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use splitreel_backend::StoreError;
use splitreel_client::problem::Code;
use splitreel_client::types::Scope;

/// Subprotocol prefix by which browsers, which cannot set headers on WebSockets, offer a token.
const SUBPROTOCOL_PREFIX: &str = "bearer.";

/// The caller that the headers of a request identify. `None`: no token, or an invalid one.
///
/// # Errors
/// When the records cannot be read.
pub(super) async fn identify(tokens: &Tokens, headers: &HeaderMap) -> Result<Option<Identified>, StoreError> {
    match token_of(headers) {
        Some(token) => tokens.identify(token).await,
        None => Ok(None),
    }
}

/// The token among the headers; two `Authorization` headers count as none.
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
pub(super) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    // The methods of a path are no secret: a route that answers OPTIONS itself does so for everyone.
    if request.method() == Method::OPTIONS {
        return Ok(next.run(request).await);
    }
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let rule = path.as_deref().zip(Verb::of(request.method())).and_then(|(path, verb)| api.rule(verb, path));
    let Some(rule) = rule else {
        tracing::error!(path, method = %request.method(), "route has no access rule; request denied");
        return Err(ApiError::new(Code::Forbidden, ""));
    };
    if rule.access == Access::Public {
        return Ok(next.run(request).await);
    }
    let identified = identify(&api.directory().tokens, request.headers()).await?;
    let Identified { caller, token } = identified.ok_or_else(ApiError::unauthenticated)?;
    if let Access::Scoped(scope, _) = rule.access
        && !caller.has_scope(scope.as_str())
    {
        return Err(ApiError::scope_missing(scope.as_str()));
    }
    // Workers renew often and many share a token: their leases bound what they may do.
    if !matches!(rule.access, Access::Scoped(Scope::Work, _)) {
        api.inner.rates.admit(&token, &caller.tenant).await?;
    }
    request.extensions_mut().insert(caller);
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
