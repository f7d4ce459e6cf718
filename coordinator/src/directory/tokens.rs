//! Tokens: 256 random bits, shown once, stored as a hash. Identifies the caller behind a token.

use super::tenants::{is_tenant_name, name_mistake};
use super::{Caller, DirectoryConfig, DirectoryConfigError, DirectoryError};
use crate::documents::put_document;
use serde::{Deserialize, Serialize};
use splitreel_backend::cache::Cache;
use splitreel_backend::records::{Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, Secrets, StoreError, World};
use splitreel_client::problem::Mistake;
use splitreel_client::types::{Scope, TokenCreate, TokenCreated, TokenList, TokenView};
use splitreel_core::digest::sha256_hex;
use splitreel_telemetry::redact::Secret;
use std::collections::BTreeSet;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Kind of the records of tokens.
pub const TOKEN_KIND: &str = "token";
const PREFIX: &str = "splitreel_";
/// Tokens per page.
const PAGE: usize = 100;
/// Maximum age of a token served from memory, in milliseconds: a token revoked by another coordinator ends within it.
const RECENT_MS: i64 = 5_000;
/// Number of tokens held in memory.
const MAX_RECENT: usize = 10_000;
/// Shortest configured token, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// A token as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TokenDocument {
    name: String,
    tenant: String,
    scopes: BTreeSet<Scope>,
    sha256: String,
    created_ms: i64,
    #[serde(default)]
    expires_ms: Option<i64>,
}

impl TokenDocument {
    fn read(record: &Record) -> Result<Self, StoreError> {
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

    fn caller(self) -> Caller {
        Caller {
            is_admin: self.scopes.contains(&Scope::Admin),
            scopes: self.scopes.iter().map(|s| s.as_str().to_owned()).collect(),
            tenant: self.tenant,
        }
    }
}

/// The caller behind a token, with the token's identifier.
#[derive(Clone, Debug)]
pub struct Identified {
    /// The caller.
    pub caller: Caller,
    /// Identifier of the token: what rates are counted by.
    pub token: String,
}

/// The identifier inside of a token, if the text has the form of one.
fn split_token(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex(id, 32) && is_hex(secret, 64)).then_some(id)
}

fn key(id: &str) -> RecordKey {
    RecordKey { kind: TOKEN_KIND.into(), tenant: String::new(), id: id.to_owned() }
}

/// Compares two hashes in constant time.
fn constant_time_eq(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn mistakes(wanted: &TokenCreate, tenant: &str) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let length = wanted.name.chars().count();
    if !(1..=100).contains(&length) || wanted.name.chars().any(char::is_control) {
        mistakes.push(Mistake::new("/name", "invalid name", "use 1 to 100 characters"));
    }
    if wanted.scopes.is_empty() {
        mistakes.push(Mistake::new("/scopes", "a token without scopes allows nothing", "name at least one scope"));
    }
    if !is_tenant_name(tenant) {
        mistakes.push(name_mistake("/tenant"));
    }
    if wanted.expires_in_seconds == Some(0) {
        mistakes.push(Mistake::new("/expires_in_seconds", "the token would never be valid", "use 1 or more"));
    }
    mistakes
}

/// Checks that a caller may make a token: of its own tenant, with no more scopes than its own.
fn check_rights(caller: &Caller, wanted: &TokenCreate, tenant: &str) -> Result<(), DirectoryError> {
    if caller.is_admin {
        return Ok(());
    }
    if tenant != caller.tenant {
        let detail = "Only an administrator makes tokens of another tenant.".to_owned();
        return Err(DirectoryError::Forbidden { detail });
    }
    match wanted.scopes.iter().find(|s| !caller.scopes.contains(s.as_str())) {
        Some(scope) => {
            let detail = format!("A token without `{}` cannot give it to another.", scope.as_str());
            Err(DirectoryError::Forbidden { detail })
        }
        None => Ok(()),
    }
}

