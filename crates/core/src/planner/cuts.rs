//! Where to cut: segments on exact frames (on source keyframes where near), keyframe grid, media segments.

use super::timeline::Clock;
use super::{Context, Notes};
use crate::source::VideoTrack;
use crate::time::{OutputTicks, SourceTicks};

/// In auto mode a segment may be so much longer or shorter to start on a source keyframe: a second that need not be
/// decoded twice saves more than even lengths do.
const AUTO_REACH_SECONDS: f64 = 4.0;
/// A source that cannot be sought is split only up to this length: every segment decodes from the start.
const UNSEEKABLE_SPLIT_SECONDS: f64 = 120.0;

/// Numbers of the frames that segments start at. `common` are the frames that every frame list has; only those are
/// chosen, so that each segment starts with a frame in every rendition.
pub(super) fn choose(
    context: &Context<'_>,
    track: &VideoTrack,
    clock: &Clock,
    common: &[usize],
    notes: &mut Notes,
) -> Vec<usize> {
    let split = &context.profile.split;
    let total = clock.total();
    let is_auto = split.segment_seconds == 0.0;
    let known = track.frames.keyframes.iter().filter_map(|k| clock.frames.binary_search(&SourceTicks(k.pts)).ok());
    let keys: Vec<usize> = known.collect();
    if let Some(reason) = why_whole(context, track, total, keys.len()) {
        notes.add("split", "whole", reason);
        return vec![0];
    }
    let ((targets, min_tail), reach) = if is_auto {
        (auto_targets(total), AUTO_REACH_SECONDS)
    } else {
        (even_targets(total, split.segment_seconds), (split.segment_seconds * 0.2).min(2.0))
    };
    let seconds = |i: usize| clock.seconds(common.get(i).copied().unwrap_or(usize::MAX));
    let common_keys: Vec<usize> = keys.iter().filter_map(|k| common.binary_search(k).ok()).collect();
    let cut = cut_frames(common.len(), seconds, total, &targets, &common_keys, reach, min_tail);
    let cut: Vec<usize> = cut.into_iter().filter_map(|i| common.get(i).copied()).collect();
    let on_keys = cut.iter().filter(|c| keys.binary_search(c).is_ok()).count();
    let how = if is_auto {
        "a short first segment to play early, short last ones to end together".to_owned()
    } else {
        format!("every {} s as asked", split.segment_seconds)
    };
    notes.add(
        "split",
        format!("{} segments", cut.len()),
        format!("{how}; {on_keys} of {} start on a source keyframe, tails are merged", cut.len()),
    );
    cut
}

/// Why the video stays in one piece; `None` when it is split.
fn why_whole(context: &Context<'_>, track: &VideoTrack, total: f64, num_keys: usize) -> Option<String> {
    let split = &context.profile.split;
    let is_auto = split.segment_seconds == 0.0;
    if is_auto && total < split.whole_below_seconds {
        return Some(format!("the source lasts {total:.1} s, less than {} s", split.whole_below_seconds));
    }
    if !track.frames.is_seekable && (is_auto || total > UNSEEKABLE_SPLIT_SECONDS) {
        let demuxer = &context.info.demuxer;
        return Some(format!(
            "seeking in this {demuxer} source is not exact: every segment would decode from the start"
        ));
    }
    let has_single_key = is_auto && num_keys < 2 && total < 600.0;
    has_single_key.then(|| "the source has a single keyframe: every segment would decode from the start".into())
}

/// Cut positions as indices into the frame list. The first is always 0; all are strictly increasing.
///
/// `seconds(i)` is frame `i`'s time from the first frame, `total` the length; `targets` the wished times;
/// `keys` indices of source keyframes; a keyframe within `reach` seconds of a target (and at most half way to the
/// target before it) is taken instead of the first frame at or after it. A cut that leaves less than `min_tail` seconds, or no frame, is dropped.
pub(crate) fn cut_frames(
    num_frames: usize,
    seconds: impl Fn(usize) -> f64,
    total: f64,
    targets: &[f64],
    keys: &[usize],
    reach: f64,
    min_tail: f64,
) -> Vec<usize> {
    let mut cuts = vec![0usize];
    let mut before = 0.0;
    for &target in targets {
        let spacing = target - before;
        let reach = reach.min(spacing / 2.0);
        // Frames never lie exactly on the wished times: short segments that were asked for are not tails.
        let min_gap = min_tail.min(spacing * 0.9);
        before = target;
        let frame = partition(num_frames, |i| seconds(i) < target - 1e-9);
        let after = partition(keys.len(), |k| keys.get(k).is_some_and(|i| seconds(*i) < target));
        let near = [after.checked_sub(1), Some(after)]
            .into_iter()
            .flatten()
            .filter_map(|k| keys.get(k).copied())
            .map(|i| ((seconds(i) - target).abs(), i))
            .filter(|(d, _)| *d <= reach)
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let at = near.map_or(frame, |(_, i)| i);
        let last = cuts.last().copied().unwrap_or(0);
        if at > last && at < num_frames && total - seconds(at) >= min_tail && seconds(at) - seconds(last) >= min_gap {
            cuts.push(at);
        }
    }
    cuts
}

