//! Arguments for one video segment: one decode, all renditions, one plain MP4 each. Pure.

use super::ArgsError;
use super::encoder::encoder_args;
use super::input::{Seeking, Spelling, decoder_options, input_options, nearest_seconds, seconds, words};
use splitreel_core::MediaTime;
use splitreel_core::plan::{Plan, Rendition, Segment, VideoPlan, is_temporal_filter};
use splitreel_core::profile::VideoCodec;
use std::ffi::{OsStr, OsString};

/// A single argument may have 128 KiB on Linux; some room is left.
const MAX_LIST_BYTES: usize = 120_000;
/// Beyond this many keyframes only those at media segment starts are forced.
const MAX_KEYFRAMES: usize = 6_000;
/// Builds the arguments for segment `index` of the plan. `outputs` has one `file:` URL per rendition, in the plan's
/// order. `seek_back` 0 seeks to the nearest keyframe, 1 to the one before, more (or no such keyframe) starts at the
/// beginning of the source. The timeline of each output starts at the segment: its first frame is at 0.
///
/// # Errors
/// [`ArgsError`] when the plan cannot be expressed.
pub fn video_args(
    spelling: Spelling,
    plan: &Plan,
    index: u32,
    seek_back: u32,
    input: &OsStr,
    outputs: &[OsString],
) -> Result<Vec<OsString>, ArgsError> {
    let missing = ArgsError::NoSuchTask { what: "video segment", index };
    let video = plan.video.as_ref().ok_or(missing.clone())?;
    let segment = video.segments.iter().find(|segment| segment.index == index).ok_or(missing)?;
    let mut args: Vec<OsString> = head().into_iter().map(Into::into).collect();
    if video.codec == VideoCodec::Copy {
        args.extend(strings(input_options(&plan.demuxer)));
        let origin = MediaTime::new(video.first_pts, video.source_timebase);
        let offset = nearest_seconds(MediaTime::new(origin.ticks.saturating_neg(), origin.timebase));
        args.extend(strings(words(&["-copyts", "-itsoffset", &offset])));
        args.extend([OsString::from("-i"), input.to_owned()]);
        for output in outputs {
            args.extend(strings(words(&["-map", &format!("0:{}", video.stream), "-c:v", "copy"])));
            args.extend(strings(muxer_args(video)));
            args.push(output.clone());
        }
        return Ok(args);
    }
    let filters = Filters::new(&video.filters);
    args.extend(strings(input_options(&plan.demuxer)));
    args.extend(strings(decoder_options()));
    // Frame threads show other frames of a damaged source than a decoder without threads does.
    args.extend(strings(words(&["-thread_type:v", "slice"])));
    if segment.is_piece() {
        // Side by side on one machine, single threads cost less than each process taking all cores.
        args.extend(strings(vec!["-threads:v".into(), video.threads.max(1).to_string()]));
    }
    if let Some(target) = seek_target(plan, video, segment, seek_back, &filters) {
        args.extend(strings(words(&["-ss", &seconds(target), "-seek_timestamp", "1", "-noaccurate_seek"])));
    }
    args.extend([OsString::from("-copyts"), OsString::from("-i"), input.to_owned()]);
    args.extend(strings(words(&["-filter_complex", &filters.graph(video, segment)])));
    for (number, (rendition, output)) in video.renditions.iter().zip(outputs).enumerate() {
        args.extend(strings(words(&["-map", &format!("[v{number}]")])));
        args.extend(strings(words(&spelling.passthrough())));
        args.extend(strings(encoder_args(video, segment, rendition)?));
        args.extend(strings(picture_args(video)));
        args.extend(strings(keyframe_args(video, segment)?));
        args.extend(strings(muxer_args(video)));
        args.push(output.clone());
    }
    Ok(args)
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

fn seek_target(
    plan: &Plan,
    video: &VideoPlan,
    segment: &Segment,
    seek_back: u32,
    filters: &Filters<'_>,
) -> Option<i64> {
    let level = usize::try_from(segment.seek_level(seek_back, filters.has_temporal())).ok()?;
    let keyframe = *segment.seek.get(level)?;
    let limit = level.checked_sub(1).map_or(segment.seek_limit, |nearer| segment.seek.get(nearer).copied());
    let time = |ticks| MediaTime::new(ticks, video.source_timebase);
    Seeking::of(&plan.demuxer).target(time(keyframe), limit.map(time), time(video.first_pts))
}

/// The plan's filters, cut where trimming belongs: after the last one that looks at neighbours.
struct Filters<'a> {
    before: &'a [String],
    after: &'a [String],
}

