//! Runs over the source with ffprobe: description, packets, decoded frames, first samples. Parses line by line, bounded.

use super::candidate::{Candidate, Collector, Packet};
use super::describe::{Description, ENTRIES};
use super::side_data::{self, SideDataEntry};
use crate::detect::Ffmpeg;
use crate::encode::{input_options, seconds};
use crate::process::{Access, Output, Progress, ProgressSink, Run, RunError, Stdout, run};
use crate::scratch::NeutralName;
use splitreel_core::clock::{ClockScan, Closing, StepLimits, TrackClock};
use splitreel_core::ranges::Margins;
use splitreel_core::source::{FieldOrder, IndexEvidence};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Demuxers that may open a source: files that hold their media themselves, nothing that points elsewhere. A demuxer belongs
/// here when its source code in ffmpeg opens no file, address or further demuxer.
pub(crate) const DEMUXERS: &str = "mov,matroska,mpegts,avi,flv,live_flv,kux,ogg,ivf,mxf,wav,w64,aiff,caf,flac,mp3,aac,ac3,\
eac3,dts,truehd,h261,h263,h264,hevc,vvc,obu,av1,m4v,mpeg,mpegvideo,vc1,vc1test,cavsvideo,dirac,dnxhd,asf,wtv,dv,gxf,nut,\
y4m,yuv4mpegpipe,gif,apng,mjpeg,mpjpeg,smjpeg,dhav,nsv,nuv,rm,swf,pva,ty,loas,amr,amrnb,amrwb,ape,wv,tta,tak,au,voc,oma,\
dsf,mpc,mpc8";

/// Bytes of a description: a thousand streams fit.
const MAX_DESCRIPTION_BYTES: usize = 16 << 20;
/// Bytes of a scan's lines; ten hours at 120 frames per second fit.
const MAX_SCAN_BYTES: u64 = 4 << 30;
/// Number of frames or packets from one progress report to the next.
const REPORT_EVERY: u64 = 50;

/// The source of a scan, under the neutral name that ffprobe opens.
pub(crate) struct Subject<'a> {
    pub(crate) ffmpeg: &'a Ffmpeg,
    pub(crate) source: &'a Path,
    pub(crate) link: &'a NeutralName,
    pub(crate) cancel: &'a CancellationToken,
}

