//! The plan: the immutable result of planning. Every value a worker needs is here or derived from here.
//!
//! Times: `source` ticks are those of the source track's timebase, absolute; `output` ticks are
//! `1/timescale` seconds from the presentation's origin.

use crate::profile::{AudioCodec, VideoCodec};
use crate::source::{ByteLayout, ByteRange, IndexEvidence};
use crate::task::{TaskKind, TaskSpec};
use crate::time::Rational;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The whole plan of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Format version of this structure.
    pub version: u32,
    /// The one demuxer that may open the source.
    pub demuxer: String,
    /// Video, if the source has any.
    pub video: Option<VideoPlan>,
    /// Audio renditions, in the source's order.
    pub audio: Vec<AudioPlan>,
    /// Longest media segment in seconds: what playlists announce is derived from the segments, this is the aim.
    pub media_segment_seconds: f64,
    /// Make the progressive MP4.
    pub progressive: bool,
    /// Chunk size in MiB, 0 = no chunk set.
    pub chunk_mb: u32,
    /// Keep the single MP4 beside the chunk set.
    pub keep_full: bool,
    /// Why things are as they are, in plain sentences.
    pub decisions: Vec<Decision>,
    /// Which bytes of the source the tasks need; `None`: each needs all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Reads>,
}

/// Which bytes of the source the tasks need. [`crate::ranges`] turns this into ranges to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// How ranges become a local file.
    pub layout: ByteLayout,
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// What every task needs. Sorted, disjoint.
    pub shared: Vec<ByteRange>,
    /// One per video segment; empty when the video is not split.
    pub segments: Vec<SegmentReads>,
    /// Audio tracks that can be read alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audio: Vec<AudioReads>,
}

/// The bytes of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentReads {
    /// First byte for each of the segment's `seek` points.
    pub starts: Vec<u64>,
    /// Byte behind the last one.
    pub end: u64,
}

/// The bytes of one audio track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioReads {
    /// ffmpeg stream index.
    pub stream: u32,
    /// Sorted, disjoint.
    pub ranges: Vec<ByteRange>,
}

/// One decision of the planner and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What it is about: `split`, `video`, `rendition 720p`, `audio 1`, `unused 3` …
    pub subject: String,
    /// What was decided.
    pub choice: String,
    /// Why.
    pub reason: String,
}

/// Video part of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// ffmpeg stream index in the source.
    pub stream: u32,
    /// How the frames were listed.
    pub evidence: IndexEvidence,
    /// Seconds per source tick.
    pub source_timebase: Rational,
    /// Ticks per second of the output tracks.
    pub timescale: u32,
    /// Source tick of the first frame.
    pub first_pts: i64,
    /// Output tick of the first frame: 0 unless audio starts earlier.
    pub first_output: i64,
    /// Output tick of the end of the last frame.
    pub end_output: i64,
    /// Composition delay in output ticks: the same in every rendition and piece, hidden by the edit list.
    pub delay: i64,
    /// Frame rate told to players.
    pub frame_rate: Rational,
    /// Codec.
    pub codec: VideoCodec,
    /// ffmpeg encoder; empty for copy.
    pub encoder: String,
    /// Encoder preset; may be empty.
    pub preset: String,
    /// Threads per encoder, fixed by the plan so that output does not depend on the machine.
    pub threads: u32,
    /// Filters before the split into renditions (deinterlace, tone mapping), ffmpeg syntax, may be empty.
    pub filters: Vec<String>,
    /// Output pixel format, ffmpeg name.
    pub pix_fmt: String,
    /// Colour tags to write: range, space, transfer, primaries (ffmpeg names, empty = leave out).
    pub color: crate::source::Color,
    /// Renditions, best first.
    pub renditions: Vec<Rendition>,
    /// Segments, contiguous.
    pub segments: Vec<Segment>,
}

