//! Arguments for one video segment: one decode, all renditions, one plain MP4 each. Pure.

use super::ArgsError;
use super::encoder::encoder_args;
use super::graph::{Use, graph};
use super::input::{Seeking, Spelling, decoder_options, input_options, nearest_seconds, seconds, words};
use splitreel_core::plan::{Media, Plan, PlannedPart, Segment, Timeline, VideoMedia, VideoOp};
use std::ffi::{OsStr, OsString};

/// A single argument may have 128 KiB on Linux; some room is left.
const MAX_LIST_BYTES: usize = 120_000;
/// Beyond this many keyframes only those at media segment starts are forced.
const MAX_KEYFRAMES: usize = 6_000;

/// A file that the ffmpeg of a segment writes. Numbers count renditions in the plan's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Plain MP4 of a rendition.
    Track(usize),
    /// Shrunk pictures of what its encoder is given, see [`splitreel_core::content`].
    Given(usize),
    /// Shrunk pictures of the source; renditions may share a file.
    Source(usize),
}

impl Written {
    /// Name of the file.
    pub fn file_name(self) -> String {
        match self {
            Written::Track(number) => format!("video-{number}.mp4"),
            Written::Given(number) => format!("given-{number}.rgb"),
            Written::Source(number) => format!("source-{number}.rgb"),
        }
    }
}

/// The operations in front of scaling, each list once, and the number of its list for each rendition: what a rendition
/// is compared with.
pub(crate) fn references<'a>(renditions: &[&'a [VideoOp]]) -> (Vec<&'a [VideoOp]>, Vec<usize>) {
    let mut lists: Vec<&[VideoOp]> = Vec::new();
    let numbers = renditions.iter().map(|ops| {
        let end = ops.iter().position(|op| matches!(op, VideoOp::Scale { .. })).unwrap_or(ops.len());
        let list = ops.get(..end).unwrap_or_default();
        lists.iter().position(|known| *known == list).unwrap_or_else(|| {
            lists.push(list);
            lists.len() - 1
        })
    });
    let numbers = numbers.collect();
    (lists, numbers)
}