/// Wished cut times of a source of `total` seconds: multiples of `seconds`, the tail merged into its neighbour
/// when shorter than a quarter of it (or half a second).
pub(crate) fn even_targets(total: f64, seconds: f64) -> (Vec<f64>, f64) {
    let min_tail = (seconds / 4.0).clamp(0.0, 10.0).max(0.5);
    let n = (total / seconds).ceil() as usize;
    ((1..n).map(|i| i as f64 * seconds).collect(), min_tail)
}

/// Wished cut times in auto mode. The first segment is short, so that playing starts early; the body is long,
/// because each piece costs a process and its run-in; towards the end the pieces get shorter, so that no slot waits
/// long for another.
pub(crate) fn auto_targets(total: f64) -> (Vec<f64>, f64) {
    const FIRST: f64 = 2.0;
    const BODY: f64 = 10.0;
    const TAIL: [f64; 2] = [6.0, 4.0];
    const LAST: f64 = 4.0;
    let body = (total - FIRST - TAIL.iter().sum::<f64>() - LAST).max(0.0);
    let pieces = (body / BODY).round().max(1.0);
    let lengths = std::iter::repeat_n(body / pieces, pieces as usize).chain(TAIL);
    let targets = std::iter::once(0.0).chain(lengths).scan(FIRST, |at, length| {
        *at += length;
        Some(*at)
    });
    let targets = targets.collect();
    (targets, 0.5)
}

/// A grid over output ticks: from `frames[0]`, every `step` ticks the first frame at or after the grid point;
/// the last piece is at least `min_tail` long. `frames` are the output ticks inside one segment, `end` its end.
pub(crate) fn grid(
    frames: &[OutputTicks],
    end: OutputTicks,
    step: OutputTicks,
    min_tail: OutputTicks,
) -> Vec<OutputTicks> {
    let Some(&first) = frames.first() else { return Vec::new() };
    let step = step.get().max(1);
    let mut out = vec![first];
    let mut target = first.saturating_add(OutputTicks(step));
    let mut at = 0;
    while target < end {
        at += frames.get(at..).map_or(0, |rest| rest.partition_point(|frame| *frame < target));
        let Some(&t) = frames.get(at) else { break };
        if end - t < min_tail {
            break;
        }
        if out.last().is_none_or(|l| t > *l) {
            out.push(t);
        }
        // Jump over grid points that a long frame has swallowed.
        let next = ((t - first).get() / step + 1).saturating_mul(step);
        target = first.saturating_add(OutputTicks(next));
    }
    out
}

/// Groups keyframes into media segments of about `aim` ticks, each at least `min_tail` long.
pub(crate) fn media_starts(
    keyframes: &[OutputTicks],
    end: OutputTicks,
    aim: OutputTicks,
    min_tail: OutputTicks,
) -> Vec<OutputTicks> {
    let mut out: Vec<OutputTicks> = Vec::new();
    for (i, &k) in keyframes.iter().enumerate() {
        let Some(&start) = out.last() else {
            out.push(k);
            continue;
        };
        let next = keyframes.get(i + 1).copied().unwrap_or(end);
        // Cut here when that comes nearer to the aim than waiting for the next keyframe would.
        let away = |end: OutputTicks| (end - start - aim).get().abs();
        let (here, there) = (away(k), away(next));
        if here <= there && k - start >= min_tail && end - k >= min_tail {
            out.push(k);
        }
    }
    out
}

/// Number of leading indices for which `pred` holds (it holds for a prefix).
fn partition(n: usize, pred: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let mid = lo + (hi - lo) / 2;
        if pred(mid) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    lo
}
