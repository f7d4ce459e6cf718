//! What a source is (a pinned object) and what probing found in it.

use crate::clock::TrackClock;
use crate::side_data::SideData;
use crate::stamping::Stamping;
use crate::time::{MediaTime, Rational};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The input object, pinned: a job reads only this version of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SourceRef {
    /// Absolute local path, or `s3://bucket/key`. Data, never an argument by itself.
    pub locator: String,
    /// Size in bytes at submit time.
    pub bytes: u64,
    /// Version pin: modification time in nanoseconds for files, ETag or version id for objects.
    pub version: String,
}

/// Demuxer family: decides how a segment is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// mp4, mov, 3gp, m4a.
    Mov,
    /// mkv, webm.
    Matroska,
    /// MPEG transport stream, any packet size.
    MpegTs,
    /// AVI.
    Avi,
    /// Anything else on the demuxer allow-list: decoded from its start, never sought.
    Other,
}

/// Everything probing found. Input of planning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Demuxer family.
    pub container: Container,
    /// ffmpeg's demuxer name (`mov`, `matroska`, `mpegts`, `avi`, `ivf` …): the one demuxer that workers allow.
    pub demuxer: String,
    /// Size of the source in bytes.
    pub bytes: u64,
    /// True for fragmented mp4.
    #[serde(default)]
    pub fragmented: bool,
    /// The programme that the tracks belong to, where the source has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programme: Option<ChosenProgramme>,
    /// The video track that is transcoded: the default one, of several the largest.
    pub video: Option<VideoTrack>,
    /// All audio tracks of the programme that decode.
    pub audio: Vec<AudioTrack>,
    /// Tracks that are not used, each with the reason.
    pub unused: Vec<UnusedTrack>,
    /// The clocks of the tracks where the source's clock jumps; all times in this structure are without the jumps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clocks: BTreeMap<u32, TrackClock>,
    /// Where the bytes of the tracks lie, when segments can be read without the rest of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub byte_index: Option<ByteIndex>,
    /// Oddities worth telling the user.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The programme of a multiplex that is transcoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenProgramme {
    /// The programme.
    pub chosen: Programme,
    /// Whether the job asks for this programme; else it is the one of the chosen video track.
    pub is_asked_for: bool,
    /// All other programmes, in the order of the source.
    pub others: Vec<Programme>,
}

/// A programme (service) of a multiplex (ISO/IEC 13818-1 §2.4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programme {
    /// `program_number`.
    pub number: u32,
    /// Name of the service, may be empty.
    #[serde(default)]
    pub name: String,
}

impl std::fmt::Display for Programme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "{}", self.number),
            name => write!(f, "{} ({name})", self.number),
        }
    }
}

/// A track that no output takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedTrack {
    /// ffmpeg stream index.
    pub stream: u32,
    /// `data`, `subtitle`, `attached_pic`, `video` (a second one), `audio` (undecodable).
    pub kind: String,
    /// Codec name or tag.
    pub codec: String,
    /// Why it is left out.
    pub reason: String,
}

/// The video track of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoTrack {
    /// ffmpeg stream index.
    pub stream: u32,
    /// ffmpeg codec name.
    pub codec: String,
    /// ffmpeg profile name, may be empty.
    #[serde(default)]
    pub profile: String,
    /// Coded width as displayed before rotation, pixels.
    pub width: u32,
    /// Coded height as displayed before rotation, pixels.
    pub height: u32,
    /// Sample (pixel) aspect ratio, 1/1 when unknown.
    pub sar: Rational,
    /// ffmpeg pixel format name.
    pub pix_fmt: String,
    /// Bits per component.
    pub bit_depth: u8,
    /// Decoder by ffmpeg's name; empty = its own choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decoder: String,
    /// Colour tags as ffmpeg names them, empty = unspecified.
    pub color: Color,
    /// Clockwise rotation a player applies: 0, 90, 180 or 270; other matrices are rounded to these.
    pub rotation: u16,
    /// What the stream states beside size and colour.
    #[serde(default)]
    pub side_data: SideData,
    /// Progressive or interlaced.
    #[serde(default)]
    pub scan: Scan,
    /// Seconds per tick of `frames`.
    pub timebase: Rational,
    /// Average frame rate, frames per second; 0 when unknown.
    pub frame_rate: Rational,
    /// Mean bit rate of the track in bits per second, 0 when unknown.
    pub bits_per_second: u64,
    /// Bit rate of its busiest two seconds in bits per second, 0 when unknown.
    #[serde(default)]
    pub peak_bits_per_second: u64,
    /// Every displayed frame and the keyframes.
    pub frames: FrameIndex,
    /// Frames that the container lists and that do not decode, as far as the source was decoded.
    #[serde(default)]
    pub num_lost: u64,
}

