//! Media that is damaged behind the worker's check, with a real encoder: nothing of it is published.

use crate::clips;
use splitreel_backend::Submissions;
use splitreel_backend::grants::pin_file;
use splitreel_backend::memory::{MemoryBlobs, MemoryStore};
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::planner::Capabilities;
use splitreel_core::profile::Profile;
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions, ToolPaths};
use splitreel_testkit::services::Services;
use splitreel_testkit::spoil::{Spoil, Spoiler};
use splitreel_worker::source::LocalSources;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Each job ends in seconds, on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(120);

fn request(clip: &Path) -> JobRequest {
    let mut profile = Profile::built_in("universal").unwrap();
    profile.split.segment_seconds = 2.0;
    profile.packaging.media_segment_seconds = 2.0;
    JobRequest {
        tenant: "t".into(),
        idempotency_key: "k".into(),
        source: pin_file(clip).unwrap(),
        base: "clip".into(),
        profile,
        priority: Default::default(),
        deep_probe: false,
        output: None,
        trace: Default::default(),
    }
}

/// Runs the real services on a clip until the job ends.
pub async fn ended(clip: &Path, spoil: Option<Spoil>) -> Job {
    let ffmpeg = Arc::new(Ffmpeg::detect(&ToolPaths::from_env()).await.unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::new());
    store.submit(JobId(uuid::Uuid::from_u128(1)), request(clip), 0).await.unwrap();
    let services = Services {
        store,
        blobs: Arc::new(MemoryBlobs::default()),
        sources: Arc::new(LocalSources),
        capabilities: Capabilities {
            encoders: ffmpeg.encoders.iter().cloned().collect(),
            filters: ffmpeg.filters.iter().cloned().collect(),
        },
        toolkit: Arc::new(FfmpegToolkit::new(
            ffmpeg,
            scratch.path().to_owned(),
            Limits::default(),
            ProbeOptions::default(),
        )),
        spoiler: spoil.map(Spoiler::new),
    };
    services.until_ended(PATIENCE).await.unwrap().remove(0)
}

#[tokio::test]
async fn sound_media_is_published() {
    let job = ended(&clips::short(), None).await;
    assert_eq!(job.state, JobState::Published, "{:?}", job.failure);
}

async fn is_refused(spoil: Spoil, because: &str) {
    let job = ended(&clips::short(), Some(spoil)).await;
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