/// Builds the arguments for segment `index` of the plan. `url` names the `file:` URL of each output. `look_back` 0 seeks to the nearest keyframe, 1 to the one before, more (or no such keyframe) starts at the
/// beginning of the source. The timeline of each output starts at the segment: its first frame is at 0.
///
/// # Errors
/// [`ArgsError`] when the plan cannot be expressed.
pub fn video_args(
    spelling: Spelling,
    plan: &Plan,
    index: u32,
    look_back: u32,
    input: &OsStr,
    url: &dyn Fn(Written) -> OsString,
) -> Result<Vec<OsString>, ArgsError> {
    let missing = ArgsError::NoSuchTask { what: "video segment", index };
    let timeline = plan.timeline.as_ref().ok_or(missing.clone())?;
    let segment = timeline.segment(index).ok_or(missing.clone())?;
    let parts: Vec<(PlannedPart<'_>, &VideoMedia)> = plan
        .parts_of(index)
        .ok_or(missing)?
        .into_iter()
        .map(|part| match &part.track.media {
            Media::Video(video) => Ok((part, video)),
            _ => Err(ArgsError::UnknownMedia { kind: part.track.kind().as_str() }),
        })
        .collect::<Result<_, _>>()?;
    let mut args: Vec<OsString> = head().into_iter().map(Into::into).collect();
    if plan.is_video_copied() {
        args.extend(strings(input_options(&plan.demuxer)));
        let origin = timeline.first.at(timeline.source_timebase);
        let offset = nearest_seconds(splitreel_core::MediaTime::new(origin.ticks.saturating_neg(), origin.timebase));
        args.extend(strings(words(&["-copyts", "-itsoffset", &offset])));
        args.extend([OsString::from("-i"), input.to_owned()]);
        for (number, (part, _)) in parts.iter().enumerate() {
            args.extend(strings(words(&["-map", &format!("0:{}", timeline.stream), "-c:v", "copy"])));
            // Boxes of Dolby Vision are no part of the standard.
            args.extend(strings(words(&["-strict", "unofficial"])));
            args.extend(strings(muxer_args(part.track.timescale)));
            args.push(url(Written::Track(number)));
        }
        return Ok(args);
    }
    let threads = parts.iter().filter_map(|(_, video)| Some(video.coding.encoding()?.threads)).max();
    args.extend(decoding_args(spelling, plan, (timeline, segment), threads, look_back, input));
    let ops: Vec<&[VideoOp]> = parts.iter().map(|(_, video)| video.ops.as_slice()).collect();
    let pictures = pictures(&ops);
    let encoded = ops.iter().map(|ops| (*ops, Use::Encoded));
    let outputs: Vec<(&[VideoOp], Use<'_>)> =
        encoded.chain(pictures.iter().map(|(ops, wanted, _)| (*ops, *wanted))).collect();
    args.extend(strings(words(&["-filter_complex", &graph(timeline, segment, &outputs)])));
    for (number, (part, video)) in parts.iter().enumerate() {
        args.extend(strings(words(&["-map", &format!("[v{number}]")])));
        args.extend(strings(passthrough(spelling, timeline, &video.ops)));
        if let Some(encoding) = video.coding.encoding() {
            args.extend(strings(encoder_args(encoding, &video.side_data, part)?));
        }
        args.extend(strings(picture_args(video)));
        args.extend(strings(keyframe_args(part)?));
        args.extend(strings(muxer_args(part.track.timescale)));
        args.push(url(Written::Track(number)));
    }
    for (number, (.., written)) in (parts.len()..).zip(&pictures) {
        args.extend(raw_args(spelling, number));
        args.push(url(*written));
    }
    Ok(args)
}

/// Options that leave the frames of a rendition and their times alone.
fn passthrough(spelling: Spelling, timeline: &Timeline, ops: &[VideoOp]) -> Vec<String> {
    let has_own_clock = ops.iter().any(|op| matches!(op, VideoOp::Deinterlace { each_field: true, .. }));
    if has_own_clock {
        // The demuxer's ticks are too coarse for the second field.
        return Spelling::passthrough_on(timeline.source_timebase).to_vec();
    }
    words(&spelling.passthrough())
}

/// The options of the source and its decoder.
fn decoding_args(
    spelling: Spelling,
    plan: &Plan,
    (timeline, segment): (&Timeline, &Segment),
    threads: Option<u32>,
    look_back: u32,
    input: &OsStr,
) -> Vec<OsString> {
    let mut args = input_options(&plan.demuxer);
    args.extend(decoder_options());
    args.extend(words(spelling.cropping()));
    // Frame threads show other frames of a damaged source than a decoder without threads does.
    args.extend(words(&["-thread_type:v", "slice"]));
    if segment.is_piece() {
        // Side by side on one machine, single threads cost less than each process taking all cores.
        args.extend(["-threads:v".into(), threads.unwrap_or(1).max(1).to_string()]);
    }
    if !timeline.decoder.is_empty() {
        args.extend(words(&["-c:v", &timeline.decoder]));
    }
    if let Some(target) = seek_target(plan, timeline, segment, look_back) {
        args.extend(words(&["-ss", &seconds(target), "-seek_timestamp", "1", "-noaccurate_seek"]));
    }
    args.extend(words(&["-copyts", "-i"]));
    strings(args).chain([input.to_owned()]).collect()
}

/// Builds the arguments of a run that decodes a segment and writes the shrunk pictures of the source alone, and lists
/// the files. Every file has the pictures that the encoding run of the same `look_back` writes under this name.
///
/// # Errors
/// [`ArgsError`] when the plan cannot be expressed.
pub(crate) fn reference_args(
    spelling: Spelling,
    plan: &Plan,
    (index, look_back): (u32, u32),
    input: &OsStr,
    url: &dyn Fn(Written) -> OsString,
) -> Result<(Vec<OsString>, Vec<Written>), ArgsError> {
    let missing = ArgsError::NoSuchTask { what: "video segment", index };
    let timeline = plan.timeline.as_ref().ok_or(missing.clone())?;
    let segment = timeline.segment(index).ok_or(missing)?;
    let ops: Vec<&[VideoOp]> = plan.video_tracks().map(|(_, video)| video.ops.as_slice()).collect();
    let threads = plan.video_tracks().filter_map(|(_, video)| Some(video.coding.encoding()?.threads)).max();
    let (lists, _) = references(&ops);
    let outputs: Vec<(&[VideoOp], Use<'_>)> = lists.into_iter().map(|ops| (ops, Use::ShrunkByTags)).collect();
    let mut args: Vec<OsString> = strings(head()).collect();
    args.extend(decoding_args(spelling, plan, (timeline, segment), threads, look_back, input));
    args.extend(strings(words(&["-filter_complex", &graph(timeline, segment, &outputs)])));
    let written: Vec<Written> = (0..outputs.len()).map(Written::Source).collect();
    for (number, file) in written.iter().enumerate() {
        args.extend(raw_args(spelling, number));
        args.push(url(*file));
    }
    Ok((args, written))
}

/// Writes pad `[vN]` as raw pictures.
fn raw_args(spelling: Spelling, number: usize) -> Vec<OsString> {
    let mut args = words(&["-map", &format!("[v{number}]")]);
    args.extend(words(&spelling.passthrough()));
    args.extend(words(&["-f", "rawvideo"]));
    strings(args).collect()
}

/// The shrunk pictures to write: of what each encoder is given, and of the source.
fn pictures<'a>(renditions: &[&'a [VideoOp]]) -> Vec<(&'a [VideoOp], Use<'a>, Written)> {
    let levels = |ops: &'a [VideoOp]| {
        ops.iter().find_map(|op| match op {
            VideoOp::Scale { to, .. } => Some(to),
            _ => None,
        })
    };
    let given = renditions.iter().enumerate().map(|(number, ops)| {
        let wanted = levels(ops).map_or(Use::ShrunkByTags, Use::Shrunk);
        (*ops, wanted, Written::Given(number))
    });
    let (lists, _) = references(renditions);
    let source = lists.into_iter().enumerate().map(|(number, ops)| (ops, Use::ShrunkByTags, Written::Source(number)));
    given.chain(source).collect()
}

