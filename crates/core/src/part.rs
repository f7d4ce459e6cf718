//! What successful attempts report: the parts that assembly is made of.

use crate::captions::Captions;
use crate::content::Content;
use crate::levels::Heard;
use crate::time::OutputTicks;
use serde::{Deserialize, Serialize};

/// One stored object of a part: a CMAF media segment (`styp moof mdat`) or an init segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// Blob key; contains attempt and lease, so that no two attempts share one.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
}

/// A stored media segment with its place on the output timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSegment {
    /// Number of the MediaSegment in the presentation, from 1.
    pub number: u32,
    /// Presentation start.
    pub start: OutputTicks,
    /// Length.
    pub duration: OutputTicks,
    /// Base media decode time (tfdt).
    pub decode_time: OutputTicks,
    /// Samples (frames or codec packets) inside.
    pub num_samples: u32,
    /// Bytes in front of the media data: all boxes up to the payload of `mdat`. 0: not recorded.
    #[serde(default)]
    pub header_bytes: u32,
    /// Fingerprint of the samples as they were written, see [`crate::measure::samples_sha256`].
    #[serde(default)]
    pub samples_sha256: String,
    /// The object.
    pub object: StoredObject,
}

/// What one attempt stored of one track: the common part of every kind of media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackPart {
    /// Track id of the plan. Rows and reports call it the rendition.
    #[serde(rename = "rendition")]
    pub track: String,
    /// CMAF header; byte-identical over all parts of the track.
    pub init: StoredObject,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Captions in the stored samples of a video track.
    #[serde(default, skip_serializing_if = "Captions::is_none")]
    pub captions: Captions,
    /// Media segments in order.
    pub segments: Vec<StoredSegment>,
}

impl TrackPart {
    /// The stored objects: the header, then the media segments in order.
    pub fn objects(&self) -> impl Iterator<Item = &StoredObject> {
        std::iter::once(&self.init).chain(self.segments.iter().map(|segment| &segment.object))
    }
}

/// The part of one rendition made by one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionPart {
    /// What is stored.
    #[serde(flatten)]
    pub stored: TrackPart,
    /// Frames that the encoder made, counted in the samples that were stored.
    pub num_frames: u64,
    /// SHA-256 over their presentation times (little-endian i64 output ticks, presentation order), hex.
    pub pts_sha256: String,
    /// Comparison of the pictures with the source's; `None` for copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

/// Result of a segment or whole task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPart {
    /// Segment number of the plan, from 0.
    pub segment: u32,
    /// One entry per rendition, in the plan's order.
    pub renditions: Vec<RenditionPart>,
    /// Cost of making it.
    pub cost: Cost,
}

/// Result of the task of a whole track, audio today. One output tick is one sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPart {
    /// What is stored.
    #[serde(flatten)]
    pub stored: TrackPart,
    /// Samples per second of the output.
    pub sample_rate: u32,
    /// Channels of the output.
    pub channels: u16,
    /// Samples per codec frame.
    pub frame_samples: u32,
    /// Priming in front, hidden by the edit list.
    pub priming: OutputTicks,
    /// Samples that play, without priming and end padding.
    pub num_samples: u64,
    /// Samples that the decoder delivered, at the source's rate.
    pub decoded_samples: Option<u64>,
    /// Levels of the source's track and of the encoded one; `None` for a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Box<Heard>>,
    /// Place of the first sample on the presentation's timeline.
    pub start: OutputTicks,
    /// Cost of making it.
    pub cost: Cost,
}

/// What an attempt used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU milliseconds of ffmpeg (user + system).
    pub cpu_ms: u64,
    /// Wall milliseconds.
    pub wall_ms: u64,
    /// Bytes of the source that were read: received over the network, or, for a local file, the number that the task
    /// needs by the plan (the whole file where the plan does not say).
    pub bytes_read: u64,
    /// Requests for bytes of the source over the network, repeated ones included; 0 for a local file.
    #[serde(default)]
    pub requests: u32,
    /// Bytes stored.
    pub bytes_written: u64,
}

/// Result of the probe task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// JSON of `SourceInfo`.
    pub info: StoredObject,
    /// `ffmpeg -version` line and configuration hash of the prober.
    pub ffmpeg_build: String,
    /// Cost of probing.
    pub cost: Cost,
}

/// Result of the assemble task: what is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Hash over the paths and contents: part of the output name, so that a rerun publishes the same name.
    pub hash: String,
    /// JSON list of [`PresentationFile`].
    pub catalogue: StoredObject,
    /// Total bytes.
    pub bytes: u64,
    /// Number of files.
    pub num_files: u32,
}

/// One file of a presentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentationFile {
    /// Path relative to the presentation's root, forward slashes, no `..`.
    pub path: String,
    /// Where its bytes are.
    pub object: StoredObject,
}

/// What a finished task leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskResult {
    /// Probe.
    Probe(ProbeResult),
    /// Segment or whole.
    Video(VideoPart),
    /// Audio.
    Audio(AudioPart),
    /// Assemble.
    Assemble(Presentation),
}

impl TaskResult {
    /// Every blob key the result names.
    pub fn keys(&self) -> Vec<&str> {
        fn keys(part: &TrackPart) -> impl Iterator<Item = &str> {
            part.objects().map(|object| object.key.as_str())
        }
        match self {
            TaskResult::Probe(p) => vec![&p.info.key],
            TaskResult::Video(v) => v.renditions.iter().flat_map(|r| keys(&r.stored)).collect(),
            TaskResult::Audio(a) => keys(&a.stored).collect(),
            TaskResult::Assemble(p) => vec![&p.catalogue.key],
        }
    }
}

#[cfg(test)]
mod tests;