/// A rung resolved for this source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rendition {
    /// `720p` and the like, `source` for a copy; lower-case, file-name safe.
    pub id: String,
    /// Storage width in pixels, even.
    pub width: u32,
    /// Storage height in pixels, even.
    pub height: u32,
    /// Sample aspect ratio: keeps the display aspect exact.
    pub sar: Rational,
    /// Constant rate factor.
    pub crf: Option<f64>,
    /// Constant quantiser.
    pub qp: Option<u32>,
    /// Cap in kbit/s.
    pub max_kbps: Option<u32>,
    /// H.264/HEVC level pinned so that all pieces have the same header, for example `4.0`; empty = none.
    pub level: String,
}

/// Half-open range of the source timeline: the unit of parallel work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Number, from 0.
    pub index: u32,
    /// First frame's source tick.
    pub start: i64,
    /// Source tick of the next segment's first frame; `None` for the last.
    pub end: Option<i64>,
    /// Output tick of `start`.
    pub output_start: i64,
    /// Output tick where the next segment starts, or the end of the video.
    pub output_end: i64,
    /// Keyframes to seek to, source ticks: the last one at or before `start` first, then earlier ones. Empty:
    /// decode from the beginning of the source.
    pub seek: Vec<i64>,
    /// Source tick of the keyframe behind `seek[0]`: a seek for `seek[0]` must stay in front of it. `None`: there is
    /// no such keyframe, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seek_limit: Option<i64>,
    /// Frames inside.
    pub num_frames: u64,
    /// SHA-256 over the frames' output ticks (little-endian i64, presentation order), hex.
    pub pts_sha256: String,
    /// Output ticks of the frames that must be keyframes; the first is `output_start`.
    pub keyframes: Vec<i64>,
    /// Media segments inside, contiguous; each starts on a keyframe.
    pub media_segments: Vec<MediaSegmentPlan>,
}

/// A media segment as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSegmentPlan {
    /// Number in the presentation, from 1.
    pub number: u32,
    /// Presentation start in output ticks.
    pub start: i64,
    /// Length in output ticks.
    pub duration: i64,
}

/// One audio rendition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// `1-eng` and the like; file-name safe.
    pub id: String,
    /// ffmpeg stream index in the source.
    pub stream: u32,
    /// Codec.
    pub codec: AudioCodec,
    /// Output sample rate in Hz = timescale of the track.
    pub sample_rate: u32,
    /// Output channels.
    pub channels: u16,
    /// ffmpeg channel layout of the output, empty = by count.
    pub layout: String,
    /// Bit rate in kbit/s, 0 for copy.
    pub kbps: u32,
    /// Samples per codec frame of the output.
    pub frame_samples: u32,
    /// Presentation place of the first sample, in output samples.
    pub start: i64,
    /// First sample's time in the source: ticks of `source_timebase`.
    pub source_first_pts: i64,
    /// Seconds per tick of `source_first_pts`.
    pub source_timebase: Rational,
    /// Where media segments start, in output samples (multiples of the codec frame after priming are chosen
    /// nearest to these): the video's boundaries, or a regular grid for audio-only sources.
    pub boundaries: Vec<i64>,
    /// Number of the first boundary's media segment.
    pub first_number: u32,
    /// Language tag (`und` when unknown).
    pub language: String,
    /// Name for menus.
    pub name: String,
    /// The default track.
    pub is_default: bool,
}

/// Filters that look at neighbouring frames.
const TEMPORAL_FILTERS: [&str; 14] = [
    "yadif",
    "bwdif",
    "w3fdif",
    "estdif",
    "nnedi",
    "fps",
    "framerate",
    "pullup",
    "fieldmatch",
    "decimate",
    "minterpolate",
    "tmix",
    "hqdn3d",
    "mpdecimate",
];

/// Whether a filter (ffmpeg syntax) looks at neighbouring frames: frames may be cut off only behind it.
pub fn is_temporal_filter(filter: &str) -> bool {
    filter.split(['=', '@', ',']).next().is_some_and(|name| TEMPORAL_FILTERS.contains(&name))
}

impl VideoPlan {
    /// The segment of a number.
    pub fn segment(&self, index: u32) -> Option<&Segment> {
        self.segments.get(self.place(index)?)
    }

