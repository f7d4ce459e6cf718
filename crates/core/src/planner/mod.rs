//! Planning: a pure function of what was probed, the profile and what the workers can do.
//!
//! The number of workers is not an input: the same source, profile and ffmpeg give the same plan, and so the
//! same bytes, on one worker or fifty.

mod audio;
mod cuts;
#[cfg(test)]
mod tests;
mod video;

use crate::failure::Failure;
use crate::plan::{Decision, Plan};
use crate::profile::{ContainerRule, Profile, VideoCodec};
use crate::ranges;
use crate::source::SourceInfo;
use crate::time::{MediaTime, Rational};
pub use audio::{AudioCut, cut_audio};

/// What the workers' ffmpeg can do.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Encoder names; empty = unknown, assume all.
    pub encoders: Vec<String>,
    /// Filter names; empty = unknown, assume all.
    pub filters: Vec<String>,
}

impl Capabilities {
    fn has_encoder(&self, name: &str) -> bool {
        self.encoders.is_empty() || self.encoders.iter().any(|e| e == name)
    }

    fn has_filter(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|f| f == name)
    }
}

/// Collects decisions while planning.
pub(crate) struct Notes(Vec<Decision>);

impl Notes {
    pub(crate) fn add(&mut self, subject: impl Into<String>, choice: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Decision { subject: subject.into(), choice: choice.into(), reason: reason.into() });
    }
}

/// Makes the plan.
///
/// # Errors
/// A [`Failure`] of class `Source` (the source cannot be used with this profile) or `Permanent` (no worker can
/// do it, the profile asks for what is not there), with a message for people.
pub fn plan(info: &SourceInfo, profile: &Profile, caps: &Capabilities) -> Result<Plan, Failure> {
    if let Some(e) = profile.validate().first() {
        return Err(Failure::permanent("profile_invalid", format!("profile {}: {e}", profile.name)));
    }
    if profile.packaging.container == ContainerRule::Mpegts {
        return Err(Failure::permanent(
            "container_unavailable",
            "this version packages fMP4 (CMAF) only: use container = \"fmp4\" or \"auto\"",
        ));
    }
    let has_frames = info.video.as_ref().is_some_and(|v| !v.frames.pts.is_empty());
    if !has_frames && info.audio.is_empty() {
        return Err(Failure::source("nothing_decodable", "no video or audio stream of the source can be decoded"));
    }
    let mut notes = Notes(Vec::new());
    let origin = origin(info);
    let video = match &info.video {
        Some(track) if has_frames => Some(video::plan_video(info, track, profile, caps, origin, &mut notes)?),
        _ => {
            notes.add("video", "none", "the source has no video that decodes");
            notes.add("split", "whole", "only audio: one task per track, splitting cannot help");
            None
        }
    };
    let audio = audio::plan_audio(info, profile, origin, video.as_ref(), &mut notes)?;
    for u in &info.unused {
        notes.add(format!("stream {}", u.stream), "left out", format!("{} {}: {}", u.kind, u.codec, u.reason));
    }
    for w in &info.warnings {
        notes.add("source", "noted", w.clone());
    }
    let container = if profile.video.codec == VideoCodec::Copy {
        "the source's own streams fit it"
    } else {
        "modern players take it, HLS and DASH share it"
    };
    notes.add("container", "fMP4 (CMAF)", container);
    let chunk_mb = profile.packaging.chunk_mb;
    let reads = ranges::reads(info, video.as_ref());
    Ok(Plan {
        version: 1,
        demuxer: info.demuxer.clone(),
        video,
        audio,
        media_segment_seconds: profile.packaging.media_segment_seconds,
        progressive: profile.packaging.progressive && (chunk_mb == 0 || profile.packaging.keep_full),
        chunk_mb,
        keep_full: profile.packaging.keep_full,
        decisions: notes.0,
        reads,
    })
}

/// The presentation's origin: the earliest first sample of any track that is used. Exact.
fn origin(info: &SourceInfo) -> MediaTime {
    let video = info.video.as_ref().and_then(|v| v.frames.pts.first().map(|p| MediaTime::new(p, v.timebase)));
    let audio = info.audio.iter().map(|a| a.first_pts);
    video.into_iter().chain(audio).min().unwrap_or(MediaTime::new(0, Rational::ONE))
}

/// Ticks of `to` between two exact times, rounded once to the nearest.
pub(crate) fn ticks_between(from: MediaTime, until: MediaTime, to: Rational) -> i64 {
    let exact = |t: MediaTime| (i128::from(t.ticks) * i128::from(t.timebase.num()), i128::from(t.timebase.den()));
    let ((a, da), (b, db)) = (exact(from), exact(until));
    // (b/db − a/da) / to, all in integers; timebases of media files keep this far inside i128.
    let num = (b.saturating_mul(da)).saturating_sub(a.saturating_mul(db)).saturating_mul(i128::from(to.den()));
    let den = da.saturating_mul(db).saturating_mul(i128::from(to.num())).max(1);
    let half = den / 2;
    let q = if num >= 0 { (num + half) / den } else { -((-num + half) / den) };
    q.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}
