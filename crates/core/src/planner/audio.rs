//! Planning of audio: one task per track over the whole timeline, cut on the codec's frame grid.

use super::{Context, Draft, Notes, audio_end, ticks_between};
use crate::failure::{Failure, FailureCode};
use crate::plan::{
    AudioEncoding, AudioMedia, AudioOp, Coding, Cut, Label, Media, MediaSegmentPlan, Protection, TrackContainer,
    TrackPlan,
};
use crate::profile::{AudioCodec, Profile};
use crate::source::{AudioTrack, Container};
use crate::time::{MediaTime, OutputTicks, Rational, rescale};

const AAC_RATES: [u32; 12] =
    [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000];

/// Samples that a copied AAC track may hide in front: what encoders need, and players know how to skip.
const MAX_COPIED_PRIMING: u32 = 4_096;

/// Adds a track for each audio track of the source.
pub(super) fn produce(context: &Context<'_>, draft: &mut Draft) -> Result<(), Failure> {
    let audio = &context.info.audio;
    let default = audio.iter().position(|a| a.is_default).unwrap_or(0);
    let starts = leading_starts(draft);
    for (i, track) in audio.iter().enumerate() {
        let (codec, why) = choose_codec(context, track)?;
        let mut planned = plan_track(context, track, codec, i + 1);
        planned.label.is_default = i == default;
        divide(&mut planned, starts.as_ref());
        draft.notes.add(format!("audio {}", i + 1), choice(&planned), why);
        note_edges(context, track, &planned, i + 1, &mut draft.notes);
        let stereo = stereo_beside(context, track, &planned, i + 1);
        draft.tracks.push(planned);
        if let Some(mut stereo) = stereo {
            divide(&mut stereo, starts.as_ref());
            let why = format!("the profile asks for stereo beside {} channels, for devices with two", track.channels);
            draft.notes.add(format!("audio {} stereo", i + 1), choice(&stereo), why);
            draft.tracks.push(stereo);
        }
    }
    Ok(())
}

/// Cuts a track where the media segments of the leading video track start.
fn divide(planned: &mut TrackPlan, starts: Option<&(Vec<OutputTicks>, Rational)>) {
    let to = planned.timebase();
    let (Cut::Whole { start, boundaries, first_number }, Some((starts, timebase))) = (&mut planned.cut, starts) else {
        return;
    };
    let starts = starts.iter().map(|s| OutputTicks(rescale(s.get(), *timebase, to)));
    (*boundaries, *first_number) = boundaries_after(*start, starts.collect());
}

/// The stereo mix beside a track of more channels, when the profile asks for one.
fn stereo_beside(context: &Context<'_>, track: &AudioTrack, planned: &TrackPlan, number: usize) -> Option<TrackPlan> {
    let wanted = &context.profile.audio;
    if !wanted.stereo || wanted.codec == AudioCodec::Copy || planned.audio()?.channels <= 2 {
        return None;
    }
    let mut stereo = mixed_track(context, track, wanted.codec, number, (2, "stereo".to_owned()));
    stereo.id = format!("{}-stereo", planned.id);
    stereo.label.name = format!("{} (stereo)", planned.label.name);
    Some(stereo)
}

/// Media segment starts of the leading video track, and seconds per tick of them.
fn leading_starts(draft: &Draft) -> Option<(Vec<OutputTicks>, Rational)> {
    let track = draft.tracks.first()?;
    let Cut::Timeline { grid, .. } = track.cut else { return None };
    let segments = draft.grids.get(grid as usize)?.segments.iter().flat_map(|s| &s.media_segments);
    Some((segments.map(|m: &MediaSegmentPlan| m.start).collect(), track.timebase()))
}

/// The starts after the first sample, and the number of the media segment that the first sample belongs to: numbering
/// follows the video's, so that segment `n` of both covers the same time.
fn boundaries_after(start: OutputTicks, starts: Vec<OutputTicks>) -> (Vec<OutputTicks>, u32) {
    let before = starts.iter().filter(|s| **s <= start).count().max(1);
    (starts.into_iter().skip(before).collect(), u32::try_from(before).unwrap_or(1))
}

/// A track with the number `number` (from 1), not divided yet.
fn plan_track(context: &Context<'_>, track: &AudioTrack, codec: AudioCodec, number: usize) -> TrackPlan {
    mixed_track(context, track, codec, number, output_channels(track, context.profile, codec))
}

/// A track with given channels and their layout, not divided yet.
fn mixed_track(
    context: &Context<'_>,
    track: &AudioTrack,
    codec: AudioCodec,
    number: usize,
    (channels, layout): (u16, String),
) -> TrackPlan {
    let profile = context.profile;
    let sample_rate = output_rate(track, codec);
    let is_copy = codec == AudioCodec::Copy;
    let timebase = Rational::new(1, i64::from(sample_rate)).unwrap_or(Rational::ONE);
    let language = if track.language.is_empty() { "und".to_owned() } else { track.language.clone() };
    let mut ops = vec![AudioOp::Resample { sample_rate }, AudioOp::Remix { layout, channels }];
    if channels < track.channels {
        ops.push(AudioOp::Limit);
    }
    let ticks = |time: MediaTime| OutputTicks(ticks_between(context.origin, time, timebase).max(0));
    let first = ticks(track.first_pts);
    let is_late = !is_copy && context.late(track.first_pts);
    let (start, lead_silence) = if is_late { (OutputTicks::ZERO, first) } else { (first, OutputTicks::ZERO) };
    let is_short = !is_copy && audio_end(track).is_some_and(|end| context.is_short(end));
    TrackPlan {
        id: safe_id(number, &language),
        source_stream: track.stream,
        timescale: sample_rate,
        delay: OutputTicks::ZERO,
        container: TrackContainer::Fmp4,
        protection: Protection::Clear,
        label: Label {
            name: if track.title.is_empty() { format!("Audio {number}") } else { track.title.clone() },
            language,
            is_default: false,
        },
        cut: Cut::Whole { start, boundaries: Vec::new(), first_number: 1 },
        media: Media::Audio(AudioMedia {
            channels,
            frame_samples: if codec == AudioCodec::Opus { 960 } else { 1024 },
            source_start: track.first_pts,
            clock: context.info.clocks.get(&track.stream).cloned(),
            lead_silence,
            fill_until: is_short.then(|| ticks(context.end) - start),
            ops: if is_copy { Vec::new() } else { ops },
            coding: if is_copy {
                Coding::Copy
            } else {
                Coding::Encode(AudioEncoding { codec, kbps: bit_rate(profile, channels) })
            },
        }),
    }
}

