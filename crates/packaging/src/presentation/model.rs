//! Data types of a presentation: tracks of any kind of media, each with its own media segments.

use serde::{Deserialize, Serialize};
use splitreel_core::captions::Captions;
use splitreel_core::{ColorCodes, MediaKind, MediaTime, Rational, VideoRange};

use super::paths::{MEDIA_PLAYLIST_NAME, parent};

/// A complete packaged output: every track with every media segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Presentation {
    /// Presentation duration after edit lists, exact.
    pub duration: MediaTime,
    /// The tracks in the order in which manifests list them: video best first, audio as a player should offer it.
    pub tracks: Vec<MediaTrack>,
    /// How EXT-X-TARGETDURATION is chosen.
    #[serde(default)]
    pub target_duration: TargetDuration,
}

/// How the target duration (RFC 8216, 4.3.3.1) is chosen. It is always the same for all playlists of a presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetDuration {
    /// The longest media segment of the presentation, rounded to whole seconds.
    #[default]
    Measured,
    /// As `Measured`, but never less than this number of seconds.
    AtLeast {
        /// Lower bound in seconds.
        seconds: u32,
    },
}

/// One track of media segments. Tracks share nothing but the presentation's timeline: codec, frame rate and the
/// places of the segments may differ from track to track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaTrack {
    /// Identifier, unique over all tracks: `[a-z0-9-]`, for example `1080p` or `en-stereo`.
    pub id: String,
    /// RFC 6381 codec string, for example `avc1.64001f`. `None` where a kind of media has none, and in
    /// [`Form::Planned`](super::Form::Planned) before the first part is finished.
    pub codec: Option<String>,
    /// A second codec string with its brand, which players that know it prefer (HLS SUPPLEMENTAL-CODECS), for example
    /// `dvh1.08.04/db4h`.
    #[serde(default)]
    pub supplemental_codec: Option<String>,
    /// Ticks per second of the segments' media timeline; for audio the sample rate.
    pub timescale: u32,
    /// The edit list's `media_time` in ticks (ISO/IEC 14496-12, 8.6.6): composition delay for video, priming for
    /// audio. Media time = presentation time + delay.
    pub delay: u32,
    /// Path of the init segment, relative to the presentation's root. `None` where every segment stands alone.
    pub init: Option<String>,
    /// Number of the grid that the segments are cut by: tracks of one grid have exactly the same segments. `None`: the
    /// track is cut by itself.
    #[serde(default)]
    pub grid: Option<u32>,
    /// Whether media segments may begin with frames that are shown before their keyframe, or need earlier ones.
    #[serde(default)]
    pub starts_open: bool,
    /// The media segments in order.
    pub segments: Vec<MediaSegment>,
    /// Bit rate in bit/s that the encoder was asked not to exceed; `None` without a cap.
    pub cap_bits_per_second: Option<u64>,
    /// Kind of media, with the properties that players choose by.
    pub format: MediaFormat,
}

/// Kind of media of a track, with the properties that players choose by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaFormat {
    /// A variant in HLS, a Representation in DASH.
    Video(VideoFormat),
    /// An audio rendition in HLS, an AdaptationSet in DASH.
    Audio(AudioFormat),
    /// Checked and counted among the files, listed in no manifest.
    Text,
    /// Checked and counted among the files, listed in no manifest.
    Images,
}

/// Properties of a video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoFormat {
    /// Coded width in pixels.
    pub width: u32,
    /// Coded height in pixels.
    pub height: u32,
    /// Sample aspect ratio; 1 for square pixels.
    pub sar: Rational,
    /// Frames per second; the average for variable frame rates.
    pub frame_rate: Rational,
    /// The highest number of frames per second, where it differs from the average.
    #[serde(default)]
    pub peak_frame_rate: Option<Rational>,
    /// Colour as the track's headers state it.
    #[serde(default)]
    pub color: ColorCodes,
    /// Captions in the coded pictures of the segments that are available.
    #[serde(default)]
    pub captions: Captions,
}

/// Properties of an audio track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFormat {
    /// BCP 47 language tag, `und` when unknown.
    pub language: String,
    /// Name for menus; any text, may come from the source's metadata.
    pub name: String,
    /// Number of channels.
    pub channels: u32,
    /// Samples per second.
    pub sample_rate: u32,
    /// Whether a player should pick this track when the user did not choose.
    pub is_default: bool,
}

/// The unit that a playlist or MPD lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSegment {
    /// 1-based index within the track; part of the file name.
    pub number: u64,
    /// Path relative to the presentation's root, for example `v/1080p/seg-00001.m4s`.
    pub path: String,
    /// Presentation time of the segment's start, in ticks of the track's timescale. Negative for the first audio
    /// segment when the encoder's priming is inside.
    pub start: i64,
    /// Length in ticks of the track's timescale.
    pub duration: u64,
    /// Size of the file in bytes; 0 is allowed while the file is not available.
    pub bytes: u64,
    /// Whether the file exists already.
    pub available: bool,
}

impl Presentation {
    /// The video tracks in the order of the model.
    pub fn video(&self) -> impl Iterator<Item = (&MediaTrack, &VideoFormat)> {
        self.tracks.iter().filter_map(|track| match &track.format {
            MediaFormat::Video(format) => Some((track, format)),
            _ => None,
        })
    }

