//! Frame lists: which of the source's frames a frame rate shows. Chosen by rules in integers, never invented or moved.

use super::timeline::Clock;
use crate::plan::{FrameList, FrameRule, SegmentFrames, pts_fingerprint};
use crate::profile::{FrameRate, FrameRateWord};
use crate::time::{OutputTicks, Rational};

/// The frames of one rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) rule: FrameRule,
    /// Mean rate.
    pub(super) rate: Rational,
    /// Highest rate over a second, where the frames are uneven.
    pub(super) peak_rate: Option<Rational>,
    /// Numbers of the chosen frames in the source's list.
    pub(super) at: Vec<usize>,
    /// The usual distance of frames in the output.
    pub(super) nominal: OutputTicks,
}

impl Chosen {
    pub(super) fn new(clock: &Clock, rule: FrameRule) -> Self {
        let at = rule.choose(&clock.frames, clock.timeline.source_timebase);
        let length = clock.shown;
        let source_rate = source_rate(clock);
        let rate = match rule {
            FrameRule::All => source_rate,
            FrameRule::EverySecond => Rational::new(1, 2).and_then(|h| source_rate.times(h)).unwrap_or(source_rate),
            // Gaps longer than a slot leave slots empty.
            FrameRule::FirstOfSlot { rate } if is_filled(at.len(), clock.total(), rate) => rate,
            FrameRule::FirstOfSlot { .. } => mean_rate(at.len(), length, clock.timeline.timescale),
        };
        let peak_rate = match rule {
            FrameRule::FirstOfSlot { rate: slots } if rate == slots => None,
            // A frame may be late in its slot and the next one early in its own.
            FrameRule::FirstOfSlot { rate: slots } => peak_rate(clock, &at, rate).map(|peak| peak.min(slots)),
            _ => peak_rate(clock, &at, rate),
        };
        let nominal = nominal(clock, &at).unwrap_or(length).max(OutputTicks(1));
        Chosen { rule, rate, peak_rate, at, nominal }
    }

    /// The list of the plan.
    pub(super) fn list(&self, clock: &Clock, cut_at: &[usize]) -> FrameList {
        let segments = clock.ranges(cut_at).into_iter().map(|(range, _)| {
            let inside = inside(clock, &self.at, &range);
            SegmentFrames { num_frames: inside.len() as u64, pts_sha256: pts_fingerprint(inside) }
        });
        FrameList {
            rule: self.rule,
            rate: self.rate,
            peak_rate: self.peak_rate,
            num_source: clock.frames.len() as u64,
            num_lost: clock.num_lost,
            segments: segments.collect(),
        }
    }
}

/// Mean frame rate of the source.
pub(super) fn source_rate(clock: &Clock) -> Rational {
    let length = clock.shown;
    mean_rate(clock.frames.len(), length, clock.timeline.timescale)
}

/// The rule for a frame rate. A source with fewer frames per second keeps all of them.
pub(super) fn rule(wanted: FrameRate, source: Rational) -> FrameRule {
    match wanted {
        FrameRate::Named(FrameRateWord::Source) => FrameRule::All,
        FrameRate::Named(FrameRateWord::Half) => FrameRule::EverySecond,
        FrameRate::Number(rate) => {
            // 29.97 stands for 30000/1001.
            let exact = common_rate(rate, 0.0002).or_else(|| Rational::new((rate * 1000.0).round() as i64, 1000));
            match exact.filter(|rate| rate.is_positive() && *rate < source) {
                Some(rate) => FrameRule::FirstOfSlot { rate },
                None => FrameRule::All,
            }
        }
    }
}

