//! A media toolkit without ffmpeg: probes and encodes fake sources in virtual time. The same source and plan give the
//! same bytes on every worker; a [`Fate`] decides what goes wrong. Touches no file and starts no process.

mod encode;
mod source;

pub use source::FakeSource;

use async_trait::async_trait;
use splitreel_core::fixture;
use splitreel_core::plan::Plan;
use splitreel_core::profile::SourceProfile;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, FailureClass, FailureCode};
use splitreel_media::{Encoded, Request, Toolkit};
use splitreel_worker::source::{LocalSource, SourceAccess, Sources};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Code of injected media failures.
pub const MEDIA_CODE: &str = "simulated_media";
/// Code of injected infrastructure failures.
pub const INFRA_CODE: &str = "simulated_infra";
/// Progress reports per call.
const STEPS: u16 = 4;

/// Fault of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    #[default]
    None,
    /// The machine fails.
    Infra,
    /// The encoder fails on this media.
    Media,
    /// The encoder reports success, but a frame (or packet) is missing.
    FrameMissing,
}

/// Course of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The fault, when half of the work is done.
    pub mishap: Mishap,
    /// Duration, in percent of the usual one.
    pub slowness_percent: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Turn { mishap: Mishap::None, slowness_percent: 100 }
    }
}

/// Decides the course of each call.
pub trait Fate: Send + Sync {
    /// Asked at the start of each call.
    fn turn(&self) -> Turn;
}

/// No fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fortunate;

impl Fate for Fortunate {
    fn turn(&self) -> Turn {
        Turn::default()
    }
}

/// [`Toolkit`] and [`Sources`] over fake sources.
pub struct FakeToolkit {
    sources: BTreeMap<PathBuf, FakeSource>,
    fate: Arc<dyn Fate>,
}

impl FakeToolkit {
    /// A toolkit that knows these sources.
    pub fn new(sources: impl IntoIterator<Item = FakeSource>, fate: Arc<dyn Fate>) -> Self {
        let sources = sources.into_iter().map(|s| (PathBuf::from(&s.reference.locator), s)).collect();
        FakeToolkit { sources, fate }
    }

    fn source(&self, path: &Path) -> Result<&FakeSource, Failure> {
        self.sources
            .get(path)
            .ok_or_else(|| Failure::of(FailureCode::NotFound, format!("{} is not a fake source", path.display())))
    }

    /// Lets `work` of virtual time pass, with progress.
    async fn labour(&self, request: &Request, work: Duration, frames: u64) -> Result<Turn, Failure> {
        let turn = self.fate.turn();
        let step = work.saturating_mul(turn.slowness_percent) / 100 / u32::from(STEPS);
        for i in 1..=STEPS {
            tokio::select! {
                biased;
                () = request.cancel.cancelled() => return Err(Failure::of(FailureCode::Cancelled, "the attempt was cancelled")),
                () = tokio::time::sleep(step) => {}
            }
            let done = Progress {
                done_per_mille: i * (1000 / STEPS),
                speed_milli: 1000,
                frames: frames * u64::from(i) / u64::from(STEPS),
            };
            request.progress.send_replace(done);
            match turn.mishap {
                Mishap::Infra if i == STEPS / 2 => {
                    return Err(Failure::with_class(FailureClass::Infra, INFRA_CODE.into(), "the machine failed"));
                }
                Mishap::Media if i == STEPS / 2 => {
                    return Err(Failure::with_class(FailureClass::Media, MEDIA_CODE.into(), "the encoder failed"));
                }
                _ => {}
            }
        }
        Ok(turn)
    }
}

fn missing(what: &str) -> Failure {
    Failure::of(FailureCode::Plan, format!("the plan asks for {what} that the source does not have"))
}

#[async_trait]
impl Toolkit for FakeToolkit {
    async fn probe(&self, request: Request, deep: bool, _: SourceProfile) -> Result<SourceInfo, Failure> {
        let source = self.source(&request.source)?;
        self.labour(&request, Duration::from_millis(200), 0).await?;
        Ok(source.probed(deep))
    }

    async fn encode_video(
        &self,
        request: Request,
        plan: Arc<Plan>,
        segment: u32,
        _look_back: u32,
    ) -> Result<Encoded, Failure> {
        let source = self.source(&request.source)?;
        let parts = plan.parts_of(segment).ok_or_else(|| missing("a segment"))?;
        let num_frames = parts.iter().map(|part| part.frames.num_frames).max().unwrap_or(0);
        let work = Duration::from_millis(40).saturating_mul(u32::try_from(num_frames).unwrap_or(u32::MAX));
        let turn = self.labour(&request, work, num_frames).await?;
        let mut tracks = encode::video(source, &plan, segment)?;
        if turn.mishap == Mishap::FrameMissing
            && let Some(track) = tracks.last_mut()
        {
            track.samples.pop();
        }
        let cpu_ms = u64::try_from(work.as_millis()).unwrap_or(u64::MAX);
        let content = parts.iter().map(fixture::equal_pictures).collect();
        Ok(Encoded { tracks, content, cpu_ms, decoded_samples: None, encoded_samples: None, heard: None, keep: None })
    }

    async fn encode_audio(&self, request: Request, plan: Arc<Plan>, index: u32) -> Result<Encoded, Failure> {
        let source = self.source(&request.source)?;
        let planned = plan.whole_track(index).ok_or_else(|| missing("an audio track"))?;
        let audio = encode::audio(source, planned)?;
        let num_packets = audio.track.samples.len() as u64;
        let work = Duration::from_millis(num_packets.saturating_mul(10));
        let turn = self.labour(&request, work, num_packets).await?;
        // Audio has no frame list to compare with: a missing packet would be a shorter source.
        if turn.mishap == Mishap::FrameMissing {
            return Err(Failure::with_class(FailureClass::Media, MEDIA_CODE.into(), "the encoder failed at the end"));
        }
        Ok(Encoded {
            tracks: vec![audio.track],
            content: vec![None],
            cpu_ms: num_packets,
            decoded_samples: Some(audio.num_samples),
            encoded_samples: Some(audio.num_samples),
            heard: None,
            keep: None,
        })
    }

    fn build_id(&self) -> String {
        "simulated toolkit".into()
    }
}

#[async_trait]
impl Sources for FakeToolkit {
    async fn local(&self, access: &SourceAccess<'_>) -> Result<LocalSource, Failure> {
        let source = access.source;
        let path = PathBuf::from(&source.locator);
        match self.source(&path)? {
            known if known.reference == *source => Ok(LocalSource::file(path, source.bytes)),
            _ => Err(Failure::of(FailureCode::SourceChanged, format!("{} is of another version", source.locator))),
        }
    }
}

#[cfg(test)]
mod tests;
