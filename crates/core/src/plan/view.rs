//! Views of a plan: its tracks by kind and by task, and what the plan expects of one part.

use super::{Cut, FrameList, GridSegment, MediaKind, Plan, Segment, SegmentFrames, TrackPlan, VideoMedia, VideoOp};
use crate::source::IndexEvidence;
use crate::time::OutputTicks;

/// What the plan expects of the part that a segment task makes of one track.
#[derive(Clone, Copy, Debug)]
pub struct PlannedPart<'a> {
    /// The segment.
    pub segment: &'a Segment,
    /// Output tick that is 0 in the encoder's output, see [`Timeline::unheld`](super::Timeline::unheld).
    pub origin: OutputTicks,
    /// The track.
    pub track: &'a TrackPlan,
    /// Its frame list.
    pub list: &'a FrameList,
    /// Its frames in the segment.
    pub frames: &'a SegmentFrames,
    /// Its keyframes and media segments in the segment.
    pub grid: &'a GridSegment,
}

impl Plan {
    /// Tracks that segment tasks make, in the plan's order.
    pub fn timeline_tracks(&self) -> impl Iterator<Item = &TrackPlan> {
        self.tracks.iter().filter(|t| t.cut.is_timeline())
    }

    /// Tracks with a task of their own, in the plan's order. The index of such a task counts these.
    pub fn whole_tracks(&self) -> impl Iterator<Item = &TrackPlan> {
        self.tracks.iter().filter(|t| !t.cut.is_timeline())
    }

    /// The track of a whole-track task.
    pub fn whole_track(&self, index: u32) -> Option<&TrackPlan> {
        self.whole_tracks().nth(usize::try_from(index).ok()?)
    }

    /// Tracks of one kind, in the plan's order.
    pub fn tracks_of(&self, kind: MediaKind) -> impl Iterator<Item = &TrackPlan> {
        self.tracks.iter().filter(move |t| t.kind() == kind)
    }

    /// Video tracks with their settings, best first.
    pub fn video_tracks(&self) -> impl Iterator<Item = (&TrackPlan, &VideoMedia)> {
        self.tracks.iter().filter_map(|t| Some((t, t.video()?)))
    }

    /// Whether no decode of the source can improve the list of frames: it was made by one, or there is no video.
    pub fn has_decoded_frames(&self) -> bool {
        self.timeline.as_ref().is_none_or(|t| t.evidence == IndexEvidence::DecodeScan)
    }

    /// Number of segments; 0 without video.
    pub fn num_segments(&self) -> usize {
        self.timeline.as_ref().map_or(0, |t| t.segments.len())
    }

    /// The frame list of a track that is cut along the timeline.
    pub fn frame_list(&self, track: &TrackPlan) -> Option<&FrameList> {
        let Cut::Timeline { frames, .. } = track.cut else { return None };
        self.frames.get(frames as usize)
    }

    /// What is expected of the parts of one segment, in the order of [`Plan::timeline_tracks`]. `None`: there is no such
    /// segment, or the plan contradicts itself.
    pub fn parts_of(&self, index: u32) -> Option<Vec<PlannedPart<'_>>> {
        let place = self.timeline.as_ref()?.place(index)?;
        self.timeline_tracks().map(|track| self.part_at(track, place)).collect()
    }

    /// What is expected of the part of one track in the segment at a position of the timeline.
    pub fn part_at<'a>(&'a self, track: &'a TrackPlan, place: usize) -> Option<PlannedPart<'a>> {
        let Cut::Timeline { frames, grid } = track.cut else { return None };
        let list = self.frames.get(frames as usize)?;
        let timeline = self.timeline.as_ref()?;
        let segment = timeline.segments.get(place)?;
        Some(PlannedPart {
            segment,
            origin: timeline.unheld(segment.start),
            track,
            list,
            frames: list.segments.get(place)?,
            grid: self.grids.get(grid as usize)?.segments.get(place)?,
        })
    }

    /// The grid of a track; `None` where it is not cut along the timeline.
    pub fn grid_of(&self, track: &TrackPlan) -> Option<&super::KeyframeGrid> {
        match track.cut {
            Cut::Timeline { grid, .. } => self.grids.get(grid as usize),
            Cut::Whole { .. } => None,
        }
    }

    /// Media segments of a track that is cut along the timeline, over all segments.
    pub fn media_segments(&self, track: &TrackPlan) -> impl Iterator<Item = &super::MediaSegmentPlan> {
        self.grid_of(track).into_iter().flat_map(|g| &g.segments).flat_map(|s| &s.media_segments)
    }

    /// Whether an operation of any video track reads neighbouring frames.
    pub fn reads_neighbours(&self) -> bool {
        self.video_tracks().any(|(_, v)| v.ops.iter().any(VideoOp::reads_neighbours))
    }

    /// Whether the video is copied, not encoded.
    pub fn is_video_copied(&self) -> bool {
        self.video_tracks().any(|(_, v)| v.coding.is_copy())
    }
}
