//! The model that every manifest is written from, its paths and its exact clock arithmetic.
//!
//! Owns the data types and the check that makes them safe to write (`check`), and the bit rates
//! measured from them (`bitrate`). Must not know any manifest syntax and must not touch media
//! bytes, files or clocks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod bitrate;
pub mod check;

pub use check::{Checked, Form, InvalidPresentation, Violation};

/// File name of the HLS multivariant playlist, at the root of a presentation.
pub const MULTIVARIANT_NAME: &str = "master.m3u8";
/// File name of the MPD, at the root of a presentation.
pub const MPD_NAME: &str = "manifest.mpd";
/// File name of each HLS media playlist, beside the init segment of its rendition.
pub const MEDIA_PLAYLIST_NAME: &str = "playlist.m3u8";

/// A complete packaged output: every rendition with every media segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Presentation duration after edit lists, exact.
    pub duration: Span,
    /// Video renditions, best first. Empty for an audio-only presentation.
    pub video: Vec<VideoRendition>,
    /// Audio renditions in the order in which a player should offer them.
    pub audio: Vec<AudioRendition>,
    /// How EXT-X-TARGETDURATION is chosen.
    #[serde(default)]
    pub target_duration: TargetDuration,
}

/// An exact length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Length in ticks.
    pub ticks: u64,
    /// Ticks per second.
    pub timescale: u32,
}

/// A positive ratio of two integers, not necessarily in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    /// Numerator.
    pub num: u32,
    /// Denominator.
    pub den: u32,
}

/// How the target duration (RFC 8216, 4.3.3.1) is chosen. It is always the same for all playlists
/// of a presentation.
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

/// What video and audio renditions have in common: one track of media segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaTrack {
    /// Identifier, unique over video and audio: `[a-z0-9-]`, for example `1080p` or `en-stereo`.
    pub id: String,
    /// RFC 6381 codec string, for example `avc1.64001f`.
    pub codec: String,
    /// Ticks per second of the segments' media timeline.
    pub timescale: u32,
    /// The edit list's `media_time` in ticks (ISO/IEC 14496-12, 8.6.6): composition delay for
    /// video, priming for audio. Media time = presentation time + delay.
    pub delay: u32,
    /// Path of the init segment, relative to the presentation's root.
    pub init: String,
    /// The media segments in order.
    pub segments: Vec<MediaSegment>,
}

/// A rung resolved for this source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoRendition {
    /// Identity, timing and segments.
    pub track: MediaTrack,
    /// Coded picture width in pixels.
    pub width: u32,
    /// Coded picture height in pixels.
    pub height: u32,
    /// Sample aspect ratio; 1:1 for square pixels.
    pub sar: Ratio,
    /// Frames per second; the average for variable frame rates.
    pub frame_rate: Ratio,
}

/// One audio track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// Identity, timing and segments. The timescale is the sample rate.
    pub track: MediaTrack,
    /// BCP 47 language tag, `und` when unknown.
    pub language: String,
    /// What a person sees in a menu; any text, may come from the source's metadata.
    pub name: String,
    /// Number of channels.
    pub channels: u32,
    /// Samples per second.
    pub sample_rate: u32,
    /// Whether a player should pick it when the user did not choose.
    pub is_default: bool,
}

/// The unit that a playlist or MPD lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSegment {
    /// 1-based index over the whole presentation; part of the file name.
    pub number: u64,
    /// Path relative to the presentation's root, for example `v/1080p/seg-00001.m4s`.
    pub path: String,
    /// Presentation time of the segment's start, in ticks of the track's timescale. Negative for
    /// the first audio segment when it holds the encoder's priming.
    pub start: i64,
    /// Length in ticks of the track's timescale.
    pub duration: u64,
    /// Size of the file in bytes; 0 is allowed while it is not available.
    pub bytes: u64,
    /// Whether the file exists already.
    pub available: bool,
}

/// Which folder a rendition lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Folder `v`.
    Video,
    /// Folder `a`.
    Audio,
}

