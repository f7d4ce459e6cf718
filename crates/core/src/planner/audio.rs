//! Planning of audio: one task per track over the whole timeline, cut on the codec's frame grid.

use super::{Notes, ticks_between};
use crate::failure::Failure;
use crate::plan::{AudioPlan, VideoPlan};
use crate::profile::{AudioCodec, Profile};
use crate::source::{AudioTrack, Container, SourceInfo};
use crate::time::{MediaTime, Rational, rescale};

const AAC_RATES: [u32; 12] =
    [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000];

/// Samples that a copied AAC track may hide in front: what encoders need, and players know how to skip.
const MAX_COPIED_PRIMING: u32 = 4_096;

pub(super) fn plan_audio(
    info: &SourceInfo,
    profile: &Profile,
    origin: MediaTime,
    video: Option<&VideoPlan>,
    notes: &mut Notes,
) -> Result<Vec<AudioPlan>, Failure> {
    let default = info.audio.iter().position(|a| a.is_default).unwrap_or(0);
    let mut ids: Vec<String> = Vec::new();
    info.audio
        .iter()
        .enumerate()
        .map(|(i, track)| {
            let (codec, why) = choose_codec(info, track, profile)?;
            let sample_rate = output_rate(track, codec);
            let (channels, layout) = output_channels(track, profile, codec);
            let subject = format!("audio {}", i + 1);
            let kbps = if codec == AudioCodec::Copy { 0 } else { bit_rate(profile, channels) };
            let choice = match codec {
                AudioCodec::Copy => "copy".to_owned(),
                c => format!("encode to {} {kbps} kbit/s, {sample_rate} Hz, {channels} channels", c.as_str()),
            };
            notes.add(subject, choice, why);
            let out_tb = Rational::new(1, i64::from(sample_rate)).unwrap_or(Rational::ONE);
            let start = ticks_between(origin, track.first_pts, out_tb).max(0);
            let (boundaries, first_number) = boundaries(video, start, sample_rate);
            let language = if track.language.is_empty() { "und".to_owned() } else { track.language.clone() };
            let id = safe_id(i + 1, &language);
            ids.push(id.clone());
            Ok(AudioPlan {
                id,
                stream: track.stream,
                codec,
                sample_rate,
                channels,
                layout,
                kbps,
                frame_samples: if codec == AudioCodec::Opus { 960 } else { 1024 },
                start,
                source_first_pts: track.first_pts.ticks,
                source_timebase: track.first_pts.timebase,
                boundaries,
                first_number,
                name: if track.title.is_empty() { format!("Audio {}", i + 1) } else { track.title.clone() },
                language,
                is_default: i == default,
            })
        })
        .collect()
}

fn choose_codec(info: &SourceInfo, track: &AudioTrack, profile: &Profile) -> Result<(AudioCodec, String), Failure> {
    let fits = matches!(track.codec.as_str(), "aac" | "opus" | "mp3" | "ac3" | "eac3" | "flac" | "alac");
    let wanted = profile.audio.codec;
    if wanted == AudioCodec::Copy {
        return if fits {
            Ok((AudioCodec::Copy, format!("the profile asks for it and fMP4 carries {}", track.codec)))
        } else {
            let m = format!(
                "{} audio cannot be carried in fMP4 unchanged: use --profile universal to re-encode it",
                track.codec
            );
            Err(Failure::source("copy_unsupported", m))
        };
    }
    let target = u64::from(bit_rate(profile, track.channels)) * 1000;
    let reason = if wanted == AudioCodec::Aac && track.codec == "aac" {
        // Copying keeps what the source's packets hold; only mp4 says where their first and last sample are.
        if info.container != Container::Mov || info.fragmented {
            "aac, but only plain mp4 says exactly where its first sample is: re-encoded to be sample-exact".to_owned()
        } else if track.first_pts.ticks != 0 || track.priming.is_none_or(|p| p > MAX_COPIED_PRIMING) {
            "aac, but its edit list hides more than a codec's priming, or less: re-encoded to be sample-exact"
                .to_owned()
        } else if track.profile != "LC"
            || !AAC_RATES.contains(&track.sample_rate)
            || track.channels > profile.audio.max_channels
        {
            format!("aac {} with {} channels does not play everywhere", track.profile, track.channels)
        } else if track.bits_per_second == 0 || track.bits_per_second > target * 5 / 4 {
            format!("{} kbit/s is more than the profile's {}", track.bits_per_second / 1000, target / 1000)
        } else {
            return Ok((
                AudioCodec::Copy,
                format!(
                    "already aac-lc at {} kbit/s, within the profile's {}",
                    track.bits_per_second / 1000,
                    target / 1000
                ),
            ));
        }
    } else {
        format!("the profile asks for {}, the source has {}", wanted.as_str(), track.codec)
    };
    Ok((wanted, reason))
}

