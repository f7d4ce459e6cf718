//! The workers: the real serving loop, doorbell and client, with tasks that wait instead of encoding. What they report
//! has the shape and size of real results; no object stands behind the parts.

use anyhow::Result;
use async_trait::async_trait;
use splitreel_backend::doorbell::{Queue, Wakeup};
use splitreel_backend::lease::{LeaseError, Leases, Work, WorkOrder};
use splitreel_backend::{PartWriter, World};
use splitreel_backend_cluster::amqp::{AmqpDoorbell, AmqpLink, AmqpOptions};
use splitreel_client::types::{PROTOCOL, Presence};
use splitreel_client::{Client, RemoteBlobs, RemoteLeases, SessionTimes};
use splitreel_core::fixture;
use splitreel_core::part::{Cost, ProbeResult, StoredObject, StoredSegment, TaskResult};
use splitreel_core::plan::{MediaSegmentPlan, Plan, TrackPlan, hex};
use splitreel_core::source::{SourceInfo, VideoTrack};
use splitreel_core::task::Progress;
use splitreel_core::time::Rational;
use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId, WorkerId};
use splitreel_runner::{Runner, TaskHandler};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Slots of a worker: those of a usual machine.
const SLOTS_OF_A_WORKER: u32 = 16;
/// Length of a fake segment.
pub const SEGMENT_SECONDS: u32 = 10;
const FRAMES_PER_SECOND: u32 = 2;

/// Where the cluster is.
#[derive(Clone)]
pub struct Cluster {
    /// With the token of workers.
    pub client: Client,
    pub amqp_url: String,
    pub queue_prefix: String,
}

/// One thing that a worker lived through.
#[derive(Clone, Copy)]
pub struct Noted {
    pub job: JobId,
    pub at: Instant,
    /// Video, as opposed to the probe before it.
    pub is_segment: bool,
}

/// What the workers of a fleet lived through.
#[derive(Default)]
pub struct Log {
    pub started: Mutex<Vec<Noted>>,
    /// Completions that were answered.
    pub completed: Mutex<Vec<Noted>>,
    /// How long claims took that gave a lease.
    pub claims: Mutex<Vec<Duration>>,
    changed: Notify,
}

impl Log {
    fn note(&self, list: &Mutex<Vec<Noted>>, job: JobId, is_segment: bool) {
        list.lock().unwrap_or_else(PoisonError::into_inner).push(Noted { job, at: Instant::now(), is_segment });
        self.changed.notify_waiters();
    }

