//! The one door to the media tools, which the simulation fakes, and the real tools behind it: ffmpeg runs in a
//! per-attempt scratch directory, its progress becomes the attempt's, its output is parsed.

use crate::again;
use crate::detect::Ffmpeg;
use crate::piece::EncodedTrack;
use crate::probe::ProbeOptions;
use crate::process::{Limits, ProgressSink};
use crate::request::{AudioRequest, Effort, Encoded, ProbeRequest, Request, VideoRequest};
use async_trait::async_trait;
use splitreel_core::plan::{Cut, Plan, Timeline};
use splitreel_core::profile::SourceProfile;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::{Progress, TaskKind};
use splitreel_core::{Failure, FailureCode};
use splitreel_telemetry::record;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Progress of an attempt when ffmpeg is done; storing the output is the rest.
pub const ENCODED_PER_MILLE: u16 = 950;

/// Probes and encodes.
#[async_trait]
pub trait Toolkit: Send + Sync {
    /// Describes the source. `deep` decodes it once to list its frames. On a source that is not complete it
    /// fails with [`FailureCode::NeedsWhole`] where the holes matter.
    async fn probe(&self, request: Request, deep: bool, source: SourceProfile) -> Result<SourceInfo, Failure>;
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

/// [`Toolkit`] over ffmpeg, with a place to work in.
pub struct FfmpegToolkit {
    ffmpeg: Arc<Ffmpeg>,
    scratch: PathBuf,
    limits: Limits,
    options: ProbeOptions,
}

impl FfmpegToolkit {
    /// `scratch` is created when needed; each attempt gets a directory of its own in it, which goes with the attempt.
    pub fn new(ffmpeg: Arc<Ffmpeg>, scratch: PathBuf, limits: Limits, options: ProbeOptions) -> Self {
        FfmpegToolkit { ffmpeg, scratch, limits, options }
    }

    fn workspace(&self, request: &Request) -> Result<Workspace, Failure> {
        let dir = self.scratch.join(request.lease.to_string());
        std::fs::create_dir_all(&dir).map_err(|e| {
            let is_full = e.kind() == std::io::ErrorKind::StorageFull;
            let code = if is_full { FailureCode::NoSpace } else { FailureCode::Scratch };
            Failure::of(code, format!("the scratch directory {} cannot be made: {e}", dir.display()))
        })?;
        Ok(Workspace { dir })
    }
}

/// A directory that goes away with its owner.
struct Workspace {
    dir: PathBuf,
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Left-over files are removed at the next start.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Turns ffmpeg's progress into that of the attempt; `total_us` is the length in microseconds, 0 when there is none.
fn sink(request: &Request, total_us: i64) -> ProgressSink {
    let progress = request.progress.clone();
    Arc::new(move |now| {
        let done = encoded_share(now.out_time_us.max(0).unsigned_abs(), total_us.max(0).unsigned_abs());
        progress.send_modify(|p: &mut Progress| {
            p.done_per_mille = p.done_per_mille.max(done);
            p.frames = now.frames.max(p.frames);
            p.speed_milli = now.speed.map_or(0, |s| (f64::from(s) * 1000.0).clamp(0.0, 1e9) as u32);
        });
    })
}

async fn read_back(files: Vec<PathBuf>, evidence: Vec<String>) -> Result<Vec<EncodedTrack>, Failure> {
    let read =
        tokio::task::spawn_blocking(move || files.iter().map(|f| EncodedTrack::read(f)).collect::<Result<Vec<_>, _>>());
    let tracks = read.await.map_err(|e| Failure::of(FailureCode::WorkerThread, e.to_string()))?;
    tracks.map_err(|e| Failure::of(FailureCode::OutputUnreadable, e.to_string()).with_evidence(evidence))
}

#[async_trait]
impl Toolkit for FfmpegToolkit {
    async fn probe(&self, request: Request, deep: bool, source: SourceProfile) -> Result<SourceInfo, Failure> {
        let work = self.workspace(&request)?;
        let name = request.name.clone();
        let mut options = self.options.clone();
        if deep {
            options.scan_pixels = u64::MAX;
        }
        options.is_partial = !request.is_complete;
        options.source = source;
        let probe = ProbeRequest { name, scratch: work.dir.clone(), options, source: request.source.clone() };
        let probed = self.ffmpeg.probe(probe, sink(&request, 0), request.cancel.clone()).await?;
        Ok(probed.info)
    }

