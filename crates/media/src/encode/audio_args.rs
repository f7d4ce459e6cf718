//! Arguments for one audio track. A copy is one process. An encode is two, joined by a pipe: the first decodes and
//! converts to one rate, layout and sample format, the second fills holes with silence and encodes. Pure.
//!
//! ffmpeg builds a filter graph anew where the decoded sound changes its rate or layout, and drops what the graph holds
//! at that moment: a part of a codec frame, and the state of `aresample` and of every expression. The first process has
//! a graph that holds nothing (PCM has no codec frame); the second one sees a single format and keeps its graph.

use super::ArgsError;
use super::input::{input_options, nearest_seconds, words};
use super::stamps::sound_filter;
use super::video_args::head;
use splitreel_core::MediaTime;
use splitreel_core::plan::{AudioEncoding, AudioMedia, AudioOp, Cut, Plan, TrackPlan};
use splitreel_core::profile::AudioCodec;
use splitreel_core::time::{OutputTicks, rescale};
use std::ffi::{OsStr, OsString};

/// Gaps between timestamps from this many milliseconds on are filled: less than the shortest codec frame, so that a lost
/// frame stays a hole. Shorter ones are jitter.
const HOLE_MS: u32 = 15;

/// Overlaps of timestamps from this many milliseconds on are cut. More than a hole: where times jitter, sound follows the
/// latest ones, and is neither filled nor cut at every change.
const OVERLAP_MS: u32 = 50;

/// Time in seconds of the presentation's start on the way from one process to the other: NUT has no times before 0,
/// and a first sample may lie before the start by rounding.
const LEAD_SECONDS: i64 = 1;

/// Where the times of packets without their own come from. One PES packet of an MPEG stream holds several codec frames and
/// has one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketTimes {
    /// The demuxer computes them by the rate that the track has at its start.
    #[default]
    Computed,
    /// The decoder counts the samples that it delivers: right where the rate changes, wrong where frames do not decode.
    Counted,
}

/// What only the sound itself shows, so that an encode may need another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioTuning {
    /// Times of packets.
    pub times: PacketTimes,
    /// Highest true peak that goes into the encoder of a mix, in tenths of dBFS.
    pub ceiling: i16,
}

impl Default for AudioTuning {
    fn default() -> Self {
        AudioTuning { times: PacketTimes::Computed, ceiling: CEILING }
    }
}

/// Ceiling of a first try: encoders add up to 1.5 dB to loud tones.
const CEILING: i16 = -25;

/// Arguments of the processes that make one audio track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioArgs {
    /// The process that decodes the source and writes PCM to its standard output; `None` for a copy.
    pub decode: Option<Vec<OsString>>,
    /// The process that writes the file: from the standard output of the first one, or a copy from the source.
    pub write: Vec<OsString>,
}

/// Builds the arguments for whole track `index` of the plan. The output starts with the track's first sample at 0;
/// the edit list signals the encoder's priming and the true end.
///
/// # Errors
/// [`ArgsError`] when the plan has no such track.
pub fn audio_args(
    plan: &Plan,
    index: u32,
    tuning: AudioTuning,
    input: &OsStr,
    output: &OsStr,
) -> Result<AudioArgs, ArgsError> {
    let track = plan.whole_track(index).ok_or(ArgsError::NoSuchTask { what: "audio track", index })?;
    let audio = track.audio().ok_or(ArgsError::UnknownMedia { kind: track.kind().as_str() })?;
    let mut args = AudioArgs { decode: None, write: strings(head()).collect() };
    // The counts of samples at the end of a run are said at this level only; the last -loglevel counts.
    args.write.extend(strings(words(&["-loglevel", "level+verbose"])));
    match audio.coding.encoding() {
        None => args.write.extend(copy_args(plan, track, audio, input)),
        Some(encoding) => {
            args.decode = Some(decode_args(plan, track, audio, tuning.times, input));
            args.write.extend(strings(encode_args(track, audio, encoding, tuning.ceiling)));
        }
    }
    args.write.extend(strings(muxer_args(track)));
    args.write.push(output.to_owned());
    Ok(args)
}

