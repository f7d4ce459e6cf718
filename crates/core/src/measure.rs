//! Measurements of samples: their number, presentation times and fingerprints. A worker measures the samples that an
//! encoder made, an assembler the headers of the stored media segments; equal samples measure equal. Pure.

use crate::plan::hex;
use crate::source::PtsList;
use crate::stated::StatedPicture;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A sample as the headers of its media segment describe it (ISO/IEC 14496-12 §8.8.8). Times are output ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasuredSample {
    /// Presentation time: decode time + composition offset − delay of the track.
    pub pts: i64,
    /// Duration.
    pub duration: u32,
    /// Size in bytes.
    pub bytes: u32,
    /// Decoding can start here.
    pub is_sync: bool,
}

/// SHA-256 over samples in decode order, hex: presentation time, duration, size and sync flag of each. Unlike a
/// fingerprint of presentation times alone, the value changes when two samples change places.
pub fn samples_sha256<'a>(samples: impl IntoIterator<Item = &'a MeasuredSample>) -> String {
    let mut hash = Sha256::new();
    for s in samples {
        hash.update(s.pts.to_le_bytes());
        hash.update(s.duration.to_le_bytes());
        hash.update(s.bytes.to_le_bytes());
        hash.update([u8::from(s.is_sync)]);
    }
    hex(&hash.finalize())
}

/// Presentation times of samples from (duration, composition offset) pairs in decode order, starting at a decode time.
pub fn presentation_times(
    decode_time: i64,
    delay: i64,
    samples: impl IntoIterator<Item = (u32, i32)>,
) -> impl Iterator<Item = i64> {
    samples.into_iter().scan(decode_time, move |at, (duration, offset)| {
        let pts = at.saturating_add(i64::from(offset)).saturating_sub(delay);
        *at = at.saturating_add(i64::from(duration));
        Some(pts)
    })
}

/// Measurement of one media segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredSegment {
    /// Decode time of the first sample, output ticks.
    pub decode_time: i64,
    /// Sum of the sample durations, output ticks.
    pub duration: i64,
    /// Number of samples.
    pub num_samples: u64,
    /// Presentation times in presentation order. `None`: two samples have the same time, or there are no samples.
    pub times: Option<PtsList>,
    /// See [`samples_sha256`].
    pub samples_sha256: String,
    /// The first sample is one that decoding can start at.
    pub starts_with_keyframe: bool,
}

impl MeasuredSegment {
    /// Measures samples given in decode order.
    pub fn of(decode_time: i64, samples: &[MeasuredSample]) -> Self {
        let mut times: Vec<i64> = samples.iter().map(|s| s.pts).collect();
        times.sort_unstable();
        MeasuredSegment {
            decode_time,
            duration: samples.iter().map(|s| i64::from(s.duration)).sum(),
            num_samples: samples.len() as u64,
            times: PtsList::from_sorted(times).ok().filter(|list| !list.is_empty()),
            samples_sha256: samples_sha256(samples),
            starts_with_keyframe: samples.first().is_some_and(|s| s.is_sync),
        }
    }
}

/// Measurement of a stored track: its init segment and all its media segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasuredTrack {
    /// Ticks per second.
    pub timescale: u32,
    /// Ticks in front of the presentation that the edit list hides: composition delay or priming.
    pub delay: i64,
    /// What its header states of its pictures; `None` for other kinds.
    pub stated: Option<StatedPicture>,
    /// Media segments by number.
    pub segments: BTreeMap<u32, MeasuredSegment>,
}

/// Measurements of all stored tracks of a job, in the order of the plan's renditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Video renditions.
    pub video: Vec<MeasuredTrack>,
    /// Audio renditions.
    pub audio: Vec<MeasuredTrack>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(pts: &[i64]) -> Vec<MeasuredSample> {
        pts.iter()
            .enumerate()
            .map(|(i, pts)| MeasuredSample { pts: *pts, duration: 10, bytes: 100 + i as u32, is_sync: i == 0 })
            .collect()
    }

    #[test]
    fn presentation_times_are_decode_time_plus_offset_minus_delay() {
        let times: Vec<i64> = presentation_times(100, 20, [(10, 20), (10, 40), (10, 10)]).collect();
        assert_eq!(times, [100, 130, 110]);
    }

    #[test]
    fn two_samples_that_change_places_change_the_fingerprint_and_not_the_times() {
        let (before, after) = (samples(&[0, 20, 10, 30]), samples(&[0, 10, 20, 30]));
        let [before, after] = [before, after].map(|samples| MeasuredSegment::of(0, &samples));
        assert_eq!(before.times, after.times);
        assert_ne!(before.samples_sha256, after.samples_sha256);
    }

    #[test]
    fn a_repeated_time_leaves_no_list_of_times() {
        assert_eq!(MeasuredSegment::of(0, &samples(&[0, 10, 10])).times, None);
        assert_eq!(MeasuredSegment::of(0, &[]).times, None);
    }
}
