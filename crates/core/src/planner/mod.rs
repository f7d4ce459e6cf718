//! Planning: a pure function of what was probed, the profile and what the workers can do.
//!
//! The number of workers is not an input: the same source, profile and ffmpeg give the same plan, and so the
//! same bytes, on one worker or fifty. Each kind of media has a producer that adds its tracks to the draft.

mod audio;
mod color;
mod cuts;
mod fields;
mod formats;
mod frames;
mod grids;
mod ops;
mod renditions;
mod scan;
mod side_data;
#[cfg(test)]
mod tests;
mod timeline;
mod video;

use crate::failure::{Failure, FailureCode};
use crate::plan::{Decision, FrameList, KeyframeGrid, PLAN_VERSION, Packaging, Plan, Timeline, TrackPlan};
use crate::profile::{ContainerRule, Profile, VideoCodec};
use crate::ranges;
use crate::source::{AudioTrack, ChosenProgramme, Container, SourceInfo};
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
    /// What every one of several workers can do: a task may reach any of them. A list that one of them does not state is
    /// left to the others.
    #[must_use]
    pub fn common(workers: &[Capabilities]) -> Capabilities {
        let shared = |list: fn(&Capabilities) -> &Vec<String>| {
            let mut stated = workers.iter().map(list).filter(|list| !list.is_empty());
            let Some(mut common) = stated.next().cloned() else { return Vec::new() };
            for other in stated {
                common.retain(|name| other.contains(name));
            }
            if common.is_empty() {
                // An empty list would mean that anything goes.
                common.push(String::new());
            }
            common
        };
        Capabilities { encoders: shared(|known| &known.encoders), filters: shared(|known| &known.filters) }
    }

    fn has_encoder(&self, name: &str) -> bool {
        self.encoders.is_empty() || self.encoders.iter().any(|e| e == name)
    }

    fn has_filter(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|f| f == name)
    }
}

/// Filters that plans make a difference by.
pub const FILTERS: [&str; 4] = ["bwdif", "premultiply", "tonemap", "zscale"];

/// Checks, before anything is known of the source, that the workers have the encoders of a profile.
///
/// # Errors
/// A [`Failure`] that names the first missing one.
pub fn check_encoders(profile: &Profile, caps: &Capabilities) -> Result<(), Failure> {
    for rung in profile.video.ladder() {
        renditions::Settings::of(profile.video.settings(rung), caps)?;
    }
    Ok(())
}

/// Decisions collected while planning.
#[derive(Clone, Debug, Default)]
pub struct Notes(Vec<Decision>);

impl Notes {
    /// Adds a decision.
    pub fn add(&mut self, subject: impl Into<String>, choice: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Decision { subject: subject.into(), choice: choice.into(), reason: reason.into() });
    }
}

/// What producers plan from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The source.
    pub info: &'a SourceInfo,
    /// The validated profile.
    pub profile: &'a Profile,
    /// What the workers can do.
    pub caps: &'a Capabilities,
    /// Whether `info` has a frame for each field of the source.
    pub each_field: bool,
    /// The presentation's origin: the earliest first sample of any track that is used.
    pub origin: MediaTime,
    /// The presentation's end: the latest end of any track that is used, as far as the source states it.
    pub end: MediaTime,
}

/// Difference between the starts of two tracks that is left as it is, in microseconds. Players place a track by the sum
/// of its media segments or by its times; more than this is seen and heard.
const START_SLACK_US: i64 = 100_000;

/// The same for the ends of two tracks: players have loaded everything that close to the end, and bridge the difference.
const END_SLACK_US: i64 = 1_000_000;

impl Context<'_> {
    /// Whether a track with this first sample has to be filled from the presentation's start.
    pub(crate) fn late(&self, first: MediaTime) -> bool {
        first.micros().saturating_sub(self.origin.micros()) > START_SLACK_US
    }

    /// Whether a track with this end has to be filled up to the presentation's end.
    pub(crate) fn is_short(&self, end: MediaTime) -> bool {
        self.end.micros().saturating_sub(end.micros()) > END_SLACK_US
    }
}

/// The plan in the making.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Where the source's video is cut.
    pub timeline: Option<Timeline>,
    /// Frame lists so far.
    pub frames: Vec<FrameList>,
    /// Keyframe grids so far.
    pub grids: Vec<KeyframeGrid>,
    /// Tracks so far.
    pub tracks: Vec<TrackPlan>,
    /// Decisions so far.
    pub notes: Notes,
}

