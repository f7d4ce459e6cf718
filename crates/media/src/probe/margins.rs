//! Packets around the requested ones that ffmpeg's demuxers and decoders read, by container.

use super::ebml::Outline;
use crate::encode::{PULLED_BACK_US, WELL_BEFORE_US};
use splitreel_core::ranges::Margins;
use splitreel_core::source::Container;
use splitreel_core::{MediaTime, Rational};
use std::ops::Range;

/// Video packets at the start that ffmpeg looks at when it opens a file: enough to know the decoder's delay.
const HEAD_PACKETS: u64 = 24;
/// The same of a Matroska file, whose times are coarse, when the frame rate has to be found too.
const HEAD_PACKETS_FOR_RATE: u64 = 46;
/// Nanoseconds per frame that ffmpeg takes a Matroska file's word for: rates between 5 and 1000.
const BELIEVED_FRAME_NS: Range<u64> = 1_000_001..200_000_000;
/// More packets than codecs reorder in practice.
const LEAD_PACKETS: u32 = 10;
/// The same where the input ends behind them: at the end of its input a decoder delivers every frame it holds.
const LEAD_PACKETS_AT_END: u32 = 2;

/// Bytes of a source that ffmpeg reads in addition to the requested packets; `outline` belongs to Matroska files.
pub(crate) fn margins(container: Container, timebase: Rational, outline: Option<&Outline>) -> Margins {
    let is_rate_told = outline.and_then(|outline| outline.frame_ns).is_some_and(|ns| BELIEVED_FRAME_NS.contains(&ns));
    let is_rate_sought = container == Container::Matroska && !is_rate_told;
    let is_compact = container == Container::MpegTs;
    Margins {
        head_packets: if is_rate_sought { HEAD_PACKETS_FOR_RATE } else { HEAD_PACKETS },
        run_in: run_in(container, timebase),
        lead_packets: if is_compact { LEAD_PACKETS_AT_END } else { LEAD_PACKETS },
    }
}

/// Ticks in front of a keyframe that a reader starts at: where seeks land anywhere, they aim early, and what a decoder
/// has seen before the keyframe decides how it orders pictures.
fn run_in(container: Container, timebase: Rational) -> i64 {
    if container != Container::MpegTs {
        return 0;
    }
    // One packet more than the exact time needs, whichever way the time is rounded.
    const ROUNDING_US: i64 = 10_000;
    let early = WELL_BEFORE_US + PULLED_BACK_US + ROUNDING_US;
    Rational::new(1, 1_000_000).map_or(0, |micro| MediaTime::new(early, micro).rescale(timebase).ticks)
}