fn strings(list: Vec<String>) -> impl Iterator<Item = OsString> {
    list.into_iter().map(Into::into)
}

fn copy_args(plan: &Plan, track: &TrackPlan, audio: &AudioMedia, input: &OsStr) -> Vec<OsString> {
    let start = audio.source_start;
    let origin = MediaTime::new(start.ticks.saturating_neg(), start.timebase);
    let mut args: Vec<OsString> = strings(input_options(&plan.demuxer)).collect();
    args.extend(strings(vec!["-copyts".into(), "-itsoffset".into(), nearest_seconds(origin), "-i".into()]));
    args.push(input.to_owned());
    args.extend(strings(words(&["-map", &format!("0:{}", track.source_stream), "-c:a", "copy"])));
    args
}

fn decode_args(plan: &Plan, track: &TrackPlan, audio: &AudioMedia, times: PacketTimes, input: &OsStr) -> Vec<OsString> {
    let mut args = words(&["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose"]);
    args.extend(input_options(&plan.demuxer));
    args.extend(times.options(&plan.demuxer));
    args.extend(words(&["-copyts", "-i"]));
    let mut args: Vec<OsString> = strings(args).collect();
    args.push(input.to_owned());
    let clock = audio.clock.as_ref().map(|clock| sound_filter(clock, audio.source_start.timebase));
    let mut filters: Vec<String> =
        clock.into_iter().chain(audio.ops.iter().filter_map(|op| conversion(op, track.timescale))).collect();
    let first = rescale(audio.source_start.ticks, audio.source_start.timebase, track.timebase());
    // The planned time of the first sample as a constant: STARTPTS would be another one after each change of format.
    let shift = first.saturating_sub(lead(track).saturating_add(start(track)));
    filters.push(format!("asetpts=PTS-({shift})"));
    let graph = format!("[0:{}]{}[a]", track.source_stream, filters.join(","));
    args.extend(strings(words(&["-filter_complex", &graph, "-map", "[a]", "-c:a", "pcm_f32le", "-threads:a", "1"])));
    args.extend(strings(words(&["-flush_packets", "0", "-avoid_negative_ts", "disabled", "-f", "nut", "pipe:1"])));
    args
}

impl PacketTimes {
    /// Options in front of the input.
    pub(crate) fn options(self, demuxer: &str) -> Vec<String> {
        if self == PacketTimes::Counted && is_packed(demuxer) { words(&["-fflags", "+nofillin"]) } else { Vec::new() }
    }
}

/// Whether several codec frames share a time in this container.
pub(crate) fn is_packed(demuxer: &str) -> bool {
    matches!(demuxer, "mpegts" | "mpeg")
}

fn encode_args(track: &TrackPlan, audio: &AudioMedia, encoding: &AudioEncoding, ceiling: i16) -> Vec<String> {
    let input = ["-protocol_whitelist", "pipe", "-format_whitelist", "nut", "-f", "nut", "-copyts", "-i", "pipe:0"];
    let mut args = words(&input);
    let (rate, first) = (track.timescale, lead(track).saturating_add(start(track)));
    let fill = format!("aresample={rate}:async=1:min_hard_comp=0.001:first_pts={first}");
    let mut filters = vec![steady(rate), fill];
    if audio.ops.contains(&AudioOp::Limit) {
        filters.push(limiter(rate, ceiling));
    }
    filters.push(format!("asetpts=PTS-({first})"));
    if audio.lead_silence > OutputTicks::ZERO {
        filters.push(format!("adelay=delays={}S:all=1", audio.lead_silence));
    }
    if let Some(end) = audio.fill_until {
        filters.push(format!("apad=whole_len={end}"));
    }
    let graph = format!("[0:0]{}[a]", filters.join(","));
    let is_opus = encoding.codec == AudioCodec::Opus;
    args.extend(words(&["-filter_complex", &graph, "-map", "[a]", "-c:a", if is_opus { "libopus" } else { "aac" }]));
    if encoding.kbps > 0 {
        args.extend(["-b:a".into(), format!("{}k", encoding.kbps)]);
    }
    if is_opus {
        args.extend(words(&["-frame_duration", "20", "-vbr", "on"]));
    }
    // One thread: the encoder is serial, and its output must not depend on the machine.
    args.extend(words(&["-threads:a", "1", "-flags:a", "+bitexact"]));
    args
}

