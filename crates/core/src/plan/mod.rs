//! The plan: the immutable result of planning. Every value a worker needs is here or derived from here.
//!
//! [`Timeline`] says where the source is cut, [`FrameList`] which frames a track shows, [`KeyframeGrid`] where its
//! keyframes and media segments start, and [`TrackPlan`] how one output track is made. Frame lists and grids are shared
//! by number: tracks of the same frame rate or keyframe distance refer to the same ones.

mod counts;
mod decode;
mod op;
mod reads;
mod timeline;
mod track;
mod view;

#[cfg(test)]
mod tests;

pub use counts::{FrameCount, LeftOut};
pub use decode::PlanError;
pub use op::{AudioOp, FrameRule, Levels, VideoOp, slot_ratio};
pub use reads::{AudioReads, Reads, SegmentReads};
pub use timeline::{
    FrameList, GridSegment, KeyframeGrid, MediaSegmentPlan, Segment, SegmentFrames, Timeline, pts_fingerprint,
};
pub use track::{
    AudioEncoding, AudioMedia, Coding, Cut, Label, Media, MediaKind, Protection, TrackContainer, TrackPlan,
    VideoEncoding, VideoMedia, VideoRate,
};
pub use view::PlannedPart;

use crate::task::{TaskKind, TaskSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Format version of the plans that this version makes and reads.
pub const PLAN_VERSION: u32 = 3;

/// The whole plan of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Format version of this structure: [`PLAN_VERSION`].
    pub version: u32,
    /// The one demuxer that may open the source.
    pub demuxer: String,
    /// Where the source's video is cut. `None`: the source has no video.
    pub timeline: Option<Timeline>,
    /// Frame lists, one per frame rate.
    pub frames: Vec<FrameList>,
    /// Keyframe grids, one per keyframe distance.
    pub grids: Vec<KeyframeGrid>,
    /// Output tracks: video renditions, best first, then the other kinds in the order of the source.
    pub tracks: Vec<TrackPlan>,
    /// What is made of the finished tracks.
    pub packaging: Packaging,
    /// The planner's decisions and their reasons, in plain sentences.
    pub decisions: Vec<Decision>,
    /// Which bytes of the source the tasks need; `None`: each needs all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Reads>,
}

/// What is made of the finished tracks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packaging {
    /// Target length of a media segment in seconds; playlists announce the measured lengths.
    pub media_segment_seconds: f64,
    /// Make the progressive MP4.
    pub progressive: bool,
    /// Chunk size in MiB, 0 = no chunk set.
    pub chunk_mb: u32,
}

/// One decision of the planner and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Subject: `split`, `video`, `rendition 720p`, `audio 1`, `stream 3` …
    pub subject: String,
    /// What was decided.
    pub choice: String,
    /// Why.
    pub reason: String,
}

impl Plan {
    /// The plan as far as a worker needs it for one segment: its size does not depend on the length of the source.
    /// `None`: there is no such segment.
    pub fn for_segment(&self, index: u32) -> Option<Plan> {
        let timeline = self.timeline.as_ref()?;
        let place = timeline.place(index)?;
        fn only<T: Clone>(all: &[T], place: usize) -> Vec<T> {
            all.get(place).cloned().into_iter().collect()
        }
        Some(Plan {
            version: self.version,
            demuxer: self.demuxer.clone(),
            timeline: Some(Timeline {
                segments: only(&timeline.segments, place),
                clock: timeline.clock.clone(),
                stamping: timeline.stamping.clone(),
                assumed_matrix: timeline.assumed_matrix.clone(),
                decoder: timeline.decoder.clone(),
                stated: timeline.stated.clone(),
                ..*timeline
            }),
            frames: self.frames.iter().map(|f| FrameList { segments: only(&f.segments, place), ..*f }).collect(),
            grids: self.grids.iter().map(|g| KeyframeGrid { segments: only(&g.segments, place), ..*g }).collect(),
            tracks: self.tracks.iter().filter(|t| t.cut.is_timeline()).cloned().collect(),
            packaging: self.packaging,
            decisions: Vec::new(),
            reads: self.reads.as_ref().map(|reads| Reads {
                layout: reads.layout,
                source_bytes: reads.source_bytes,
                shared: reads.shared.clone(),
                segments: only(&reads.segments, place),
                audio: Vec::new(),
            }),
        })
    }

    /// SHA-256 of the canonical JSON, hex: the plan's identity, kept on the job.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(json))
    }

    /// The tasks that carry the plan out, in dispatch order: the first segment, then the whole tracks (each
    /// is one long task), then the other segments. `assemble` is not among them: it is inserted when the last
    /// of them is done. Numbers start at `first_number`.
    pub fn tasks(&self, first_number: u32) -> Vec<TaskSpec> {
        let segments = self.timeline.iter().flat_map(|timeline| {
            let kind = timeline.task_kind();
            timeline.segments.iter().enumerate().map(move |(place, s)| (kind, s.index, self.segment_cost(place)))
        });
        let whole = (0..).zip(self.whole_tracks()).map(|(index, t)| (TaskKind::Audio, index, whole_cost(t)));
        let mut segments: Vec<_> = segments.collect();
        let rest = segments.split_off(segments.len().min(1));
        (first_number..)
            .zip(segments.into_iter().chain(whole).chain(rest))
            .map(|(number, (kind, index, expected_cost))| TaskSpec { number, kind, index, expected_cost })
            .collect()
    }

    /// Expected cost of a segment task: kilopixels to encode.
    fn segment_cost(&self, place: usize) -> u64 {
        let tracks = self.tracks.iter().filter_map(|track| {
            let Cut::Timeline { frames, .. } = track.cut else { return None };
            let num_frames = self.frames.get(frames as usize)?.segments.get(place)?.num_frames;
            let pixels = track.video().map_or(1, |v| u64::from(v.width) * u64::from(v.height));
            Some(num_frames.saturating_mul(pixels))
        });
        tracks.fold(0, u64::saturating_add) / 1000 + 1
    }
}

/// Expected cost of a task that makes a whole track, in the unit of segment tasks.
fn whole_cost(track: &TrackPlan) -> u64 {
    let Cut::Whole { start, boundaries, .. } = &track.cut else { return 1 };
    let ticks = boundaries.last().unwrap_or(start).unsigned();
    ticks.saturating_mul(track.audio().map_or(1, |a| u64::from(a.channels))) / 200 + 1
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
