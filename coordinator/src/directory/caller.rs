//! The identity behind a request.

use splitreel_core::job::Job;
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

impl Caller {
    /// Whether the caller may know of a job: administrators know of all, others of their tenant's.
    pub fn may_see(&self, job: &Job) -> bool {
        self.is_admin || job.request.tenant == self.tenant
    }

    /// Whether the caller's token has a scope; administrators have all.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.is_admin || self.scopes.contains(scope)
    }
}