impl TrackKind {
    fn folder(self) -> &'static str {
        match self {
            Self::Video => "v",
            Self::Audio => "a",
        }
    }
}

/// Path of an init segment in the usual layout: `v/1080p/init.mp4`.
#[must_use]
pub fn init_path(kind: TrackKind, id: &str) -> String {
    format!("{}/{id}/init.mp4", kind.folder())
}

/// Path of a media segment in the usual layout: `v/1080p/seg-00001.m4s`.
#[must_use]
pub fn segment_path(kind: TrackKind, id: &str, number: u64) -> String {
    format!("{}/{id}/seg-{number:05}.m4s", kind.folder())
}

impl Presentation {
    /// Every track, video first.
    pub fn tracks(&self) -> impl Iterator<Item = &MediaTrack> {
        let video = self.video.iter().map(|v| &v.track);
        video.chain(self.audio.iter().map(|a| &a.track))
    }
}

impl Span {
    /// The length in microseconds, rounded half up.
    #[must_use]
    pub fn micros(self) -> u64 {
        u64::try_from(micros(i128::from(self.ticks), self.timescale)).unwrap_or(u64::MAX)
    }
}

impl Ratio {
    /// 1:1.
    pub const ONE: Self = Self { num: 1, den: 1 };

    /// The same ratio in lowest terms; a ratio with a zero is returned as it is.
    #[must_use]
    pub fn reduced(self) -> Self {
        match gcd(u64::from(self.num), u64::from(self.den)) {
            0 => self,
            g => Self {
                num: u32::try_from(u64::from(self.num) / g).unwrap_or(self.num),
                den: u32::try_from(u64::from(self.den) / g).unwrap_or(self.den),
            },
        }
    }
}

impl MediaTrack {
    /// Path of this track's HLS media playlist: beside its init segment.
    #[must_use]
    pub fn playlist_path(&self) -> String {
        match parent(&self.init) {
            "" => MEDIA_PLAYLIST_NAME.to_owned(),
            folder => format!("{folder}/{MEDIA_PLAYLIST_NAME}"),
        }
    }

    /// Length of each segment in microseconds: differences of the rounded running time, so that
    /// their sum never drifts from the exact timeline by more than one microsecond.
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
}

impl MediaSegment {
    /// Presentation time of the segment's end, in ticks.
    #[must_use]
    pub fn end(&self) -> i128 {
        i128::from(self.start).saturating_add(i128::from(self.duration))
    }
}

/// Ticks to microseconds, rounded half up. A timescale of 0 counts as 1.
pub(crate) fn micros(ticks: i128, timescale: u32) -> i128 {
    let timescale = i128::from(timescale.max(1));
    let doubled = ticks.saturating_mul(2_000_000).saturating_add(timescale);
    doubled.div_euclid(timescale.saturating_mul(2))
}

/// Greatest common divisor; `gcd(0, 0)` is 0.
pub(crate) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The folder part of a path, without the trailing slash; empty at the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The URI reference (RFC 3986, 4.2) that leads from a file in `folder` to `path`, both relative
/// to the same root, percent-encoded.
pub(crate) fn relative_uri(folder: &str, path: &str) -> String {
    let mut from = folder.split('/').filter(|c| !c.is_empty()).peekable();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut to = folders.split('/').filter(|c| !c.is_empty()).peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut uri: String = from.map(|_| "../").collect();
    for component in to {
        uri.push_str(&percent_encode(component));
        uri.push('/');
    }
    uri.push_str(&percent_encode(name));
    uri
}

/// Percent-encodes everything but RFC 3986 unreserved characters and `/`.
pub(crate) fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Text that is safe in an XML attribute or element and in an HLS quoted-string (RFC 8216, 4.2):
/// no control characters, no characters outside XML 1.0, quotes replaced, spaces trimmed.
pub(crate) fn display_text(text: &str) -> String {
    let kept = text.chars().filter_map(|c| match c {
        '"' => Some('\''),
        '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => None,
        '\t' | '\r' | '\n' => Some(' '),
        c if c.is_control() => None,
        c => Some(c),
    });
    kept.collect::<String>().trim().to_owned()
}