impl Subject<'_> {
    async fn ffprobe(&self, args: Vec<String>, stdout: Stdout, wall: Duration) -> Result<Output, RunError> {
        let mut all: Vec<OsString> = vec!["-hide_banner".into(), "-loglevel".into(), "level+error".into()];
        all.extend(args.into_iter().map(OsString::from));
        all.extend([OsString::from("-i"), self.link.url()]);
        let mut probe = Run::new(&self.ffmpeg.ffprobe, all);
        probe.stdout = stdout;
        probe.access = Access { read: vec![self.source.to_owned()], write: Vec::new() };
        probe.limits.wall = wall;
        probe.landlock = self.ffmpeg.landlock();
        run(probe, self.cancel.clone()).await
    }

    /// What the container says. `demuxer` is empty as long as it is not known.
    pub(crate) async fn describe(&self, demuxer: &str) -> Result<(Description, Output), RunError> {
        let mut args = if demuxer.is_empty() {
            [
                "-protocol_whitelist",
                "file",
                "-format_whitelist",
                DEMUXERS,
                "-probesize",
                "20M",
                "-analyzeduration",
                "10M",
            ]
            .map(str::to_owned)
            .into()
        } else {
            input_options(demuxer)
        };
        args.extend(
            [
                "-show_streams",
                "-show_programs",
                "-show_chapters",
                "-show_format",
                "-show_entries",
                ENTRIES,
                "-of",
                "json",
            ]
            .map(str::to_owned),
        );
        let stdout = Stdout::Collect { limit_bytes: MAX_DESCRIPTION_BYTES };
        let mut output = self.ffprobe(args, stdout, Duration::from_secs(120)).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.stdout.clear();
        // Something that is no JSON describes nothing.
        Ok((serde_json::from_str(&text).unwrap_or_default(), output))
    }

    /// Name of the source's container, where it is none of [`DEMUXERS`]. Opens no demuxer.
    pub(crate) async fn unsupported_container(&self) -> Option<String> {
        let args = ["-loglevel", "level+debug", "-protocol_whitelist", "file", "-format_whitelist", DEMUXERS];
        let stdout = Stdout::Collect { limit_bytes: MAX_DESCRIPTION_BYTES };
        let ended = self.ffprobe(args.map(str::to_owned).into(), stdout, Duration::from_secs(60)).await;
        let Err(RunError::Exit { tail, .. }) = ended else { return None };
        tail.iter().find_map(|line| probed_container(line))
    }

    /// All packets of a stream.
    pub(crate) async fn packets(
        &self,
        (demuxer, stream): (&str, u32),
        limits: ScanLimits,
        margins: Margins,
        progress: ProgressSink,
    ) -> Result<(Candidate, Output), RunError> {
        let mut args = input_options(demuxer);
        args.extend(["-select_streams".into(), stream.to_string()]);
        args.extend(
            ["-show_entries", "packet=pts,dts,duration,size,pos,flags", "-of", "compact=p=0"].map(str::to_owned),
        );
        let collector = Collector::new(IndexEvidence::PacketScan, limits.max_frames, limits.max_gap, margins);
        let collector = Arc::new(Mutex::new(collector));
        let sink = {
            let collector = Arc::clone(&collector);
            let is_mov = demuxer == "mov";
            move |line: &[u8]| {
                let Some(packet) = parse_packet(line, is_mov) else { return ControlFlow::Continue(()) };
                let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
                if !collector.push(packet) {
                    return ControlFlow::Break(());
                }
                report(&progress, collector.num_packets());
                ControlFlow::Continue(())
            }
        };
        let stdout = Stdout::Lines { sink: Box::new(sink), limit_bytes: MAX_SCAN_BYTES };
        let output = self.ffprobe(args, stdout, limits.wall).await?;
        let collector = {
            let mut slot = collector.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, Collector::new(IndexEvidence::PacketScan, 0, 0, margins))
        };
        Ok((collector.finish(), output))
    }

    /// Looks for jumps of the clock in the packets of all streams. `limits`: steps that are none.
    pub(crate) async fn clock(
        &self,
        demuxer: &str,
        limits: StepLimits,
        wall: Duration,
    ) -> Result<(ClockScan, Output), RunError> {
        let mut args = input_options(demuxer);
        args.extend(["-show_entries", "packet=stream_index,pts,dts,duration", "-of", "compact=p=0"].map(str::to_owned));
        let scan = Arc::new(Mutex::new(ClockScan::new(limits)));
        let sink = {
            let scan = Arc::clone(&scan);
            move |line: &[u8]| {
                let stream = field(line, "stream_index").and_then(|text| text.parse::<u32>().ok());
                let (pts, dts) = (number(line, "pts"), number(line, "dts"));
                if let (Some(stream), Some(pts), Some(dts)) = (stream, pts.or(dts), dts.or(pts)) {
                    let duration = number(line, "duration").unwrap_or(0);
                    scan.lock().unwrap_or_else(PoisonError::into_inner).push(stream, pts, dts, duration);
                }
                ControlFlow::Continue(())
            }
        };
        let stdout = Stdout::Lines { sink: Box::new(sink), limit_bytes: MAX_SCAN_BYTES };
        let output = self.ffprobe(args, stdout, wall).await?;
        let scan = scan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((scan, output))
    }

    /// Decodes a stream once; at most `limits.max_frames` frames.
    pub(crate) async fn frames(
        &self,
        (demuxer, stream): (&str, u32),
        threading: Threading,
        limits: ScanLimits,
        clock: Option<&TrackClock>,
        progress: ProgressSink,
    ) -> Result<(Shown, Output), RunError> {
        let mut args = input_options(demuxer);
        if threading == Threading::Fast {
            args.extend(["-threads", "0"].map(str::to_owned));
        }
        args.extend(["-select_streams".to_owned(), stream.to_string()]);
        args.extend(
            [
                "-show_entries",
                "frame=key_frame,pts,best_effort_timestamp,interlaced_frame,top_field_first",
                "-of",
                "compact=p=0",
            ]
            .map(str::to_owned),
        );
        let closing = clock.cloned().map(Closing::new);
        let shown = Arc::new(Mutex::new(Shown { closing, ..Shown::default() }));
        let sink = {
            let shown = Arc::clone(&shown);
            move |line: &[u8]| {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.line(line);
                report(&progress, shown.num_frames);
                let is_full = shown.own.len() >= limits.max_frames;
                if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        };
        let stdout = Stdout::Lines { sink: Box::new(sink), limit_bytes: MAX_SCAN_BYTES };
        let output = tolerate_exit(self.ffprobe(args, stdout, limits.wall).await)?;
        let shown = std::mem::take(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((shown, output))
    }

    /// Side data of a stream's first frame.
    pub(crate) async fn first_side_data(
        &self,
        demuxer: &str,
        stream: u32,
    ) -> Result<(Vec<SideDataEntry>, Output), RunError> {
        let mut args = input_options(demuxer);
        args.extend(["-select_streams".to_owned(), stream.to_string()]);
        args.extend(["-read_intervals", "%+#1", "-show_frames", "-show_entries"].map(str::to_owned));
        args.extend([format!("frame=pts:frame_side_data={}", side_data::LIGHT), "-of".into(), "json".into()]);
        let stdout = Stdout::Collect { limit_bytes: MAX_DESCRIPTION_BYTES };
        let output = tolerate_exit(self.ffprobe(args, stdout, Duration::from_secs(60)).await)?;
        Ok((side_data::of_first_frame(&output.stdout), output))
    }

    /// Times of the frames that a decoder shows of parts of a stream: each from a seek (`None`: the beginning) up to a time,
    /// in microseconds.
    pub(crate) async fn frames_within(
        &self,
        (demuxer, stream): (&str, u32),
        spans: &[(Option<i64>, i64)],
    ) -> Result<(BTreeSet<i64>, Output), RunError> {
        let mut args = input_options(demuxer);
        let intervals: Vec<String> = spans
            .iter()
            .map(|(from, end)| format!("{}%{}", from.map(seconds).unwrap_or_default(), seconds(*end)))
            .collect();
        args.extend(["-read_intervals".into(), intervals.join(",")]);
        args.extend(["-select_streams".to_owned(), stream.to_string()]);
        args.extend(["-show_entries", "frame=best_effort_timestamp", "-of", "compact=p=0"].map(str::to_owned));
        let shown = Arc::new(Mutex::new(BTreeSet::new()));
        let sink = {
            let shown = Arc::clone(&shown);
            move |line: &[u8]| {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.extend(number(line, "best_effort_timestamp"));
                ControlFlow::Continue(())
            }
        };
        let stdout = Stdout::Lines { sink: Box::new(sink), limit_bytes: 16 << 20 };
        let output = tolerate_exit(self.ffprobe(args, stdout, Duration::from_secs(120)).await)?;
        let shown = std::mem::take(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((shown, output))
    }

    /// Presentation times of the first decoded samples of audio streams, by stream index: of several streams within
    /// the first seconds, of a single one wherever it begins.
    pub(crate) async fn first_samples(
        &self,
        demuxer: &str,
        streams: &[u32],
        reach: Reach,
    ) -> Result<(BTreeMap<u32, i64>, Output), RunError> {
        let mut args = input_options(demuxer);
        let wall = match (reach, streams) {
            (Reach::WholeFile(wall), [stream]) => {
                args.extend(["-select_streams".to_owned(), stream.to_string()]);
                wall
            }
            _ => {
                args.extend(["-select_streams", "a", "-read_intervals", "%+5"].map(str::to_owned));
                Duration::from_secs(120)
            }
        };
        args.extend(
            ["-show_entries", "frame=stream_index,best_effort_timestamp", "-of", "compact=p=0"].map(str::to_owned),
        );
        let found = Arc::new(Mutex::new(BTreeMap::new()));
        let sink = {
            let found = Arc::clone(&found);
            let wanted = streams.to_vec();
            move |line: &[u8]| {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let stream = field(line, "stream_index").and_then(|text| text.parse::<u32>().ok());
                if let (Some(stream), Some(pts)) = (stream, number(line, "best_effort_timestamp")) {
                    found.entry(stream).or_insert(pts);
                }
                let is_complete = wanted.iter().all(|stream| found.contains_key(stream));
                if is_complete { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        };
        let stdout = Stdout::Lines { sink: Box::new(sink), limit_bytes: 256 << 20 };
        let output = tolerate_exit(self.ffprobe(args, stdout, wall).await)?;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((found, output))
    }
}

/// The container in ffmpeg's words about its first look at a file.
fn probed_container(line: &str) -> Option<String> {
    let name = line.split_once("] Format ")?.1.split_once(" probed with ")?.0;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | '-'));
    is_name.then(|| name.to_owned())
}

/// Accepts an error exit: ffprobe may list enough of a damaged source before it fails.
fn tolerate_exit(result: Result<Output, RunError>) -> Result<Output, RunError> {
    match result {
        Err(RunError::Exit { tail, .. }) => Ok(Output { stderr_tail: tail, ..Output::default() }),
        other => other,
    }
}

/// How far to look for a first sample.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// The first five seconds of the file.
    Start,
    /// To the end, within this much wall time.
    WholeFile(Duration),
}

/// How a scan decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threading {
    /// Several frames at a time. Shows more or other frames of a damaged source than one at a time does.
    Fast,
    /// One frame at a time, as workers do it.
    Exact,
}

