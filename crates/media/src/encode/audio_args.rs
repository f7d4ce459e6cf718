//! Arguments for one audio track: decoded whole, holes filled with silence, encoded into one plain MP4. Pure.

use super::ArgsError;
use super::input::{input_options, nearest_seconds, words};
use super::video_args::head;
use splitreel_core::MediaTime;
use splitreel_core::plan::{AudioPlan, Plan};
use splitreel_core::profile::AudioCodec;
use std::ffi::{OsStr, OsString};

/// Gaps and overlaps of timestamps from this many seconds on are filled or cut; shorter ones are jitter.
const HOLE_SECONDS: &str = "0.05";

/// Builds the arguments for audio rendition `index` of the plan. The output starts with the track's first sample at 0;
/// the edit list signals the encoder's priming and the true end.
///
/// # Errors
/// [`ArgsError`] when the plan has no such track.
pub fn audio_args(plan: &Plan, index: u32, input: &OsStr, output: &OsStr) -> Result<Vec<OsString>, ArgsError> {
    let track = usize::try_from(index).ok().and_then(|at| plan.audio.get(at));
    let track = track.ok_or(ArgsError::NoSuchTask { what: "audio track", index })?;
    let mut args = head();
    // The counts of samples at the end of a run are said at this level only; the last -loglevel counts.
    args.extend(words(&["-loglevel", "level+verbose"]));
    args.extend(input_options(&plan.demuxer));
    args.push("-copyts".into());
    let is_copy = track.codec == AudioCodec::Copy;
    if is_copy {
        let origin = MediaTime::new(track.source_first_pts.saturating_neg(), track.source_timebase);
        args.extend(["-itsoffset".into(), nearest_seconds(origin)]);
    }
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    args.extend([OsString::from("-i"), input.to_owned()]);
    let rest =
        if is_copy { words(&["-map", &format!("0:{}", track.stream), "-c:a", "copy"]) } else { encode_args(track) };
    args.extend(rest.into_iter().map(OsString::from));
    args.extend(muxer_args(track).into_iter().map(OsString::from));
    args.push(output.to_owned());
    Ok(args)
}

fn encode_args(track: &AudioPlan) -> Vec<String> {
    let rate = track.sample_rate.to_string();
    let graph = format!(
        "[0:{}]aresample={rate}:async=1:min_hard_comp={HOLE_SECONDS},aformat=sample_rates={rate}:channel_layouts={},asetpts=PTS-STARTPTS[a]",
        track.stream,
        layout(track),
    );
    let encoder = if track.codec == AudioCodec::Opus { "libopus" } else { "aac" };
    let mut args = words(&["-filter_complex", &graph, "-map", "[a]", "-c:a", encoder]);
    if track.kbps > 0 {
        args.extend(["-b:a".into(), format!("{}k", track.kbps)]);
    }
    if track.codec == AudioCodec::Opus {
        args.extend(words(&["-frame_duration", "20", "-vbr", "on"]));
    }
    // One thread: the coder is serial, and what it writes must not depend on the machine.
    args.extend(words(&["-threads:a", "1", "-flags:a", "+bitexact"]));
    args
}

/// The output's channel layout: the plan's, or the one that players expect of that many channels.
fn layout(track: &AudioPlan) -> &str {
    if !track.layout.is_empty() {
        return &track.layout;
    }
    match track.channels {
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

fn muxer_args(track: &AudioPlan) -> Vec<String> {
    words(&[
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
        "-fflags",
        "+bitexact",
        "-movie_timescale",
        &track.sample_rate.max(1).to_string(),
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
