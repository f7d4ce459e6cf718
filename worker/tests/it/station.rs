//! A worker with everything around it in memory: orders go in, results come out.

use crate::server::Server;
use async_trait::async_trait;
use splitreel_backend::doorbell::{Doorbell, Wakeup};
use splitreel_backend::grants::pin_file;
use splitreel_backend::lease::{LeaseError, Leases, SourceGrant, Work, WorkOrder};
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs};
use splitreel_backend::{BlobReader, Ids, World};
use splitreel_core::part::{Cost, TaskResult, VideoPart};
use splitreel_core::plan::Plan;
use splitreel_core::planner::{Capabilities, plan};
use splitreel_core::profile::Profile;
use splitreel_core::source::{SourceInfo, SourceRef};
use splitreel_core::task::{Progress, Refusal, TaskKind};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions, ToolPaths};
use splitreel_worker::source::{HttpOptions, HttpSources};
use splitreel_worker::{Config, Worker};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub type Outcome = Result<TaskResult, Failure>;

/// The coordinator's place: hands out prepared orders, takes results.
struct Desk {
    orders: Mutex<BTreeMap<TaskId, WorkOrder>>,
    results: mpsc::UnboundedSender<Outcome>,
}

#[async_trait]
impl Leases for Desk {
    async fn claim(&self, wakeup: &Wakeup, _worker: &WorkerId, _lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        self.orders.lock().unwrap().remove(&wakeup.task).ok_or(Refusal::NotClaimable.into())
    }
    async fn renew(&self, _task: TaskId, _lease: LeaseId, _progress: Progress) -> Result<i64, LeaseError> {
        Ok(60_000)
    }
    async fn complete(&self, _task: TaskId, _lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.results.send(Ok(result)).unwrap();
        Ok(())
    }
    async fn fail(&self, _task: TaskId, _lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.results.send(Err(failure)).unwrap();
        Ok(())
    }
}

/// A worker of one slot.
pub struct Station {
    desk: Arc<Desk>,
    bell: Arc<ChannelDoorbell>,
    pub blobs: Arc<MemoryBlobs>,
    results: tokio::sync::Mutex<mpsc::UnboundedReceiver<Outcome>>,
    pub scratch: tempfile::TempDir,
    _worker: AbortOnDropHandle<()>,
}

pub fn fast(scratch: &Path) -> HttpOptions {
    HttpOptions {
        scratch: scratch.join("sources"),
        retries: 4,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(10),
        stall: Duration::from_millis(500),
        ..HttpOptions::default()
    }
}

async fn ffmpeg() -> Arc<Ffmpeg> {
    static FOUND: OnceCell<Arc<Ffmpeg>> = OnceCell::const_new();
    let found = FOUND.get_or_init(|| async { Arc::new(Ffmpeg::detect(&ToolPaths::from_env()).await.unwrap()) });
    Arc::clone(found.await)
}

impl Station {
    pub async fn open(options: ProbeOptions) -> Station {
        let scratch = tempfile::tempdir().unwrap();
        let http = fast(scratch.path());
        Station::with(scratch, http, options).await
    }

    pub async fn with(scratch: tempfile::TempDir, http: HttpOptions, options: ProbeOptions) -> Station {
        let tools = FfmpegToolkit::new(ffmpeg().await, scratch.path().join("work"), Limits::default(), options);
        let (results, received) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk { orders: Mutex::default(), results });
        let (bell, blobs) = (Arc::new(ChannelDoorbell::new()), Arc::new(MemoryBlobs::new()));
        let worker = Worker::new(
            Config { id: WorkerId("w".into()), slots: 1 },
            Arc::clone(&desk) as _,
            Arc::clone(&bell) as _,
            Arc::clone(&blobs) as _,
            Arc::new(HttpSources::new(http).unwrap()),
            Arc::new(tools),
            World::machine().ids,
        );
        let worker = tokio::spawn(async move { worker.run(CancellationToken::new(), CancellationToken::new()).await });
        let results = tokio::sync::Mutex::new(received);
        Station { desk, bell, blobs, results, scratch, _worker: AbortOnDropHandle::new(worker) }
    }

    /// Works one order off.
    pub async fn run(&self, order: WorkOrder) -> Outcome {
        let wakeup = Wakeup { task: order.task, attempt: 1, kind: TaskKind::Segment, trace: Default::default() };
        self.desk.orders.lock().unwrap().insert(order.task, order);
        self.bell.notify(wakeup).await.unwrap();
        self.results.lock().await.recv().await.unwrap()
    }

    pub async fn probe(&self, source: &Source<'_>) -> (SourceInfo, Cost) {
        match self.run(source.order(Work::Probe { deep: false, source: Default::default() })).await.unwrap() {
            TaskResult::Probe(probe) => {
                let data = self.blobs.read(&probe.info.key, 0, 64 << 20).await.unwrap();
                (serde_json::from_slice(&data).unwrap(), probe.cost)
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn video(&self, source: &Source<'_>, plan: &Arc<Plan>, segment: u32, media_failures: u32) -> VideoPart {
        let mut order = source.order(Work::Video { plan: Arc::clone(plan), segment });
        order.media_failures = media_failures;
        match self.run(order).await.unwrap() {
            TaskResult::Video(part) => part,
            other => panic!("{other:?}"),
        }
    }

    /// Files that are left in scratch.
    pub fn left_over(&self) -> usize {
        let entries = |name| std::fs::read_dir(self.scratch.path().join(name)).map_or(0, Iterator::count);
        entries("sources") + entries("work")
    }
}

/// A source, on this machine or behind a server.
pub struct Source<'a> {
    pub path: &'a Path,
    pub server: Option<&'a Server>,
}

impl Source<'_> {
    pub fn reference(&self) -> SourceRef {
        pin_file(self.path).unwrap()
    }

    pub fn grant(&self) -> Option<SourceGrant> {
        self.server.map(|server| SourceGrant {
            url: server.url.clone(),
            headers: vec![("x-grant".into(), "yes".into())],
            bytes: self.reference().bytes,
            etag: Some("\"v1\"".into()),
            sha256: None,
            expires_ms: i64::MAX,
        })
    }

    pub fn order(&self, work: Work) -> WorkOrder {
        let ids = splitreel_backend::world::Machine;
        let lease = LeaseId(ids.fresh());
        WorkOrder {
            task: TaskId { job: JobId(ids.fresh()), number: 1 },
            attempt: 1,
            lease,
            ttl_ms: 60_000,
            media_failures: 0,
            source: self.reference(),
            grant: self.grant(),
            key_prefix: format!("{lease}/"),
            work,
        }
    }
}

/// A plan with segments of about `seconds` seconds.
pub fn planned(info: &SourceInfo, seconds: f64) -> Arc<Plan> {
    let mut profile = Profile::built_in("universal").unwrap();
    profile.split.segment_seconds = seconds;
    profile.video.preset = "ultrafast".into();
    Arc::new(plan(info, &profile, &Capabilities::default()).unwrap())
}

/// What a part is made of, but for the keys, which carry the lease.
pub fn hashes(part: &VideoPart) -> Vec<String> {
    let all = part.renditions.iter().flat_map(|r| r.stored.objects());
    all.map(|object| object.sha256.clone()).collect()
}