/// Bounds of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanLimits {
    pub(crate) max_frames: usize,
    /// Distance of decode times, in ticks, beyond which the timeline has a break.
    pub(crate) max_gap: i64,
    pub(crate) wall: Duration,
}

/// What a decoder shows.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Times in the order of display, strictly increasing.
    pub(crate) pts: Vec<i64>,
    /// Frames that came out, those left out of `pts` included.
    pub(crate) num_frames: u64,
    /// Time that each frame's own packet gave it, for all frames.
    pub(crate) own: Vec<Option<i64>>,
    /// Times of the keyframes among `pts`.
    pub(crate) keyframes: Vec<i64>,
    /// Frames without a time.
    pub(crate) num_untimed: u64,
    /// Frames without a time behind the last one that has a time.
    pub(crate) num_trailing: u64,
    /// Frames whose time repeats or runs back: number among all frames, and time.
    pub(crate) unordered: Vec<(u64, i64)>,
    /// Frames for which the decoder chose another time than their own packet's. The choice depends on the frames
    /// decoded before.
    pub(crate) num_departed: u64,
    pub(crate) num_interlaced: u64,
    /// Interlaced frames whose top field is the earlier one.
    pub(crate) num_top_first: u64,
    /// Takes the jumps of the clock out of all times.
    closing: Option<Closing>,
}