    /// The audio tracks in the order of the model.
    pub fn audio(&self) -> impl Iterator<Item = (&MediaTrack, &AudioFormat)> {
        self.tracks.iter().filter_map(|track| match &track.format {
            MediaFormat::Audio(format) => Some((track, format)),
            _ => None,
        })
    }

    /// Whether any video track has another dynamic range than SDR. Manifests state the range of every track then, so
    /// that players can tell them apart, and of none otherwise, since SDR is what a player assumes.
    #[must_use]
    pub fn states_range(&self) -> bool {
        self.video().any(|(_, format)| format.color.range() != VideoRange::Sdr)
    }

    /// The tracks that manifests list, video first.
    pub fn listed(&self) -> impl Iterator<Item = &MediaTrack> {
        self.video().map(|(track, _)| track).chain(self.audio().map(|(track, _)| track))
    }
}

impl MediaFormat {
    /// The kind of media.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Video(_) => MediaKind::Video,
            Self::Audio(_) => MediaKind::Audio,
            Self::Text => MediaKind::Text,
            Self::Images => MediaKind::Images,
        }
    }
}

impl MediaTrack {
    /// Whether manifests list this track.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        matches!(self.format, MediaFormat::Video(_) | MediaFormat::Audio(_))
    }

    /// Folder of this track's files, without the trailing slash; empty at the presentation's root.
    #[must_use]
    pub fn folder(&self) -> &str {
        let first = self.segments.first().map(|segment| segment.path.as_str());
        parent(self.init.as_deref().or(first).unwrap_or_default())
    }

    /// Path of this track's HLS media playlist: in the folder of the track.
    #[must_use]
    pub fn playlist_path(&self) -> String {
        match self.folder() {
            "" => MEDIA_PLAYLIST_NAME.to_owned(),
            folder => format!("{folder}/{MEDIA_PLAYLIST_NAME}"),
        }
    }

    /// Paths of the files that hold the track's media: the init segment, if any, and every media segment.
    pub fn media_paths(&self) -> impl Iterator<Item = &str> {
        self.init.as_deref().into_iter().chain(self.segments.iter().map(|segment| segment.path.as_str()))
    }

    /// Length of each segment in microseconds: differences of the rounded running time, so that their sum never
    /// drifts from the exact timeline by more than one microsecond.
    #[must_use]
    pub fn segment_micros(&self) -> Vec<u64> {
        let (mut ticks, mut before) = (0_i128, 0_i128);
        let lengths = self.segments.iter().map(|segment| {
            ticks = ticks.saturating_add(i128::from(segment.duration));
            let after = micros(ticks, self.timescale);
            let length = after.saturating_sub(before);
            before = after;
            u64::try_from(length).unwrap_or(u64::MAX)
        });
        lengths.collect()
    }

    /// The first run of available segments: what a client can play from its start without a hole.
    #[must_use]
    pub fn first_available_run(&self) -> &[MediaSegment] {
        let begin = self.segments.iter().position(|s| s.available);
        let rest = begin.and_then(|b| self.segments.get(b..)).unwrap_or(&[]);
        let length = rest.iter().position(|s| !s.available);
        length.and_then(|n| rest.get(..n)).unwrap_or(rest)
    }

    /// Whether the segments of both tracks have the same numbers and the same times, so that a player can change
    /// from one track to the other at every segment.
    #[must_use]
    pub fn is_aligned_with(&self, other: &Self) -> bool {
        self.first_difference(other).is_none()
    }

    /// Position of the first segment that is not the same in both tracks, by number and exact times.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<usize> {
        let is_same = |(a, b): (&MediaSegment, &MediaSegment)| {
            a.number == b.number
                && same_time(a.start.into(), self.timescale, b.start.into(), other.timescale)
                && same_time(a.end(), self.timescale, b.end(), other.timescale)
        };
        let (own, others) = (self.segments.len(), other.segments.len());
        let differs = self.segments.iter().zip(&other.segments).position(|pair| !is_same(pair));
        differs.or_else(|| (own != others).then(|| own.min(others)))
    }

    /// Whether both tracks start and end at exactly the same times. Tracks without segments cover nothing.
    pub(crate) fn covers_the_same_time_as(&self, other: &Self) -> bool {
        let (own, others) = (self.covered(), other.covered());
        own.zip(others).map_or(own == others, |(own, others)| {
            same_time(own.0, self.timescale, others.0, other.timescale)
                && same_time(own.1, self.timescale, others.1, other.timescale)
        })
    }

    /// Start and end in ticks; `None` without segments.
    pub(crate) fn covered(&self) -> Option<(i128, i128)> {
        let (first, last) = (self.segments.first()?, self.segments.last()?);
        Some((first.start.into(), last.end()))
    }
}

/// Whether two times in different timescales are exactly equal.
fn same_time(a: i128, a_timescale: u32, b: i128, b_timescale: u32) -> bool {
    a.saturating_mul(b_timescale.into()) == b.saturating_mul(a_timescale.into())
}

impl MediaSegment {
    /// Presentation time of the segment's end, in ticks.
    #[must_use]
    pub fn end(&self) -> i128 {
        i128::from(self.start).saturating_add(i128::from(self.duration))
    }
}

/// Ticks to microseconds, rounded half up. A timescale of 0 counts as 1.
#[must_use]
pub fn micros(ticks: i128, timescale: u32) -> i128 {
    let timescale = i128::from(timescale.max(1));
    let doubled = ticks.saturating_mul(2_000_000).saturating_add(timescale);
    doubled.div_euclid(timescale.saturating_mul(2))
}
