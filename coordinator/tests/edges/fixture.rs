//! A deployment in memory: stores, a clock that the test moves, and a storage whose objects the test makes.

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use serde_json::Value;
use splitreel_backend::grants::{GrantError, SignedRequest};
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs, MemoryRecords, MemoryStore};
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::store::JobFilter;
use splitreel_backend::world::Machine;
use splitreel_backend::{Clock, Grants, Records, Submissions, World};
use splitreel_client::types::{Scope, TenantSettings, TokenCreate};
use splitreel_coordinator::accept::{Accept, AcceptConfig};
use splitreel_coordinator::directory::{Caller, Directory, DirectoryConfig};
use splitreel_coordinator::triggers::{Intake, Place, Rule};
use splitreel_coordinator::{Config, Coordinator};
use splitreel_core::fair::Priority;
use splitreel_core::job::Job;
use splitreel_core::source::SourceRef;
use splitreel_telemetry::redact::Secret;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;
use tower::ServiceExt;

/// A clock that stands still until it is moved.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Objects by locator; absolute paths are looked up on disk.
#[derive(Default)]
pub struct TestGrants {
    pub objects: Mutex<BTreeMap<String, (u64, String)>>,
    pub is_down: AtomicBool,
    pub num_heads: AtomicUsize,
}

impl TestGrants {
    pub fn set(&self, locator: &str, bytes: u64, version: &str) {
        self.objects.lock().unwrap().insert(locator.to_owned(), (bytes, version.to_owned()));
    }
}

#[async_trait]
impl Grants for TestGrants {
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError> {
        self.num_heads.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            let source = io::Error::other("down").into();
            return Err(GrantError::Unavailable { what: locator.to_owned(), source });
        }
        let found = if locator.starts_with('/') {
            std::fs::metadata(locator).ok().map(|metadata| {
                let modified = metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
                (metadata.len(), modified.as_nanos().to_string())
            })
        } else {
            self.objects.lock().unwrap().get(locator).cloned()
        };
        let (bytes, version) = found.ok_or_else(|| GrantError::NotFound { what: locator.to_owned() })?;
        Ok(SourceRef { locator: locator.to_owned(), bytes, version })
    }

    async fn read_source(&self, _: &SourceRef, _: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(None)
    }

    async fn write_object(&self, _: &str, _: u64, _: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(None)
    }

    async fn read_object(&self, _: &str, _: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(None)
    }
}

/// The administrator's token of a [`Deployment`].
pub const ADMIN: &str = "the administrator's own token";

/// The deployment.
pub struct Deployment {
    pub clock: Arc<TestClock>,
    pub world: World,
    pub store: Arc<MemoryStore>,
    pub records: Arc<MemoryRecords>,
    pub grants: Arc<TestGrants>,
    pub coordinator: Coordinator,
    pub directory: Directory,
    pub accept: Accept,
    pub intake: Intake,
}

impl Deployment {
    pub fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(1_700_000_000_000)));
        let world = World { clock: clock.clone(), ids: Arc::new(Machine) };
        let store = Arc::new(MemoryStore::new());
        let records = Arc::new(MemoryRecords::new());
        let grants = Arc::new(TestGrants::default());
        let coordinator = Coordinator::new(
            store.clone(),
            Arc::new(MemoryBlobs::new()),
            Arc::new(ChannelDoorbell::new()),
            world.clone(),
            Config::default(),
        );
        let own = vec![Place { bucket: "work".into(), prefix: String::new() }];
        let tokens = DirectoryConfig { admin_token: Some(Secret::new(ADMIN.to_owned())), ..DirectoryConfig::default() };
        let directory = Directory::new(tokens, records.clone(), world.clone(), Arc::new(Machine)).unwrap();
        let acceptance = AcceptConfig::default();
        let accept = Accept::new(acceptance, coordinator.clone(), directory.clone(), records.clone(), grants.clone());
        let intake = Intake::new(accept.clone(), records.clone(), world.clone(), own);
        Deployment { clock, world, store, records, grants, coordinator, directory, accept, intake }
    }

    /// A token of a tenant with scopes.
    pub async fn token(&self, tenant: &str, scopes: &[Scope]) -> String {
        let wanted = TokenCreate {
            name: "test".into(),
            scopes: scopes.iter().copied().collect(),
            tenant: Some(tenant.into()),
            expires_in_seconds: None,
        };
        let admin = Caller { is_admin: true, ..Caller::default() };
        self.directory.tokens.create(&admin, wanted).await.unwrap().secret
    }

    pub async fn save_rule(&self, tenant: &str, id: &str, rule: &Rule) {
        let key = RecordKey { kind: "rule".into(), tenant: tenant.into(), id: id.into() };
        let doc = serde_json::to_value(rule).unwrap();
        self.records.put(&key, Expect::Any, doc, None, 0).await.unwrap().unwrap();
    }

    /// How many jobs of a tenant may be open.
    pub async fn save_quota(&self, tenant: &str, max_open_jobs: Option<u32>) {
        let key = RecordKey { kind: "tenant".into(), tenant: String::new(), id: tenant.into() };
        let settings = TenantSettings { max_open_jobs, ..TenantSettings::default() };
        let doc = serde_json::to_value(settings).unwrap();
        self.records.put(&key, Expect::Any, doc, None, 0).await.unwrap().unwrap();
    }

    /// Ends the open jobs.
    pub async fn cancel_all(&self) {
        for job in self.jobs().await {
            self.coordinator.cancel(job.id).await.unwrap();
        }
    }

    pub async fn jobs(&self) -> Vec<Job> {
        self.store.jobs(JobFilter { limit: 1000, ..JobFilter::default() }).await.unwrap()
    }
}

/// Everything below `in/` of the bucket `media-in`, as `universal`.
pub fn rule() -> Rule {
    Rule {
        bucket: "media-in".into(),
        prefix: "in/".into(),
        suffixes: vec![".mp4".into()],
        profile: "universal".into(),
        output: Some("s3://media-out/hls/".into()),
        priority: Priority::Normal,
        enabled: true,
        settle_seconds: 0,
        poll_seconds: None,
    }
}

pub fn caller(tenant: &str, scopes: &[&str]) -> Caller {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    Caller { tenant: tenant.to_owned(), scopes, is_admin: false }
}

/// A request of somebody, or of nobody.
pub async fn call(router: &axum::Router, caller: Option<&Caller>, mut request: Request<Body>) -> Response<Body> {
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller.clone());
    }
    router.clone().oneshot(request).await.unwrap()
}

pub fn json_request(method: &str, uri: &str, body: Option<Value>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    builder.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()
}

pub async fn read_json(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    (status, json)
}

pub async fn call_json(
    router: &axum::Router,
    caller: Option<&Caller>,
    method: &str,
    uri: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    read_json(call(router, caller, json_request(method, uri, body)).await).await
}
