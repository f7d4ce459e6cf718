//! What is asked of the media tools, and what they answer: by attempts ([`Request`], [`Encoded`]), and by single runs of
//! the programs.

use crate::encode::AudioFacts;
use crate::piece::EncodedTrack;
use crate::probe::ProbeOptions;
use crate::process::{Limits, Output};
use splitreel_core::LeaseId;
use splitreel_core::content::Content;
use splitreel_core::levels::Heard;
use splitreel_core::plan::Plan;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::Progress;
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
    /// Receives progress, up to [`ENCODED_PER_MILLE`](crate::ENCODED_PER_MILLE).
    pub progress: watch::Sender<Progress>,
    /// Ends the work: processes are killed before the call returns.
    pub cancel: CancellationToken,
}

/// Finished tracks. Files behind them live until `keep` is dropped.
pub struct Encoded {
    /// One per rendition, in the plan's order.
    pub tracks: Vec<EncodedTrack>,
    /// Comparison of each track's pictures with the source's; `None` for copies and audio.
    pub content: Vec<Option<Content>>,
    /// CPU milliseconds used.
    pub cpu_ms: u64,
    /// Samples that the decoder delivered (audio).
    pub decoded_samples: Option<u64>,
    /// Samples that the encoder took in (audio).
    pub encoded_samples: Option<u64>,
    /// Levels of the source's track and of the encoded one (audio that was encoded).
    pub heard: Option<Heard>,
    /// Holds scratch files alive.
    pub keep: Option<Box<dyn Any + Send + Sync>>,
}

/// CPU and wall time that a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// CPU milliseconds of ffmpeg and ffprobe, user and system.
    pub cpu_ms: u64,
    /// Wall milliseconds.
    pub wall_ms: u64,
}

impl Effort {
    /// What a process took.
    pub(crate) fn of(output: &Output) -> Self {
        Effort { cpu_ms: output.cpu_ms, wall_ms: output.wall_ms }
    }

    /// Adds what a process took.
    pub(crate) fn add(&mut self, output: &Output) {
        self.merge(Effort::of(output));
    }

    /// Adds what other runs took.
    pub(crate) fn merge(&mut self, other: Effort) {
        self.cpu_ms = self.cpu_ms.saturating_add(other.cpu_ms);
        self.wall_ms = self.wall_ms.saturating_add(other.wall_ms);
    }
}

/// A source to look at.
#[derive(Clone, Debug)]
pub struct ProbeRequest {
    /// The local file.
    pub source: PathBuf,
    /// What messages call it; the user's own name for it.
    pub name: String,
    /// An existing directory for links.
    pub scratch: PathBuf,
    /// How hard to look.
    pub options: ProbeOptions,
}

/// What probing found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The source.
    pub info: SourceInfo,
    /// What it cost.
    pub effort: Effort,
}

/// A video segment to encode.
#[derive(Clone, Debug)]
pub struct VideoRequest {
    /// The local file.
    pub source: PathBuf,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Number of the segment.
    pub segment: u32,
    /// 0 seeks to the nearest keyframe, 1 to the one before, more decodes from the beginning. A caller that finds
    /// frames missing tries the next level.
    pub look_back: u32,
    /// An existing directory for the results.
    pub out_dir: PathBuf,
    /// An existing directory for links.
    pub scratch: PathBuf,
    /// What the process may use up.
    pub limits: Limits,
}

/// The encoded segment.
#[derive(Clone, Debug)]
pub struct VideoFiles {
    /// One plain MP4 per rendition in the plan's order. Its edit list and sample table give the time of each frame
    /// relative to the segment's start, in ticks of the plan's timescale.
    pub files: Vec<PathBuf>,
    /// What it cost.
    pub effort: Effort,
    /// Last lines of ffmpeg, as evidence when the files turn out wrong.
    pub stderr_tail: Vec<String>,
}

/// An audio track to encode.
#[derive(Clone, Debug)]
pub struct AudioRequest {
    /// The local file.
    pub source: PathBuf,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Position in the plan's list of audio renditions.
    pub track: u32,
    /// An existing directory for the result.
    pub out_dir: PathBuf,
    /// An existing directory for links.
    pub scratch: PathBuf,
    /// What the process may use up.
    pub limits: Limits,
}

/// The encoded track.
#[derive(Clone, Debug)]
pub struct AudioFile {
    /// A plain MP4 with one track that starts with the source's first sample; priming and end padding are outside its
    /// edit list.
    pub file: PathBuf,
    /// Counts of samples.
    pub facts: AudioFacts,
    /// Levels of the source's track and of the encoded one; `None` for a copy.
    pub heard: Option<Heard>,
    /// What it cost.
    pub effort: Effort,
    /// Last lines of ffmpeg.
    pub stderr_tail: Vec<String>,
}
