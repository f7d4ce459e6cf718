//! Decode times for an encoded piece of a timeline, rebuilt from its presentation times, so that independently encoded
//! pieces join without gaps. Integer ticks only; knows nothing about boxes.
//!
//! A piece covers [start, end) of the presentation. With a constant composition delay D for the whole track, declared
//! once in the edit list, sample i in decode order gets
//!
//! ```text
//! dts[i] = min(i-th smallest pts, min(pts[i..]) + D, dts[i+1] - 1),   dts[0] = start
//! duration[i] = dts[i+1] - dts[i],  the last one: end - dts
//! composition offset[i] = pts[i] - dts[i] + D  >= 0
//! ```
//!
//! so that decode time, too, fills exactly [start, end) and presentation times are recovered to the tick.

/// Timing of one sample in decode order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleTiming {
    /// Duration in ticks, at least 1.
    pub duration: u32,
    /// Composition time minus decode time in ticks, delay included, at least 0.
    pub composition_offset: i32,
}

/// Timing of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceTiming {
    /// Decode time of the first sample: the start of the piece. Goes into `tfdt`.
    pub base_decode_time: u64,
    /// One entry per sample in decode order.
    pub samples: Vec<SampleTiming>,
}

/// Why no decode times exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The piece has no samples.
    #[error("the piece from tick {start} has no samples")]
    Empty {
        /// Start of the piece.
        start: i64,
    },
    /// The piece is empty or starts before 0.
    #[error("[{start}, {end}) is not a range of ticks from 0")]
    BadRange {
        /// Start of the piece.
        start: i64,
        /// End of the piece.
        end: i64,
    },
    /// Two samples are presented at the same time.
    #[error("two samples have the presentation time {pts}")]
    Duplicate {
        /// The time.
        pts: i64,
    },
    /// A sample is presented outside the piece.
    #[error("presentation time {pts} lies outside [{start}, {end})")]
    OutsidePiece {
        /// The time.
        pts: i64,
        /// Start of the piece.
        start: i64,
        /// End of the piece.
        end: i64,
    },
    /// With this delay decode times cannot increase strictly from the start of the piece.
    #[error("a composition delay of {delay} ticks is too small, {required} suffice")]
    DelayTooSmall {
        /// The delay given.
        delay: u64,
        /// One that suffices, see [`required_delay`].
        required: u64,
    },
    /// A duration or composition offset does not fit its field.
    #[error("sample {index} needs a {field} of {value} ticks, which does not fit")]
    TooLong {
        /// Position in decode order.
        index: usize,
        /// `duration` or `composition offset`.
        field: &'static str,
        /// The value.
        value: i64,
    },
}

/// Rebuilds decode times of the piece [start, end) whose samples have the presentation times `pts` in decode order; all
/// in ticks of one clock, `delay` likewise.
///
/// The first decode time is always `start`, even when the first frame comes later: the gap then shows up as a larger
/// composition offset, not as a hole in decode time.
///
/// # Errors
/// [`TimingError`].
pub fn reconstruct(pts: &[i64], start: i64, end: i64, delay: u64) -> Result<PieceTiming, TimingError> {
    let base_decode_time = u64::try_from(start).map_err(|_| TimingError::BadRange { start, end })?;
    if start >= end {
        return Err(TimingError::BadRange { start, end });
    }
    if pts.is_empty() {
        return Err(TimingError::Empty { start });
    }
    let sorted = sorted_distinct(pts)?;
    if let Some(&pts) = pts.iter().find(|pts| **pts < start || **pts >= end) {
        return Err(TimingError::OutsidePiece { pts, start, end });
    }
    // Everything lies in [start, end) with start >= 0, so differences cannot overflow; only the delay is unbounded.
    let offset = i64::try_from(delay).unwrap_or(i64::MAX);
    let mut decode = vec![0i64; pts.len()];
    let mut smallest = i64::MAX;
    let mut next = end;
    for ((slot, &pts), &nth) in decode.iter_mut().zip(pts).zip(&sorted).rev() {
        smallest = smallest.min(pts);
        *slot = nth.min(smallest.saturating_add(offset)).min(next - 1);
        next = *slot;
    }
    match decode.first_mut() {
        Some(first) if *first >= start => *first = start,
        _ => {
            return Err(TimingError::DelayTooSmall { delay, required: required_delay(pts) });
        }
    }

    let ends = decode.iter().skip(1).copied().chain([end]);
    let mut samples = Vec::with_capacity(pts.len());
    for (index, ((&dts, after), &pts)) in decode.iter().zip(ends).zip(pts).enumerate() {
        let value = after - dts;
        let duration = u32::try_from(value).map_err(|_| TimingError::TooLong { index, field: "duration", value })?;
        let value = (pts - dts).saturating_add(offset);
        let composition_offset =
            i32::try_from(value).map_err(|_| TimingError::TooLong { index, field: "composition offset", value })?;
        samples.push(SampleTiming { duration, composition_offset });
    }
    Ok(PieceTiming { base_decode_time, samples })
}

