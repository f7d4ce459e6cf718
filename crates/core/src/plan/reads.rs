//! Which bytes of the source the tasks need. [`crate::ranges`] turns this into ranges to fetch.

use crate::source::{ByteLayout, ByteRange};
use serde::{Deserialize, Serialize};

/// Which bytes of the source the tasks need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// How ranges become a local file.
    pub layout: ByteLayout,
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// What every task needs. Sorted, disjoint.
    pub shared: Vec<ByteRange>,
    /// One per segment of the timeline; empty when the video is not split.
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