/// Colour description, ffmpeg names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Color {
    /// `tv`, `pc` or empty.
    pub range: String,
    /// Matrix coefficients.
    pub space: String,
    /// Transfer characteristics.
    pub transfer: String,
    /// Primaries.
    pub primaries: String,
}

/// Which field of an interlaced frame is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldOrder {
    /// The one with the uppermost line.
    TopFirst,
    /// The other.
    BottomFirst,
}

/// What is known of the scan of a source: its header, and a look at some of its frames. Headers are often wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// What the header says; `None`: progressive, or nothing.
    pub header: Option<FieldOrder>,
    /// Frames of the sample whose fields differ in time, the top one earlier.
    pub top_first: u32,
    /// The same with the bottom one earlier.
    pub bottom_first: u32,
    /// Frames of the sample without a difference between their fields.
    pub progressive: u32,
    /// Frames of the sample that say nothing: too little moves, or only a fine pattern.
    #[serde(default)]
    pub undetermined: u32,
}

impl Scan {
    /// Frames of the sample that say something; the others have too little motion.
    pub fn num_sampled(&self) -> u32 {
        self.combed().saturating_add(self.progressive)
    }

    /// Frames of the sample whose fields differ in time.
    pub fn combed(&self) -> u32 {
        self.top_first.saturating_add(self.bottom_first)
    }

    /// The field order of an interlaced source; `None` for a progressive one. The sample decides where it is large
    /// enough and of one order: fine patterns look like fields of both orders. A third of all frames has to be combed
    /// (film spread over fields has two in five), or one in twenty of the moving ones where the header says the same:
    /// still pictures look progressive.
    pub fn field_order(&self) -> Option<FieldOrder> {
        const MIN_SAMPLE: u32 = 6;
        const ONE_ORDER: u32 = 8;
        if self.num_sampled() < MIN_SAMPLE {
            return self.header;
        }
        let is_interlaced = match self.header {
            Some(_) => self.combed().saturating_mul(20) >= self.num_sampled(),
            None => self.combed().saturating_mul(3) >= self.num_sampled().saturating_add(self.undetermined),
        };
        let (more, less) = (self.top_first.max(self.bottom_first), self.top_first.min(self.bottom_first));
        let seen = if more < less.saturating_mul(ONE_ORDER) {
            self.header
        } else if self.top_first >= self.bottom_first {
            Some(FieldOrder::TopFirst)
        } else {
            Some(FieldOrder::BottomFirst)
        };
        seen.filter(|_| is_interlaced)
    }
}

/// How the frame list was found, from the least to the most certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexEvidence {
    /// Packet list of the demuxer; workers confirm it frame by frame.
    PacketScan,
    /// The moov's sample tables; workers confirm it frame by frame.
    Moov,
    /// Every frame was decoded once.
    DecodeScan,
}

/// The displayed frames of a video track, in presentation order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameIndex {
    /// Presentation times, strictly increasing, ticks of the track's timebase.
    pub pts: PtsList,
    /// Duration of the last frame in ticks, > 0.
    pub last_duration: i64,
    /// Random-access points in presentation order.
    pub keyframes: Vec<Keyframe>,
    /// How the list was found.
    pub evidence: IndexEvidence,
    /// Seeking to a keyframe of this source is known to be exact; otherwise segments decode from the start.
    pub is_seekable: bool,
    /// Random access needs one keyframe more of run-in (intra refresh, recovery points).
    #[serde(default)]
    pub needs_run_in: bool,
    /// Why the packets cannot be copied; `None` as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_fault: Option<PacketFault>,
    /// Origin of the times in `pts`.
    #[serde(default, skip_serializing_if = "Stamping::is_own")]
    pub stamping: Stamping,
}

/// Why the packets of a video are not its frames one by one: they cannot be copied exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketFault {
    /// Some packets have no presentation time.
    Untimed,
    /// Some packets show no frame: they are damaged, or refer to pictures in front of the recording.
    Undecodable {
        /// Packets that should be shown.
        packets: u64,
        /// Frames that a decoder shows.
        frames: u64,
    },
}

/// A random-access point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyframe {
    /// Presentation time in ticks.
    pub pts: i64,
    /// Byte position of its packet in the source, when known.
    pub position: Option<u64>,
    /// Frames from here to the next keyframe, in the order of decoding.
    #[serde(default, skip_serializing_if = "Opening::is_closed")]
    pub opening: Opening,
}

