//! The trait through which workers use ffmpeg, and its real implementation.

use crate::detect::Ffmpeg;
use crate::encode::{AudioFacts, Places, encode_audio, encode_video};
use crate::probe::{self, ProbeOptions};
use crate::process::{Limits, Output, ProgressSink};
use async_trait::async_trait;
use splitreel_core::Failure;
use splitreel_core::plan::Plan;
use splitreel_core::source::SourceInfo;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// CPU and wall time that a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// CPU milliseconds of ffmpeg and ffprobe, user and system.
    pub cpu_ms: u64,
    /// Wall milliseconds.
    pub wall_ms: u64,
}

impl Effort {
    /// Adds what a process took.
    pub(crate) fn add(&mut self, output: &Output) {
        self.merge(Effort { cpu_ms: output.cpu_ms, wall_ms: output.wall_ms });
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
    pub seek_back: u32,
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
    /// What it cost.
    pub effort: Effort,
    /// Last lines of ffmpeg.
    pub stderr_tail: Vec<String>,
}

/// The media programs.
#[async_trait]
pub trait Toolkit: Send + Sync {
    /// Looks at a source.
    ///
    /// # Errors
    /// A [`Failure`]; class `Source` when the source itself cannot be used.
    async fn probe(
        &self,
        request: ProbeRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<Probed, Failure>;

    /// Encodes one video segment in all renditions. Success does not prove that every frame is there.
    ///
    /// # Errors
    /// A [`Failure`] with ffmpeg's last words.
    async fn encode_video(
        &self,
        request: VideoRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<VideoFiles, Failure>;

    /// Encodes one audio track.
    ///
    /// # Errors
    /// A [`Failure`] with ffmpeg's last words.
    async fn encode_audio(
        &self,
        request: AudioRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<AudioFile, Failure>;

    /// Identity of the build: equal ids encode alike.
    fn build_id(&self) -> &str;

    /// Whether an encoder is there, by ffmpeg's name.
    fn has_encoder(&self, name: &str) -> bool;
}

/// The real programs.
#[derive(Clone, Debug)]
pub struct FfmpegToolkit {
    ffmpeg: Arc<Ffmpeg>,
}

impl FfmpegToolkit {
    /// Uses the programs that were detected.
    pub fn new(ffmpeg: Arc<Ffmpeg>) -> Self {
        FfmpegToolkit { ffmpeg }
    }

    /// The programs.
    pub fn ffmpeg(&self) -> &Arc<Ffmpeg> {
        &self.ffmpeg
    }
}

#[async_trait]
impl Toolkit for FfmpegToolkit {
    async fn probe(
        &self,
        request: ProbeRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<Probed, Failure> {
        probe::probe(&self.ffmpeg, &request, progress, cancel).await
    }

    async fn encode_video(
        &self,
        request: VideoRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<VideoFiles, Failure> {
        let places = Places { source: &request.source, out_dir: &request.out_dir, scratch: &request.scratch };
        let what = (request.segment, request.seek_back);
        let (files, output) =
            encode_video(&self.ffmpeg, &request.plan, what, &places, request.limits.clone(), progress, cancel).await?;
        Ok(VideoFiles { files, effort: effort(&output), stderr_tail: output.stderr_tail })
    }

    async fn encode_audio(
        &self,
        request: AudioRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<AudioFile, Failure> {
        let places = Places { source: &request.source, out_dir: &request.out_dir, scratch: &request.scratch };
        let (file, facts, output) =
            encode_audio(&self.ffmpeg, &request.plan, request.track, &places, request.limits.clone(), progress, cancel)
                .await?;
        Ok(AudioFile { file, facts, effort: effort(&output), stderr_tail: output.stderr_tail })
    }

    fn build_id(&self) -> &str {
        &self.ffmpeg.build_id
    }

    fn has_encoder(&self, name: &str) -> bool {
        self.ffmpeg.encoders.contains(name)
    }
}

fn effort(output: &Output) -> Effort {
    Effort { cpu_ms: output.cpu_ms, wall_ms: output.wall_ms }
}