impl<'a> Filters<'a> {
    fn new(all: &'a [String]) -> Self {
        let cut = all.iter().rposition(|filter| is_temporal_filter(filter)).map_or(0, |at| at + 1);
        let (before, after) = all.split_at_checked(cut).unwrap_or((&[], all));
        Filters { before, after }
    }

    fn has_temporal(&self) -> bool {
        !self.before.is_empty()
    }

    fn graph(&self, video: &VideoPlan, segment: &Segment) -> String {
        let mut chain: Vec<String> = self.before.to_vec();
        if self.has_temporal() {
            // Deinterlacers count in half ticks; trim and setpts below speak the source's ticks.
            chain.push(format!("settb={}/{}", video.source_timebase.num(), video.source_timebase.den()));
        }
        let end = segment.end.map(|end| format!(":end_pts={end}")).unwrap_or_default();
        chain.push(format!("trim=start_pts={}{end}", segment.start));
        chain.push(format!("setpts=PTS-({})", segment.start));
        chain.extend_from_slice(self.after);
        let source = format!("[0:{}]", video.stream);
        let scaled = |rendition: &Rendition| {
            format!(
                "scale=w={}:h={}:flags=bicubic+accurate_rnd+bitexact,format={},setsar={}/{}",
                rendition.width,
                rendition.height,
                video.pix_fmt,
                rendition.sar.num(),
                rendition.sar.den(),
            )
        };
        match video.renditions.as_slice() {
            [only] => format!("{source}{},{}[v0]", chain.join(","), scaled(only)),
            several => {
                let pads: String = (0..several.len()).map(|n| format!("[s{n}]")).collect();
                let branches: Vec<String> = several
                    .iter()
                    .enumerate()
                    .map(|(n, rendition)| format!("[s{n}]{}[v{n}]", scaled(rendition)))
                    .collect();
                format!("{source}{},split={}{pads};{}", chain.join(","), several.len(), branches.join(";"))
            }
        }
    }
}

fn picture_args(video: &VideoPlan) -> Vec<String> {
    let mut args = words(&["-pix_fmt", &video.pix_fmt]);
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
fn keyframe_args(video: &VideoPlan, segment: &Segment) -> Result<Vec<String>, ArgsError> {
    let all = &segment.keyframes;
    let starts: Vec<i64> = segment.media_segments.iter().map(|media| media.start).collect();
    let wanted = if all.len() > MAX_KEYFRAMES { &starts } else { all };
    let times: Vec<String> = wanted
        .iter()
        .filter(|tick| **tick > segment.output_start)
        .map(|tick| seconds(forced_at(tick.saturating_sub(segment.output_start), video.timescale)))
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
fn muxer_args(video: &VideoPlan) -> Vec<String> {
    let timescale = video.timescale.to_string();
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

    #[test]
    fn trimming_follows_the_last_temporal_filter() {
        let all = ["format=yuv420p".to_owned(), "yadif=0".to_owned(), "zscale=t=linear".to_owned()];
        let filters = Filters::new(&all);
        assert_eq!((filters.before.len(), filters.after.len()), (2, 1));
        assert!(!Filters::new(&all[2..]).has_temporal());
    }

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