impl Shown {
    /// Field order of most interlaced frames; `None` without such frames.
    pub(crate) fn field_order(&self) -> Option<FieldOrder> {
        let is_top = self.num_top_first * 2 >= self.num_interlaced;
        let order = if is_top { FieldOrder::TopFirst } else { FieldOrder::BottomFirst };
        (self.num_interlaced > 0).then_some(order)
    }

    fn line(&mut self, line: &[u8]) {
        let Some(text) = field(line, "best_effort_timestamp") else { return };
        self.num_frames += 1;
        let is_interlaced = field(line, "interlaced_frame") == Some("1");
        self.num_interlaced += u64::from(is_interlaced);
        self.num_top_first += u64::from(is_interlaced && field(line, "top_field_first") == Some("1"));
        let (chosen, own) = (text.parse::<i64>().ok(), number(line, "pts"));
        let shift = match (&mut self.closing, chosen) {
            (Some(closing), Some(time)) => time.saturating_sub(closing.close(time)),
            _ => 0,
        };
        let (chosen, own) = (chosen.map(|pts| pts.saturating_sub(shift)), own.map(|pts| pts.saturating_sub(shift)));
        self.own.push(own);
        let Some(pts) = chosen else {
            self.num_untimed += 1;
            self.num_trailing += 1;
            return;
        };
        self.num_trailing = 0;
        self.num_departed += u64::from(own != Some(pts));
        if self.pts.last().is_some_and(|last| pts <= *last) {
            self.unordered.push((self.num_frames - 1, pts));
            return;
        }
        if field(line, "key_frame") == Some("1") {
            self.keyframes.push(pts);
        }
        self.pts.push(pts);
    }
}

