//! Sample values and shorthands for tests of anything that runs on the seams.

use super::StoreHarness;
use crate::doorbell::Wakeup;
use crate::invariants;
use crate::lease::LeaseError;
use crate::store::{ClaimRequest, JobStore, Submitted};
use splitreel_core::event::EventKind;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::part::{
    AudioPart, Cost, Presentation, ProbeResult, StoredObject, TaskResult, TrackPart, VideoPart,
};
use splitreel_core::plan::{
    AudioEncoding, AudioMedia, AudioOp, Coding, Cut, Label, Media, PLAN_VERSION, Packaging, Plan, Protection, Segment,
    Timeline, TrackContainer, TrackPlan,
};
use splitreel_core::profile::{AudioCodec, Profile};
use splitreel_core::source::SourceRef;
use splitreel_core::task::{Refusal, RetryPolicy, Task, TaskKind};
use splitreel_core::time::{OutputTicks, SourceTicks};
use splitreel_core::{JobId, LeaseId, MediaTime, Rational, TaskId, WorkerId};
use std::sync::Arc;
use uuid::Uuid;

/// The n-th job id; they sort by `n`.
pub fn job_id(n: u128) -> JobId {
    JobId(Uuid::from_u128(n))
}

/// The n-th lease id.
pub fn lease_id(n: u128) -> LeaseId {
    LeaseId(Uuid::from_u128(n))
}

/// A worker by name.
pub fn worker(name: &str) -> WorkerId {
    WorkerId(name.to_owned())
}

/// A wakeup for the first attempt of a segment.
pub fn wakeup(job: u128, number: u32) -> Wakeup {
    Wakeup { task: TaskId { job: job_id(job), number }, attempt: 1, kind: TaskKind::Segment, trace: Default::default() }
}

/// A small request.
pub fn request(tenant: &str, key: &str) -> JobRequest {
    JobRequest {
        tenant: tenant.to_owned(),
        idempotency_key: key.to_owned(),
        source: SourceRef { locator: "/media/\"film\" ½.mkv".to_owned(), bytes: 123, version: "1".to_owned() },
        base: "film".to_owned(),
        priority: Default::default(),
        profile: Profile::built_in("universal").expect("a built-in profile"),
        deep_probe: false,
        output: None,
        trace: Default::default(),
    }
}

/// A stored object under a key.
pub fn object(key: &str) -> StoredObject {
    StoredObject { key: key.to_owned(), bytes: 1, sha256: "00".repeat(32) }
}

/// A plan with a number of segments and audio tracks.
pub fn plan(segments: u32, audio: u32) -> Plan {
    let segment = |index: u32| {
        let start = i64::from(index) * 100;
        Segment {
            index,
            start: SourceTicks(start),
            end: (index + 1 < segments).then_some(SourceTicks(start + 100)),
            output_start: OutputTicks(start),
            output_end: OutputTicks(start + 100),
            seek: vec![SourceTicks(start)],
            seek_limit: None,
        }
    };
    let timeline = Timeline {
        stream: 0,
        evidence: splitreel_core::source::IndexEvidence::Moov,
        source_timebase: Rational::ONE,
        clock: None,
        stamping: Default::default(),
        assumed_matrix: String::new(),
        decoder: String::new(),
        stated: None,
        timescale: 25,
        first: SourceTicks(0),
        output_start: OutputTicks(0),
        held: OutputTicks(0),
        output_end: OutputTicks(i64::from(segments) * 100),
        segments: (0..segments).map(segment).collect(),
    };
    Plan {
        version: PLAN_VERSION,
        demuxer: "matroska,webm".to_owned(),
        timeline: (segments > 0).then_some(timeline),
        frames: Vec::new(),
        grids: Vec::new(),
        tracks: (0..audio).map(audio_track).collect(),
        packaging: Packaging { media_segment_seconds: 4.0, progressive: true, chunk_mb: 0 },
        decisions: Vec::new(),
        reads: None,
    }
}

fn audio_track(index: u32) -> TrackPlan {
    TrackPlan {
        id: format!("{}-und", index + 1),
        source_stream: 1 + index,
        timescale: 48_000,
        delay: OutputTicks(0),
        container: TrackContainer::Fmp4,
        protection: Protection::Clear,
        label: Label { language: "und".to_owned(), name: "Audio".to_owned(), is_default: index == 0 },
        cut: Cut::Whole { start: OutputTicks(0), boundaries: Vec::new(), first_number: 1 },
        media: Media::Audio(AudioMedia {
            channels: 2,
            frame_samples: 1024,
            clock: None,
            source_start: MediaTime::new(0, Rational::ONE),
            lead_silence: OutputTicks(0),
            fill_until: None,
            ops: vec![
                AudioOp::Resample { sample_rate: 48_000 },
                AudioOp::Remix { layout: "stereo".to_owned(), channels: 2 },
            ],
            coding: Coding::Encode(AudioEncoding { codec: AudioCodec::Aac, kbps: 128 }),
        }),
    }
}