/// Menu names of the audio renditions: safe, not empty and different from each other, as
/// RFC 8216, 4.3.4.1.1 asks within a group.
pub(crate) fn audio_names(audio: &[AudioRendition]) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut names: Vec<String> = Vec::with_capacity(audio.len());
    for rendition in audio {
        let mut plain = display_text(&rendition.name);
        if plain.is_empty() {
            plain.clone_from(&rendition.language);
        }
        let mut name = plain.clone();
        while names.contains(&name) {
            let count = seen.entry(plain.clone()).or_insert(1);
            *count = count.saturating_add(1);
            name = format!("{plain} {count}");
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
pub(crate) mod samples {
    //! Presentations used by the tests of this crate's manifest writers.

    use super::*;

    pub(crate) fn track(
        kind: TrackKind,
        id: &str,
        codec: &str,
        timescale: u32,
        delay: u32,
        first: i64,
        parts: &[(u64, u64)],
    ) -> MediaTrack {
        let mut start = first;
        let segments = parts.iter().zip(1_u64..).map(|(&(duration, bytes), number)| {
            let segment =
                MediaSegment { number, path: segment_path(kind, id, number), start, duration, bytes, available: true };
            start += i64::try_from(duration).unwrap();
            segment
        });
        MediaTrack {
            id: id.to_owned(),
            codec: codec.to_owned(),
            timescale,
            delay,
            init: init_path(kind, id),
            segments: segments.collect(),
        }
    }

    pub(crate) fn video(id: &str, width: u32, height: u32, bytes: [u64; 4]) -> VideoRendition {
        let durations = [60_060, 120_120, 120_120, 45_045];
        let parts: Vec<_> = durations.into_iter().zip(bytes).collect();
        VideoRendition {
            track: track(TrackKind::Video, id, "avc1.64001f", 30_000, 2_002, 0, &parts),
            width,
            height,
            sar: Ratio::ONE,
            frame_rate: Ratio { num: 30_000, den: 1_001 },
        }
    }

    pub(crate) fn audio(id: &str, language: &str, name: &str, is_default: bool) -> AudioRendition {
        let parts = [(97_280, 32_000), (192_512, 65_000), (191_488, 64_500), (74_752, 25_000)];
        AudioRendition {
            track: track(TrackKind::Audio, id, "mp4a.40.2", 48_000, 1_024, -1_024, &parts),
            language: language.to_owned(),
            name: name.to_owned(),
            channels: 2,
            sample_rate: 48_000,
            is_default,
        }
    }

    /// 11.511 s at 29.97 frames/s, three video renditions and two audio tracks.
    pub(crate) fn full() -> Presentation {
        Presentation {
            duration: Span { ticks: 345_345, timescale: 30_000 },
            video: vec![
                video("1080p", 1920, 1080, [1_400_000, 2_600_000, 2_400_000, 700_000]),
                video("720p", 1280, 720, [420_000, 860_000, 790_000, 260_000]),
                video("360p", 640, 360, [90_000, 190_000, 170_000, 60_000]),
            ],
            audio: vec![audio("en", "en", "English", true), audio("fr", "fr", "Fran\u{e7}ais \"VF\"\r\n", false)],
            target_duration: TargetDuration::Measured,
        }
    }

    /// The same while it is being made: segments `from` and later do not exist yet.
    pub(crate) fn partial(mut presentation: Presentation, from: usize) -> Presentation {
        let video = presentation.video.iter_mut().map(|v| &mut v.track);
        for track in video.chain(presentation.audio.iter_mut().map(|a| &mut a.track)) {
            for segment in track.segments.iter_mut().skip(from) {
                segment.available = false;
                segment.bytes = 0;
            }
        }
        presentation
    }
}

#[cfg(test)]
mod tests;
