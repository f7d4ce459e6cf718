//! How many of the source's frames the renditions show, and why the others are left out.

use super::{FrameRule, Plan};
use serde::Serialize;

/// The frames of the renditions that share a frame list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrameCount {
    /// The renditions, best first.
    pub renditions: Vec<String>,
    /// Frames of the source.
    pub source_frames: u64,
    /// Frames of each of the renditions.
    pub frames: u64,
    /// The other frames of the source. Empty: every frame is kept.
    pub left_out: Vec<LeftOut>,
}

/// Frames of the source that are not in the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Number of frames.
    pub frames: u64,
    /// Why: the end of a sentence that starts with "left out because".
    pub reason: String,
}

impl Plan {
    /// Number of frames of each frame list, the one of the best renditions first.
    pub fn frame_counts(&self) -> Vec<FrameCount> {
        let counts = self.frames.iter().map(|list| {
            let frames = list.segments.iter().map(|segment| segment.num_frames).sum::<u64>();
            let num_decoded = list.num_source.max(frames);
            let mut left_out = Vec::new();
            if num_decoded > frames {
                left_out.push(LeftOut { frames: num_decoded - frames, reason: reason(list.rule) });
            }
            if list.num_lost > 0 {
                let reason = "they cannot be decoded (damaged, or cut off from their keyframe)".to_owned();
                left_out.push(LeftOut { frames: list.num_lost, reason });
            }
            let shows = |track: &&super::TrackPlan| self.frame_list(track).is_some_and(|l| std::ptr::eq(l, list));
            let renditions = self.timeline_tracks().filter(shows).map(|track| track.id.clone()).collect();
            FrameCount { renditions, source_frames: num_decoded.saturating_add(list.num_lost), frames, left_out }
        });
        counts.collect()
    }
}

fn reason(rule: FrameRule) -> String {
    match rule {
        FrameRule::All => "the plan does not list them".to_owned(),
        FrameRule::EverySecond => "the profile asks for every second frame".to_owned(),
        FrameRule::FirstOfSlot { rate } => {
            let text = format!("{:.3}", rate.to_f64());
            format!("the profile asks for {} frames per second", text.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}
