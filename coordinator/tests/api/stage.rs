//! An API over memory backends, tokens of two tenants, and shorthands that unwrap.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use serde_json::{Value, json};
use splitreel_backend::blob::PartWriter;
use splitreel_backend::conformance::fixture;
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::grants::{GrantError, Grants, SignedRequest};
use splitreel_backend::lease::Leases;
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs, MemoryRecords, MemoryStore};
use splitreel_backend::world::{Clock, Machine};
use splitreel_backend::{Scheduling, Submissions, World};
use splitreel_client::types::Scope;
use splitreel_client::{Client, ClientConfig, Token};
use splitreel_coordinator::accept::{Accept, AcceptConfig};
use splitreel_coordinator::api::{self, Api, ApiConfig, ApiSeams};
use splitreel_coordinator::directory::{Directory, DirectoryConfig};
use splitreel_coordinator::{Config, Coordinator};
use splitreel_core::part::{Cost, Presentation, PresentationFile, ProbeResult, StoredObject, TaskResult};
use splitreel_core::plan::hex;
use splitreel_core::source::SourceRef;
use splitreel_core::task::TaskKind;
use splitreel_core::{JobId, TaskId, WorkerId};
use splitreel_telemetry::redact::Secret;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A lease that nobody named before.
pub fn fresh() -> splitreel_core::LeaseId {
    splitreel_core::LeaseId(uuid::Uuid::now_v7())
}

pub const ROOT: &str = "root-token-of-the-tests";
pub const SOURCE: &str = "s3://films/here.mp4";
pub const START_MS: i64 = 1_700_000_000_000;

pub struct TestClock(pub AtomicI64);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Sources that exist have `here` in their names; objects get links below `base`, if there is one.
#[derive(Default)]
pub struct Links {
    pub base: Mutex<Option<String>>,
    /// Changes the version that is pinned.
    pub version: Mutex<String>,
    /// How long the last right to read an object was asked for, in milliseconds.
    pub ttl_ms: Mutex<i64>,
}

impl Links {
    fn link(&self, method: &str, key: &str, headers: Vec<(String, String)>) -> Option<SignedRequest> {
        let base = self.base.lock().unwrap().clone()?;
        let url = format!("{base}/{key}?signature=good");
        Some(SignedRequest { method: method.into(), url, headers, expires_ms: START_MS * 2 })
    }
}

#[async_trait::async_trait]
impl Grants for Links {
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError> {
        let what = locator.to_owned();
        if !locator.starts_with("s3://") {
            return Err(GrantError::Unusable { what, why: "only s3:// is read here".into() });
        }
        if !locator.contains("here") {
            return Err(GrantError::NotFound { what });
        }
        let version = self.version.lock().unwrap().clone();
        Ok(SourceRef { locator: what, bytes: 1_000_000_000, version })
    }

    async fn read_source(&self, source: &SourceRef, _ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        let headers = vec![("if-match".into(), format!("\"{}\"", source.version)), ("x-a".into(), "b".into())];
        Ok(self.link("GET", "source", headers))
    }

    async fn write_object(&self, key: &str, bytes: u64, _ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(self.link("PUT", key, vec![("x-expected-bytes".into(), bytes.to_string())]))
    }

    async fn read_object(&self, key: &str, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        *self.ttl_ms.lock().unwrap() = ttl_ms;
        Ok(self.link("GET", key, Vec::new()))
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// The code of a problem document, which is one in every respect.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        let code = json["code"].as_str().unwrap();
        assert!(splitreel_client::Code::parse(code).is_some(), "{code} is not in the table");
        code.to_owned()
    }
}

pub struct Stage {
    pub api: Api,
    pub router: Router,
    pub store: Arc<MemoryStore>,
    pub records: Arc<MemoryRecords>,
    pub blobs: Arc<MemoryBlobs>,
    pub links: Arc<Links>,
    pub hands: Arc<TestClock>,
    pub coordinator: Coordinator,
}