impl Shown {
    /// Times of all frames in the order of display, those included that repeat or run back. Untimed frames have no
    /// place in it.
    pub(crate) fn all_times(&self) -> Vec<i64> {
        let mut unordered = self.unordered.iter().peekable();
        let mut ordered = self.pts.iter();
        (0..self.num_frames)
            .filter_map(|frame| match unordered.next_if(|(number, _)| *number == frame) {
                Some((_, pts)) => Some(*pts),
                None => ordered.next().copied(),
            })
            .collect()
    }
}

fn report(progress: &ProgressSink, frames: u64) {
    if frames.is_multiple_of(REPORT_EVERY) {
        progress(Progress { frames, ..Progress::default() });
    }
}

/// A value of a `key=value|key=value` line.
fn field<'a>(line: &'a [u8], key: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(line).ok()?;
    text.split('|').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

fn number(line: &[u8], key: &str) -> Option<i64> {
    field(line, key)?.parse().ok()
}

fn parse_packet(line: &[u8], is_mov: bool) -> Option<Packet> {
    let flags = field(line, "flags")?;
    let is_discarded = flags.contains('D');
    Some(Packet {
        pts: number(line, "pts"),
        dts: number(line, "dts"),
        duration: number(line, "duration").unwrap_or(0),
        size: number(line, "size").and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        position: number(line, "pos").and_then(|pos| u64::try_from(pos).ok()),
        // Sizes do not count what stands between the parts of a packet.
        end: None,
        // In mp4, a keyframe in front of the edit is decoded but not shown.
        is_key: flags.contains('K') && !(is_mov && is_discarded),
        is_discarded,
        is_corrupt: flags.contains('C'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packet_lines() {
        let packet = parse_packet(b"pts=3003|dts=N/A|duration=1001|size=4711|pos=564|flags=K__", false).unwrap();
        assert_eq!((packet.pts, packet.dts, packet.duration, packet.size), (Some(3003), None, 1001, 4711));
        assert_eq!(
            (packet.position, packet.is_key, packet.is_discarded, packet.is_corrupt),
            (Some(564), true, false, false)
        );
        let hidden = parse_packet(b"pts=0|dts=-1|duration=1|size=1|pos=N/A|flags=KD", true).unwrap();
        assert_eq!((hidden.is_key, hidden.is_discarded, hidden.position), (false, true, None));
        assert!(parse_packet(b"side_data|pts=", false).is_none());
    }

    #[test]
    fn containers_are_named_in_the_words_of_the_first_look() {
        let line = "[bink @ 0x55bd] [debug] Format bink probed with size=2048 and score=100";
        assert_eq!(probed_container(line).as_deref(), Some("bink"));
        assert_eq!(probed_container("[bink @ 0x55bd] [error] Format not on whitelist 'mov'"), None);
    }

    #[test]
    fn shown_frames_stay_in_order() {
        let mut shown = Shown::default();
        for text in ["0", "10", "10", "5", "N/A", "20"] {
            shown.line(format!("key_frame=1|pts=N/A|best_effort_timestamp={text}|interlaced_frame=1").as_bytes());
        }
        shown.line(b"something else");
        assert_eq!(shown.pts, [0, 10, 20]);
        assert_eq!(shown.keyframes, [0, 10, 20]);
        assert_eq!((shown.num_frames, shown.num_untimed, shown.num_departed, shown.num_interlaced), (6, 1, 5, 6));
        assert_eq!(shown.unordered, [(2, 10), (3, 5)]);
        assert_eq!((shown.num_trailing, shown.own.len()), (0, 6));
        shown.line(b"key_frame=0|pts=N/A|best_effort_timestamp=N/A|interlaced_frame=0|");
        shown.line(b"key_frame=0|pts=7|best_effort_timestamp=N/A|interlaced_frame=0");
        assert_eq!((shown.num_trailing, shown.num_untimed, shown.own.last()), (2, 3, Some(&Some(7))));
    }

    #[test]
    fn times_out_of_order_keep_their_places() {
        let mut shown = Shown::default();
        for text in ["0", "10", "10", "5", "20", "20"] {
            shown.line(format!("key_frame=1|pts={text}|best_effort_timestamp={text}").as_bytes());
        }
        assert_eq!((shown.all_times(), shown.num_departed), (vec![0, 10, 10, 5, 20, 20], 0));
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut shown = Shown::default();
            shown.line(&line);
            prop_assert!(shown.pts.len() as u64 <= shown.num_frames);
            let _ = parse_packet(&line, true);
        }
    }
}