    /// Where in `segments` a segment is; not at its number when others were left out.
    pub(crate) fn place(&self, index: u32) -> Option<usize> {
        self.segments.binary_search_by_key(&index, |s| s.index).ok()
    }

    /// Whether any of the filters looks at neighbouring frames.
    pub fn has_temporal_filter(&self) -> bool {
        self.filters.iter().any(|filter| is_temporal_filter(filter))
    }
}

impl VideoPlan {
    /// The kind of its tasks, also where only one segment of several is left.
    pub fn task_kind(&self) -> TaskKind {
        if self.segments.iter().any(Segment::is_piece) { TaskKind::Segment } else { TaskKind::Whole }
    }
}

impl Segment {
    /// Whether it is one of several, and not the whole video.
    pub fn is_piece(&self) -> bool {
        self.index > 0 || self.end.is_some()
    }

    /// Which of the `seek` points decoding starts from: that of level `look_back`, or one further back when
    /// neighbour-looking filters need frames before the first one that counts. Beyond the last: from the beginning.
    pub fn seek_level(&self, look_back: u32, has_temporal_filter: bool) -> u32 {
        let needs_more = has_temporal_filter && self.seek.first() == Some(&self.start);
        look_back.saturating_add(u32::from(needs_more))
    }
}

impl Plan {
    /// What whoever makes one segment needs of the plan: it does not grow with the length of the source. `None`: there
    /// is no such segment.
    pub fn for_segment(&self, index: u32) -> Option<Plan> {
        let video = self.video.as_ref()?;
        let place = video.place(index)?;
        let reads = self.reads.as_ref().map(|reads| Reads {
            layout: reads.layout,
            source_bytes: reads.source_bytes,
            shared: reads.shared.clone(),
            segments: reads.segments.get(place).cloned().into_iter().collect(),
            audio: Vec::new(),
        });
        Some(Plan {
            version: self.version,
            demuxer: self.demuxer.clone(),
            video: Some(VideoPlan {
                encoder: video.encoder.clone(),
                preset: video.preset.clone(),
                filters: video.filters.clone(),
                pix_fmt: video.pix_fmt.clone(),
                color: video.color.clone(),
                renditions: video.renditions.clone(),
                segments: video.segments.get(place).cloned().into_iter().collect(),
                ..*video
            }),
            audio: Vec::new(),
            decisions: Vec::new(),
            reads,
            ..*self
        })
    }

    /// SHA-256 of the canonical JSON, hex: the plan's identity, kept on the job.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(json))
    }

    /// The tasks that carry the plan out, in dispatch order: the first segment, then the audio tracks (each
    /// is one long task), then the other segments. `assemble` is not among them: it is inserted when the last
    /// of them is done. Numbers start at `first_number`.
    pub fn tasks(&self, first_number: u32) -> Vec<TaskSpec> {
        let video = self.video.iter().flat_map(|v| {
            let pixels: u64 = v.renditions.iter().map(|r| u64::from(r.width) * u64::from(r.height)).sum();
            let kind = v.task_kind();
            v.segments.iter().map(move |s| (kind, s.index, s.num_frames.saturating_mul(pixels.max(1)) / 1000 + 1))
        });
        let audio = self.audio.iter().enumerate().map(|(i, a)| {
            let samples = a.boundaries.last().copied().unwrap_or(0).max(0) as u64;
            (TaskKind::Audio, i as u32, samples.saturating_mul(u64::from(a.channels)) / 200 + 1)
        });
        let mut video: Vec<_> = video.collect();
        let rest = video.split_off(video.len().min(1));
        let all = video.into_iter().chain(audio).chain(rest);
        (first_number..)
            .zip(all)
            .map(|(number, (kind, index, expected_cost))| TaskSpec { number, kind, index, expected_cost })
            .collect()
    }
}

/// SHA-256 over a list of ticks: little-endian i64 each, hex. The fingerprint of a timeline.
pub fn pts_fingerprint(ticks: impl IntoIterator<Item = i64>) -> String {
    let mut hash = Sha256::new();
    for t in ticks {
        hash.update(t.to_le_bytes());
    }
    hex(&hash.finalize())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