/// A frame rate for people, with three decimals at most.
pub(super) fn in_words(rate: Rational) -> String {
    let text = format!("{:.3}", rate.to_f64());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Output ticks of those of the frames `at` that are among frames `range` of the source.
pub(super) fn inside(clock: &Clock, at: &[usize], range: &std::ops::Range<usize>) -> Vec<OutputTicks> {
    let (from, to) = (at.partition_point(|at| *at < range.start), at.partition_point(|at| *at < range.end));
    let chosen = at.get(from..to).unwrap_or_default();
    chosen.iter().filter_map(|at| clock.output.get(*at).copied()).collect()
}

/// Numbers of the frames that all lists have: where segments may start.
pub(super) fn common(lists: &[Chosen]) -> Vec<usize> {
    let Some((first, others)) = lists.split_first() else { return Vec::new() };
    let mut kept = first.at.clone();
    for other in others {
        kept.retain(|at| other.at.binary_search(at).is_ok());
    }
    kept
}

/// The most frequent distance of neighbours, in output ticks.
fn nominal(clock: &Clock, at: &[usize]) -> Option<OutputTicks> {
    let mut counts = std::collections::BTreeMap::<i64, u64>::new();
    let mut before = None;
    for frame in at.iter().filter_map(|at| clock.frames.get(*at)) {
        if let Some(before) = before.replace(*frame) {
            *counts.entry((*frame - before).get()).or_default() += 1;
        }
    }
    let (ticks, _) = counts.into_iter().max_by_key(|(d, n)| (*n, -*d))?;
    let timeline = &clock.timeline;
    Some(OutputTicks(crate::time::rescale(ticks, timeline.source_timebase, timeline.output_timebase())))
}

/// Whether `num_frames` frames fill the slots of a length, except for one at either end.
fn is_filled(num_frames: usize, seconds: f64, rate: Rational) -> bool {
    num_frames as f64 + 1.0 >= seconds * rate.to_f64()
}

/// The rate announced to players: the common rate nearby, else the mean to three decimals.
fn mean_rate(num_frames: usize, length: OutputTicks, timescale: u32) -> Rational {
    let mean = num_frames as f64 * f64::from(timescale) / length.get().max(1) as f64;
    common_rate(mean, 0.0003)
        .or_else(|| Rational::new((mean * 1000.0).round().clamp(1.0, 1e12) as i64, 1000))
        .unwrap_or(Rational::ONE)
}

/// The highest rate over one second, or over one longer gap, where it differs from the mean by more than rounded
/// times explain. Frames are counted over whole gaps, so that evenly spaced ones have their own rate; the last
/// frame's gap is at least as long as the one before, because containers often store no true length for it.
fn peak_rate(clock: &Clock, at: &[usize], mean: Rational) -> Option<Rational> {
    const ROUNDING: f64 = 0.003;
    let second = i64::from(clock.timeline.timescale.max(1));
    let mut ticks: Vec<i64> = at.iter().filter_map(|at| clock.output.get(*at)).map(|tick| tick.get()).collect();
    let end = (clock.timeline.output_start + clock.timeline.held + clock.shown).get();
    ticks.push(match ticks[..] {
        [.., before, last] => end.max(last.saturating_add(last - before)),
        _ => end,
    });
    let (mut to, mut peak) = (0, 0.0_f64);
    for (from, start) in ticks.iter().enumerate() {
        while ticks.get(to).is_some_and(|end| end - start < second) {
            to += 1;
        }
        let rate = |gaps: usize, length: i64| gaps as f64 * second as f64 / length as f64;
        // Gaps that end within the second, and with the one that reaches beyond.
        peak = peak.max(rate((to - from).saturating_sub(1), second));
        if let Some(end) = ticks.get(to) {
            peak = peak.max(rate(to - from, end - start));
        }
    }
    if peak <= mean.to_f64() * (1.0 + ROUNDING) {
        return None;
    }
    common_rate(peak, ROUNDING / 2.0).or_else(|| Rational::new((peak * 1000.0).round().clamp(1.0, 1e12) as i64, 1000))
}

/// The nearest common frame rate, if it lies within a relative distance of a rate.
fn common_rate(rate: f64, distance: f64) -> Option<Rational> {
    const COMMON: [(i64, i64); 12] = [
        (24_000, 1001),
        (24, 1),
        (25, 1),
        (30_000, 1001),
        (30, 1),
        (48, 1),
        (50, 1),
        (60_000, 1001),
        (60, 1),
        (12, 1),
        (15, 1),
        (120, 1),
    ];
    let common = COMMON.iter().filter_map(|(n, d)| Rational::new(*n, *d));
    let away = |r: &Rational| (r.to_f64() / rate - 1.0).abs();
    common.into_iter().min_by(|a, b| away(a).total_cmp(&away(b))).filter(|nearest| away(nearest) < distance)
}