    /// All of a list that `wanted` wants.
    pub fn of(list: &Mutex<Vec<Noted>>, wanted: impl Fn(&Noted) -> bool) -> Vec<Instant> {
        let all = list.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|n| wanted(n)).map(|n| n.at).collect()
    }

    /// Takes the claims out.
    pub fn take_claims(&self) -> Vec<Duration> {
        std::mem::take(&mut self.claims.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `count` entries of a list are wanted; answers their times, in order.
    pub async fn wait(
        &self,
        list: &Mutex<Vec<Noted>>,
        count: usize,
        wanted: impl Fn(&Noted) -> bool,
    ) -> Result<Vec<Instant>> {
        let mut seen = (0, Instant::now());
        loop {
            let changed = self.changed.notified();
            let found = Self::of(list, &wanted);
            if found.len() >= count {
                return Ok(found);
            }
            if found.len() > seen.0 {
                seen = (found.len(), Instant::now());
            }
            anyhow::ensure!(
                seen.1.elapsed() < Duration::from_secs(60),
                "{} of {count} tasks, then nothing",
                found.len()
            );
            let _ = tokio::time::timeout(Duration::from_millis(500), changed).await;
            if count > 100 {
                // Counting costs the CPU time that the measured need.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// A running fleet.
pub struct Fleet {
    pub log: Arc<Log>,
    drain: CancellationToken,
    workers: Vec<FleetWorker>,
}

/// A worker with connections of its own, as if it were alone on its machine.
struct FleetWorker {
    serving: JoinHandle<()>,
    presence: JoinHandle<()>,
    bell: Arc<AmqpDoorbell>,
}

impl Fleet {
    /// Starts workers with `slots` slots in total, whose tasks take `task`.
    pub async fn start(cluster: &Cluster, slots: u32, task: Duration) -> Result<Self> {
        let (log, drain) = (Arc::new(Log::default()), CancellationToken::new());
        let mut workers = Vec::new();
        let mut left = slots;
        while left > 0 {
            let mine = left.min(SLOTS_OF_A_WORKER);
            workers.push(FleetWorker::start(cluster, mine, task, &log, &drain)?);
            left -= mine;
        }
        // A coordinator counts the slots every 2 seconds and notifies that many.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(Fleet { log, drain, workers })
    }

    /// Ends it after what runs.
    pub async fn end(self) -> Result<()> {
        self.drain.cancel();
        for worker in self.workers {
            worker.serving.await?;
            worker.presence.await?;
            worker.bell.close().await;
        }
        Ok(())
    }
}

impl FleetWorker {
    fn start(cluster: &Cluster, slots: u32, task: Duration, log: &Arc<Log>, drain: &CancellationToken) -> Result<Self> {
        let name = format!("fleet-{}", uuid::Uuid::now_v7().simple());
        let mut options = AmqpOptions::new(&cluster.amqp_url);
        options.prefix.clone_from(&cluster.queue_prefix);
        options.connection_name.clone_from(&name);
        let bell = Arc::new(AmqpDoorbell::new(AmqpLink::open(options)?, u16::try_from(slots)?));
        let leases = RemoteLeases::new(cluster.client.clone(), SessionTimes::default());
        let runner = Runner {
            id: WorkerId(name.clone()),
            slots: slots as usize,
            queue: Queue::Work,
            leases: Arc::new(Timed { leases: leases.clone(), log: Arc::clone(log) }),
            doorbell: Arc::clone(&bell) as Arc<_>,
            ids: World::machine().ids,
            handler: Arc::new(Faker { blobs: leases.blobs()?, log: Arc::clone(log), task }),
        };
        let (client, token) = (cluster.client.clone(), drain.clone());
        let hello = Presence {
            worker: name,
            slots,
            labels: Default::default(),
            capabilities: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
        };
        let presence = tokio::spawn(async move {
            client.hold_presence(&hello, &leases, &CancellationToken::new(), &token).await;
        });
        let serving = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
        Ok(FleetWorker { serving, presence, bell })
    }
}

/// Leases with a clock.
struct Timed {
    leases: RemoteLeases,
    log: Arc<Log>,
}

#[async_trait]
impl Leases for Timed {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let asked = Instant::now();
        let order = self.leases.claim(wakeup, worker, lease).await?;
        self.log.claims.lock().unwrap_or_else(PoisonError::into_inner).push(asked.elapsed());
        Ok(order)
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.leases.renew(task, lease, progress).await
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        let is_segment = matches!(result, TaskResult::Video(_));
        self.leases.complete(task, lease, result).await?;
        self.log.note(&self.log.completed, task.job, is_segment);
        Ok(())
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.leases.fail(task, lease, failure).await
    }

    async fn nudged(&self, lease: LeaseId) {
        self.leases.nudged(lease).await;
    }
}

/// Waits, and makes results up.
struct Faker {
    blobs: RemoteBlobs,
    log: Arc<Log>,
    task: Duration,
}

#[async_trait]
impl TaskHandler for Faker {
    async fn handle(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure> {
        self.log.note(&self.log.started, order.task.job, matches!(order.work, Work::Video { .. }));
        // What ffmpeg would tell twice a second, once: how fast it goes.
        let steps = if self.task.is_zero() { vec![] } else { vec![(self.task * 9 / 10, 900), (self.task / 10, 1_000)] };
        for (length, done_per_mille) in steps {
            tokio::select! {
                () = cancel.cancelled() => return Err(Failure::of(FailureCode::Cancelled, "the attempt was cancelled")),
                () = tokio::time::sleep(length) => {}
            }
            progress.send_modify(|p| p.done_per_mille = done_per_mille);
        }
        match &order.work {
            Work::Probe { .. } => self.probe(order).await,
            Work::Video { plan, segment } => video(order, plan, *segment),
            _ => Err(Failure::of(FailureCode::Plan, "a fake worker has no such source")),
        }
    }
}

impl Faker {
    /// The name of a source says how many segments it has: `film-20.mp4`.
    async fn probe(&self, order: &WorkOrder) -> Result<TaskResult, Failure> {
        let name = order.source.locator.rsplit('/').next().unwrap_or_default();
        let segments = name.trim_start_matches("film-").trim_end_matches(".mp4").parse();
        let segments: u32 = segments.map_err(|_| Failure::of(FailureCode::Plan, "film-NUMBER.mp4 is expected"))?;
        let info = info(segments, order.source.bytes);
        let json = serde_json::to_vec(&info).map_err(|e| Failure::of(FailureCode::Plan, e.to_string()))?;
        let object = StoredObject {
            key: format!("{}source-info.json", order.key_prefix),
            bytes: json.len() as u64,
            sha256: sha256(&json),
        };
        self.blobs.put(&object.key, json.into()).await.map_err(|e| Failure::of(FailureCode::Storage, e.to_string()))?;
        Ok(TaskResult::Probe(ProbeResult { info: object, ffmpeg_build: "none".into(), cost: Cost::default() }))
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}

/// Probe result of a film with `segments` segments: few frames, so that planning does not dominate the measurement.
fn info(segments: u32, bytes: u64) -> SourceInfo {
    let num_frames = i64::from(segments) * i64::from(SEGMENT_SECONDS * FRAMES_PER_SECOND);
    let timebase = Rational::new(1, i64::from(FRAMES_PER_SECOND)).unwrap_or(Rational::ONE);
    let grid = (SEGMENT_SECONDS * FRAMES_PER_SECOND) as usize;
    let track = fixture::video_track((0..num_frames).collect(), timebase, grid);
    let frame_rate = Rational::new(i64::from(FRAMES_PER_SECOND), 1).unwrap_or(Rational::ONE);
    let video = VideoTrack { frame_rate, bits_per_second: 3_000_000, ..track };
    SourceInfo { bytes, ..fixture::source_info(Some(video), Vec::new()) }
}

fn video(order: &WorkOrder, plan: &Plan, index: u32) -> Result<TaskResult, Failure> {
    let missing = || Failure::of(FailureCode::Plan, format!("the plan has no segment {index}"));
    let object = |rendition: &str, name: &str| {
        let key = format!("{}{rendition}/{name}", order.key_prefix);
        StoredObject { sha256: sha256(key.as_bytes()), key, bytes: 1_000_000 }
    };
    let init = |track: &TrackPlan| object(&track.id, "init.mp4");
    let media = |track: &TrackPlan, m: &MediaSegmentPlan| StoredSegment {
        number: m.number,
        start: m.start,
        duration: m.duration,
        decode_time: m.start,
        num_samples: 100,
        header_bytes: 1_000,
        samples_sha256: String::new(),
        object: object(&track.id, &format!("{}.m4s", m.number)),
    };
    fixture::video_part(plan, index, init, media).map(TaskResult::Video).ok_or_else(missing)
}