/// How the frames from a keyframe to the next one, in the order of decoding, lie in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// All are shown from the keyframe on.
    #[default]
    Closed,
    /// Some are shown before the keyframe (leading pictures, ITU-T H.265 3.77), and all behind every earlier frame.
    Leading {
        /// Ticks from the first of them to the keyframe.
        ticks: i64,
    },
    /// Some are shown before an earlier frame: nothing can be cut between the two.
    Mixed,
}

impl Opening {
    /// Whether all frames are shown from the keyframe on.
    pub fn is_closed(&self) -> bool {
        *self == Opening::Closed
    }
}

impl Keyframe {
    /// Earliest time of the frames from here to the next keyframe; `None` where an earlier one is shown among them.
    pub fn first_shown(&self) -> Option<i64> {
        match self.opening {
            Opening::Closed => Some(self.pts),
            Opening::Leading { ticks } => Some(self.pts.saturating_sub(ticks)),
            Opening::Mixed => None,
        }
    }
}

/// Bytes `start..end` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Byte behind the last one.
    pub end: u64,
}

impl ByteRange {
    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// True without bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl From<(u64, u64)> for ByteRange {
    fn from((start, end): (u64, u64)) -> Self {
        ByteRange { start, end }
    }
}

impl From<ByteRange> for (u64, u64) {
    fn from(range: ByteRange) -> Self {
        (range.start, range.end)
    }
}

/// How ranges of a source make a local file that its demuxer reads like the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteLayout {
    /// Each at its own offset; holes between them (mp4, Matroska: their tables hold offsets).
    Sparse,
    /// One behind the other (MPEG-TS: packets stand for themselves).
    Compact,
}

/// Where the bytes of a source lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteIndex {
    /// How ranges become a file.
    pub layout: ByteLayout,
    /// What every reader needs: headers, tables, the first packets. Sorted, disjoint.
    pub shared: Vec<ByteRange>,
    /// The video packets from each random-access point to the next, in decode order, times strictly increasing.
    pub runs: Vec<ByteRun>,
    /// Audio tracks whose packets stand together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audio: Vec<AudioBytes>,
}

/// The packets from one random-access point to the next in decode order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, u64, u64, u64)", into = "(i64, u64, u64, u64)")]
pub struct ByteRun {
    /// Presentation time of the random-access point in ticks of the track.
    pub pts: i64,
    /// Lowest byte that a reader sent here needs.
    pub start: u64,
    /// Byte behind the last one of the run.
    pub end: u64,
    /// Byte behind the last one of its first packets: those with pictures that are shown before `pts`, and some
    /// more, so that a decoder shows what is due.
    pub lead_end: u64,
}

impl From<(i64, u64, u64, u64)> for ByteRun {
    fn from((pts, start, end, lead_end): (i64, u64, u64, u64)) -> Self {
        ByteRun { pts, start, end, lead_end }
    }
}

impl From<ByteRun> for (i64, u64, u64, u64) {
    fn from(run: ByteRun) -> Self {
        (run.pts, run.start, run.end, run.lead_end)
    }
}

/// The bytes of an audio track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioBytes {
    /// ffmpeg stream index.
    pub stream: u32,
    /// All its packets. Sorted, disjoint.
    pub ranges: Vec<ByteRange>,
}

/// A strictly increasing list of ticks, run-length coded by difference: a CFR film is a handful of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtsList {
    first: i64,
    len: u64,
    runs: Vec<(i64, u32)>,
}

impl PtsList {
    /// Builds the list. Returns the index of the first value that does not increase.
    pub fn from_sorted(values: impl IntoIterator<Item = i64>) -> Result<Self, usize> {
        let mut list = PtsList::default();
        let mut prev: Option<i64> = None;
        for (i, v) in values.into_iter().enumerate() {
            match prev {
                None => list.first = v,
                Some(p) => {
                    let Some(d) = v.checked_sub(p).filter(|d| *d > 0) else {
                        return Err(i);
                    };
                    match list.runs.last_mut() {
                        Some((delta, n)) if *delta == d && *n < u32::MAX => *n += 1,
                        _ => list.runs.push((d, 1)),
                    }
                }
            }
            list.len += 1;
            prev = Some(v);
        }
        Ok(list)
    }

    /// Number of values.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Smallest value.
    pub fn first(&self) -> Option<i64> {
        (self.len > 0).then_some(self.first)
    }

