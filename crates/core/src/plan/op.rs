//! Operations on decoded frames and samples. What each means is here; how ffmpeg is asked for it, only `media` knows.

use crate::source::{Color, FieldOrder};
use crate::time::{Rational, SourceTicks};
use serde::{Deserialize, Serialize};

/// An operation on decoded frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum VideoOp {
    /// One full frame from the fields of each frame, at the frame's time; or one from each field.
    Deinterlace {
        /// Which field is earlier.
        order: FieldOrder,
        /// Whether each field becomes a frame.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        each_field: bool,
    },
    /// Put transparent frames on black. Alpha is not multiplied in yet, as in WebM, PNG and QuickTime.
    Flatten {
        /// ffmpeg's name of the frames' pixel format.
        pixel_format: String,
    },
    /// HDR (PQ or HLG) to BT.709 SDR, 8 bit 4:2:0, limited range.
    ToneMap {
        /// Colour of the frames. Every field is set.
        from: Color,
    },
    /// Keep the frames of a list.
    Choose {
        /// The rule of the list.
        rule: FrameRule,
    },
    /// Resize, and convert range and matrix. Both ends are stated: frames may carry other tags, or none.
    Scale {
        /// Storage width in pixels.
        width: u32,
        /// Storage height in pixels.
        height: u32,
        /// Samples of the frames.
        from: Levels,
        /// Samples of the result.
        to: Levels,
    },
    /// Convert to a pixel format.
    Format {
        /// ffmpeg's name of the pixel format.
        pixel_format: String,
    },
    /// Set the sample aspect ratio; pixels stay.
    SampleAspect {
        /// The ratio.
        sar: Rational,
    },
}

/// What the numbers of samples mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Black to white take all numbers (`pc`), not 16 to 235 at 8 bit (`tv`).
    pub is_full: bool,
    /// Matrix coefficients by ffmpeg's name; `gbr` for red, green and blue, empty to leave them alone.
    pub matrix: String,
}

impl VideoOp {
    /// Whether the operation reads neighbouring frames: frames may be cut off only behind it.
    pub fn reads_neighbours(&self) -> bool {
        match self {
            // Times of neighbours are compared, which trimming keeps; no neighbour's pixels are read.
            VideoOp::Choose { .. } => false,
            VideoOp::Deinterlace { .. } => true,
            VideoOp::Flatten { .. } => false,
            VideoOp::ToneMap { .. } | VideoOp::Scale { .. } | VideoOp::Format { .. } | VideoOp::SampleAspect { .. } => {
                false
            }
        }
    }
}

/// An operation on decoded audio samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum AudioOp {
    /// Convert to a sample rate; fill gaps with silence and cut overlaps.
    Resample {
        /// Samples per second.
        sample_rate: u32,
    },
    /// Mix to a channel layout.
    Remix {
        /// ffmpeg's name of the layout; empty = the usual one for the number of channels.
        layout: String,
        /// Channels.
        channels: u16,
    },
    /// Hold the true peak of a mix to fewer channels (ITU-R BS.1770-4 annex 2) below −2.5 dBFS: coherent channels add up
    /// to more than full scale. Softer samples stay as they are.
    Limit,
}

/// Rule that chooses frames from the source's list, in integers. The first frame of the source is always chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum FrameRule {
    /// All of them.
    All,
    /// Every second one, counted from the first frame of the source.
    EverySecond,
    /// The first one of each slot; slots of `1/rate` seconds are counted from the first frame of the source.
    FirstOfSlot {
        /// Slots per second.
        rate: Rational,
    },
}

impl FrameRule {
    /// The slot of a frame, see [`FrameRule::FirstOfSlot`]: `since` ticks after the first frame of the source.
    ///
    /// Half a tick is added: the container rounded the time to a whole tick, so a frame on the edge of a slot may be
    /// stated up to half a tick early.
    pub fn slot(rate: Rational, timebase: Rational, since: SourceTicks) -> i128 {
        let (num, den) = slot_ratio(rate, timebase);
        ((i128::from(since.get()) * 2 + 1) * i128::from(num)).div_euclid(i128::from(den) * 2)
    }

    /// Positions of the chosen frames in the source's list.
    pub fn choose(self, frames: &[SourceTicks], timebase: Rational) -> Vec<usize> {
        let Some(first) = frames.first().copied() else { return Vec::new() };
        match self {
            FrameRule::All => (0..frames.len()).collect(),
            FrameRule::EverySecond => (0..frames.len()).step_by(2).collect(),
            FrameRule::FirstOfSlot { rate } => {
                let mut before = None;
                let mut opens_slot = |frame: &SourceTicks| {
                    let slot = Some(Self::slot(rate, timebase, *frame - first));
                    std::mem::replace(&mut before, slot) != slot
                };
                (0..).zip(frames).filter(|(_, frame)| opens_slot(frame)).map(|(at, _)| at).collect()
            }
        }
    }
}

/// Slots per source tick as a reduced fraction, numerator and denominator.
pub fn slot_ratio(rate: Rational, timebase: Rational) -> (i64, i64) {
    let ratio = rate.times(timebase).unwrap_or(Rational::ONE);
    (ratio.num(), ratio.den())
}