/// Hashes of the configured tokens.
struct Configured {
    admin: Option<String>,
    work: Option<String>,
    tenant: String,
}

impl Configured {
    fn new(config: DirectoryConfig) -> Result<Self, DirectoryConfigError> {
        let hash = |token: Option<Secret<String>>| match token {
            Some(token) if token.expose().len() < MIN_TOKEN_BYTES => {
                Err(DirectoryConfigError::ShortToken { bytes: token.expose().len() })
            }
            token => Ok(token.map(|token| sha256_hex(token.expose().as_bytes()))),
        };
        if !is_tenant_name(&config.tenant) {
            return Err(DirectoryConfigError::TenantName { name: config.tenant });
        }
        Ok(Configured { admin: hash(config.admin_token)?, work: hash(config.work_token)?, tenant: config.tenant })
    }

    fn identify(&self, hash: &str) -> Option<Identified> {
        let is = |known: &Option<String>| known.as_ref().is_some_and(|known| constant_time_eq(known, hash));
        let (token, scopes, is_admin): (_, &[Scope], _) = if is(&self.admin) {
            ("bootstrap", &Scope::ALL, true)
        } else if is(&self.work) {
            ("work", &[Scope::Work], false)
        } else {
            return None;
        };
        let scopes = scopes.iter().map(|s| s.as_str().to_owned()).collect();
        let caller = Caller { tenant: self.tenant.clone(), scopes, is_admin };
        Some(Identified { caller, token: token.to_owned() })
    }
}

/// Bearer tokens of all tenants; cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    records: Arc<dyn Records>,
    world: World,
    secrets: Arc<dyn Secrets>,
    configured: Arc<Configured>,
    recent: Arc<Cache<String, TokenDocument>>,
}

impl Tokens {
    pub(super) fn new(
        config: DirectoryConfig,
        records: Arc<dyn Records>,
        world: World,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Self, DirectoryConfigError> {
        let configured = Arc::new(Configured::new(config)?);
        let recent = Arc::new(Cache::new(MAX_RECENT).max_age_ms(RECENT_MS));
        Ok(Tokens { records, world, secrets, configured, recent })
    }

    /// The caller behind a token; `None` when the token is not valid.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn identify(&self, token: &str) -> Result<Option<Identified>, StoreError> {
        let hash = sha256_hex(token.as_bytes());
        if let Some(identified) = self.configured.identify(&hash) {
            return Ok(Some(identified));
        }
        let Some(id) = split_token(token) else { return Ok(None) };
        let now = self.world.clock.now_ms();
        let document = match self.recent.get(id, now) {
            Some(document) => document,
            None => {
                let Some(record) = self.records.get(&key(id)).await? else { return Ok(None) };
                let document = TokenDocument::read(&record)?;
                self.recent.put(id.to_owned(), document.clone(), now);
                document
            }
        };
        let is_expired = document.expires_ms.is_some_and(|end| end <= now);
        if is_expired || !constant_time_eq(&document.sha256, &hash) {
            return Ok(None);
        }
        Ok(Some(Identified { caller: document.caller(), token: id.to_owned() }))
    }

