//! The size-based chunk set: where to cut, what the files are called, and its `manifest.json`.
//!
//! Each chunk is the init segment followed by whole media segments with absolute times, so it can
//! be appended on its own. Must not touch media bytes; hashes and sizes come from the caller.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::presentation::CHUNK_MANIFEST_NAME;
use crate::presentation::{CHUNK_FOLDER_END, is_safe_path, micros, percent_encode};

/// Chunk size when the profile says nothing, in MiB.
pub const DEFAULT_CHUNK_MB: u32 = 48;
/// Smallest chunk size, in MiB.
pub const MIN_CHUNK_MB: u32 = 16;
/// Largest chunk size, in MiB.
pub const MAX_CHUNK_MB: u32 = 128;

const VERSION: u32 = 1;

/// Why a chunk set could not be planned, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// `chunk_mb` is neither 0 nor in the allowed range.
    #[error("chunk size {chunk_mb} MiB is not 0 or {MIN_CHUNK_MB} to {MAX_CHUNK_MB}")]
    SizeOutOfRange {
        /// The size asked for, in MiB.
        chunk_mb: u32,
    },
    /// The base name cannot be a file name.
    #[error("base name {base:?} is not a file name")]
    UnsafeBase {
        /// The name.
        base: String,
    },
    /// There are no chunks.
    #[error("chunk set is empty")]
    Empty,
    /// Not JSON of the expected shape.
    #[error("not a chunk manifest")]
    Json(#[from] serde_json::Error),
    /// A version that is not understood.
    #[error("chunk manifest version {version}, expected {VERSION}")]
    UnsupportedVersion {
        /// The version found.
        version: u32,
    },
    /// A chunk URL that is absolute or leaves its folder.
    #[error("chunk {index} has an unsafe url {url:?}")]
    UnsafeUrl {
        /// 0-based position.
        index: usize,
        /// The URL.
        url: String,
    },
    /// A chunk does not start where the previous one ends.
    #[error("chunk {index} starts at {actual:?}, expected {expected:?}")]
    NotContiguous {
        /// 0-based position.
        index: usize,
        /// End of the previous chunk.
        expected: Seconds,
        /// Start of this one.
        actual: Seconds,
    },
    /// Chunks do not add up to the total.
    #[error("chunks do not add up to {field}")]
    WrongTotal {
        /// Name of the field.
        field: &'static str,
    },
}

/// The size limit in bytes for a `chunk_mb` setting; `None` for 0, which means no chunk set.
///
/// # Errors
/// [`ChunkError::SizeOutOfRange`] outside 16 to 128.
pub fn chunk_limit_bytes(chunk_mb: u32) -> Result<Option<u64>, ChunkError> {
    match chunk_mb {
        0 => Ok(None),
        MIN_CHUNK_MB..=MAX_CHUNK_MB => Ok(Some(u64::from(chunk_mb) << 20)),
        _ => Err(ChunkError::SizeOutOfRange { chunk_mb }),
    }
}

/// What can't be split between chunks: the media segments of all tracks that start together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkUnit {
    /// Size of all its segments in bytes.
    pub bytes: u64,
    /// Presentation start in ticks of the leading track (video, or the first audio track).
    pub start: i64,
    /// Length in ticks of the leading track.
    pub duration: u64,
}

/// Cuts units into chunks: each range of indices is one chunk, all of them in order and none
/// empty. A chunk with its init segment stays within `limit_bytes` unless a single unit is larger.
#[must_use]
pub fn plan_chunks(units: &[ChunkUnit], limit_bytes: u64, init_bytes: u64) -> Vec<Range<usize>> {
    let mut plan = Vec::new();
    let (mut begin, mut size) = (0, init_bytes);
    for (index, unit) in units.iter().enumerate() {
        let grown = size.saturating_add(unit.bytes);
        if index > begin && grown > limit_bytes {
            plan.push(begin..index);
            begin = index;
            size = init_bytes.saturating_add(unit.bytes);
        } else {
            size = grown;
        }
    }
    if begin < units.len() {
        plan.push(begin..units.len());
    }
    plan
}

