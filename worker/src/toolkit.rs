//! The seam to the media tools, which the simulation fakes.

use async_trait::async_trait;
use splitreel_core::plan::Plan;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId};
use splitreel_media::piece::EncodedTrack;
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Fields of every request.
#[derive(Clone)]
pub struct Request {
    /// The lease: names the scratch directory.
    pub lease: LeaseId,
    /// Name of the source in messages.
    pub name: String,
    /// Local path of the source's bytes.
    pub source: PathBuf,
    /// Whether the file holds all bytes of the source; else it has holes outside the ranges that the task should need.
    pub is_complete: bool,
    /// Receives progress.
    pub progress: watch::Sender<Progress>,
    /// Ends the work: processes are killed before the call returns.
    pub cancel: CancellationToken,
}

/// Finished tracks. Files behind them live until `keep` is dropped.
pub struct Encoded {
    /// One per rendition, in the plan's order.
    pub tracks: Vec<EncodedTrack>,
    /// CPU milliseconds used.
    pub cpu_ms: u64,
    /// Samples that the decoder delivered (audio).
    pub decoded_samples: Option<u64>,
    /// Samples that the encoder took in (audio).
    pub encoded_samples: Option<u64>,
    /// Holds scratch files alive.
    pub keep: Option<Box<dyn Any + Send + Sync>>,
}

/// Probes and encodes.
#[async_trait]
pub trait Toolkit: Send + Sync {
    /// Describes the source. `deep` decodes it once to list its frames. On a source that is not complete it
    /// fails with [`splitreel_core::FailureCode::NeedsWhole`] where the holes matter.
    async fn probe(&self, request: Request, deep: bool) -> Result<SourceInfo, Failure>;
    /// Encodes one segment into all renditions. `look_back` raises how far before the segment decoding starts:
    /// 0 = the nearest keyframe, 1 = the one before, 2 = the beginning of the source.
    async fn encode_video(
        &self,
        request: Request,
        plan: Arc<Plan>,
        segment: u32,
        look_back: u32,
    ) -> Result<Encoded, Failure>;
    /// Encodes one audio track, whole.
    async fn encode_audio(&self, request: Request, plan: Arc<Plan>, index: u32) -> Result<Encoded, Failure>;
    /// Identity of the tools: goes into certificates.
    fn build_id(&self) -> String;
}