fn output_rate(track: &AudioTrack, codec: AudioCodec) -> u32 {
    match codec {
        AudioCodec::Opus => 48_000,
        AudioCodec::Aac if !AAC_RATES.contains(&track.sample_rate) => 48_000,
        _ => track.sample_rate.max(1),
    }
}

fn output_channels(track: &AudioTrack, profile: &Profile, codec: AudioCodec) -> (u16, String) {
    if codec == AudioCodec::Copy {
        return (track.channels, String::new());
    }
    let keep = |n: u16| n <= profile.audio.max_channels;
    let (channels, layout) = match track.channels {
        1 => (1, "mono"),
        2 => (2, "stereo"),
        6 if keep(6) => (6, "5.1"),
        8 if keep(8) => (8, "7.1"),
        7 | 8 if keep(6) => (6, "5.1"),
        _ => (2, "stereo"),
    };
    if keep(channels) { (channels, layout.to_owned()) } else { (1, "mono".to_owned()) }
}

fn bit_rate(profile: &Profile, channels: u16) -> u32 {
    match (profile.audio.kbps, channels) {
        (0, 1) => 80,
        (0, 2) => 128,
        (k, 1 | 2) => k,
        (_, n) => 64 * u32::from(n),
    }
}

/// The video's media-segment starts in audio samples, those after the first sample only; numbering follows
/// the video's so that segment `n` of every rendition covers the same time.
fn boundaries(video: Option<&VideoPlan>, start: i64, sample_rate: u32) -> (Vec<i64>, u32) {
    let Some(v) = video else { return (vec![start], 1) };
    let (from, to) = (Rational::new(1, i64::from(v.timescale)), Rational::new(1, i64::from(sample_rate)));
    let (Some(from), Some(to)) = (from, to) else { return (vec![start], 1) };
    let starts: Vec<i64> =
        v.segments.iter().flat_map(|s| &s.media_segments).map(|m| rescale(m.start, from, to)).collect();
    let before = starts.iter().filter(|s| **s <= start).count().max(1);
    let mut out = vec![start];
    out.extend(starts.iter().skip(before));
    (out, u32::try_from(before).unwrap_or(1))
}

fn safe_id(number: usize, language: &str) -> String {
    let lang: String =
        language.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>().to_ascii_lowercase();
    if lang.is_empty() || lang == "und" { format!("{number}") } else { format!("{number}-{lang}") }
}

/// One media segment of an audio track: a run of codec packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioCut {
    /// Number of the MediaSegment.
    pub number: u32,
    /// First packet.
    pub first_packet: u64,
    /// Packets inside, ≥ 1.
    pub num_packets: u64,
}

/// Cuts a finished track of `num_packets` packets of `frame_samples` each (the first `priming` samples are
/// hidden) at the packets nearest to the plan's boundaries; past the last boundary, every `step_seconds`.
/// A tail shorter than half a second joins its neighbour.
pub fn cut_audio(
    plan: &AudioPlan,
    num_packets: u64,
    frame_samples: u32,
    priming: u32,
    step_seconds: f64,
) -> Vec<AudioCut> {
    let frame = i64::from(frame_samples.max(1));
    let total = i64::try_from(num_packets).unwrap_or(i64::MAX);
    let packet_at =
        |sample: i64| (sample - plan.start + i64::from(priming) + frame / 2).div_euclid(frame).clamp(0, total);
    let step = ((step_seconds * f64::from(plan.sample_rate)).round() as i64).max(frame);
    let min_packets = (i64::from(plan.sample_rate) / 2).div_euclid(frame).max(1);
    let last_boundary = plan.boundaries.last().copied().unwrap_or(plan.start);
    let planned = plan.boundaries.iter().skip(1).copied();
    let beyond = (1..).map(|i: i64| last_boundary.saturating_add(step.saturating_mul(i)));
    let mut starts = vec![0i64];
    // Boundaries of the plan keep their numbers, so a planned one is dropped only where no packet is left.
    for (i, b) in planned.chain(beyond).enumerate() {
        let at = packet_at(b);
        let is_planned = i + 1 < plan.boundaries.len();
        let last = starts.last().copied().unwrap_or(0);
        if at >= total || total - at < min_packets {
            break;
        }
        if at > last || is_planned {
            starts.push(at.max(last + 1).min(total));
        }
    }
    starts.dedup();
    starts.retain(|s| *s < total || *s == 0);
    starts
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let end = starts.get(i + 1).copied().unwrap_or(total);
            AudioCut {
                number: plan.first_number.saturating_add(i as u32),
                first_packet: *s as u64,
                num_packets: (end - s).max(0) as u64,
            }
        })
        .filter(|c| c.num_packets > 0)
        .collect()
}
