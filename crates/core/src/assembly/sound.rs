//! Whether an encoded track sounds like its source: timeline, levels second by second, loudness and channels, from two
//! measurements of decoded samples. Thresholds let every honest encode pass, also at low bit rates, and no track with a
//! missing channel, silence, another level, or sound that is out of place by a second. Pure.

use crate::levels::{AudioFormat, Levels, SILENCE};
use crate::plan::{AudioMedia, AudioOp};

/// Difference of the ends in milliseconds that is let through besides two codec frames: overlaps of timestamps below 50 ms
/// are not cut, and times are rounded.
const END_SLACK_MS: i64 = 70;

/// Level below which a second of a channel may be lost, tenths of dBFS.
const AUDIBLE: i16 = -500;

/// Difference of a second's level that an honest encode causes, tenths of a decibel.
const LEVEL_SLACK: i16 = 60;

/// The same for a mix, whose channels cancel or add up and whose limiter takes from loud ones, and for an encoder at a low
/// rate, whose low-pass takes most of a noise.
const WIDE_SLACK: i16 = 150;

/// Difference of the loudness that an honest encode causes, tenths of LU.
const LOUDNESS_SLACK: i16 = 20;

/// Highest true peak of a mix in tenths of dBFS: −1 dBFS, and what two ways to measure it differ by.
pub const MIX_PEAK: i16 = -15;

/// What the channels of a mix add up to when all carry the same sound, in tenths of a decibel.
const COHERENT_GAIN: i16 = 80;

/// Bit rate of a channel from which the encoder keeps the whole spectrum, kbit/s.
const FULL_SPECTRUM_KBPS: u32 = 48;

/// Differences between the source's track and the output's, in words; empty when the output sounds like the source. Times
/// of both count from the start of the track.
pub fn differences(audio: &AudioMedia, rate: u32, source: &Levels, output: &Levels) -> Vec<String> {
    let mut found = Vec::new();
    if output.channels() != usize::from(audio.channels) {
        found.push(format!("decodes to {} channels, planned {}", output.channels(), audio.channels));
        return found;
    }
    found.extend(formats(audio, rate, output));
    found.extend(timeline(audio, rate, source, output));
    let is_mix = audio.ops.contains(&AudioOp::Limit) || source.channels() != output.channels();
    found.extend(loudness(audio, is_mix, source, output));
    if is_mix {
        let (wanted, heard) = (expected(source, output.channels()), output.seconds.as_slice());
        found.extend(channels(&wanted, heard, WIDE_SLACK));
    } else {
        found.extend(channels(
            &source.seconds,
            &output.seconds,
            if is_starved(audio) { WIDE_SLACK } else { LEVEL_SLACK },
        ));
    }
    found.extend(place(&total(&source.seconds), &total(&output.seconds)));
    if audio.ops.contains(&AudioOp::Limit) && output.peak > 0 {
        found.push(format!("peaks at {:+.1} dBFS", tenths(output.peak)));
    }
    found
}

/// End of a track in milliseconds from its start, by the source's times and the plan's filling.
pub(super) fn wanted_end_ms(audio: &AudioMedia, rate: u32, source: &Levels) -> i64 {
    let filled = audio.fill_until.map(|end| milliseconds(end.get(), rate));
    filled.map_or(source.last_ms, |end| end.max(source.last_ms))
}

pub(super) fn milliseconds(samples: i64, rate: u32) -> i64 {
    samples.saturating_mul(1000) / i64::from(rate.max(1))
}

/// Rate and layout that do not follow the plan, in words.
fn formats(audio: &AudioMedia, rate: u32, output: &Levels) -> Option<String> {
    // Decoders name the same speakers in several ways: 5.1 and 5.1(side).
    let speakers = |layout: &str| layout.split('(').next().unwrap_or_default().to_owned();
    let planned = audio.ops.iter().find_map(|op| match op {
        AudioOp::Remix { layout, .. } if !layout.is_empty() => Some(speakers(layout)),
        _ => None,
    });
    let is_planned = |format: &AudioFormat| {
        format.sample_rate == rate && planned.as_ref().is_none_or(|planned| *planned == speakers(&format.layout))
    };
    let other = output.formats.iter().find(|format| !is_planned(format))?;
    let planned = planned.unwrap_or_else(|| format!("{} channels", audio.channels));
    Some(format!("decodes to {} at {} Hz, planned {planned} at {rate} Hz", other.layout, other.sample_rate))
}

fn tenths(value: i16) -> f64 {
    f64::from(value) / 10.0
}

