//! Where the source is cut, which frames each frame rate shows, and where keyframes and media segments start.
//!
//! The three lists run side by side: entry `i` of a frame list and of a grid belongs to segment `i` of the timeline.

use super::FrameRule;
use crate::clock::TrackClock;
use crate::plan::hex;
use crate::source::IndexEvidence;
use crate::stamping::Stamping;
use crate::stated::StatedPicture;
use crate::task::TaskKind;
use crate::time::{OutputTicks, Rational, SourceTicks, rescale};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The source's video timeline and its segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// ffmpeg stream index of the video in the source.
    pub stream: u32,
    /// How the frames were listed.
    pub evidence: IndexEvidence,
    /// Seconds per source tick.
    pub source_timebase: Rational,
    /// Jumps of the source's clock; `None`: it has none. All times are without the jumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<TrackClock>,
    /// How decoded frames get their times.
    #[serde(default, skip_serializing_if = "Stamping::is_own")]
    pub stamping: Stamping,
    /// Matrix that frames without one are taken to have, by ffmpeg's name; empty: they state it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub assumed_matrix: String,
    /// What the source's headers state; `None` in plans of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<StatedPicture>,
    /// Decoder by ffmpeg's name; empty = its own choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decoder: String,
    /// Ticks per second of the output tracks that are cut along this timeline.
    pub timescale: u32,
    /// First frame of the source.
    pub first: SourceTicks,
    /// First frame in the output: 0 unless audio starts a little earlier.
    pub output_start: OutputTicks,
    /// Time that the first frame is shown before its own time, because audio starts earlier. All other frames keep theirs.
    #[serde(default)]
    pub held: OutputTicks,
    /// End of the last frame in the output: the frame's own end, or that of longer audio.
    pub output_end: OutputTicks,
    /// Segments, contiguous.
    pub segments: Vec<Segment>,
}

/// Half-open range of the source timeline: the unit of parallel work. Both ends lie on frames that every frame list
/// has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Number, from 0.
    pub index: u32,
    /// First frame.
    pub start: SourceTicks,
    /// First frame of the next segment; `None` for the last.
    pub end: Option<SourceTicks>,
    /// `start` in the output.
    pub output_start: OutputTicks,
    /// Start of the next segment in the output, or the end of the video.
    pub output_end: OutputTicks,
    /// Keyframes to seek to: the last one at or before `start` first, then earlier ones. Empty: decode from the
    /// beginning of the source.
    pub seek: Vec<SourceTicks>,
    /// Keyframe behind `seek[0]`: a seek for `seek[0]` must stay in front of it. `None`: there is no such keyframe, or
    /// its place is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seek_limit: Option<SourceTicks>,
}

/// The frames of one frame rate: a choice of the source's frames, never others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameList {
    /// The rule that chooses them.
    pub rule: FrameRule,
    /// Mean frame rate, frames per second: what DASH announces.
    pub rate: Rational,
    /// Highest frame rate over a second, where it differs from the mean: what HLS announces. `None`: the frames are
    /// evenly spaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rate: Option<Rational>,
    /// Frames of the source that decode, from which the rule chooses. 0 in plans of earlier versions.
    #[serde(default)]
    pub num_source: u64,
    /// Frames that the container lists and that do not decode.
    #[serde(default)]
    pub num_lost: u64,
    /// One entry per segment of the timeline.
    pub segments: Vec<SegmentFrames>,
}

/// The frames of one list in one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFrames {
    /// Number of frames.
    pub num_frames: u64,
    /// SHA-256 over the frames' output ticks, see [`pts_fingerprint`].
    pub pts_sha256: String,
}

/// Keyframes and media segments of the tracks with the same keyframe distance. Keyframes lie on frames that every frame
/// list has, so that tracks of different frame rates have them at the same places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyframeGrid {
    /// Distance of keyframes that is aimed at.
    pub gop: OutputTicks,
    /// Whether media segments may begin with frames that are shown before their keyframe, or need frames in front of the
    /// segment. Only copies have such.
    #[serde(default, skip_serializing_if = "is_false")]
    pub starts_open: bool,
    /// One entry per segment of the timeline.
    pub segments: Vec<GridSegment>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The part of a grid in one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridSegment {
    /// Frames that must be keyframes; the first is the segment's.
    pub keyframes: Vec<OutputTicks>,
    /// Media segments, contiguous; each starts on a keyframe.
    pub media_segments: Vec<MediaSegmentPlan>,
}

/// A media segment as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSegmentPlan {
    /// Number in the track, from 1.
    pub number: u32,
    /// Presentation start.
    pub start: OutputTicks,
    /// Length.
    pub duration: OutputTicks,
}

impl Timeline {
    /// The segment of a number.
    pub fn segment(&self, index: u32) -> Option<&Segment> {
        self.segments.get(self.place(index)?)
    }

    /// Position of a segment in `segments`; differs from its number when the plan was reduced to one segment.
    pub fn place(&self, index: u32) -> Option<usize> {
        self.segments.binary_search_by_key(&index, |s| s.index).ok()
    }

    /// The kind of its tasks, also where only one segment of several is left.
    pub fn task_kind(&self) -> TaskKind {
        if self.segments.iter().any(Segment::is_piece) { TaskKind::Segment } else { TaskKind::Whole }
    }

    /// Seconds per output tick.
    pub fn output_timebase(&self) -> Rational {
        Rational::new(1, i64::from(self.timescale)).unwrap_or(Rational::ONE)
    }

    /// Output tick of a source tick.
    pub fn output(&self, source: SourceTicks) -> OutputTicks {
        if source <= self.first { self.output_start } else { self.unheld(source) }
    }

    /// Tick of an output track for a source time, without the longer display of the first frame: where an encoder that
    /// starts at this source time has its 0.
    pub fn unheld(&self, source: SourceTicks) -> OutputTicks {
        let since = rescale((source - self.first).get(), self.source_timebase, self.output_timebase());
        self.output_start + self.held + OutputTicks(since)
    }

    /// Length of the video in seconds, for display and estimates.
    pub fn seconds(&self) -> f64 {
        (self.output_end - self.output_start).at(self.output_timebase()).seconds()
    }
}

impl Segment {
    /// Whether it is one of several, and not the whole video.
    pub fn is_piece(&self) -> bool {
        self.index > 0 || self.end.is_some()
    }

    /// Index of the `seek` point that decoding starts from: that of level `look_back`, or one further back when an
    /// operation needs frames before the first one. Beyond the last: from the beginning.
    pub fn seek_level(&self, look_back: u32, reads_neighbours: bool) -> u32 {
        let needs_more = reads_neighbours && self.seek.first() == Some(&self.start);
        look_back.saturating_add(u32::from(needs_more))
    }

    /// Length in the output.
    pub fn duration(&self) -> OutputTicks {
        self.output_end - self.output_start
    }
}

/// SHA-256 over a list of ticks: little-endian i64 each, hex. The fingerprint of a frame list.
pub fn pts_fingerprint(ticks: impl IntoIterator<Item = OutputTicks>) -> String {
    let mut hash = Sha256::new();
    for t in ticks {
        hash.update(t.get().to_le_bytes());
    }
    hex(&hash.finalize())
}