/// Length of a planned chunk in ticks.
#[must_use]
pub fn chunk_ticks(units: &[ChunkUnit], range: &Range<usize>) -> u64 {
    let members = units.get(range.clone()).unwrap_or_default();
    members.iter().fold(0, |sum, unit| sum.saturating_add(unit.duration))
}

/// Size of a planned chunk in bytes, init segment included.
#[must_use]
pub fn chunk_bytes(units: &[ChunkUnit], range: &Range<usize>, init_bytes: u64) -> u64 {
    let members = units.get(range.clone()).unwrap_or_default();
    members.iter().fold(init_bytes, |sum, unit| sum.saturating_add(unit.bytes))
}

/// The folder of a chunk set: `<base>.wp.chunks`.
///
/// # Errors
/// [`ChunkError::UnsafeBase`] when `base` cannot be a file name.
pub fn chunk_folder(base: &str) -> Result<String, ChunkError> {
    check_base(base)?;
    Ok(format!("{base}{CHUNK_FOLDER_END}"))
}

/// The file name of a chunk: `<base>.part0001.mp4`. `index` is 0-based; sets of more than 9,999
/// chunks get as many digits as needed, so that names sort in playback order.
///
/// # Errors
/// [`ChunkError::UnsafeBase`] when `base` cannot be a file name.
pub fn chunk_file_name(base: &str, index: usize, count: usize) -> Result<String, ChunkError> {
    check_base(base)?;
    let digits = count.checked_ilog10().map_or(1, |log| log.saturating_add(1)).max(4);
    let digits = usize::try_from(digits).unwrap_or(4);
    Ok(format!("{base}.part{:0digits$}.mp4", index.saturating_add(1)))
}

fn check_base(base: &str) -> Result<(), ChunkError> {
    if is_safe_path(base) && !base.contains('/') {
        Ok(())
    } else {
        Err(ChunkError::UnsafeBase { base: base.to_owned() })
    }
}

/// Seconds of media time, exact to the microsecond; a JSON number with at most six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seconds {
    /// Microseconds.
    pub micros: u64,
}

impl Serialize for Seconds {
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, which is 285 years")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.micros.is_multiple_of(1_000_000) {
            serializer.serialize_u64(self.micros / 1_000_000)
        } else {
            serializer.serialize_f64(self.micros as f64 / 1e6)
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked before")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if (0.0..9e9).contains(&seconds) {
            Ok(Self { micros: (seconds * 1e6).round() as u64 })
        } else {
            Err(serde::de::Error::custom("time is negative or too large"))
        }
    }
}

/// Which clock the timestamps inside the chunks use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    /// Presentation time: append without `timestampOffset`.
    Absolute,
    /// Each chunk starts at zero: set `timestampOffset` to its `startTime`.
    Relative,
}

/// Where the init segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkInit {
    /// At the front of every chunk: each one can be appended on its own.
    InChunk,
    /// At the front of the first chunk only.
    FirstChunk,
}

/// One entry of the chunk manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chunk {
    /// URL, percent-encoded, relative to the manifest's `base`.
    pub url: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Media time at which the chunk starts: the sum of all earlier durations.
    pub start_time: Seconds,
    /// Length in media time.
    pub duration: Seconds,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
}

/// The chunk manifest, version 1, with the two fields that say how chunks are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunkManifest {
    /// Always 1.
    pub version: u32,
    /// Base of the chunk URLs, relative to the manifest; empty for the manifest's own folder. A server that offers the
    /// chunks elsewhere sets it, with a slash at the end.
    pub base: String,
    /// MIME type with codecs (RFC 6381), for `MediaSource.isTypeSupported`.
    pub codec: String,
    /// Sum of all durations.
    pub total_duration: Seconds,
    /// Sum of all sizes in bytes.
    pub total_bytes: u64,
    /// Absent in manifests from other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<Timestamps>,
    /// Absent in manifests from other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<ChunkInit>,
    /// The chunks in playback order.
    pub chunks: Vec<Chunk>,
}

