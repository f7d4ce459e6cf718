//! A look at some frames of the video: do their fields differ in time? Headers often say nothing or the wrong thing.

use super::index::Indexed;
use super::job::Job;
use crate::encode::{decoder_options, input_options, seconds};
use crate::process::{Access, Run, RunError, run};
use crate::request::Effort;
use splitreel_core::MediaTime;
use splitreel_core::source::{Container, FrameIndex, Scan};
use std::ffi::OsString;
use std::time::Duration;

/// Taller pictures are progressive: no interlaced format has more lines (ITU-R BT.709 has 1080, coded as 1088).
const MAX_LINES: i64 = 1088;
/// Frames to look at where nothing suggests interlacing, and where the header does.
const NUM_FRAMES: u32 = 36;
const NUM_FRAMES_DOUBTFUL: u32 = 120;
/// A source shorter than this many seconds is looked at from its start.
const SHORT_SECONDS: f64 = 4.0;
/// How much the fields of a frame differ more in one order than in the other. ffmpeg's own 1.04 takes fine patterns of
/// progressive pictures for fields; interlaced motion reaches 1.4 and more.
const THRESHOLD: &str = "1.3";
const WALL: Duration = Duration::from_secs(120);

/// Looks at frames from several places of the source. A look that fails leaves the decision to the header.
pub(super) async fn scan(job: &Job<'_>, indexed: &Indexed, effort: &mut Effort) -> Result<Scan, RunError> {
    let unseen = Scan { header: indexed.field_order, ..Scan::default() };
    let is_tall = job.stream.height.is_none_or(|lines| lines > MAX_LINES);
    let Some(frames) = indexed.frames.as_ref().filter(|_| !is_tall) else { return Ok(unseen) };
    if !job.subject.ffmpeg.filters.contains("idet") {
        return Ok(unseen);
    }
    let places = places(job, frames);
    let num_frames = if unseen.header.is_some() { NUM_FRAMES_DOUBTFUL } else { NUM_FRAMES };
    let per_place = num_frames / u32::try_from(places.len().max(1)).unwrap_or(1);
    let mut look = Run::new(&job.subject.ffmpeg.ffmpeg, args(job, &places, per_place));
    look.access = Access { read: vec![job.subject.source.to_owned()], write: Vec::new() };
    look.limits.wall = WALL;
    look.landlock = job.subject.ffmpeg.landlock();
    match run(look, job.subject.cancel.clone()).await {
        Ok(output) => {
            effort.add(&output);
            Ok(count(unseen, &output.stderr_tail))
        }
        Err(RunError::Cancelled) => Err(RunError::Cancelled),
        Err(_) => Ok(unseen),
    }
}

/// Microseconds to seek to; `None` starts at the beginning.
fn places(job: &Job<'_>, frames: &FrameIndex) -> Vec<Option<i64>> {
    let (Some(first), Some(last)) = (frames.pts.first(), frames.pts.last()) else { return vec![None] };
    let timebase = job.timebase();
    let length = MediaTime::new(last.saturating_sub(first), timebase);
    if job.options.is_partial || !frames.is_seekable || length.seconds() < SHORT_SECONDS {
        return vec![None];
    }
    // Opening a transport stream takes long: one place has to do.
    let eighths: &[i64] = if job.container == Container::MpegTs { &[4] } else { &[1, 4, 7] };
    let start = MediaTime::new(first, timebase).micros_floor();
    let length = length.micros_floor();
    eighths.iter().map(|n| Some(start.saturating_add((length / 8).saturating_mul(*n)))).collect()
}

fn args(job: &Job<'_>, places: &[Option<i64>], num_frames: u32) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"].map(Into::into).into();
    let mut graph = Vec::new();
    for (number, place) in places.iter().enumerate() {
        args.extend(input_options(job.demuxer).into_iter().map(OsString::from));
        args.extend(decoder_options().into_iter().map(OsString::from));
        args.extend(["-threads:v", "1"].map(OsString::from));
        if let Some(at) = place {
            args.extend(["-ss".into(), seconds(*at).into()]);
            args.extend(["-seek_timestamp", "1", "-noaccurate_seek"].map(OsString::from));
        }
        args.extend(["-copyts".into(), "-i".into(), job.subject.link.url()]);
        graph.push(format!(
            "[{number}:{}]trim=end_frame={num_frames},idet=intl_thres={THRESHOLD}[v{number}]",
            job.stream.index
        ));
    }
    args.extend(["-filter_complex".into(), graph.join(";").into()]);
    for number in 0..places.len() {
        args.extend(["-map".into(), format!("[v{number}]").into()]);
        args.extend(["-f", "null", "-"].map(OsString::from));
    }
    args
}

/// Adds what idet says at its end: `Single frame detection: TFF:     0 BFF:     0 Progressive:   111 Undetermined:    15`.
/// Its verdict over several frames would count still pictures after one wrong guess like that guess.
fn count(mut scan: Scan, lines: &[String]) -> Scan {
    for line in lines {
        let Some((_, counts)) = line.split_once("Single frame detection:") else { continue };
        let mut words = counts.split_whitespace();
        while let (Some(name), Some(number)) = (words.next(), words.next()) {
            let number = number.parse().unwrap_or(0);
            let sum = match name {
                "TFF:" => &mut scan.top_first,
                "BFF:" => &mut scan.bottom_first,
                "Progressive:" => &mut scan.progressive,
                "Undetermined:" => &mut scan.undetermined,
                _ => continue,
            };
            *sum = sum.saturating_add(number);
        }
    }
    scan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_places_are_added() {
        let lines = [
            "[Parsed_idet_1 @ 0x1] [info] Multi frame detection: TFF:     9 BFF:     9 Progressive:     9 Undetermined:    9",
            "[Parsed_idet_1 @ 0x1] [info] Single frame detection: TFF:    10 BFF:     1 Progressive:     2 Undetermined:    3",
            "[Parsed_idet_3 @ 0x2] [info] Single frame detection: TFF:     1 BFF:     0 Progressive:     4 Undetermined:    0",
            "Single frame detection: TFF:",
        ];
        let found = count(Scan::default(), &lines.map(str::to_owned));
        assert_eq!((found.top_first, found.bottom_first, found.progressive), (11, 1, 6));
    }
}
