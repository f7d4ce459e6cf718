//! The extractor of the caller, which the layer that checks tokens left among the request's extensions.

use super::problem::ApiError;
use crate::directory::Caller;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// Takes the caller out of a request; 401 without one.
pub(crate) struct Authenticated(pub(crate) Caller);

impl Authenticated {
    /// Checks one scope; 403 without it.
    pub(crate) fn require(&self, scope: &str) -> Result<&Caller, ApiError> {
        let Authenticated(caller) = self;
        if caller.has_scope(scope) { Ok(caller) } else { Err(ApiError::scope_missing(scope)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Caller>().cloned().map(Authenticated).ok_or_else(ApiError::unauthenticated)
    }
}