/// Notes silence at either end, and what a copy leaves as it is.
fn note_edges(context: &Context<'_>, track: &AudioTrack, planned: &TrackPlan, number: usize, notes: &mut Notes) {
    let late = track.first_pts.seconds() - context.origin.seconds();
    let early = audio_end(track).map_or(0.0, |end| context.end.seconds() - end.seconds());
    let is_copy = planned.audio().is_some_and(|audio| audio.coding.is_copy());
    for (is_apart, what, seconds) in [
        (context.late(track.first_pts), "starts", late),
        (audio_end(track).is_some_and(|end| context.is_short(end)), "ends", early),
    ] {
        let order = if what == "starts" { "after the presentation's start" } else { "before the presentation's end" };
        if is_apart && is_copy {
            let reason = format!(
                "it {what} {seconds:.3} s {order}; a copy has no silence to fill that with, and some players place it wrongly"
            );
            notes.add(format!("audio {number} edges"), "left as they are", reason);
        } else if is_apart {
            let reason = format!("it {what} {order}: every player then keeps the tracks in step");
            notes.add(format!("audio {number} edges"), format!("{seconds:.3} s of silence added"), reason);
        }
    }
}

/// The decision about a track, in words.
fn choice(planned: &TrackPlan) -> String {
    let audio = planned.audio();
    match audio.and_then(|a| Some((a, a.coding.encoding()?))) {
        None => "copy".to_owned(),
        Some((audio, e)) => format!(
            "encode to {} {} kbit/s, {} Hz, {} channels",
            e.codec.as_str(),
            e.kbps,
            planned.timescale,
            audio.channels
        ),
    }
}

fn choose_codec(context: &Context<'_>, track: &AudioTrack) -> Result<(AudioCodec, String), Failure> {
    let (info, profile) = (context.info, context.profile);
    let fits = matches!(track.codec.as_str(), "aac" | "opus" | "mp3" | "ac3" | "eac3" | "flac" | "alac");
    let wanted = profile.audio.codec;
    if wanted == AudioCodec::Copy {
        if info.clocks.contains_key(&track.stream) {
            let m = "the clock of the source jumps, and copied sound would jump with it: use --profile universal to re-encode it";
            return Err(Failure::of(FailureCode::CopyUnsupported, m));
        }
        return if fits {
            Ok((AudioCodec::Copy, format!("the profile asks for it and fMP4 carries {}", track.codec)))
        } else {
            let m = format!(
                "{} audio cannot be carried in fMP4 unchanged: use --profile universal to re-encode it",
                track.codec
            );
            Err(Failure::of(FailureCode::CopyUnsupported, m))
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
        } else if context.late(track.first_pts) || audio_end(track).is_some_and(|end| context.is_short(end)) {
            "aac, but other tracks start earlier or end later, and silence has to be added: re-encoded".to_owned()
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
/// A tail shorter than half a second joins its neighbour. Empty for a track that is cut along the timeline.
pub fn cut_audio(
    plan: &TrackPlan,
    num_packets: u64,
    frame_samples: u32,
    priming: u32,
    step_seconds: f64,
) -> Vec<AudioCut> {
    let Cut::Whole { start, boundaries, first_number } = &plan.cut else { return Vec::new() };
    let frame = i64::from(frame_samples.max(1));
    let total = i64::try_from(num_packets).unwrap_or(i64::MAX);
    let packet_at = |sample: OutputTicks| {
        let since = (sample - *start).get() + i64::from(priming);
        (since + frame / 2).div_euclid(frame).clamp(0, total)
    };
    let step = ((step_seconds * f64::from(plan.timescale)).round() as i64).max(frame);
    let min_packets = (i64::from(plan.timescale) / 2).div_euclid(frame).max(1);
    let last_boundary = *boundaries.last().unwrap_or(start);
    let beyond = (1..).map(|i: i64| last_boundary.saturating_add(OutputTicks(step.saturating_mul(i))));
    let mut starts = vec![0i64];
    // Boundaries of the plan keep their numbers, so a planned one is dropped only where no packet is left.
    for (i, b) in boundaries.iter().copied().chain(beyond).enumerate() {
        let at = packet_at(b);
        let is_planned = i < boundaries.len();
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
    let ends = starts.iter().skip(1).copied().chain([total]);
    let cuts = (*first_number..).zip(starts.iter().zip(ends)).map(|(number, (s, end))| AudioCut {
        number,
        first_packet: s.unsigned_abs(),
        num_packets: (end - s).max(0).unsigned_abs(),
    });
    cuts.filter(|c| c.num_packets > 0).collect()
}
