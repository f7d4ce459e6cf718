//! Arguments for one audio track: decoded whole, holes filled with silence, encoded into one plain MP4. Pure.

use super::ArgsError;
use super::input::{input_options, nearest_seconds, words};
use super::video_args::head;
use splitreel_core::MediaTime;
use splitreel_core::plan::{AudioEncoding, AudioMedia, AudioOp, Plan, TrackPlan};
use splitreel_core::profile::AudioCodec;
use std::ffi::{OsStr, OsString};

/// Gaps and overlaps of timestamps from this many seconds on are filled or cut; shorter ones are jitter.
const HOLE_SECONDS: &str = "0.05";

/// Builds the arguments for whole track `index` of the plan. The output starts with the track's first sample at 0;
/// the edit list signals the encoder's priming and the true end.
///
/// # Errors
/// [`ArgsError`] when the plan has no such track.
pub fn audio_args(plan: &Plan, index: u32, input: &OsStr, output: &OsStr) -> Result<Vec<OsString>, ArgsError> {
    let track = plan.whole_track(index).ok_or(ArgsError::NoSuchTask { what: "audio track", index })?;
    let audio = track.audio().ok_or(ArgsError::UnknownMedia { kind: track.kind().as_str() })?;
    let mut args = head();
    // The counts of samples at the end of a run are said at this level only; the last -loglevel counts.
    args.extend(words(&["-loglevel", "level+verbose"]));
    args.extend(input_options(&plan.demuxer));
    args.push("-copyts".into());
    if audio.coding.is_copy() {
        let origin = MediaTime::new(audio.source_start.ticks.saturating_neg(), audio.source_start.timebase);
        args.extend(["-itsoffset".into(), nearest_seconds(origin)]);
    }
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    args.extend([OsString::from("-i"), input.to_owned()]);
    let rest = match audio.coding.encoding() {
        None => words(&["-map", &format!("0:{}", track.source_stream), "-c:a", "copy"]),
        Some(encoding) => encode_args(track, audio, encoding),
    };
    args.extend(rest.into_iter().map(OsString::from));
    args.extend(muxer_args(track).into_iter().map(OsString::from));
    args.push(output.to_owned());
    Ok(args)
}

fn encode_args(track: &TrackPlan, audio: &AudioMedia, encoding: &AudioEncoding) -> Vec<String> {
    let filters: Vec<String> = audio.ops.iter().map(|op| filter(op, track.timescale)).collect();
    let graph = format!("[0:{}]{},asetpts=PTS-STARTPTS[a]", track.source_stream, filters.join(","));
    let is_opus = encoding.codec == AudioCodec::Opus;
    let mut args = words(&["-filter_complex", &graph, "-map", "[a]", "-c:a", if is_opus { "libopus" } else { "aac" }]);
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

/// One operation in ffmpeg's syntax.
fn filter(op: &AudioOp, sample_rate: u32) -> String {
    match op {
        AudioOp::Resample { sample_rate } => {
            format!("aresample={sample_rate}:async=1:min_hard_comp={HOLE_SECONDS}")
        }
        AudioOp::Remix { layout, channels } => {
            let layout = if layout.is_empty() { usual_layout(*channels) } else { layout };
            format!("aformat=sample_rates={sample_rate}:channel_layouts={layout}")
        }
    }
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
