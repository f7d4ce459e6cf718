//! Where to cut: segments on exact frames (on source keyframes where near), keyframe grid, media segments.

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
        let after = partition(keys.len(), |k| seconds(keys[k]) < target);
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
pub(crate) fn grid(frames: &[i64], end: i64, step: i64, min_tail: i64) -> Vec<i64> {
    let Some(&first) = frames.first() else { return Vec::new() };
    let mut out = vec![first];
    let mut target = first.saturating_add(step.max(1));
    let mut at = 0;
    while target < end {
        at += partition(frames.len() - at, |i| frames[at + i] < target);
        let Some(&t) = frames.get(at) else { break };
        if end - t < min_tail {
            break;
        }
        if out.last().is_none_or(|l| t > *l) {
            out.push(t);
        }
        // Jump over grid points that a long frame has swallowed.
        target = first.saturating_add(((t - first) / step.max(1) + 1).saturating_mul(step.max(1)));
    }
    out
}

/// Groups keyframes into media segments of about `aim` ticks, each at least `min_tail` long.
pub(crate) fn media_starts(keyframes: &[i64], end: i64, aim: i64, min_tail: i64) -> Vec<i64> {
    let mut out: Vec<i64> = Vec::new();
    for (i, &k) in keyframes.iter().enumerate() {
        let Some(&start) = out.last() else {
            out.push(k);
            continue;
        };
        let next = keyframes.get(i + 1).copied().unwrap_or(end);
        // Cut here when that comes nearer to the aim than waiting for the next keyframe would.
        let (here, there) = ((k - start - aim).abs(), (next - start - aim).abs());
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
