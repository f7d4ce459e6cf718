//! The source's frames on the output clock, and the timeline's segments with their seek points.

use super::color::Assumed;
use super::{Context, Notes, ticks_between};
use crate::failure::{Failure, FailureCode};
use crate::plan::{Segment, Timeline};
use crate::source::VideoTrack;
use crate::stated::StatedPicture;
use crate::time::{MediaTime, OutputTicks, Rational, SourceTicks, rescale};

/// The source's frames in both clocks.
pub(super) struct Clock {
    /// Frames of the source.
    pub(super) frames: Vec<SourceTicks>,
    /// The same frames in the output.
    pub(super) output: Vec<OutputTicks>,
    /// Frames that the container lists and that do not decode.
    pub(super) num_lost: u64,
    /// The timeline, without segments.
    pub(super) timeline: Timeline,
    /// Length of the video by its own times: without a longer display of its first and last frame.
    pub(super) shown: OutputTicks,
}

impl Clock {
    /// # Errors
    /// A source without frames, or with a timebase too fine for the output.
    pub(super) fn new(context: &Context<'_>, track: &VideoTrack) -> Result<Self, Failure> {
        let frames: Vec<SourceTicks> = track.frames.pts.iter().map(SourceTicks).collect();
        let (Some(&first), Some(&last)) = (frames.first(), frames.last()) else {
            return Err(Failure::of(FailureCode::NoFrames, "the video track has no frames"));
        };
        let own_end = last.saturating_add(SourceTicks(track.frames.last_duration.max(1))).at(track.timebase);
        let late = context.late(first.at(track.timebase));
        let is_short = context.is_short(own_end);
        let before = late.then_some((context.origin, first.at(track.timebase)));
        let behind = is_short.then_some((last.at(track.timebase), context.end));
        let longest = longest_ticks(&frames, track.timebase, [before, behind]);
        let timescale = timescale(longest, track.timebase);
        let mut timeline = Timeline {
            stream: track.stream,
            evidence: track.frames.evidence,
            source_timebase: track.timebase,
            clock: context.info.clocks.get(&track.stream).cloned(),
            stamping: track.frames.stamping.clone(),
            assumed_matrix: Assumed::of(track).missing_matrix(),
            decoder: track.decoder.clone(),
            stated: Some(StatedPicture::of_source(track)),
            timescale,
            first,
            output_start: OutputTicks::ZERO,
            held: OutputTicks::ZERO,
            output_end: OutputTicks::ZERO,
            segments: Vec::new(),
        };
        let since_origin = ticks_between(context.origin, first.at(track.timebase), timeline.output_timebase());
        let since_origin = OutputTicks(since_origin.max(0));
        if late {
            timeline.held = since_origin;
        } else {
            timeline.output_start = since_origin;
        }
        let output: Vec<OutputTicks> = frames.iter().map(|p| timeline.output(*p)).collect();
        if !output.is_sorted_by(|earlier, later| earlier < later) {
            return Err(Failure::of(FailureCode::Timebase, "the source's timebase is too fine to be kept exactly"));
        }
        let end = timeline.output(last.saturating_add(SourceTicks(track.frames.last_duration.max(1))));
        let past_last = output.last().copied().unwrap_or_default() + OutputTicks(1);
        timeline.output_end = end.max(past_last);
        let shown = timeline.output_end - timeline.output_start - timeline.held;
        if is_short {
            let end = ticks_between(context.origin, context.end, timeline.output_timebase());
            timeline.output_end = timeline.output_end.max(OutputTicks(end));
        }
        Ok(Clock { frames, output, num_lost: track.num_lost, timeline, shown })
    }

    /// Notes a first or last frame that is shown longer than its own time.
    pub(super) fn note_edges(&self, notes: &mut Notes) {
        let seconds = |ticks: OutputTicks| ticks.at(self.timeline.output_timebase()).seconds();
        let held = self.timeline.held;
        if held > OutputTicks::ZERO {
            let choice = format!("first frame shown {:.3} s longer", seconds(held));
            notes.add("video edges", choice, "audio starts earlier: every player then keeps the tracks in step");
        }
        let after = self.timeline.output_end - self.timeline.output_start - held - self.shown;
        if after > OutputTicks::ZERO {
            let choice = format!("last frame shown {:.3} s longer", seconds(after));
            notes.add("video edges", choice, "audio ends later: players stop where one track ends");
        }
    }

