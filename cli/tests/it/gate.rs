//! Media that is damaged behind the worker's check, with a real encoder: nothing of it is published.

use crate::clips;
use splitreel_assembler::Assembler;
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs, MemoryStore};
use splitreel_backend::store::Submitted;
use splitreel_backend::{BlobStore, Doorbell, JobStore, Leases, World};
use splitreel_coordinator::Coordinator;
use splitreel_core::WorkerId;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::planner::Capabilities;
use splitreel_core::profile::Profile;
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions, ToolPaths};
use splitreel_testkit::spoil::{Spoil, Spoiler};
use splitreel_worker::Worker;
use splitreel_worker::ffmpeg::FfmpegTools;
use splitreel_worker::source::{LocalSources, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Each job ends in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn request(spoil: Option<Spoil>) -> JobRequest {
    let mut profile = Profile::built_in("universal").unwrap();
    profile.split.segment_seconds = 2.0;
    profile.packaging.media_segment_seconds = 2.0;
    JobRequest {
        tenant: "t".into(),
        idempotency_key: format!("{spoil:?}"),
        source: pin(&clips::short()).unwrap(),
        base: "short".into(),
        profile,
        priority: Default::default(),
        deep_probe: false,
        output: None,
        trace: Default::default(),
    }
}

/// Runs the real services on a clip until the job ends.
async fn ended(spoil: Option<Spoil>) -> Job {
    let ffmpeg = Arc::new(Ffmpeg::detect(&ToolPaths::from_env()).await.unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let store: Arc<dyn JobStore> = Arc::new(MemoryStore::new());
    let doorbell: Arc<dyn Doorbell> = Arc::new(ChannelDoorbell::default());
    let world = World::machine();
    let mut blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::default());
    let config = splitreel_coordinator::Config {
        capabilities: Capabilities {
            encoders: ffmpeg.encoders.iter().cloned().collect(),
            filters: ffmpeg.filters.iter().cloned().collect(),
        },
        pump_every: Duration::from_millis(50),
        ..splitreel_coordinator::Config::default()
    };
    let coordinator =
        Coordinator::new(Arc::clone(&store), Arc::clone(&blobs), Arc::clone(&doorbell), world.clone(), config);
    let mut leases: Arc<dyn Leases> = Arc::new(coordinator.clone());
    if let Some(spoiler) = spoil.map(Spoiler::new) {
        (blobs, leases) = (spoiler.blobs(blobs), spoiler.leases(leases));
    }
    let tools = FfmpegTools::new(
        FfmpegToolkit::new(ffmpeg),
        scratch.path().to_owned(),
        Limits::default(),
        ProbeOptions::default(),
    );
    let worker = Worker::new(
        splitreel_worker::Config { id: WorkerId("worker".into()), slots: 2 },
        Arc::clone(&leases),
        Arc::clone(&doorbell),
        Arc::clone(&blobs),
        Arc::new(LocalSources),
        Arc::new(tools),
        Arc::clone(&world.ids),
    );
    let config = splitreel_assembler::Config { id: WorkerId("assembler".into()), slots: 1 };
    let assembler = Assembler::new(config, leases, doorbell, blobs, Arc::clone(&world.ids));
    let Submitted::Created(job) = coordinator.submit(request(spoil)).await.unwrap() else { panic!("a known job") };

    let stop = CancellationToken::new();
    let mut services = JoinSet::new();
    let s = stop.clone();
    services.spawn(async move { coordinator.run(s).await });
    let s = stop.clone();
    services.spawn(async move { worker.run(s.clone(), s).await });
    let s = stop.clone();
    services.spawn(async move { assembler.run(s.clone(), s).await });
    let until_ended = async {
        loop {
            let job = store.job(job.id).await.unwrap().unwrap();
            if job.state.is_ended() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let job = tokio::time::timeout(PATIENCE, until_ended).await.expect("the job ends");
    stop.cancel();
    while services.join_next().await.is_some() {}
    job
}

#[tokio::test]
async fn sound_media_is_published() {
    let job = ended(None).await;
    assert_eq!(job.state, JobState::Published, "{:?}", job.failure);
}

async fn is_refused(spoil: Spoil, because: &str) {
    let job = ended(Some(spoil)).await;
    assert_eq!(job.state, JobState::Failed);
    let failure = job.failure.unwrap();
    assert_eq!(failure.code, "parts_differ");
    assert!(failure.message.contains(because), "{}", failure.message);
}

#[tokio::test]
async fn a_frame_stored_one_tick_late_is_not_published() {
    is_refused(Spoil::FrameShifted, "stored presentation times differ from the encoder's").await;
}

#[tokio::test]
async fn two_frames_stored_in_each_others_place_are_not_published() {
    is_refused(Spoil::FramesSwapped, "is stored with samples in another order").await;
}

#[tokio::test]
async fn a_media_segment_stored_with_its_neighbours_content_is_not_published() {
    is_refused(Spoil::NeighbourStored, "is stored with another place than planned").await;
}
