//! Levels of audio: a level for each second and channel, the integrated loudness (ITU-R BS.1770-4) and the place on the
//! timeline, measured on decoded samples. The memory grows by a few numbers for each second. Pure.

use serde::{Deserialize, Serialize};

/// Level of digital silence, in tenths of a decibel below full scale.
pub const SILENCE: i16 = -1_200;

/// Levels of one audio track as a decoder delivers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Samples per second.
    pub sample_rate: u32,
    /// Number of decoded samples per channel.
    pub samples: u64,
    /// Start of the first block in milliseconds from the start of the track.
    pub first_ms: i64,
    /// End of the last block in milliseconds from the start of the track.
    pub last_ms: i64,
    /// Integrated loudness in tenths of LUFS. `None`: no block is above the absolute gate of −70 LUFS.
    pub loudness: Option<i16>,
    /// True peak (ITU-R BS.1770-4, annex 2) in tenths of dBFS.
    pub peak: i16,
    /// For each channel the mean level in each second of the timeline, in tenths of dBFS: at most 0 for samples within
    /// full scale, [`SILENCE`] without any.
    pub seconds: Vec<Vec<i16>>,
    /// What the decoder delivers: one entry, and another one for each change of rate or layout on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<AudioFormat>,
}

/// Rate and layout of decoded audio.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFormat {
    /// Samples per second.
    pub sample_rate: u32,
    /// ffmpeg's name of the channel layout.
    pub layout: String,
}

/// Levels of the same audio before and after an encode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The source's track.
    pub source: Levels,
    /// The encoded track.
    pub output: Levels,
}

impl Levels {
    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.seconds.len()
    }
}

/// Measures blocks of decoded samples.
#[derive(Debug)]
pub struct Meter {
    rate: u32,
    channels: Vec<Channel>,
    /// Weighted energy of each finished 100 ms of samples, all channels together.
    tenths: Vec<f32>,
    filled: u32,
    samples: u64,
    span: Option<(i64, i64)>,
    /// Weights of the samples around three points between two samples, a quarter of their distance apart.
    between: [[f32; TAPS]; 3],
    peak: f32,
}

#[derive(Debug)]
struct Channel {
    weight: f64,
    shelf: Biquad,
    high_pass: Biquad,
    weighted: f64,
    /// Sum of squares in each second of the timeline.
    seconds: Vec<f64>,
    /// The last samples.
    recent: [f32; TAPS],
    /// Number of samples so far, up to [`TAPS`].
    num_recent: usize,
}

/// Samples from which a point between two of them is computed.
const TAPS: usize = 24;

impl Meter {
    /// A meter for interleaved samples of `channels` channels in the order of ffmpeg's layouts.
    pub fn new(rate: u32, channels: usize) -> Self {
        let channel = |at: usize| Channel {
            weight: weight(at, channels),
            shelf: Biquad::shelf(f64::from(rate.max(1))),
            high_pass: Biquad::high_pass(f64::from(rate.max(1))),
            weighted: 0.0,
            seconds: Vec::new(),
            recent: [0.0; TAPS],
            num_recent: 0,
        };
        Meter {
            rate: rate.max(1),
            channels: (0..channels).map(channel).collect(),
            tenths: Vec::new(),
            filled: 0,
            samples: 0,
            span: None,
            between: [0.25, 0.5, 0.75].map(interpolation),
            peak: 0.0,
        }
    }

    /// Adds a block of interleaved samples that starts at a time in milliseconds. What lies before 0 counts as decoded and
    /// has no second.
    pub fn push(&mut self, start_ms: i64, interleaved: &[f32]) {
        let count = interleaved.len() / self.channels.len().max(1);
        if count == 0 {
            return;
        }
        let rate = i64::from(self.rate);
        let first = start_ms.saturating_mul(rate) / 1000;
        for (at, frame) in (first..).zip(interleaved.chunks_exact(self.channels.len())) {
            let second = usize::try_from(at.div_euclid(rate)).ok();
            for (channel, sample) in self.channels.iter_mut().zip(frame) {
                channel.push(second, *sample);
                self.peak = channel.peak_after(*sample, &self.between, self.peak);
            }
            self.filled += 1;
            if self.filled >= self.rate / 10 {
                self.finish_tenth();
            }
        }
        self.samples = self.samples.saturating_add(count as u64);
        let end = start_ms.saturating_add((count as i64).saturating_mul(1000) / rate);
        self.span = Some(self.span.map_or((start_ms, end), |(from, to)| (from.min(start_ms), to.max(end))));
    }