    /// Makes a token. The answer is the only one with its secret.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn create(&self, caller: &Caller, wanted: TokenCreate) -> Result<TokenCreated, DirectoryError> {
        let tenant = wanted.tenant.clone().unwrap_or_else(|| caller.tenant.clone());
        let mistakes = mistakes(&wanted, &tenant);
        if !mistakes.is_empty() {
            return Err(DirectoryError::Invalid(mistakes));
        }
        check_rights(caller, &wanted, &tenant)?;
        let mut random = [0u8; 32];
        self.secrets.fill(&mut random).map_err(|_| DirectoryError::NoRandomness)?;
        let id = self.world.ids.fresh().simple().to_string();
        let secret = format!("{PREFIX}{id}_{}", hex::encode(random));
        let now = self.world.clock.now_ms();
        let document = TokenDocument {
            name: wanted.name,
            tenant,
            scopes: wanted.scopes,
            sha256: sha256_hex(secret.as_bytes()),
            created_ms: now,
            expires_ms: wanted.expires_in_seconds.map(|s| now.saturating_add(i64::from(s).saturating_mul(1000))),
        };
        let written = put_document(self.records.as_ref(), &key(&id), Expect::Absent, &document, None, now).await?;
        written.map_err(|_| DirectoryError::Exists)?;
        tracing::info!(token = id, tenant = document.tenant, "token created");
        Ok(TokenCreated { secret, token: document.view(id) })
    }

    /// A page of the tokens that a caller may see: its tenant's, for administrators all.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn list(&self, caller: &Caller, mut after: Option<String>) -> Result<TokenList, StoreError> {
        let mut tokens = Vec::new();
        loop {
            let filter = RecordFilter {
                kind: TOKEN_KIND.into(),
                tenant: Some(String::new()),
                after: after.clone().map(|id| (String::new(), id)),
                limit: PAGE,
                ..RecordFilter::default()
            };
            let records = self.records.list(filter).await?;
            let is_last = records.len() < PAGE;
            for record in records {
                let document = TokenDocument::read(&record)?;
                after = Some(record.key.id.clone());
                if caller.is_admin || document.tenant == caller.tenant {
                    tokens.push(document.view(record.key.id));
                }
                if tokens.len() == PAGE {
                    return Ok(TokenList { tokens, next: after });
                }
            }
            if is_last {
                return Ok(TokenList { tokens, next: None });
            }
        }
    }

    async fn visible(&self, caller: &Caller, id: &str) -> Result<TokenDocument, DirectoryError> {
        let missing = || DirectoryError::NotFound { what: "token" };
        if id.len() > 64 {
            return Err(missing());
        }
        let record = self.records.get(&key(id)).await?.ok_or_else(missing)?;
        let document = TokenDocument::read(&record)?;
        if caller.is_admin || document.tenant == caller.tenant { Ok(document) } else { Err(missing()) }
    }

    /// One token, without its secret.
    ///
    /// # Errors
    /// [`DirectoryError::NotFound`]; when the records cannot be read.
    pub async fn find(&self, caller: &Caller, id: &str) -> Result<TokenView, DirectoryError> {
        Ok(self.visible(caller, id).await?.view(id.to_owned()))
    }

    /// Revokes a token. Other coordinators accept it for up to five seconds more.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn revoke(&self, caller: &Caller, id: &str) -> Result<(), DirectoryError> {
        let document = self.visible(caller, id).await?;
        // A token may not revoke one with more scopes than its own.
        if !caller.is_admin && document.scopes.iter().any(|s| !caller.scopes.contains(s.as_str())) {
            let detail = "The token has scopes that the caller's has not.".to_owned();
            return Err(DirectoryError::Forbidden { detail });
        }
        self.records.delete(&key(id), Expect::Any).await?.map_err(|_| DirectoryError::Changed)?;
        self.recent.remove(id);
        tracing::info!(token = id, "token revoked");
        Ok(())
    }
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
    fn configured_tokens_must_be_long_and_of_a_valid_tenant() {
        let config = |admin: &str, tenant: &str| DirectoryConfig {
            admin_token: Some(Secret::new(admin.to_owned())),
            work_token: None,
            tenant: tenant.to_owned(),
        };
        assert!(Configured::new(config("sixteen bytes ok", "default")).is_ok());
        let short = Configured::new(config("admin", "default"));
        assert!(matches!(short, Err(DirectoryConfigError::ShortToken { bytes: 5 })));
        let unnamed = Configured::new(config("sixteen bytes ok", "no spaces"));
        assert!(matches!(unnamed, Err(DirectoryConfigError::TenantName { .. })));
    }
}