    async fn encode_video(
        &self,
        request: Request,
        plan: Arc<Plan>,
        segment: u32,
        look_back: u32,
    ) -> Result<Encoded, Failure> {
        let work = self.workspace(&request)?;
        let length_us = plan.timeline.as_ref().map_or(0, |timeline| {
            let ticks = timeline.segment(segment).map_or(0, |s| s.duration().get());
            ticks.saturating_mul(1_000_000) / i64::from(timeline.timescale.max(1))
        });
        let mut ask = VideoRequest {
            plan,
            segment,
            look_back,
            out_dir: work.dir.clone(),
            scratch: work.dir.clone(),
            limits: self.limits.clone(),
            source: request.source.clone(),
        };
        let kind = ask.plan.timeline.as_ref().map_or(TaskKind::Whole, Timeline::task_kind);
        let mut total = Effort::default();
        let made = loop {
            let made = self.ffmpeg.encode_video(ask.clone(), sink(&request, length_us), request.cancel.clone()).await?;
            encoded_as(kind, length_us, &made.effort);
            total.merge(made.effort);
            let Some(further) = again::second_look(&ask.plan, segment, ask.look_back, &made.stderr_tail) else {
                break made;
            };
            if !request.is_complete {
                let message = "the segment decodes with errors, and a decode from further back needs the whole source";
                return Err(Failure::of(FailureCode::NeedsWhole, message));
            }
            let second = VideoRequest { look_back: further, ..ask.clone() };
            let (is_alike, effort) = self.ffmpeg.decodes_alike(&second, request.cancel.clone()).await?;
            total.merge(effort);
            if is_alike {
                break made;
            }
            tracing::info!(
                segment,
                look_back = further,
                "a decode from further back shows other pictures; encoding that one"
            );
            ask = second;
        };
        let tracks = read_back(made.files, made.stderr_tail).await?;
        let (content, effort) = self.ffmpeg.compare_video(&ask, &tracks, request.cancel.clone()).await?;
        total.merge(effort);
        Ok(Encoded { content, ..encoded(tracks, total, work) })
    }

    async fn encode_audio(&self, request: Request, plan: Arc<Plan>, index: u32) -> Result<Encoded, Failure> {
        let work = self.workspace(&request)?;
        let length_us = plan.whole_track(index).map_or(0, |track| {
            let ticks = match &track.cut {
                Cut::Whole { start, boundaries, .. } => boundaries.last().unwrap_or(start).get(),
                Cut::Timeline { .. } => 0,
            };
            ticks.saturating_mul(1_000_000) / i64::from(track.timescale.max(1))
        });
        let ask = AudioRequest {
            plan,
            track: index,
            out_dir: work.dir.clone(),
            scratch: work.dir.clone(),
            limits: self.limits.clone(),
            source: request.source.clone(),
        };
        let made = self.ffmpeg.encode_audio(ask, sink(&request, length_us), request.cancel.clone()).await?;
        encoded_as(TaskKind::Audio, length_us, &made.effort);
        let tracks = read_back(vec![made.file], made.stderr_tail).await?;
        let mut done = encoded(tracks, made.effort, work);
        done.decoded_samples = made.facts.decoded_samples;
        done.encoded_samples = made.facts.encoded_samples;
        done.heard = made.heard;
        Ok(done)
    }

    fn build_id(&self) -> String {
        self.ffmpeg.build_id.clone()
    }
}

fn encoded_as(kind: TaskKind, length_us: i64, effort: &Effort) {
    let media = Duration::from_micros(u64::try_from(length_us).unwrap_or(0));
    record::encoded(kind, media, Duration::from_millis(effort.wall_ms));
}

fn encoded(tracks: Vec<EncodedTrack>, effort: Effort, work: Workspace) -> Encoded {
    Encoded {
        content: vec![None; tracks.len()],
        tracks,
        cpu_ms: effort.cpu_ms,
        decoded_samples: None,
        encoded_samples: None,
        heard: None,
        keep: Some(Box::new(work)),
    }
}

/// Progress of an attempt in per mille when ffmpeg is at `at` of `length`; 0 when the length is 0.
fn encoded_share(at: u64, length: u64) -> u16 {
    let done = u128::from(at.min(length)) * u128::from(ENCODED_PER_MILLE);
    done.checked_div(u128::from(length)).and_then(|share| u16::try_from(share).ok()).unwrap_or(0)
}

/// Removes the scratch of a worker that is gone.
///
/// # Errors
/// Those of the file system.
pub fn clear_scratch(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_the_attempt_up_to_storing() {
        assert_eq!(
            [(0, 10), (5, 10), (99, 10), (99, 0)].map(|(at, length)| encoded_share(at, length)),
            [0, 475, 950, 0]
        );
    }
}