/// The smallest delay with which decode times are the sorted presentation times, which keeps durations those of the
/// pictures: the largest (i-th smallest pts - min(pts[i..])). [`reconstruct`] also works with somewhat less, by bunching
/// decode times. 0 without reordering.
pub fn required_delay(pts: &[i64]) -> u64 {
    let mut sorted = pts.to_vec();
    sorted.sort_unstable();
    let mut smallest = i64::MAX;
    let mut required = 0;
    for (&pts, &nth) in pts.iter().zip(&sorted).rev() {
        smallest = smallest.min(pts);
        required = required.max(nth.abs_diff(smallest));
    }
    required
}

fn sorted_distinct(pts: &[i64]) -> Result<Vec<i64>, TimingError> {
    let mut sorted = pts.to_vec();
    sorted.sort_unstable();
    match sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b) {
        Some((&pts, _)) => Err(TimingError::Duplicate { pts }),
        None => Ok(sorted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pts: &[i64], start: i64, end: i64, delay: u64) -> PieceTiming {
        let piece = reconstruct(pts, start, end, delay).unwrap();
        let mut dts = i64::try_from(piece.base_decode_time).unwrap();
        assert_eq!(dts, start);
        assert_eq!(piece.samples.len(), pts.len());
        for (sample, pts) in piece.samples.iter().zip(pts) {
            assert!(sample.duration > 0);
            assert!(sample.composition_offset >= 0);
            assert_eq!(dts + i64::from(sample.composition_offset) - i64::try_from(delay).unwrap(), *pts);
            dts += i64::from(sample.duration);
        }
        assert_eq!(dts, end);
        piece
    }

    #[test]
    fn plain_order_needs_no_delay() {
        let piece = check(&[100, 110, 125], 100, 130, 0);
        assert_eq!(piece.samples.iter().map(|s| s.duration).collect::<Vec<_>>(), [10, 15, 5]);
        assert!(piece.samples.iter().all(|s| s.composition_offset == 0));
    }

    #[test]
    fn pyramid_keeps_constant_durations() {
        // I P B b b in decode order: 0 4 2 1 3.
        let pts = [0, 400, 200, 100, 300, 500];
        assert_eq!(required_delay(&pts), 200);
        let piece = check(&pts, 0, 600, 200);
        assert!(piece.samples.iter().all(|s| s.duration == 100));
    }

    #[test]
    fn a_missing_first_picture_grows_the_offset() {
        let piece = check(&[130, 160], 100, 200, 30);
        assert_eq!(piece.samples.first(), Some(&SampleTiming { duration: 60, composition_offset: 60 }));
    }

    #[test]
    fn long_gap_inside_a_reordered_group() {
        // The second frame decoded is shown far in the future; the small delay holds decode times back.
        check(&[0, 90_000, 100, 200], 0, 90_100, 150);
    }

    #[test]
    fn errors() {
        assert_eq!(reconstruct(&[], 5, 9, 0), Err(TimingError::Empty { start: 5 }));
        assert_eq!(reconstruct(&[5], 5, 5, 0), Err(TimingError::BadRange { start: 5, end: 5 }));
        assert_eq!(reconstruct(&[-5], -5, 5, 0), Err(TimingError::BadRange { start: -5, end: 5 }));
        assert_eq!(reconstruct(&[5, 6, 5], 5, 9, 0), Err(TimingError::Duplicate { pts: 5 }));
        assert!(matches!(reconstruct(&[5, 9], 5, 9, 0), Err(TimingError::OutsidePiece { pts: 9, .. })));
        assert!(matches!(reconstruct(&[4, 6], 5, 9, 0), Err(TimingError::OutsidePiece { pts: 4, .. })));
        assert_eq!(reconstruct(&[3, 2, 1, 0], 0, 4, 0), Err(TimingError::DelayTooSmall { delay: 0, required: 3 }));
        assert!(matches!(reconstruct(&[0], 0, 1 << 40, 0), Err(TimingError::TooLong { field: "duration", .. })));
        assert!(matches!(reconstruct(&[0], 0, 1, u64::MAX), Err(TimingError::TooLong { .. })));
    }

    /// Presentation times in a decode order whose depth of reordering is at most `depth`: each mini group shows its
    /// anchor last but decodes it first, and is itself shuffled within the depth.
    fn reordered(sorted: &[i64], groups: &[usize]) -> Vec<i64> {
        let mut out = Vec::new();
        let mut rest = sorted;
        if let Some((first, tail)) = rest.split_first() {
            out.push(*first);
            rest = tail;
        }
        for size in groups.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (group, tail) = rest.split_at((*size).min(rest.len()));
            let (anchor, between) = group.split_last().unwrap();
            out.push(*anchor);
            // Middle of the group first, as a pyramid does.
            let middle = between.len() / 2;
            out.extend(between.get(middle));
            out.extend(between.iter().enumerate().filter(|(i, _)| *i != middle).map(|(_, pts)| *pts));
            rest = tail;
        }
        out
    }

    proptest! {
        #[test]
        fn any_reordering_is_recovered(
            start in 0i64..1 << 40,
            gaps in proptest::collection::vec(1i64..5000, 1..80),
            cfr in proptest::option::of(1i64..4000),
            groups in proptest::collection::vec(1usize..5, 1..6),
            extra in 0u64..3000,
        ) {
            let mut at = start;
            let mut sorted = Vec::new();
            for gap in &gaps {
                sorted.push(at);
                at += cfr.unwrap_or(*gap);
            }
            let pts = reordered(&sorted, &groups);
            let required = required_delay(&pts);
            let piece = check(&pts, start, at, required + extra);
            if let Some(gap) = cfr {
                prop_assert!(piece.samples.iter().all(|s| i64::from(s.duration) == gap));
            }
        }

        #[test]
        fn a_smaller_delay_is_right_or_refused(
            gaps in proptest::collection::vec(1i64..50, 1..40),
            groups in proptest::collection::vec(1usize..5, 1..6),
            delay in 0u64..100,
        ) {
            let sorted: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let pts = reordered(&sorted, &groups);
            let end = sorted.last().unwrap() + 1;
            match reconstruct(&pts, 0, end, delay) {
                Ok(_) => { check(&pts, 0, end, delay); }
                Err(error) => prop_assert!(matches!(error, TimingError::DelayTooSmall { .. }), "{}", error),
            }
        }

        #[test]
        fn any_input_is_answered(pts in proptest::collection::vec(any::<i64>(), 0..20), start in any::<i64>(), end in any::<i64>(), delay in any::<u64>()) {
            if let Ok(piece) = reconstruct(&pts, start, end, delay) {
                prop_assert_eq!(piece.samples.len(), pts.len());
            }
            required_delay(&pts);
        }
    }
}
