//! Output tracks: which stream they come from, how they are cut and how they are made.

use super::{AudioOp, VideoOp};
use crate::clock::TrackClock;
use crate::profile::{AudioCodec, VideoCodec};
use crate::side_data::SideData;
use crate::source::Color;
use crate::time::{MediaTime, OutputTicks, Rational};
use serde::{Deserialize, Serialize};

/// One output track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackPlan {
    /// `720p`, `source`, `1-eng` and the like; lower-case, file-name safe, unique within its kind.
    pub id: String,
    /// ffmpeg stream index in the source.
    pub source_stream: u32,
    /// Ticks per second; for audio the sample rate in Hz.
    pub timescale: u32,
    /// Composition delay: the same in every part, hidden by the edit list. 0 where only the encoder knows the delay
    /// (priming of audio).
    pub delay: OutputTicks,
    /// Container of the media segments.
    pub container: TrackContainer,
    /// Encryption.
    #[serde(default)]
    pub protection: Protection,
    /// What players show.
    pub label: Label,
    /// How the track is divided into tasks and media segments.
    pub cut: Cut,
    /// Kind of media and how it is made.
    pub media: Media,
}

/// Container of media segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackContainer {
    /// Fragmented MP4 (CMAF, ISO/IEC 23000-19).
    Fmp4,
}

/// Encryption of media segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Not encrypted.
    #[default]
    Clear,
}

/// What players show of a track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Language tag (`und` when unknown).
    pub language: String,
    /// Name for menus.
    pub name: String,
    /// The default track of its kind.
    pub is_default: bool,
}

/// How a track is divided into tasks and media segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cut", rename_all = "snake_case")]
pub enum Cut {
    /// Along the timeline: each segment task makes one part of the track.
    Timeline {
        /// Number of the frame list.
        frames: u32,
        /// Number of the keyframe grid.
        grid: u32,
    },
    /// One task makes the whole track.
    Whole {
        /// Presentation time of the first sample.
        start: OutputTicks,
        /// Where the media segments after the first are to start, increasing; the nearest codec frame is taken. The
        /// boundaries of the leading video track, or none for sources without video.
        boundaries: Vec<OutputTicks>,
        /// Number of the first media segment.
        first_number: u32,
    },
}

impl Cut {
    /// Whether segment tasks make the track.
    pub fn is_timeline(&self) -> bool {
        matches!(self, Cut::Timeline { .. })
    }
}

/// Kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Video.
    Video,
    /// Audio.
    Audio,
    /// Subtitles and captions.
    Text,
    /// Still pictures: storyboards, trick play.
    Images,
}

impl MediaKind {
    /// The word used in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
            MediaKind::Text => "text",
            MediaKind::Images => "images",
        }
    }
}

/// Kind of media and how it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Media {
    /// Video.
    Video(VideoMedia),
    /// Audio.
    Audio(AudioMedia),
    /// Subtitles and captions.
    Text,
    /// Still pictures.
    Images,
}

/// Made by an encoder, or copied packet by packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding<E> {
    /// The source's packets.
    Copy,
    /// Decoded and encoded.
    Encode(E),
}

impl<E> Coding<E> {
    /// The encoder's settings; `None` for a copy.
    pub fn encoding(&self) -> Option<&E> {
        match self {
            Coding::Copy => None,
            Coding::Encode(e) => Some(e),
        }
    }

    /// Whether packets are copied.
    pub fn is_copy(&self) -> bool {
        matches!(self, Coding::Copy)
    }
}

/// A video track: a rung of the ladder resolved for this source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoMedia {
    /// Storage width in pixels, even.
    pub width: u32,
    /// Storage height in pixels, even.
    pub height: u32,
    /// Sample aspect ratio: keeps the display aspect exact.
    pub sar: Rational,
    /// ffmpeg's name of the pixel format.
    pub pixel_format: String,
    /// Colour tags to write.
    pub color: Color,
    /// What headers state beside size and colour.
    #[serde(default, skip_serializing_if = "has_none")]
    pub side_data: Box<SideData>,
    /// Operations between decoder and encoder, in order.
    pub ops: Vec<VideoOp>,
    /// How packets are made.
    pub coding: Coding<VideoEncoding>,
}

