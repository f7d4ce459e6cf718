//! Tokens and what they allow.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Scope {
    /// See jobs, their tasks, events and files; see profiles.
    #[serde(rename = "jobs.read")]
    JobsRead,
    /// Create, cancel, pause, resume and retry jobs.
    #[serde(rename = "jobs.write")]
    JobsWrite,
    /// Create, change and delete profiles.
    #[serde(rename = "profiles.write")]
    ProfilesWrite,
    /// Upload sources.
    #[serde(rename = "uploads.write")]
    UploadsWrite,
    /// Create and revoke tokens of the same tenant, with no more scopes than one's own; webhooks.
    #[serde(rename = "tokens.write")]
    TokensWrite,
    /// Claim and report tasks: for workers and assemblers, over all tenants.
    #[serde(rename = "work")]
    Work,
    /// Report upload events.
    #[serde(rename = "ingest")]
    Ingest,
    /// Everything, for every tenant.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 8] = [
        Scope::JobsRead,
        Scope::JobsWrite,
        Scope::ProfilesWrite,
        Scope::UploadsWrite,
        Scope::TokensWrite,
        Scope::Work,
        Scope::Ingest,
        Scope::Admin,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::JobsRead => "jobs.read",
            Scope::JobsWrite => "jobs.write",
            Scope::ProfilesWrite => "profiles.write",
            Scope::UploadsWrite => "uploads.write",
            Scope::TokensWrite => "tokens.write",
            Scope::Work => "work",
            Scope::Ingest => "ingest",
            Scope::Admin => "admin",
        }
    }

    /// Inverse of [`Scope::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What it is for, 1 to 100 characters.
    pub name: String,
    /// What it allows; at least one.
    pub scopes: BTreeSet<Scope>,
    /// Whose it is; the caller's own tenant when absent. Only an administrator may name another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Seconds until the token expires; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u32>,
}

/// A token as it can be seen afterwards: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Identifier; the part of the token between the underscores.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// A new token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token itself: shown this once, only its hash is kept.
    pub secret: String,
    /// What is kept of it.
    pub token: TokenView,
}

/// Tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// By identifier.
    pub tokens: Vec<TokenView>,
    /// The `after` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Who the service takes the caller for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The token's tenant.
    pub tenant: String,
    /// The token's scopes.
    pub scopes: BTreeSet<Scope>,
    /// Whether everything is allowed.
    pub is_admin: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_words_are_those_of_the_wire() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
    }
}
