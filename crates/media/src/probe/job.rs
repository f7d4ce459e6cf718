//! The indexing of one video track: what is known at its start.

use super::describe::Stream;
use super::fraction::fraction;
use super::moov::Boxed;
use super::options::ProbeOptions;
use super::scans::{ScanLimits, Subject};
use crate::process::ProgressSink;
use splitreel_core::Rational;
use splitreel_core::clock::StepLimits;
use splitreel_core::source::Container;
use std::time::Duration;

/// What is known when a video track is indexed.
pub(crate) struct Job<'a> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) demuxer: &'a str,
    pub(crate) container: Container,
    pub(crate) stream: &'a Stream,
    pub(crate) boxed: Option<&'a Boxed>,
    pub(crate) file_bytes: u64,
    pub(crate) options: &'a ProbeOptions,
    pub(crate) progress: &'a ProgressSink,
}

/// Longest step backwards in seconds that is disorder; beyond it the clock was set back.
const MAX_STEP_BACK_SECONDS: f64 = 1.0;

/// Steps of the clock that are no jump. `None`: only a transport's clock jumps; elsewhere a long pause is a long picture.
pub(crate) fn step_limits(demuxer: &str, timebase: Rational, options: &ProbeOptions) -> Option<StepLimits> {
    let jump = options.source.clock_jump_seconds;
    let ticks = |seconds: f64| (seconds / timebase.to_f64()) as i64;
    let limits = StepLimits { ahead: ticks(jump), back: ticks(jump.min(MAX_STEP_BACK_SECONDS)) };
    matches!(demuxer, "mpegts" | "mpeg").then_some(limits)
}

impl Job<'_> {
    pub(crate) fn limits(&self, max_frames: usize, wall: Duration) -> ScanLimits {
        let limits = step_limits(self.demuxer, self.timebase(), self.options);
        let max_gap = limits.map_or(i64::MAX, |limits| limits.ahead);
        ScanLimits { max_frames, max_gap, wall }
    }

    pub(crate) fn timebase(&self) -> Rational {
        self.stream.timebase().unwrap_or(Rational::ONE)
    }

    /// Ticks per frame at the average and at the base frame rate, as far as they are announced.
    pub(crate) fn ticks_per_frame(&self) -> Vec<Rational> {
        [&self.stream.avg_frame_rate, &self.stream.r_frame_rate]
            .into_iter()
            .filter_map(|text| fraction(text.as_deref()?, '/'))
            .filter_map(|rate| Rational::ONE.over(rate)?.over(self.timebase()))
            .collect()
    }
}