fn has_none(side_data: &SideData) -> bool {
    side_data.is_empty()
}

impl VideoMedia {
    /// Width, height and sample aspect ratio of the picture as it is shown: turned where headers say so.
    pub fn shown(&self) -> (u32, u32, Rational) {
        if self.side_data.matrix.is_some_and(|matrix| matrix.swaps_sides()) {
            (self.height, self.width, Rational::ONE.over(self.sar).unwrap_or(Rational::ONE))
        } else {
            (self.width, self.height, self.sar)
        }
    }
}

/// Settings of a video encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoEncoding {
    /// Codec.
    pub codec: VideoCodec,
    /// Encoder by ffmpeg's name.
    pub encoder: String,
    /// Preset by the encoder's own names; empty = the encoder's default.
    pub preset: String,
    /// Threads, fixed by the plan so that output does not depend on the machine.
    pub threads: u32,
    /// Rate control.
    pub rate: VideoRate,
    /// H.264 level pinned so that all parts have the same header, for example `4.0`; empty = none.
    pub level: String,
}

/// Rate control of a video encoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoRate {
    /// Constant quality.
    Quality {
        /// Constant rate factor.
        crf: f64,
        /// Cap in kbit/s.
        max_kbps: Option<u32>,
    },
    /// Constant quantiser.
    Quantiser {
        /// The quantiser; 0 is lossless where the encoder has it.
        qp: u32,
    },
}

impl VideoRate {
    /// Cap in kbit/s, when there is one.
    pub fn max_kbps(self) -> Option<u32> {
        match self {
            VideoRate::Quality { max_kbps, .. } => max_kbps,
            VideoRate::Quantiser { .. } => None,
        }
    }
}

/// An audio track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioMedia {
    /// Output channels.
    pub channels: u16,
    /// Samples per codec frame.
    pub frame_samples: u32,
    /// Time of the first sample in the source.
    pub source_start: MediaTime,
    /// Jumps of the source's clock; `None`: it has none. `source_start` is without the jumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<TrackClock>,
    /// Silence in front of the source's first sample, in output samples. Only encoded tracks have some.
    #[serde(default)]
    pub lead_silence: OutputTicks,
    /// Length up to which silence is added at the end, in output samples from the start of the track. `None`: the
    /// track ends with the source's last sample.
    #[serde(default)]
    pub fill_until: Option<OutputTicks>,
    /// Operations between decoder and encoder, in order.
    pub ops: Vec<AudioOp>,
    /// How packets are made.
    pub coding: Coding<AudioEncoding>,
}

/// Settings of an audio encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioEncoding {
    /// Codec.
    pub codec: AudioCodec,
    /// Bit rate in kbit/s.
    pub kbps: u32,
}

impl TrackPlan {
    /// Kind of media.
    pub fn kind(&self) -> MediaKind {
        match self.media {
            Media::Video(_) => MediaKind::Video,
            Media::Audio(_) => MediaKind::Audio,
            Media::Text => MediaKind::Text,
            Media::Images => MediaKind::Images,
        }
    }

    /// The video settings; `None` for other kinds.
    pub fn video(&self) -> Option<&VideoMedia> {
        match &self.media {
            Media::Video(video) => Some(video),
            _ => None,
        }
    }

    /// The audio settings; `None` for other kinds.
    pub fn audio(&self) -> Option<&AudioMedia> {
        match &self.media {
            Media::Audio(audio) => Some(audio),
            _ => None,
        }
    }

    /// Seconds per output tick.
    pub fn timebase(&self) -> Rational {
        Rational::new(1, i64::from(self.timescale)).unwrap_or(Rational::ONE)
    }
}