/// A result that fits the kind of a task.
pub fn result(kind: TaskKind, index: u32) -> TaskResult {
    match kind {
        TaskKind::Probe => TaskResult::Probe(ProbeResult {
            info: object("info"),
            ffmpeg_build: "9.0".to_owned(),
            cost: Cost::default(),
        }),
        TaskKind::Whole | TaskKind::Segment => {
            TaskResult::Video(VideoPart { segment: index, renditions: Vec::new(), cost: Cost::default() })
        }
        TaskKind::Audio => TaskResult::Audio(AudioPart {
            stored: TrackPart {
                track: format!("{}-und", index + 1),
                init: object("init"),
                codec: "mp4a.40.2".to_owned(),
                captions: Default::default(),
                segments: Vec::new(),
            },
            sample_rate: 48_000,
            channels: 2,
            frame_samples: 1024,
            priming: OutputTicks(1024),
            num_samples: 48_000,
            decoded_samples: Some(48_000),
            heard: None,
            start: OutputTicks(0),
            cost: Cost::default(),
        }),
        TaskKind::Assemble => TaskResult::Assemble(Presentation {
            hash: "h".to_owned(),
            catalogue: object("catalogue"),
            bytes: 1,
            num_files: 1,
        }),
    }
}

/// Separates refusals, which tests assert on, from failures of the store.
pub trait Answered<T> {
    /// The answer or the refusal.
    ///
    /// # Panics
    /// When the store failed.
    fn answered(self) -> Result<T, Refusal>;
}

impl<T> Answered<T> for Result<T, LeaseError> {
    fn answered(self) -> Result<T, Refusal> {
        self.map_err(|error| match error {
            LeaseError::Refused(refusal) => refusal,
            error => panic!("the store failed: {error}"),
        })
    }
}

/// One job on a store, with shorthands that use fixed arguments and unwrap.
#[derive(Clone)]
pub struct Stage {
    /// The store.
    pub store: Arc<dyn JobStore>,
    /// The job.
    pub job: JobId,
    /// Budgets and delays.
    pub policy: RetryPolicy,
}

impl Stage {
    /// Opens the store and submits job 1 at time 0.
    pub async fn submitted(harness: &dyn StoreHarness) -> Stage {
        Stage::submit(harness.open().await, 1, 0).await
    }

    /// Submits the n-th job at a time.
    pub async fn submit(store: Arc<dyn JobStore>, n: u128, now_ms: i64) -> Stage {
        let answer = store.submit(job_id(n), request("t", &format!("key-{n}")), now_ms).await.unwrap();
        assert!(matches!(answer, Submitted::Created(_)), "{answer:?}");
        Stage { store, job: job_id(n), policy: RetryPolicy::default() }
    }

    /// Job 1, probed.
    pub async fn probed(harness: &dyn StoreHarness) -> Stage {
        let stage = Stage::submitted(harness).await;
        stage.finish(0).await;
        stage
    }

    /// Job 1, planned with `segments` segments (tasks 1 ..).
    pub async fn planned(harness: &dyn StoreHarness, segments: u32) -> Stage {
        let stage = Stage::probed(harness).await;
        assert!(stage.store.record_plan(stage.job, 0, &plan(segments, 0), 0).await.unwrap());
        stage
    }

    /// Task id by number.
    pub fn id(&self, number: u32) -> TaskId {
        TaskId { job: self.job, number }
    }

    /// The job row.
    pub async fn job(&self) -> Job {
        self.store.job(self.job).await.unwrap().expect("the job exists")
    }

    /// All task rows.
    pub async fn tasks(&self) -> Vec<Task> {
        self.store.tasks(self.job).await.unwrap()
    }

    /// One task row.
    pub async fn task(&self, number: u32) -> Task {
        self.tasks().await.into_iter().find(|t| t.id.number == number).expect("the task exists")
    }

    /// A request for an attempt; the worker is `w<number>`.
    pub fn request(&self, number: u32, attempt: u32, lease: u128, now_ms: i64) -> ClaimRequest {
        ClaimRequest {
            wakeup: Wakeup { task: self.id(number), attempt, kind: TaskKind::Segment, trace: Default::default() },
            lease: lease_id(lease),
            worker: worker(&format!("w{number}")),
            now_ms,
            ttl_ms: self.policy.lease_ttl_ms,
        }
    }

    /// Claims an attempt.
    pub async fn claim(&self, number: u32, attempt: u32, lease: u128, now_ms: i64) -> Result<Task, Refusal> {
        self.store.claim(self.request(number, attempt, lease, now_ms)).await.answered()
    }

    /// Completes a task with a fitting result.
    pub async fn complete(&self, number: u32, lease: u128, now_ms: i64) -> Result<bool, Refusal> {
        let spec = self.task(number).await.spec;
        self.store.complete(self.id(number), lease_id(lease), result(spec.kind, spec.index), now_ms).await.answered()
    }

    /// Claims and completes the current attempt of a task at its earliest time, with lease `1000 + number`.
    pub async fn finish(&self, number: u32) {
        let task = self.task(number).await;
        let lease = 1000 + u128::from(number);
        self.claim(number, task.attempt, lease, task.not_before_ms).await.unwrap();
        assert_eq!(self.complete(number, lease, task.not_before_ms).await, Ok(true));
    }

    /// What happened to the job, in order.
    pub async fn happened(&self) -> Vec<EventKind> {
        self.store.events(Some(self.job), 0, 10_000).await.unwrap().into_iter().map(|e| e.what).collect()
    }

    /// Asserts the invariants of the job.
    pub async fn audit(&self) {
        let unsent = self.store.unsent(&Some(vec![self.job]), 10_000).await.unwrap();
        let violations = invariants::audit(&self.job().await, &self.tasks().await, &unsent);
        assert!(violations.is_empty(), "{violations:#?}");
    }
}