pub fn config() -> ApiConfig {
    let mut config = ApiConfig::new(Secret::new(b"a signing key of thirty-two bytes".to_vec()));
    config.requests_per_second = 50_000;
    config.feed_every = Duration::from_millis(10);
    config.fleet.ping_every = Duration::from_millis(20);
    config.fleet.takeover_ms = 20;
    config
}

impl Stage {
    pub fn new() -> Stage {
        Stage::with(config())
    }

    pub fn with(config: ApiConfig) -> Stage {
        let hands = Arc::new(TestClock(AtomicI64::new(START_MS)));
        let world = World { clock: hands.clone(), ids: Arc::new(Machine) };
        let (store, blobs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryBlobs::new()));
        let doorbell = Arc::new(ChannelDoorbell::new());
        let coordinator = Coordinator::new(store.clone(), blobs.clone(), doorbell, world.clone(), Config::default());
        let (records, links) = (Arc::new(MemoryRecords::new()), Arc::new(Links::default()));
        let mut stage = Stage {
            api: Self::api(&config, &coordinator, &records, &links, &blobs, &world),
            router: Router::new(),
            store,
            records,
            blobs,
            links,
            hands,
            coordinator,
        };
        stage.router = api::router(&stage.api);
        stage
    }

    fn api(
        config: &ApiConfig,
        coordinator: &Coordinator,
        records: &Arc<MemoryRecords>,
        links: &Arc<Links>,
        blobs: &Arc<MemoryBlobs>,
        world: &World,
    ) -> Api {
        let tokens = DirectoryConfig { admin_token: Some(Secret::new(ROOT.to_owned())), ..DirectoryConfig::default() };
        let directory = Directory::new(tokens, records.clone(), world.clone(), Arc::new(Machine)).unwrap();
        let acceptance = AcceptConfig::default();
        let accept = Accept::new(acceptance, coordinator.clone(), directory, records.clone(), links.clone());
        let seams = ApiSeams {
            accept,
            coordinator: coordinator.clone(),
            records: records.clone(),
            grants: links.clone(),
            blobs: blobs.clone(),
            uploads: None,
            more_rules: Vec::new(),
        };
        Api::new(config.clone(), seams).unwrap()
    }

    /// Another coordinator's API over the same backends.
    pub fn second(&self) -> Api {
        let world = World { clock: self.hands.clone(), ids: Arc::new(Machine) };
        Self::api(&config(), &self.coordinator, &self.records, &self.links, &self.blobs, &world)
    }

    pub fn advance(&self, ms: i64) {
        self.hands.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sends a request; the body of the answer is not read.
    pub async fn send(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn ask(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        self.ask_with(method, path, token, &[], body).await
    }

    pub async fn ask_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        read(self.send(request(method, path, token, headers, body)).await).await
    }

    pub async fn token(&self, tenant: &str, scopes: &[Scope]) -> String {
        let body = json!({"name": "test", "tenant": tenant, "scopes": scopes});
        let answer = self.ask("POST", "/v1/tokens", ROOT, Some(body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["secret"].as_str().unwrap().to_owned()
    }

    pub async fn job(&self, token: &str) -> JobId {
        let answer = self.ask("POST", "/v1/jobs", token, Some(json!({"source": SOURCE}))).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// The next wakeup of a job's task, as dispatch would send it.
    pub fn wakeup(&self, job: JobId, number: u32, kind: TaskKind) -> Wakeup {
        Wakeup { task: TaskId { job, number }, attempt: 1, kind, trace: Default::default() }
    }

    /// Claims and completes a task in process.
    pub async fn finish(&self, wakeup: &Wakeup, result: impl FnOnce(&str) -> TaskResult) {
        let order = self.coordinator.claim(wakeup, &WorkerId("w".into()), fresh()).await.unwrap();
        let result = result(&order.key_prefix);
        self.coordinator.complete(order.task, order.lease, result).await.unwrap();
    }

    /// Brings a job as far as its plan with one segment.
    pub async fn plan(&self, job: JobId) {
        self.plan_of(job, 1).await;
    }

    /// Plans a job with `segments` segments.
    pub async fn plan_of(&self, job: JobId, segments: u32) {
        let probe = self.wakeup(job, 0, TaskKind::Probe);
        self.finish(&probe, probe_result).await;
        assert!(self.store.record_plan(job, 0, &fixture::plan(segments, 0), START_MS).await.unwrap());
    }

    /// Brings a job to its end, with these files.
    pub async fn publish(&self, job: JobId, files: &[(&str, &[u8])]) {
        self.plan(job).await;
        let whole = self.store.tasks(job).await.unwrap()[1].spec.kind;
        self.finish(&self.wakeup(job, 1, whole), |_| fixture::result(TaskKind::Whole, 0)).await;
        let mut catalogue = Vec::new();
        for (n, (path, bytes)) in files.iter().enumerate() {
            let object = self.object(&format!("jobs/{job}/2/1-x/{n}"), bytes).await;
            catalogue.push(PresentationFile { path: (*path).to_owned(), object });
        }
        let json = serde_json::to_vec(&catalogue).unwrap();
        let catalogue = self.object(&format!("jobs/{job}/2/1-x/catalogue"), &json).await;
        let presentation = Presentation { hash: "h".into(), bytes: 1, num_files: files.len() as u32, catalogue };
        self.finish(&self.wakeup(job, 2, TaskKind::Assemble), |_| TaskResult::Assemble(presentation)).await;
    }

    pub async fn object(&self, key: &str, bytes: &[u8]) -> StoredObject {
        use sha2::{Digest, Sha256};
        self.blobs.put(key, Bytes::copy_from_slice(bytes)).await.unwrap();
        StoredObject { key: key.to_owned(), bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
    }
}

pub fn probe_result(prefix: &str) -> TaskResult {
    let info = StoredObject { key: format!("{prefix}info"), bytes: 1, sha256: "00".repeat(32) };
    TaskResult::Probe(ProbeResult { info, ffmpeg_build: "9".into(), cost: Cost::default() })
}

pub fn request(method: &str, path: &str, token: &str, headers: &[(&str, &str)], body: Option<Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

pub async fn read(response: axum::response::Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A server on loopback that ends with the value.
pub struct Served {
    pub address: SocketAddr,
    serving: JoinHandle<()>,
    running: JoinHandle<()>,
    stop: CancellationToken,
}

impl Served {
    pub async fn new(api: &Api) -> Served {
        Served::at(api, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn at(api: &Api, address: SocketAddr) -> Served {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (router, stopped) = (api::router(api), stop.clone());
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await.unwrap();
        });
        let (api, stopped) = (api.clone(), stop.clone());
        let running = tokio::spawn(async move { api.run(stopped).await });
        Served { address, serving, running, stop }
    }

    pub fn client(&self, token: &str) -> Client {
        let base = format!("http://{}", self.address).parse().unwrap();
        Client::new(ClientConfig::new(base, Some(Token(token.to_owned())))).unwrap()
    }

    /// Stops as a coordinator does: streams end, requests finish.
    pub async fn stop(self) {
        self.stop.cancel();
        within("the server ends", async {
            self.running.await.unwrap();
            self.serving.await.unwrap();
        })
        .await;
    }
}

/// Waits for something that comes soon or never.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("too long: {what}"))
}

/// Looks until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    within(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// One token for each scope.
pub async fn tokens(stage: &Stage, tenant: &str) -> BTreeMap<Scope, String> {
    let mut tokens = BTreeMap::new();
    for scope in Scope::ALL {
        tokens.insert(scope, stage.token(tenant, &[scope]).await);
    }
    tokens
}