    /// Largest value.
    pub fn last(&self) -> Option<i64> {
        (self.len > 0)
            .then(|| self.runs.iter().fold(self.first, |t, (d, n)| t.saturating_add(d.saturating_mul(i64::from(*n)))))
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let deltas = self.runs.iter().flat_map(|(d, n)| std::iter::repeat_n(*d, *n as usize));
        let first = self.first;
        (self.len > 0).then_some(first).into_iter().chain(deltas.scan(first, |t, d| {
            *t = t.saturating_add(d);
            Some(*t)
        }))
    }

    /// The most frequent difference between neighbours: the nominal frame duration. `None` below two values.
    pub fn nominal_delta(&self) -> Option<i64> {
        let mut counts = std::collections::BTreeMap::<i64, u64>::new();
        for (d, n) in &self.runs {
            *counts.entry(*d).or_default() += u64::from(*n);
        }
        counts.into_iter().max_by_key(|(d, n)| (*n, -*d)).map(|(d, _)| d)
    }
}

/// One audio track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioTrack {
    /// ffmpeg stream index.
    pub stream: u32,
    /// ffmpeg codec name.
    pub codec: String,
    /// ffmpeg profile name, may be empty.
    #[serde(default)]
    pub profile: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channel count, ≥ 1.
    pub channels: u16,
    /// ffmpeg channel layout name, may be empty.
    #[serde(default)]
    pub layout: String,
    /// Language tag from the container, `und` when unknown.
    pub language: String,
    /// Title from the container, may be empty.
    #[serde(default)]
    pub title: String,
    /// Marked as default in the container.
    #[serde(default)]
    pub is_default: bool,
    /// Presentation time of the first decoded sample.
    pub first_pts: MediaTime,
    /// Samples at the start of the packets that the container hides (an mp4 edit list), when it says so plainly.
    #[serde(default)]
    pub priming: Option<u32>,
    /// Length by the container, when it says one that can be believed.
    pub duration: Option<MediaTime>,
    /// Mean bit rate, 0 when unknown.
    pub bits_per_second: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pts_list_gives_back_what_it_was_given(first in -1_000_000i64..1_000_000, deltas in prop::collection::vec(1i64..50, 0..200)) {
            let mut v = vec![first];
            for d in &deltas { v.push(v[v.len() - 1] + d); }
            let list = PtsList::from_sorted(v.iter().copied()).unwrap();
            prop_assert_eq!(list.len(), v.len() as u64);
            prop_assert_eq!(list.last(), v.last().copied());
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), v);
        }
    }

    #[test]
    fn a_sample_of_frames_outweighs_the_header() {
        let scan = |header, top_first, bottom_first, progressive| {
            Scan { header, top_first, bottom_first, progressive, undetermined: 0 }.field_order()
        };
        let (top, bottom) = (Some(FieldOrder::TopFirst), Some(FieldOrder::BottomFirst));
        assert_eq!(scan(None, 30, 0, 0), top, "a header that says progressive");
        assert_eq!(scan(top, 0, 0, 97), None, "a header that says interlaced");
        assert_eq!(scan(top, 0, 36, 2), bottom, "the other order");
        assert_eq!(scan(top, 3, 0, 33), top, "mostly still pictures");
        assert_eq!(scan(None, 3, 0, 33), None, "a few frames of a progressive source with fine lines");
        assert_eq!(scan(None, 0, 6, 21), None, "more of them, in a noisy picture");
        assert_eq!(scan(None, 38, 27, 0), None, "a pattern that looks like fields of both orders");
        assert_eq!(scan(None, 14, 0, 22), top, "film spread over fields");
        let still = Scan { top_first: 6, undetermined: 54, ..Scan::default() };
        assert_eq!(still.field_order(), None, "a progressive source that hardly moves");
        assert_eq!(scan(bottom, 2, 0, 0), bottom, "too few frames");
        assert_eq!(scan(None, 0, 0, 0), None);
    }

    #[test]
    fn a_value_that_does_not_increase_is_named() {
        assert_eq!(PtsList::from_sorted([1, 2, 2]), Err(2));
        assert_eq!(PtsList::from_sorted([]).unwrap().first(), None);
    }

    #[test]
    fn a_cfr_film_of_ten_hours_is_one_run() {
        let list = PtsList::from_sorted((0..1_080_000).map(|i| i * 512)).unwrap();
        assert_eq!(list.nominal_delta(), Some(512));
        assert!(serde_json::to_string(&list).unwrap().len() < 100);
    }
}