fn timeline(audio: &AudioMedia, rate: u32, source: &Levels, output: &Levels) -> Option<String> {
    let ms = |samples: i64| milliseconds(samples, rate);
    let end = wanted_end_ms(audio, rate, source);
    let slack = END_SLACK_MS + 2 * ms(i64::from(audio.frame_samples));
    let is_off = (output.last_ms - end).abs() > slack || output.first_ms.abs() > slack;
    let (first, last) = (output.first_ms, output.last_ms);
    is_off.then(|| format!("plays from {first} ms to {last} ms, the source to {end} ms"))
}

/// Whether the bit rate is too low for the whole spectrum.
fn is_starved(audio: &AudioMedia) -> bool {
    let kbps = audio.coding.encoding().map_or(0, |encoding| encoding.kbps);
    kbps > 0 && kbps / u32::from(audio.channels.max(1)) < FULL_SPECTRUM_KBPS
}

fn loudness(audio: &AudioMedia, is_mix: bool, source: &Levels, output: &Levels) -> Option<String> {
    let wanted = source.loudness.filter(|loudness| *loudness > AUDIBLE)?;
    let heard = output.loudness.unwrap_or(SILENCE);
    let slack = if is_starved(audio) { WIDE_SLACK } else { LOUDNESS_SLACK };
    // The limiter of a mix takes from what is louder than −14 LUFS, and from the peaks of softer sound: channels that cohere
    // add up to 8 dB and more.
    let limited = (source.peak + COHERENT_GAIN - MIX_PEAK).max(0);
    let range = if is_mix { wanted.min(-140) - 40 - limited..=wanted + 60 } else { wanted - slack..=wanted + slack };
    let range = range.start() + thinned(source)..=*range.end();
    (!range.contains(&heard))
        .then(|| format!("has a loudness of {:.1} LUFS, the source {:.1} LUFS", tenths(heard), tenths(wanted)))
}

/// What holes take from the loudness at most, in tenths of LU: the source's was measured over what decodes, without them, and
/// in the output they are silence. Long ones fall below the gate of the measurement and take nothing.
fn thinned(source: &Levels) -> i16 {
    let span = source.last_ms.saturating_sub(source.first_ms);
    let held = milliseconds(i64::try_from(source.samples).unwrap_or(i64::MAX), source.sample_rate);
    if span <= 0 || held >= span { 0 } else { decibels(held as f64 / span as f64) }
}

/// Channels whose levels are off in more than a tenth of the seconds that count, and sound where the source is silent.
fn channels(wanted: &[Vec<i16>], heard: &[Vec<i16>], slack: i16) -> Vec<String> {
    let differ = |(at, (wanted, heard)): (usize, (&Vec<i16>, &Vec<i16>))| {
        // A second in which the sound begins or ends says more about the codec's blocks than about its level.
        let is_inside = |second: usize| {
            let is_audible = |second: usize| wanted.get(second).is_none_or(|w| *w >= AUDIBLE);
            second.checked_sub(1).is_none_or(is_audible) && is_audible(second + 1)
        };
        let off = |second: usize| {
            let (w, h) = (*wanted.get(second)?, heard.get(second).copied().unwrap_or(SILENCE));
            // The limiter leaves −6 dB at least of what is louder.
            let low = if slack == WIDE_SLACK { w.min(-60) - slack } else { w - slack };
            (w >= AUDIBLE && is_inside(second)).then_some(h < low || h > w + slack)
        };
        let counted: Vec<bool> = (0..whole_seconds(wanted)).filter_map(off).collect();
        let num_off = counted.iter().filter(|is_off| **is_off).count();
        let mut found = Vec::new();
        if num_off * 10 > counted.len() {
            found.push(format!("channel {} has another level in {num_off} of {} s", at + 1, counted.len()));
        }
        let is_quiet = |second: usize| wanted.get(second).is_none_or(|w| *w <= -800);
        let is_loud = |second: &usize| heard.get(*second).is_some_and(|h| *h >= AUDIBLE);
        let quiet = (1..whole_seconds(wanted)).filter(|s| is_quiet(s - 1) && is_quiet(*s) && is_quiet(s + 1));
        let num_loud = quiet.filter(is_loud).count();
        if num_loud * 50 > wanted.len() {
            found.push(format!("channel {} sounds for {num_loud} s where the source is silent", at + 1));
        }
        found
    };
    wanted.iter().zip(heard).enumerate().flat_map(differ).collect()
}

/// Seconds that are full: the last one is not, unless it is the only one.
fn whole_seconds(seconds: &[i16]) -> usize {
    seconds.len().saturating_sub(1).max(usize::from(seconds.len() == 1))
}

