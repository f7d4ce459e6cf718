//! The identity behind a request.

use std::collections::BTreeSet;

/// The identity behind a request, once its token is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The token's tenant.
    pub tenant: String,
    /// The token's scopes.
    pub scopes: BTreeSet<String>,
    /// Everything is allowed, for every tenant.
    pub is_admin: bool,
}
