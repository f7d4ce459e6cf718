//! The HTTP API: routes over the coordinator's seams. It decides who may and how things look; what happens to jobs
//! is decided below it.

mod attempts;
pub mod auth;
mod body;
mod caller;
mod catalogue;
mod detail;
mod direct;
mod edges;
mod etag;
mod files;
mod inbound;
mod jobs;
mod limits;
mod openapi;
mod playback;
mod presence;
mod problem;
mod profiles;
mod progress;
mod quote;
mod range;
pub mod routes;
mod rules;
mod signing;
mod source_grants;
mod stream;
mod submit;
mod tenants;
mod tokens;
mod upload_answers;
mod uploads;
mod webhooks;
mod work;
mod workers;

pub use direct::{CompleteRequest, CompletedPart, DirectAnswer, DirectRequest, PartRequest};
pub use files::content_type;
pub use inbound::{EventAnswer, EventsAnswer, Gate, SECRET_HEADER, SharedSecret, events_router};
pub use rules::{ROUTES as RULES_ROUTES, RULES_SCOPE, rules_router};
pub use signing::Secret;
pub use submit::{FinishedUpload, FinishedUploads};
pub use tenants::shares;
pub(crate) use tenants::tenant_settings;
pub use tokens::{Secrets, SystemSecrets};
pub use uploads::{ROUTES as UPLOADS_ROUTES, UPLOADS_SCOPE, uploads_router};
pub use webhooks::{
    DeliveryAnswer, DeliveryList, PingAnswer, ROUTES as WEBHOOKS_ROUTES, WEBHOOKS_SCOPE, WebhookAnswer, WebhookList,
    WebhookRequest, webhooks_router,
};

use crate::Coordinator;
use crate::directory::Caller;
use crate::documents::delete_due;
use crate::events::live::Feed;
use auth::KnownTokens;
use catalogue::Catalogues;
use limits::Limits;
use presence::Connections;
use problem::ApiError;
use routes::{ROUTES, Route, Verb};
use source_grants::SourceGrants;
use splitreel_backend::{BlobStore, Grants, JobStore, Records, StoreError, World};
use splitreel_core::JobId;
use splitreel_core::job::Job;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// A token that is an administrator from the start, at least 16 bytes.
    pub bootstrap_token: Option<Secret>,
    /// The tenant of the bootstrap token.
    pub bootstrap_tenant: String,
    /// A token with the scope `work` from the start, for workers and assemblers: at least 16 bytes.
    pub work_token: Option<Secret>,
    /// Signs playback links and write tickets: at least 32 bytes, the same in every coordinator.
    pub signing_key: Secret,
    /// Longest body in bytes, reports of workers excepted.
    pub max_body_bytes: usize,
    /// Longest body of a worker's report in bytes.
    pub max_report_bytes: usize,
    /// Longest time for a request, streams excepted.
    pub request_timeout: Duration,
    /// Requests per second and token, where the tenant has no setting of its own.
    pub requests_per_second: u32,
    /// How long rights to read a source and to store an object last, in milliseconds.
    pub grant_ttl_ms: i64,
    /// How long signed links that a redirect leads to last, in milliseconds.
    pub redirect_ttl_ms: i64,
    /// How callers reach the API: before the paths of playback links and `Location` headers, with no `/` at its end.
    /// `None`: they are paths.
    pub public_url: Option<String>,
    /// Origins whose pages may use the API; `*` = all; empty = none.
    pub cors_origins: Vec<String>,
    /// Slots of workers in this process, which hold no control stream.
    pub local_slots: u32,
    /// Beginnings of the locators of sources that callers may not name: where uploads of all tenants lie.
    pub reserved_sources: Vec<String>,
    /// How often new events are looked for while somebody listens.
    pub feed_every: Duration,
    /// How often control streams are pinged.
    pub ping_every: Duration,
    /// A worker whose control stream broke keeps its leases so long, unless it renews them; milliseconds.
    pub takeover_ms: i64,
    /// Workers of an older protocol are told to drain and get no leases.
    pub oldest_protocol: u32,
    /// Idempotency keys are remembered for so long, in milliseconds.
    pub key_kept_ms: i64,
}

impl ApiConfig {
    /// Defaults with a signing key.
    pub fn new(signing_key: Secret) -> Self {
        ApiConfig {
            bootstrap_token: None,
            bootstrap_tenant: "default".to_owned(),
            work_token: None,
            signing_key,
            max_body_bytes: 1 << 20,
            max_report_bytes: 32 << 20,
            request_timeout: Duration::from_secs(30),
            requests_per_second: 100,
            grant_ttl_ms: 6 * 3_600_000,
            redirect_ttl_ms: 3_600_000,
            public_url: None,
            cors_origins: Vec::new(),
            local_slots: 0,
            reserved_sources: Vec::new(),
            feed_every: Duration::from_millis(250),
            ping_every: Duration::from_secs(2),
            takeover_ms: 2_000,
            oldest_protocol: splitreel_client::types::PROTOCOL,
            key_kept_ms: 8 * 24 * 3_600_000,
        }
    }
}

/// The API cannot be set up like this.
#[derive(Debug, thiserror::Error)]
pub enum ApiConfigError {
    /// The signing key is too short to be one.
    #[error("the signing key has {bytes} bytes; it needs at least 32")]
    ShortSigningKey {
        /// Its length.
        bytes: usize,
    },
    /// The bootstrap token is too short to be one.
    #[error("the bootstrap token has {bytes} bytes; it needs at least 16")]
    ShortBootstrapToken {
        /// Its length.
        bytes: usize,
    },
    /// The bootstrap token's tenant has no name.
    #[error("{name:?} is no name of a tenant: use 1 to 64 letters, digits, . - _")]
    TenantName {
        /// What was given.
        name: String,
    },
    /// An origin is not one.
    #[error("{origin:?} is no origin that CORS could allow")]
    Origin {
        /// What was given.
        origin: String,
    },
}