/// A chunk whose file has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenChunk {
    /// Length in ticks of the leading track, see [`chunk_ticks`].
    pub duration: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

/// `video/mp4; codecs="…"`, or `audio/mp4` when there is no video.
#[must_use]
pub fn mime_type<S: AsRef<str>>(has_video: bool, codecs: &[S]) -> String {
    let kind = if has_video { "video" } else { "audio" };
    let list: Vec<&str> = codecs.iter().map(AsRef::as_ref).collect();
    format!("{kind}/mp4; codecs=\"{}\"", list.join(","))
}

impl ChunkManifest {
    /// The manifest of a chunk set named after `base_name`, with absolute times and an init
    /// segment in each chunk. `timescale` is that of the chunks' durations, in ticks per second.
    ///
    /// # Errors
    /// [`ChunkError::Empty`] without chunks, [`ChunkError::UnsafeBase`] for a bad name.
    pub fn new(base_name: &str, codec: String, timescale: u32, written: &[WrittenChunk]) -> Result<Self, ChunkError> {
        if written.is_empty() {
            return Err(ChunkError::Empty);
        }
        let at = |ticks: u128| {
            let ticks = i128::try_from(ticks).unwrap_or(i128::MAX);
            Seconds { micros: u64::try_from(micros(ticks, timescale)).unwrap_or(u64::MAX) }
        };
        let (mut ticks, mut total_bytes) = (0_u128, 0_u64);
        let mut chunks = Vec::with_capacity(written.len());
        for (index, chunk) in written.iter().enumerate() {
            let start_time = at(ticks);
            ticks = ticks.saturating_add(chunk.duration.into());
            total_bytes = total_bytes.saturating_add(chunk.bytes);
            chunks.push(Chunk {
                url: percent_encode(&chunk_file_name(base_name, index, written.len())?),
                bytes: chunk.bytes,
                start_time,
                duration: Seconds { micros: at(ticks).micros.saturating_sub(start_time.micros) },
                sha256: chunk.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            });
        }
        Ok(Self {
            version: VERSION,
            base: String::new(),
            codec,
            total_duration: at(ticks),
            total_bytes,
            timestamps: Some(Timestamps::Absolute),
            init: Some(ChunkInit::InChunk),
            chunks,
        })
    }

    /// The manifest as indented JSON with a final line feed.
    ///
    /// # Errors
    /// [`ChunkError::Json`] if serialisation fails.
    pub fn to_json(&self) -> Result<String, ChunkError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Any [`ChunkError`] that says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, ChunkError> {
        let manifest: Self = serde_json::from_str(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ChunkError> {
        if self.version != VERSION {
            return Err(ChunkError::UnsupportedVersion { version: self.version });
        }
        if self.chunks.is_empty() {
            return Err(ChunkError::Empty);
        }
        let (mut expected, mut bytes) = (Seconds::default(), 0_u64);
        for (index, chunk) in self.chunks.iter().enumerate() {
            if !is_safe_path(&chunk.url) || chunk.url.contains(':') {
                return Err(ChunkError::UnsafeUrl { index, url: chunk.url.clone() });
            }
            // Other writers round each value on its own.
            if chunk.start_time.micros.abs_diff(expected.micros) > 2_000 {
                return Err(ChunkError::NotContiguous { index, expected, actual: chunk.start_time });
            }
            expected.micros = chunk.start_time.micros.saturating_add(chunk.duration.micros);
            bytes = bytes.saturating_add(chunk.bytes);
        }
        if bytes != self.total_bytes {
            return Err(ChunkError::WrongTotal { field: "totalBytes" });
        }
        if expected.micros.abs_diff(self.total_duration.micros) > 10_000 {
            return Err(ChunkError::WrongTotal { field: "totalDuration" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