    fn finish_tenth(&mut self) {
        let all: f64 =
            self.channels.iter_mut().map(|channel| channel.weight * std::mem::take(&mut channel.weighted)).sum();
        self.tenths.push((all / f64::from(self.filled.max(1))) as f32);
        self.filled = 0;
    }

    /// The levels of all blocks.
    pub fn finish(self) -> Levels {
        let (first_ms, last_ms) = self.span.unwrap_or((0, 0));
        let length = self.channels.iter().map(|channel| channel.seconds.len()).max().unwrap_or(0);
        let level = |energy: &f64| decibels(energy / f64::from(self.rate));
        let seconds = self.channels.iter().map(|channel| {
            let mut seconds: Vec<i16> = channel.seconds.iter().map(level).collect();
            seconds.resize(length, SILENCE);
            seconds
        });
        Levels {
            sample_rate: self.rate,
            samples: self.samples,
            first_ms,
            last_ms,
            loudness: integrated(&self.tenths),
            peak: decibels(f64::from(self.peak) * f64::from(self.peak)),
            seconds: seconds.collect(),
            formats: Vec::new(),
        }
    }
}

impl Channel {
    fn push(&mut self, second: Option<usize>, sample: f32) {
        // A damaged packet may decode to infinities, which no filter forgets.
        let sample = if sample.is_finite() { f64::from(sample.clamp(-64.0, 64.0)) } else { 0.0 };
        let weighted = self.high_pass.next(self.shelf.next(sample));
        self.weighted += weighted * weighted;
        let Some(second) = second else { return };
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, 0.0);
        }
        if let Some(sum) = self.seconds.get_mut(second) {
            *sum += sample * sample;
        }
    }

    /// The peak so far, with the next sample and the points between the two samples in the middle of the last ones.
    fn peak_after(&mut self, sample: f32, between: &[[f32; TAPS]; 3], peak: f32) -> f32 {
        let sample = if sample.is_finite() { sample.clamp(-64.0, 64.0) } else { 0.0 };
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = sample;
        }
        let peak = peak.max(sample.abs());
        self.num_recent = (self.num_recent + 1).min(TAPS);
        // What lies before the first sample is not silence: it is not known.
        if self.num_recent < TAPS {
            return peak;
        }
        let middle = self.recent.iter().skip(TAPS / 2 - 1).take(2).fold(0.0_f32, |most, sample| most.max(sample.abs()));
        // Between soft samples there is no peak above all others.
        if middle < peak * 0.5 {
            return peak;
        }
        let point = |weights: &[f32; TAPS]| weights.iter().zip(&self.recent).map(|(w, s)| w * s).sum::<f32>().abs();
        between.iter().map(point).fold(peak, f32::max)
    }
}

/// Weights of the samples around a point between the two in the middle, `at` (0 to 1) of the way: a windowed sinc.
fn interpolation(at: f64) -> [f32; TAPS] {
    let half = (TAPS / 2) as f64;
    std::array::from_fn(|tap| {
        let distance = tap as f64 - (half - 1.0) - at;
        let angle = std::f64::consts::PI * distance;
        let sinc = if distance.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
        (sinc * (angle / (2.0 * half)).cos().powi(2)) as f32
    })
}

/// Weight of a channel (ITU-R BS.1770-4, table 3): the low-frequency channel does not count, those behind count more.
fn weight(at: usize, channels: usize) -> f64 {
    match (channels, at) {
        (6 | 8, 3) => 0.0,
        (4, 2..) | (5.., 4..) | (5, 3..) => 1.41,
        _ => 1.0,
    }
}

/// Tenths of a decibel of a mean square.
fn decibels(mean_square: f64) -> i16 {
    if mean_square <= 1e-12 { SILENCE } else { (100.0 * mean_square.log10()).round().clamp(-1_200.0, 1_200.0) as i16 }
}

/// Integrated loudness over blocks of 400 ms that overlap by three quarters (ITU-R BS.1770-4, annex 1), tenths of LUFS.
fn integrated(tenths: &[f32]) -> Option<i16> {
    let loudness = |energy: f64| -0.691 + 10.0 * energy.max(1e-30).log10();
    let blocks = || tenths.windows(4).map(|four| four.iter().map(|e| f64::from(*e)).sum::<f64>() / 4.0);
    let mean_above = |gate: f64| {
        let (count, sum) = blocks().filter(|e| loudness(*e) > gate).fold((0u64, 0.0), |(n, sum), e| (n + 1, sum + e));
        (count > 0).then(|| sum / count as f64)
    };
    let gate = loudness(mean_above(-70.0)?) - 10.0;
    let value = loudness(mean_above(gate.max(-70.0))?);
    Some((value * 10.0).round().clamp(-1_200.0, 1_200.0) as i16)
}