/// The API; cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    config: ApiConfig,
    bootstrap_hash: Option<String>,
    work_hash: Option<String>,
    coordinator: Coordinator,
    store: Arc<dyn JobStore>,
    records: Arc<dyn Records>,
    grants: Arc<dyn Grants>,
    source_grants: SourceGrants,
    blobs: Arc<dyn BlobStore>,
    world: World,
    secrets: Arc<dyn Secrets>,
    uploads: Option<Arc<dyn FinishedUploads>>,
    rules: BTreeMap<(&'static str, Verb), Route>,
    limits: Limits,
    tokens: KnownTokens,
    catalogues: Catalogues,
    feed: Feed,
    connections: Connections,
    closing: CancellationToken,
}

/// What the API is made of beside its settings.
pub struct ApiSeams {
    /// Submits, cancels, leases.
    pub coordinator: Coordinator,
    /// Jobs.
    pub store: Arc<dyn JobStore>,
    /// Tokens, tenants, profiles, workers.
    pub records: Arc<dyn Records>,
    /// Pins sources, signs links.
    pub grants: Arc<dyn Grants>,
    /// Objects.
    pub blobs: Arc<dyn BlobStore>,
    /// Clock and ids.
    pub world: World,
    /// Random bytes of tokens.
    pub secrets: Arc<dyn Secrets>,
    /// Uploads that jobs may be made of, if this installation takes any.
    pub uploads: Option<Arc<dyn FinishedUploads>>,
    /// Rules of routes that are mounted beside the API's own.
    pub more_rules: Vec<Route>,
}

impl Api {
    /// The API over its seams.
    ///
    /// # Errors
    /// [`ApiConfigError`] when the settings are not safe to run with.
    pub fn new(config: ApiConfig, seams: ApiSeams) -> Result<Self, ApiConfigError> {
        if config.signing_key.len() < 32 {
            return Err(ApiConfigError::ShortSigningKey { bytes: config.signing_key.len() });
        }
        let first = [&config.bootstrap_token, &config.work_token];
        if let Some(token) = first.into_iter().flatten().find(|t| t.len() < 16) {
            return Err(ApiConfigError::ShortBootstrapToken { bytes: token.len() });
        }
        if !tenants::is_tenant_name(&config.bootstrap_tenant) {
            return Err(ApiConfigError::TenantName { name: config.bootstrap_tenant });
        }
        edges::check_origins(&config.cors_origins)?;
        let ApiSeams { coordinator, store, records, grants, blobs, world, secrets, uploads, more_rules } = seams;
        let rules = ROUTES.iter().copied().chain(more_rules).map(|r| ((r.path, r.method), r)).collect();
        let inner = Inner {
            bootstrap_hash: config.bootstrap_token.as_ref().map(Secret::fingerprint),
            work_hash: config.work_token.as_ref().map(Secret::fingerprint),
            limits: Limits::new(world.clone(), Arc::clone(&records), config.requests_per_second),
            feed: Feed::new(Arc::clone(&store), config.feed_every),
            tokens: KnownTokens::default(),
            catalogues: Catalogues::default(),
            connections: Connections::default(),
            closing: CancellationToken::new(),
            config,
            coordinator,
            store,
            records,
            grants,
            source_grants: SourceGrants::default(),
            blobs,
            world,
            secrets,
            uploads,
            rules,
        };
        Ok(Api { inner: Arc::new(inner) })
    }

    /// The routes with everything around them: limits, time-outs, problems for whatever goes wrong.
    pub fn router(&self) -> axum::Router {
        self.router_with(OpenApiRouter::new())
    }

    /// The same with more routes, which must be among `more_rules` to admit anybody.
    pub fn router_with(&self, more: OpenApiRouter) -> axum::Router {
        edges::wrap(self, openapi::assemble(self, more).0)
    }

    /// The OpenAPI document of [`Api::router`], as text with a line feed at its end.
    pub fn openapi(&self) -> String {
        openapi::assemble(self, OpenApiRouter::new()).1
    }

    /// Follows the event log for its listeners and forgets old keys, until `shutdown`; then ends all streams.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut housekeeping = tokio::time::interval(Duration::from_secs(60));
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.inner.feed.follow() => {}
                _ = housekeeping.tick() => {
                    if let Err(error) = self.forget_keys().await {
                        tracing::warn!(%error, "old idempotency keys are kept for now");
                    }
                }
            }
        }
        self.close();
    }

    /// Ends all streams, so that the server can come to an end. Leases of connected workers are left as they are.
    pub fn close(&self) {
        self.inner.closing.cancel();
    }

    /// Deletes idempotency keys and workers whose time is over.
    async fn forget_keys(&self) -> Result<(), StoreError> {
        for kind in [submit::KEY_KIND, workers::WORKER_KIND] {
            delete_due(self.inner.records.as_ref(), kind, self.now()).await?;
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        self.inner.world.clock.now_ms()
    }

    /// A path of this API as callers reach it.
    fn public(&self, path: &str) -> String {
        format!("{}{path}", self.inner.config.public_url.as_deref().unwrap_or_default())
    }

    fn rule(&self, verb: Verb, path: &str) -> Option<Route> {
        self.inner.rules.get(&(path, verb)).copied()
    }

    /// A job that the caller may know of.
    async fn job_of(&self, caller: &Caller, id: JobId) -> Result<Job, ApiError> {
        let job = self.inner.store.job(id).await?;
        job.filter(|j| caller.is_admin || j.request.tenant == caller.tenant).ok_or_else(|| ApiError::not_found("job"))
    }
}