/// Samples in front of the presentation's start, between the processes.
fn lead(track: &TrackPlan) -> i64 {
    LEAD_SECONDS.saturating_mul(i64::from(track.timescale))
}

/// Planned place of the track's first sample, in samples.
fn start(track: &TrackPlan) -> i64 {
    match track.cut {
        Cut::Whole { start, .. } => start.get(),
        Cut::Timeline { .. } => 0,
    }
}

/// Replaces times that jitter by the count of samples: block after block follows without a gap, until one is [`HOLE_MS`]
/// late or [`OVERLAP_MS`] early. Variable 0 is the time of sample 0 by the last block that counted.
fn steady(rate: u32) -> String {
    let samples = |ms: u32| u64::from(rate) * u64::from(ms) / 1000;
    let (hole, overlap) = (samples(HOLE_MS), samples(OVERLAP_MS));
    let late = r"st(1\,PTS-NB_CONSUMED_SAMPLES-ld(0))";
    let is_new = format!(r"isnan(PREV_INPTS)+gte({late}\,{hole})+lte(ld(1)\,-{overlap})");
    format!(r"asetpts=st(0\,if({is_new}\,PTS-NB_CONSUMED_SAMPLES\,ld(0)))+NB_CONSUMED_SAMPLES")
}

/// Holds the true peak below a ceiling in tenths of dBFS: four times the rate, because samples miss the peaks between them.
/// `latency` takes back the delay of the look-ahead, so that no sample moves.
fn limiter(rate: u32, ceiling: i16) -> String {
    let oversampled = rate.saturating_mul(4);
    let limit = 10f64.powf(f64::from(ceiling) / 200.0);
    format!("aresample={oversampled},alimiter=limit={limit:.4}:level=false:latency=1,aresample={rate}")
}

/// An operation of the decoding process in ffmpeg's syntax; `None` for those of the encoding process.
fn conversion(op: &AudioOp, sample_rate: u32) -> Option<String> {
    Some(match op {
        AudioOp::Limit => return None,
        AudioOp::Resample { sample_rate } => format!("aresample={sample_rate}"),
        AudioOp::Remix { layout, channels } => {
            let layout = if layout.is_empty() { usual_layout(*channels) } else { layout };
            // Floating point whatever the encoder takes: a mix of integers is scaled down, one of floats is not.
            format!("aformat=sample_fmts=flt:sample_rates={sample_rate}:channel_layouts={layout}")
        }
    })
}

/// The layout that players expect of a number of channels.
fn usual_layout(channels: u16) -> &'static str {
    match channels {
        0 | 1 => "mono",
        2 => "stereo",
        3 => "3.0",
        4 => "4.0",
        5 => "5.0",
        6 => "5.1",
        7 => "6.1",
        _ => "7.1",
    }
}

fn muxer_args(track: &TrackPlan) -> Vec<String> {
    words(&[
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
        "-fflags",
        "+bitexact",
        "-movie_timescale",
        &track.timescale.max(1).to_string(),
        "-use_editlist",
        "1",
        "-avoid_negative_ts",
        "disabled",
        "-strict",
        "-2",
        "-f",
        "mp4",
    ])
}
