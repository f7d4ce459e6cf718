//! The indexing of one video track: what is known at its start.

use super::describe::{Stream, fraction};
use super::moov::Boxed;
use super::options::ProbeOptions;
use super::scans::{ScanLimits, Subject};
use crate::process::ProgressSink;
use splitreel_core::source::Container;
use splitreel_core::{MediaTime, Rational};
use std::time::Duration;

/// A transport stream whose decode times jump by more has a break.
const MAX_GAP_SECONDS: i64 = 10;

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

impl Job<'_> {
    pub(crate) fn limits(&self, max_frames: usize, wall: Duration) -> ScanLimits {
        // Only a transport's clock breaks; elsewhere a long pause is a long picture.
        let max_gap = match (self.demuxer, self.stream.timebase()) {
            ("mpegts" | "mpeg", Some(timebase)) => {
                MediaTime::new(MAX_GAP_SECONDS, Rational::ONE).rescale(timebase).ticks
            }
            _ => i64::MAX,
        };
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