/// What every ffmpeg here starts with.
pub(super) fn head() -> Vec<String> {
    words(&[
        "-hide_banner",
        "-nostdin",
        "-y",
        "-loglevel",
        "level+warning",
        "-nostats",
        "-progress",
        "pipe:1",
        "-stats_period",
        "0.5",
    ])
}

fn strings(list: Vec<String>) -> impl Iterator<Item = OsString> {
    list.into_iter().map(Into::into)
}

/// Microseconds to seek to; `None` decodes from the beginning.
fn seek_target(plan: &Plan, timeline: &Timeline, segment: &Segment, look_back: u32) -> Option<i64> {
    let level = usize::try_from(segment.seek_level(look_back, plan.reads_neighbours())).ok()?;
    let keyframe = segment.seek.get(level)?.at(timeline.source_timebase);
    let limit = level.checked_sub(1).map_or(segment.seek_limit, |nearer| segment.seek.get(nearer).copied());
    let limit = limit.map(|limit| limit.at(timeline.source_timebase));
    Seeking::of(&plan.demuxer).target(keyframe, limit, timeline.first.at(timeline.source_timebase))
}

fn picture_args(video: &VideoMedia) -> Vec<String> {
    let mut args = words(&["-pix_fmt", &video.pixel_format]);
    let color = &video.color;
    for (option, value) in [
        ("-color_range", color.range.as_str()),
        ("-colorspace", &color.space),
        ("-color_trc", transfer_option(&color.transfer)),
        ("-color_primaries", &color.primaries),
    ] {
        if let Some(value) = color_option(value) {
            args.extend(words(&[option, value]));
        }
    }
    args
}

/// ffprobe names some colour tags otherwise than ffmpeg's options do.
fn color_option(tag: &str) -> Option<&str> {
    match tag {
        "" | "unknown" | "unspecified" | "reserved" => None,
        "gbr" => Some("rgb"),
        other => Some(other),
    }
}

/// The transfer characteristics of ITU-R BT.470 go by their gamma.
fn transfer_option(tag: &str) -> &str {
    match tag {
        "bt470m" => "gamma22",
        "bt470bg" => "gamma28",
        other => other,
    }
}

/// The planned keyframes as times from the start of the segment.
fn keyframe_args(part: &PlannedPart<'_>) -> Result<Vec<String>, ArgsError> {
    let all = &part.grid.keyframes;
    let starts: Vec<_> = part.grid.media_segments.iter().map(|media| media.start).collect();
    let wanted = if all.len() > MAX_KEYFRAMES { &starts } else { all };
    let times: Vec<String> = wanted
        .iter()
        .filter(|tick| **tick > part.segment.output_start)
        .map(|tick| seconds(forced_at(tick.saturating_sub(part.origin).get(), part.track.timescale)))
        .collect();
    if times.is_empty() {
        return Ok(Vec::new());
    }
    let list = times.join(",");
    if list.len() > MAX_LIST_BYTES {
        return Err(ArgsError::TooManyKeyframes { count: all.len() });
    }
    Ok(vec!["-force_key_frames".into(), list])
}

/// Microseconds to ask for a keyframe: half an output tick before the frame, rounded down. Output ticks are rounded
/// from source ticks, and a time that is a hair late would move the keyframe to the next frame.
fn forced_at(ticks: i64, timescale: u32) -> i64 {
    let half_ticks = i128::from(ticks) * 2 - 1;
    let micros = half_ticks * 1_000_000 / (i128::from(timescale.max(1)) * 2);
    i64::try_from(micros.max(0)).unwrap_or(i64::MAX)
}

/// A plain MP4 whose edit list gives every frame's exact time (ISO/IEC 14496-12 §8.6.6): the movie timescale is the
/// track's, so that edits are not rounded.
fn muxer_args(timescale: u32) -> Vec<String> {
    let timescale = timescale.to_string();
    words(&[
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
        "-fflags",
        "+bitexact",
        "-video_track_timescale",
        &timescale,
        "-movie_timescale",
        &timescale,
        "-use_editlist",
        "1",
        "-avoid_negative_ts",
        "disabled",
        "-write_tmcd",
        "0",
        "-f",
        "mp4",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_forced_time_lies_between_its_frame_and_the_one_before(tick in 1i64..1_000_000_000, timescale in 1u32..200_000) {
            let micros = i128::from(forced_at(tick, timescale));
            let scale = i128::from(timescale);
            prop_assert!(micros * scale <= i128::from(tick) * 1_000_000);
            prop_assert!(micros * scale + scale >= (i128::from(tick) * 2 - 1) * 500_000);
        }
    }
}