/// A filter of second order.
#[derive(Clone, Copy, Debug)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Biquad {
    /// First stage of the K-weighting: the head's effect.
    fn shelf(rate: f64) -> Self {
        let (gain, q) = (10f64.powf(3.999_843_853_973_347 / 20.0), 0.707_175_236_955_419_6);
        let k = (std::f64::consts::PI * 1_681.974_450_955_533 / rate).tan();
        let middle = gain.powf(0.499_666_774_154_541_6);
        let norm = 1.0 + k / q + k * k;
        Biquad {
            b: [
                (gain + middle * k / q + k * k) / norm,
                2.0 * (k * k - gain) / norm,
                (gain - middle * k / q + k * k) / norm,
            ],
            a: [2.0 * (k * k - 1.0) / norm, (1.0 - k / q + k * k) / norm],
            state: [0.0; 2],
        }
    }

    /// Second stage of the K-weighting: less bass.
    fn high_pass(rate: f64) -> Self {
        let q = 0.500_327_037_323_877_3;
        let k = (std::f64::consts::PI * 38.135_470_876_024_44 / rate).tan();
        let norm = 1.0 + k / q + k * k;
        Biquad { b: [1.0, -2.0, 1.0], a: [2.0 * (k * k - 1.0) / norm, (1.0 - k / q + k * k) / norm], state: [0.0; 2] }
    }

    fn next(&mut self, input: f64) -> f64 {
        let ([b0, b1, b2], [a1, a2], [s1, s2]) = (self.b, self.a, self.state);
        let output = b0 * input + s1;
        self.state = [b1 * input - a1 * output + s2, b2 * input - a2 * output];
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(amplitude: f64, frequency: f64, seconds: usize) -> Vec<f32> {
        let step = 2.0 * std::f64::consts::PI * frequency / 48_000.0;
        (0..seconds * 48_000).map(|n| (amplitude * (step * n as f64).sin()) as f32).collect()
    }

    #[test]
    fn a_full_scale_tone_of_1_khz_in_one_channel_measures_minus_3_lufs() {
        // ITU-R BS.1770-4, annex 1: 997 Hz at 0 dBFS in one front channel is −3.01 LUFS.
        let mut meter = Meter::new(48_000, 1);
        meter.push(0, &sine(1.0, 997.0, 4));
        let levels = meter.finish();
        assert_eq!((levels.loudness, levels.peak, levels.samples), (Some(-30), 0, 192_000));
        assert_eq!(levels.seconds, [vec![-30; 4]]);
    }

    #[test]
    fn the_true_peak_lies_between_the_samples() {
        // A quarter of the rate, 45 degrees off: every sample is at 0.707 of the amplitude.
        let tone = |n: usize| (std::f64::consts::FRAC_PI_2 * n as f64 + std::f64::consts::FRAC_PI_4).sin() as f32;
        let mut meter = Meter::new(48_000, 1);
        meter.push(0, &(0..48_000).map(|n| 0.5 * tone(n)).collect::<Vec<f32>>());
        assert!((-62..=-58).contains(&meter.finish().peak));
    }

    #[test]
    fn silence_has_no_loudness_and_quiet_parts_are_gated() {
        let mut meter = Meter::new(48_000, 1);
        meter.push(0, &vec![0.0; 480_000]);
        assert_eq!(meter.finish().loudness, None);
        let mut meter = Meter::new(48_000, 1);
        meter.push(0, &sine(0.1, 997.0, 4));
        meter.push(4_000, &vec![0.0; 480_000]);
        // Blocks across the edge count in part.
        assert!(meter.finish().loudness.is_some_and(|loudness| (-240..=-230).contains(&loudness)));
    }

    #[test]
    fn blocks_stand_at_their_times() {
        let mut meter = Meter::new(48_000, 2);
        let tone: Vec<f32> = sine(0.5, 440.0, 1).into_iter().flat_map(|sample| [sample, 0.0]).collect();
        meter.push(3_000, &tone);
        let levels = meter.finish();
        assert_eq!((levels.first_ms, levels.last_ms), (3_000, 4_000));
        assert_eq!(levels.seconds, [vec![SILENCE, SILENCE, SILENCE, -90], vec![SILENCE; 4]]);
    }
}
