//! Who calls, as the routes beside the API's own see it: what the layer that checks tokens left in the extensions.

use crate::problem::Refused;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::collections::BTreeSet;

/// Who makes a request, in its extensions once it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The token's tenant.
    pub tenant: String,
    /// The token's scopes.
    pub scopes: BTreeSet<String>,
    /// Everything is allowed, for every tenant.
    pub is_admin: bool,
}

/// Takes the caller out of a request; 401 without one.
pub(crate) struct Known(pub(crate) Caller);

impl Known {
    /// Checks one scope; 403 without it.
    pub(crate) fn require(&self, scope: &str) -> Result<&Caller, Refused> {
        let Known(caller) = self;
        if caller.is_admin || caller.scopes.contains(scope) { Ok(caller) } else { Err(Refused::scope_missing(scope)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Caller>().cloned().map(Known).ok_or_else(Refused::unauthenticated)
    }
}
