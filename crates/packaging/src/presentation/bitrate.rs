//! Bit rates measured from the segments of a track: the peak and average of HLS and the DASH
//! bucket rate.
//!
//! Only segments that exist are measured. Must not know manifest syntax.

use super::{AudioFormat, MediaFormat, MediaTrack, VideoFormat};

/// Playback may start this long after the first byte arrives (MPD@minBufferTime), in microseconds.
pub const MIN_BUFFER_MICROS: u64 = 2_000_000;

/// Length and size of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedBytes {
    /// Length in microseconds.
    pub micros: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// The runs of neighbouring segments that exist.
#[must_use]
pub fn available_runs(track: &MediaTrack) -> Vec<Vec<TimedBytes>> {
    let timed = track.segments.iter().zip(track.segment_micros());
    let mut runs = vec![Vec::new()];
    for (segment, micros) in timed {
        match runs.last_mut() {
            Some(run) if segment.available => run.push(TimedBytes { micros, bytes: segment.bytes }),
            Some(run) if !run.is_empty() => runs.push(Vec::new()),
            _ => {}
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// BANDWIDTH (RFC 8216, 4.1 and 4.3.4.2): the highest bit rate of any contiguous run of segments
/// that lasts between 0.5 and 1.5 target durations, in bit/s rounded up. When no run lasts that
/// long, the highest rate of a single segment. `None` when nothing is available.
#[must_use]
pub fn peak(runs: &[Vec<TimedBytes>], target_seconds: u32) -> Option<u64> {
    let target = u128::from(target_seconds).saturating_mul(1_000_000);
    let in_window = runs.iter().filter_map(|run| run_peak(run, target)).max();
    let single = runs.iter().flatten().map(|s| rate(s.bytes.into(), s.micros.into()));
    in_window.or_else(|| single.max())
}

fn run_peak(run: &[TimedBytes], target: u128) -> Option<u64> {
    let mut best = None;
    for begin in 0..run.len() {
        let (mut bytes, mut micros) = (0_u128, 0_u128);
        for segment in run.iter().skip(begin) {
            bytes = bytes.saturating_add(segment.bytes.into());
            micros = micros.saturating_add(segment.micros.into());
            if micros.saturating_mul(2) > target.saturating_mul(3) {
                break;
            }
            if micros.saturating_mul(2) >= target {
                best = best.max(Some(rate(bytes, micros)));
            }
        }
    }
    best
}

/// AVERAGE-BANDWIDTH (RFC 8216, 4.3.4.2) over all available segments, in bit/s rounded up.
#[must_use]
pub fn average(runs: &[Vec<TimedBytes>]) -> Option<u64> {
    let all = runs.iter().flatten();
    let (bytes, micros) = all.fold((0_u128, 0_u128), |(bytes, micros), s| {
        (bytes.saturating_add(s.bytes.into()), micros.saturating_add(s.micros.into()))
    });
    (micros > 0).then(|| rate(bytes, micros))
}

/// Representation@bandwidth (ISO/IEC 23009-1, 5.3.5.2): the lowest rate, in bit/s and not below
/// the average, at which a client that starts at any segment after [`MIN_BUFFER_MICROS`] has all
/// bytes of each following segment no later than that segment's end is presented.
#[must_use]
pub fn bucket(runs: &[Vec<TimedBytes>]) -> Option<u64> {
    let mut low = average(runs)?;
    let fits = |rate: u64| runs.iter().all(|run| run_fits(run, rate));
    // At the highest rate of a single segment the bucket never fills at all.
    let single = runs.iter().flatten().map(|s| rate(s.bytes.into(), s.micros.into()));
    let mut high = single.max()?.max(low);
    while low < high {
        let middle = low.midpoint(high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    Some(low)
}

fn run_fits(run: &[TimedBytes], rate: u64) -> bool {
    // All amounts in millionths of a bit, so that rate × microseconds is exact.
    let rate = i128::from(rate);
    let slack = rate.saturating_mul(MIN_BUFFER_MICROS.into());
    let mut owed = 0_i128;
    run.iter().all(|segment| {
        let arriving = i128::from(segment.bytes).saturating_mul(8_000_000);
        let drained = rate.saturating_mul(segment.micros.into());
        owed = owed.max(0).saturating_add(arriving).saturating_sub(drained);
        owed <= slack
    })
}

/// What a track is announced with before all of it is measured, in bit/s: a tenth more than its cap, as a cap holds
/// over the encoder's buffer and not over every segment, or else the guess for its format. 0 for what is not listed.
#[must_use]
pub fn promised(track: &MediaTrack) -> u64 {
    let guess = match &track.format {
        MediaFormat::Video(format) => video_guess(format),
        MediaFormat::Audio(format) => audio_guess(format),
        MediaFormat::Text | MediaFormat::Images => 0,
    };
    track.cap_bits_per_second.map_or(guess, |cap| cap.saturating_add(cap / 10))
}

/// A guess in bit/s for a video track of which nothing exists yet: 0.1 bit per pixel.
#[must_use]
pub fn video_guess(format: &VideoFormat) -> u64 {
    let pixels = u64::from(format.width).saturating_mul(format.height.into());
    let rate = format.frame_rate;
    let (num, den) = (u64::try_from(rate.num()).unwrap_or(0), u64::try_from(rate.den()).unwrap_or(1).max(1));
    (pixels.saturating_mul(num) / den / 10).max(1)
}

/// A guess in bit/s for an audio track of which nothing exists yet: 64 kbit/s per channel.
#[must_use]
pub fn audio_guess(format: &AudioFormat) -> u64 {
    u64::from(format.channels).saturating_mul(64_000)
}

fn rate(bytes: u128, micros: u128) -> u64 {
    let rate = bytes.saturating_mul(8_000_000).div_ceil(micros.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(parts: &[(u64, u64)]) -> Vec<Vec<TimedBytes>> {
        vec![parts.iter().map(|&(micros, bytes)| TimedBytes { micros, bytes }).collect()]
    }

    #[test]
    fn peak_skips_what_is_shorter_than_half_a_target() {
        // The dense one-second segment counts only together with a neighbour.
        let runs = run(&[(4_000_000, 400_000), (1_000_000, 500_000), (4_000_000, 400_000)]);
        assert_eq!(peak(&runs, 4), Some(900_000 * 8 / 5));
        assert_eq!(average(&runs), Some((1_300_000_u64 * 8).div_ceil(9)));
    }

    #[test]
    fn peak_of_a_short_track_is_its_densest_segment() {
        assert_eq!(peak(&run(&[(500_000, 1_000), (400_000, 2_000)]), 6), Some(40_000));
        assert_eq!(peak(&[], 6), None);
        assert_eq!(bucket(&[]), None);
    }

    #[test]
    fn peak_never_spans_a_hole() {
        let mut runs = run(&[(2_000_000, 100)]);
        runs.extend(run(&[(2_000_000, 300)]));
        assert_eq!(peak(&runs, 4), Some(1_200));
    }

    fn parts() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((100_000_u64..8_000_000, 1_u64..4_000_000), 1..40)
    }

    proptest! {
        #[test]
        fn peak_bounds_every_qualifying_run(parts in parts(), target in 1_u32..9) {
            let runs = run(&parts);
            let got = peak(&runs, target).unwrap();
            let target = u64::from(target) * 1_000_000;
            let (mut highest, mut found) = (0, false);
            for i in 0..parts.len() {
                for j in i..parts.len() {
                    let micros: u64 = parts[i..=j].iter().map(|p| p.0).sum();
                    let bytes: u64 = parts[i..=j].iter().map(|p| p.1).sum();
                    if 2 * micros >= target && 2 * micros <= 3 * target {
                        found = true;
                        highest = highest.max((bytes * 8_000_000).div_ceil(micros));
                    }
                }
            }
            if found {
                prop_assert_eq!(got, highest);
            }
        }

        #[test]
        fn bucket_holds_from_every_start_and_is_minimal(parts in parts()) {
            let runs = run(&parts);
            let got = bucket(&runs).unwrap();
            let holds = |rate: u64| (0..parts.len()).all(|i| {
                let (mut bits, mut micros) = (0_u128, u128::from(MIN_BUFFER_MICROS));
                parts[i..].iter().all(|&(m, b)| {
                    bits += u128::from(b) * 8_000_000;
                    micros += u128::from(m);
                    bits <= u128::from(rate) * micros
                })
            });
            prop_assert!(holds(got));
            let average = average(&runs).unwrap();
            prop_assert!(got >= average);
            prop_assert!(got == average || !holds(got - 1));
        }
    }
}
