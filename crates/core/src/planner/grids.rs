//! Keyframe grids: where the tracks of one keyframe distance have keyframes and media segments.

use super::timeline::Clock;
use super::{cuts, frames};
use crate::plan::{GridSegment, KeyframeGrid, MediaSegmentPlan};
use crate::source::{Keyframe, VideoTrack};
use crate::time::{OutputTicks, SourceTicks};

/// A last media segment shorter than this stops some engines from ever signalling the end.
const MIN_TAIL_SECONDS: f64 = 0.5;

/// Lengths that a grid aims at, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Aim {
    pub(super) gop_seconds: f64,
    pub(super) media_segment_seconds: f64,
}

/// The grid of encoded tracks: keyframes at even distances from the start of each segment, on frames of `common`, which
/// every frame list has.
pub(super) fn encoded(clock: &Clock, common: &[usize], cut_at: &[usize], aim: Aim) -> KeyframeGrid {
    let (gop, tail) = (clock.ticks(aim.gop_seconds), clock.ticks(MIN_TAIL_SECONDS));
    let keyframes = |range: &std::ops::Range<usize>, end| {
        let mut frames = frames::inside(clock, common, range);
        let start = frames.first().copied();
        // The first GOP and media segment have more frames than one that is held for long: decoders deliver a frame only
        // when others follow, and players wait for the first one before they load more.
        if let Some(first) = frames.first_mut() {
            *first = (*first).max(clock.own_start());
        }
        let mut keyframes = cuts::grid(&frames, end, gop, tail);
        if let (Some(first), Some(start)) = (keyframes.first_mut(), start) {
            *first = start;
        }
        keyframes
    };
    grid(clock, cut_at, aim, keyframes)
}

/// The grid of a copied track: the source's keyframes, each with the frames that are decoded behind it. The first frame
/// counts as one even when it is not flagged.
pub(super) fn copied(clock: &Clock, track: &VideoTrack, cut_at: &[usize], aim: Aim) -> KeyframeGrid {
    let known = track.frames.keyframes.iter().filter_map(|keyframe| keyframe.first_shown().map(SourceTicks));
    let mut keys: Vec<OutputTicks> =
        known.filter(|k| clock.frames.binary_search(k).is_ok()).map(|k| clock.timeline.output(k)).collect();
    let first = clock.timeline.output_start;
    if keys.first() != Some(&first) {
        keys.insert(0, first);
    }
    let is_open = |keyframe: &Keyframe| !keyframe.opening.is_closed();
    let starts_open = track.frames.needs_run_in || track.frames.keyframes.iter().any(is_open);
    KeyframeGrid { starts_open, ..grid(clock, cut_at, aim, |_, _| keys.clone()) }
}

fn grid(
    clock: &Clock,
    cut_at: &[usize],
    aim: Aim,
    keyframes: impl Fn(&std::ops::Range<usize>, OutputTicks) -> Vec<OutputTicks>,
) -> KeyframeGrid {
    let (media, tail) = (clock.ticks(aim.media_segment_seconds), clock.ticks(MIN_TAIL_SECONDS));
    let mut numbers = 1..;
    let segments = clock.ranges(cut_at).into_iter().map(|(range, end)| {
        let keyframes = keyframes(&range, end);
        let starts = cuts::media_starts(&keyframes, end, media, tail);
        let ends = starts.iter().skip(1).copied().chain([end]);
        let media_segments = starts.iter().zip(ends).zip(&mut numbers);
        let media_segments = media_segments
            .map(|((start, end), number)| MediaSegmentPlan { number, start: *start, duration: end - *start })
            .collect();
        GridSegment { keyframes, media_segments }
    });
    KeyframeGrid { gop: clock.ticks(aim.gop_seconds), starts_open: false, segments: segments.collect() }
}