/// Levels of a mix of channels that do not cohere (ITU-R BS.775).
fn expected(source: &Levels, channels: usize) -> Vec<Vec<i16>> {
    let num_source = source.channels();
    let share = |from: usize, to: usize| -> f64 {
        let is_left = |at: usize| at == 0 || (at > 3 && at.is_multiple_of(2)) || (num_source == 4 && at == 2);
        match (num_source, channels, from, to) {
            (_, 1, 3, _) if num_source > 5 => 0.0,
            (_, 1, ..) => 0.5,
            (4, 2, 0 | 1, _) => f64::from(u8::from(is_left(from) == (to == 0))),
            (4, 2, ..) => 0.5 * f64::from(u8::from(is_left(from) == (to == 0))),
            (_, 2, 2, _) => 0.5,
            (_, 2, 3, _) if num_source > 5 => 0.0,
            (_, 2, 0 | 1, _) => f64::from(u8::from(from == to)),
            (_, 2, ..) => 0.5 * f64::from(u8::from(is_left(from) == (to == 0))),
            // To more than two channels: the front ones stay, the others are spread in several ways.
            (_, _, 0..=2, _) => f64::from(u8::from(from == to)),
            _ => 0.0,
        }
    };
    let length = source.seconds.iter().map(Vec::len).max().unwrap_or(0);
    let level = |to: usize, second: usize| {
        let energy = |(from, channel): (usize, &Vec<i16>)| share(from, to) * power(channel.get(second));
        decibels(source.seconds.iter().enumerate().map(energy).sum())
    };
    (0..channels).map(|to| (0..length).map(|second| level(to, second)).collect()).collect()
}

fn power(level: Option<&i16>) -> f64 {
    level.filter(|level| **level > SILENCE).map_or(0.0, |level| 10f64.powf(f64::from(*level) / 100.0))
}

fn decibels(power: f64) -> i16 {
    if power <= 1e-12 { SILENCE } else { (100.0 * power.log10()).round().clamp(-1_200.0, 1_200.0) as i16 }
}

/// Level of all channels together in each second.
fn total(channels: &[Vec<i16>]) -> Vec<f64> {
    let length = channels.iter().map(Vec::len).max().unwrap_or(0);
    let all = |second: usize| decibels(channels.iter().map(|channel| power(channel.get(second))).sum());
    (0..length).map(|second| f64::from(all(second).max(-700))).collect()
}

/// Whether the levels rise and fall in other seconds than the source's. Sound whose level hardly changes says nothing.
fn place(source: &[f64], output: &[f64]) -> Option<String> {
    let here = correlation(source, output, 0)?;
    let others = (-5..=5).filter(|lag| *lag != 0).filter_map(|lag| Some((lag, correlation(source, output, lag)?)));
    let best = others.max_by(|a, b| a.1.total_cmp(&b.1));
    match best {
        Some((lag, there)) if there > here + 0.1 && there > 0.8 => Some(format!("sounds {lag} s late")),
        _ if here < 0.5 => Some(format!("rises and falls unlike the source (correlation {here:.2})")),
        _ => None,
    }
}