    /// Seconds from the first frame to frame `at` by the source's times.
    pub(super) fn seconds(&self, at: usize) -> f64 {
        let tick = self.output.get(at).copied().unwrap_or(self.timeline.output_end);
        let since = tick - self.own_start();
        since.max(OutputTicks::ZERO).at(self.timeline.output_timebase()).seconds()
    }

    /// Length of the video in seconds by the source's times.
    pub(super) fn total(&self) -> f64 {
        self.shown.at(self.timeline.output_timebase()).seconds()
    }

    /// Time of the first frame in the source, on the output clock: the frame may be shown earlier.
    pub(super) fn own_start(&self) -> OutputTicks {
        self.timeline.output_start + self.timeline.held
    }

    /// Nearest output tick of a length in seconds.
    pub(super) fn ticks(&self, seconds: f64) -> OutputTicks {
        OutputTicks((seconds * f64::from(self.timeline.timescale)).round() as i64)
    }

    /// Half-open ranges of frame numbers between the cuts, each with its end in the output.
    pub(super) fn ranges(&self, cut_at: &[usize]) -> Vec<(std::ops::Range<usize>, OutputTicks)> {
        let ends = cut_at.iter().skip(1).copied().chain([self.frames.len()]);
        let range = |(a, b): (usize, usize)| (a..b, self.output.get(b).copied().unwrap_or(self.timeline.output_end));
        cut_at.iter().copied().zip(ends).map(range).collect()
    }

    /// The segments that start at given frames.
    pub(super) fn segments(&self, track: &VideoTrack, cut_at: &[usize], may_seek: bool) -> Vec<Segment> {
        let segment = |(index, (range, output_end)): (u32, (std::ops::Range<usize>, OutputTicks))| {
            let start = self.frames.get(range.start).copied()?;
            let seek = if index == 0 || !may_seek { Vec::new() } else { self.seek_points(track, start) };
            Some(Segment {
                index,
                start,
                end: self.frames.get(range.end).copied(),
                output_start: self.output.get(range.start).copied()?,
                output_end,
                seek_limit: seek.first().and_then(|key| keyframe_after(track, *key)),
                seek,
            })
        };
        (0..).zip(self.ranges(cut_at)).filter_map(segment).collect()
    }

    /// Keyframes to seek to for a segment start, nearest first. Empty means: decode from the beginning.
    fn seek_points(&self, track: &VideoTrack, start: SourceTicks) -> Vec<SourceTicks> {
        let index = &track.frames;
        if !index.is_seekable {
            return Vec::new();
        }
        let before = index.keyframes.iter().rev().map(|k| SourceTicks(k.pts)).filter(|k| *k <= start);
        before.skip(usize::from(index.needs_run_in)).take(2).filter(|k| *k > self.timeline.first).collect()
    }
}

fn keyframe_after(track: &VideoTrack, key: SourceTicks) -> Option<SourceTicks> {
    let keyframes = &track.frames.keyframes;
    keyframes.get(keyframes.partition_point(|k| k.pts <= key.get())).map(|k| SourceTicks(k.pts))
}

/// The longest display of a frame in source ticks: between two frames, or over one of `stretches` from time to time.
fn longest_ticks(frames: &[SourceTicks], tb: Rational, stretches: [Option<(MediaTime, MediaTime)>; 2]) -> i64 {
    let gaps = frames.iter().zip(frames.iter().skip(1)).map(|(a, b)| (*b - *a).get());
    let stretches = stretches.into_iter().flatten().map(|(from, until)| ticks_between(from, until, tb));
    gaps.chain(stretches).max().unwrap_or(1)
}

/// Ticks per second in which every frame time of the source is a whole number (as far as 32 bits reach).
fn timescale(longest: i64, tb: Rational) -> u32 {
    let den = tb.den();
    let exact = if 90_000 % den == 0 {
        90_000
    } else if den >= 10_000 {
        den
    } else {
        den * (10_000 + den - 1).div_euclid(den)
    };
    // Sample durations are 32-bit ticks: a frame that stands for hours must still fit.
    let fits = |ts: i64| rescale(longest, tb, Rational::new(1, ts).unwrap_or(Rational::ONE)) < i64::from(u32::MAX) / 2;
    let chosen = if exact <= 10_000_000 && fits(exact) {
        exact
    } else if fits(1_000_000) {
        1_000_000
    } else {
        1_000
    };
    u32::try_from(chosen).unwrap_or(90_000)
}