/// Adds the tracks of one kind of media to the draft.
pub type Producer = fn(&Context<'_>, &mut Draft) -> Result<(), Failure>;

/// Producers in the order of their tracks. Audio follows the boundaries of the leading video track.
pub const PRODUCERS: &[Producer] = &[video::produce, audio::produce];

/// Makes the plan.
///
/// # Errors
/// A [`Failure`] of class `Source` (the source cannot be used with this profile) or `Permanent` (no worker can
/// do it, the profile asks for what is not there), with a message for people.
pub fn plan(info: &SourceInfo, profile: &Profile, caps: &Capabilities) -> Result<Plan, Failure> {
    plan_with(PRODUCERS, info, profile, caps)
}

/// Makes a plan of the tracks of given producers.
///
/// # Errors
/// See [`plan`].
pub fn plan_with(
    producers: &[Producer],
    info: &SourceInfo,
    profile: &Profile,
    caps: &Capabilities,
) -> Result<Plan, Failure> {
    check(info, profile)?;
    let doubled = fields::doubled(info, profile).filter(|_| caps.has_filter(scan::FILTER));
    let each_field = doubled.is_some();
    let info = doubled.as_ref().unwrap_or(info);
    let origin = origin(info);
    let context = Context { info, profile, caps, each_field, origin, end: end(info).unwrap_or(origin) };
    let mut draft = Draft::default();
    for produce in producers {
        produce(&context, &mut draft)?;
    }
    let Draft { timeline, frames, grids, tracks, mut notes } = draft;
    if let Some(programme) = &info.programme {
        note_programme(programme, &mut notes);
    }
    for u in &info.unused {
        notes.add(format!("stream {}", u.stream), "left out", format!("{} {}: {}", u.kind, u.codec, u.reason));
    }
    for w in &info.warnings {
        notes.add("source", "noted", w.clone());
    }
    let is_copy = profile.video.codec == VideoCodec::Copy;
    let container =
        if is_copy { "the source's own streams fit it" } else { "modern players take it, HLS and DASH share it" };
    notes.add("container", "fMP4 (CMAF)", container);
    let wanted = &profile.packaging;
    let reads = ranges::reads(info, timeline.as_ref().filter(|_| !is_copy));
    Ok(Plan {
        version: PLAN_VERSION,
        demuxer: info.demuxer.clone(),
        timeline,
        frames,
        grids,
        tracks,
        packaging: Packaging {
            media_segment_seconds: wanted.media_segment_seconds,
            progressive: wanted.progressive && (wanted.chunk_mb == 0 || wanted.keep_full),
            chunk_mb: wanted.chunk_mb,
        },
        decisions: notes.0,
        reads,
    })
}

/// Notes which of several programmes is used, and how to get another one.
fn note_programme(programme: &ChosenProgramme, notes: &mut Notes) {
    let others = programme.others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let why = if programme.is_asked_for { "the job asks for it" } else { "its picture is the default or the largest" };
    let reason = format!("{why}; choose another one by --programme NUMBER: {others}");
    notes.add("programme", programme.chosen.to_string(), reason);
}

/// Whether planning can start.
fn check(info: &SourceInfo, profile: &Profile) -> Result<(), Failure> {
    if let Some(e) = profile.validate().first() {
        return Err(Failure::of(FailureCode::ProfileInvalid, format!("profile {}: {e}", profile.name)));
    }
    if profile.packaging.container == ContainerRule::Mpegts {
        return Err(Failure::of(
            FailureCode::ContainerUnavailable,
            "this version packages fMP4 (CMAF) only: use container = \"fmp4\" or \"auto\"",
        ));
    }
    let has_frames = info.video.as_ref().is_some_and(|v| !v.frames.pts.is_empty());
    if !has_frames && info.audio.is_empty() {
        return Err(Failure::of(
            FailureCode::NothingDecodable,
            "no video or audio stream of the source can be decoded",
        ));
    }
    Ok(())
}

/// The presentation's origin: the earliest first sample of any track that is used. Exact.
fn origin(info: &SourceInfo) -> MediaTime {
    let video = info.video.as_ref().and_then(|v| v.frames.pts.first().map(|p| MediaTime::new(p, v.timebase)));
    let audio = info.audio.iter().map(|a| a.first_pts);
    video.into_iter().chain(audio).min().unwrap_or(MediaTime::new(0, Rational::ONE))
}

/// The presentation's end: the latest end of any track that is used. Audio counts where sample tables state its length:
/// the length in other containers is an estimate, from which no frame may be stretched over hours.
fn end(info: &SourceInfo) -> Option<MediaTime> {
    let video = info.video.as_ref().and_then(|v| {
        let last = v.frames.pts.last()?;
        Some(MediaTime::new(last.saturating_add(v.frames.last_duration.max(1)), v.timebase))
    });
    let is_stated = info.container == Container::Mov && !info.fragmented;
    let audio = info.audio.iter().filter(|_| is_stated).filter_map(audio_end);
    video.into_iter().chain(audio).max()
}

/// The end of an audio track, when the source states its length.
fn audio_end(track: &AudioTrack) -> Option<MediaTime> {
    let (first, length) = (track.first_pts, track.duration?);
    let ticks = crate::time::rescale(length.ticks, length.timebase, first.timebase);
    Some(MediaTime::new(first.ticks.saturating_add(ticks), first.timebase))
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