/// Correlation of two envelopes, the second one `lag` seconds later; `None` for fewer than 8 s, or a level that hardly
/// changes.
fn correlation(source: &[f64], output: &[f64], lag: isize) -> Option<f64> {
    let at = |second: usize| output.get(second.checked_add_signed(lag)?).copied();
    let pairs: Vec<(f64, f64)> =
        source.iter().enumerate().filter_map(|(second, level)| Some((*level, at(second)?))).collect();
    let count = pairs.len() as f64;
    if count < 8.0 {
        return None;
    }
    let (a, b) = (pairs.iter().map(|p| p.0).sum::<f64>() / count, pairs.iter().map(|p| p.1).sum::<f64>() / count);
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (x, y) in pairs.iter().map(|(x, y)| (x - a, y - b)) {
        both += x * y;
        first += x * x;
        second += y * y;
    }
    let is_even = (first / count).sqrt() < 20.0;
    (!is_even).then(|| both / (first * second).sqrt().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AudioEncoding, Coding};
    use crate::profile::AudioCodec;
    use crate::time::{MediaTime, OutputTicks, Rational};

    fn media(channels: u16, is_mix: bool) -> AudioMedia {
        AudioMedia {
            channels,
            frame_samples: 1024,
            source_start: MediaTime::new(0, Rational::ONE),
            clock: None,
            lead_silence: OutputTicks::ZERO,
            fill_until: None,
            ops: if is_mix { vec![AudioOp::Limit] } else { vec![] },
            coding: Coding::Encode(AudioEncoding { codec: AudioCodec::Aac, kbps: 128 }),
        }
    }

    /// Levels of a programme of 20 s: each channel has its own ups and downs around −25 dB.
    fn programme(channels: usize) -> Levels {
        let wave = |channel: usize, second: usize| -250 + (((second * 7 + channel * 3) % 11) as i16 - 5) * 16;
        let seconds = (0..channels).map(|c| (0..20).map(|s| wave(c, s)).collect()).collect();
        Levels {
            sample_rate: 48_000,
            samples: 960_000,
            first_ms: 0,
            last_ms: 20_000,
            loudness: Some(-230),
            peak: -12,
            seconds,
            formats: vec![AudioFormat { sample_rate: 48_000, layout: format!("{channels} channels") }],
        }
    }

    fn found(change: impl FnOnce(&mut Levels)) -> Vec<String> {
        let mut output = programme(2);
        change(&mut output);
        differences(&media(2, false), 48_000, &programme(2), &output)
    }

    #[test]
    fn what_an_honest_encode_changes_passes() {
        assert_eq!(found(|_| {}), [""; 0]);
        let softer = found(|output| {
            output.seconds.iter_mut().flatten().for_each(|level| *level -= 25);
            (output.loudness, output.last_ms) = (Some(-245), 20_021);
        });
        assert_eq!(softer, [""; 0]);
        let quiet = found(|output| output.seconds[1].iter_mut().for_each(|level| *level -= 10));
        assert_eq!(quiet, [""; 0]);
    }

    #[test]
    fn faults_are_found() {
        type Fault<'a> = (&'a str, &'a dyn Fn(&mut Levels));
        let faults: [Fault<'_>; 10] = [
            ("channel 2 has another level", &|o| o.seconds[1] = vec![SILENCE; 20]),
            ("has a loudness", &|o| (o.loudness, o.seconds) = (None, vec![vec![SILENCE; 20]; 2])),
            ("has a loudness", &|o| o.loudness = Some(-190)),
            ("another level", &|o| o.seconds.iter_mut().flatten().for_each(|l| *l += 80)),
            ("sounds 2 s late", &|o| o.seconds.iter_mut().for_each(|c| c.rotate_right(2))),
            ("decodes to 1 channels", &|o| o.seconds.truncate(1)),
            ("plays from 0 ms to 19000 ms", &|o| o.last_ms = 19_000),
            ("plays from 500 ms", &|o| o.first_ms = 500),
            ("decodes to 2 channels at 44100 Hz", &|o| o.formats[0].sample_rate = 44_100),
            ("another level in 19 of 19 s", &|o| o.seconds = vec![vec![-700; 20]; 2]),
        ];
        for (number, (words, change)) in faults.into_iter().enumerate() {
            let found = found(change);
            assert!(found.iter().any(|found| found.contains(words)), "{number} {words}: {found:?}");
        }
    }

    #[test]
    fn holes_of_the_source_take_from_the_loudness_of_the_output() {
        let mut source = programme(2);
        source.samples /= 5;
        let heard = |loudness| {
            let output = Levels { loudness: Some(loudness), ..programme(2) };
            differences(&media(2, false), 48_000, &source, &output)
        };
        assert_eq!(heard(-300), [""; 0], "four fifths are silence");
        assert_eq!(heard(-230), [""; 0], "the silence is in one place");
        assert!(!heard(-330).is_empty() && !heard(-200).is_empty());
    }

    #[test]
    fn sound_in_a_silent_channel_is_found() {
        let mut source = programme(2);
        source.seconds[1] = vec![SILENCE; 20];
        let found = differences(&media(2, false), 48_000, &source, &programme(2));
        assert!(found.iter().any(|found| found.contains("where the source is silent")), "{found:?}");
    }

    #[test]
    fn a_mix_is_held_against_the_sum_of_its_channels() {
        let wide = programme(6);
        let mut stereo = programme(2);
        stereo.seconds = expected(&wide, 2);
        assert_eq!(differences(&media(2, true), 48_000, &wide, &stereo), [""; 0]);
        stereo.seconds[0] = vec![SILENCE; 20];
        assert!(!differences(&media(2, true), 48_000, &wide, &stereo).is_empty());
        stereo.seconds = expected(&wide, 2);
        stereo.loudness = Some(-300);
        assert_eq!(differences(&media(2, true), 48_000, &wide, &stereo), [""; 0], "clicks that the limiter takes");
        stereo.loudness = Some(-420);
        assert!(!differences(&media(2, true), 48_000, &wide, &stereo).is_empty());
        stereo.loudness = Some(-230);
        stereo.peak = 40;
        assert_eq!(differences(&media(2, true), 48_000, &wide, &stereo), ["peaks at +4.0 dBFS"]);
    }
}
