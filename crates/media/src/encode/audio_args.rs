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

/// Gaps and overlaps of timestamps from this many seconds on are filled or cut; shorter ones are jitter.
const HOLE_SECONDS: &str = "0.05";

/// Time in seconds of the presentation's start on the way from one process to the other: NUT has no times before 0,
/// and a first sample may lie before the start by rounding.
const LEAD_SECONDS: i64 = 1;

/// Highest true peak of a mix: −2.5 dBFS. Encoders add up to 1.5 dB to loud tones.
const CEILING: &str = "0.75";

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
pub fn audio_args(plan: &Plan, index: u32, input: &OsStr, output: &OsStr) -> Result<AudioArgs, ArgsError> {
    let track = plan.whole_track(index).ok_or(ArgsError::NoSuchTask { what: "audio track", index })?;
    let audio = track.audio().ok_or(ArgsError::UnknownMedia { kind: track.kind().as_str() })?;
    let mut args = AudioArgs { decode: None, write: strings(head()).collect() };
    // The counts of samples at the end of a run are said at this level only; the last -loglevel counts.
    args.write.extend(strings(words(&["-loglevel", "level+verbose"])));
    match audio.coding.encoding() {
        None => args.write.extend(copy_args(plan, track, audio, input)),
        Some(encoding) => {
            args.decode = Some(decode_args(plan, track, audio, input));
            args.write.extend(strings(encode_args(track, audio, encoding)));
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

fn decode_args(plan: &Plan, track: &TrackPlan, audio: &AudioMedia, input: &OsStr) -> Vec<OsString> {
    let mut args = words(&["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose"]);
    args.extend(input_options(&plan.demuxer));
    if matches!(plan.demuxer.as_str(), "mpegts" | "mpeg") {
        // One PES packet has the time of its first frame only. The demuxer would compute the others by the rate that
        // the track had at its start; without it, the decoder's own count is used.
        args.extend(words(&["-fflags", "+nofillin"]));
    }
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

fn encode_args(track: &TrackPlan, audio: &AudioMedia, encoding: &AudioEncoding) -> Vec<String> {
    let input = ["-protocol_whitelist", "pipe", "-format_whitelist", "nut", "-f", "nut", "-copyts", "-i", "pipe:0"];
    let mut args = words(&input);
    let (rate, first) = (track.timescale, lead(track).saturating_add(start(track)));
    let fill = format!("aresample={rate}:async=1:min_hard_comp={HOLE_SECONDS}:first_pts={first}");
    let mut filters = vec![fill];
    if audio.ops.contains(&AudioOp::Limit) {
        filters.push(limiter(rate));
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

/// Holds the true peak below [`CEILING`]: four times the rate, because samples miss the peaks between them. `latency`
/// takes back the delay of the look-ahead, so that no sample moves.
fn limiter(rate: u32) -> String {
    let oversampled = rate.saturating_mul(4);
    format!("aresample={oversampled},alimiter=limit={CEILING}:level=false:latency=1,aresample={rate}")
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
