//! The chunk set of a presentation: which media segments go into which chunk, and the chunk manifest.

use crate::catalogue::Catalogue;
use crate::error::ManifestError;
use crate::rows::{Rows, StoredTrack};
use splitreel_core::MediaKind;
use splitreel_core::part::{StoredObject, StoredSegment};
use splitreel_packaging::chunks::{
    self, CHUNK_MANIFEST_NAME, ChunkError, ChunkManifest, ChunkUnit, WrittenChunk, chunk_limit_bytes,
};
use std::ops::Range;

/// Chunks of the best video track and the default audio track, or of the default audio track alone.
#[derive(Clone, Debug)]
pub struct ChunkSet<'a> {
    base: String,
    folder: String,
    mime_type: String,
    timescale: u32,
    init_bytes: u64,
    units: Vec<ChunkUnit>,
    members: Vec<Vec<&'a StoredSegment>>,
    ranges: Vec<Range<usize>>,
}

/// One chunk: the set's init segment, then these media segments.
#[derive(Clone, Debug)]
pub struct ChunkFile<'a> {
    /// Path relative to the presentation's root.
    pub path: String,
    /// Size of the whole chunk in bytes.
    pub bytes: u64,
    /// Length in ticks of the leading track.
    pub duration: u64,
    /// The media segments in order.
    pub segments: Vec<&'a StoredSegment>,
}

impl<'a> ChunkSet<'a> {
    /// The tracks whose segments go into chunks: the best video track and the default audio track.
    pub fn tracks(rows: &Rows<'a>) -> Vec<StoredTrack<'a>> {
        let tracks = rows.tracks();
        let default = rows.default_audio();
        let best = tracks.iter().find(|track| track.kind == MediaKind::Video);
        let audio = tracks.iter().filter(|track| track.kind == MediaKind::Audio && Some(track.id) == default);
        best.into_iter().chain(audio).cloned().collect()
    }

    /// The chunk set of finished rows. `base` names the files; `init_bytes` is the size of the init segment in front of
    /// each chunk. `None` when no track goes into chunks.
    ///
    /// # Errors
    /// [`ChunkError`].
    pub fn new(rows: &Rows<'a>, base: &str, init_bytes: u64) -> Result<Option<Self>, ChunkError> {
        let tracks = Self::tracks(rows);
        let Some(lead) = tracks.first() else { return Ok(None) };
        let (units, members) = units(lead, &tracks);
        let limit = chunk_limit_bytes(rows.plan.packaging.chunk_mb)?.unwrap_or(u64::MAX);
        let codecs: Vec<&str> = tracks.iter().filter_map(|track| track.codec).collect();
        Ok(Some(ChunkSet {
            base: base.to_owned(),
            folder: chunks::chunk_folder(base)?,
            mime_type: chunks::mime_type(lead.kind == MediaKind::Video, &codecs),
            timescale: lead.timescale,
            init_bytes,
            ranges: chunks::plan_chunks(&units, limit, init_bytes),
            units,
            members,
        }))
    }

    /// The chunks in playback order.
    ///
    /// # Errors
    /// [`ChunkError::UnsafeBase`].
    pub fn files(&self) -> Result<Vec<ChunkFile<'a>>, ChunkError> {
        let file = |(index, range): (usize, &Range<usize>)| {
            let name = chunks::chunk_file_name(&self.base, index, self.ranges.len())?;
            let segments = self.members.get(range.clone()).unwrap_or_default();
            Ok(ChunkFile {
                path: format!("{}/{name}", self.folder),
                bytes: chunks::chunk_bytes(&self.units, range, self.init_bytes),
                duration: chunks::chunk_ticks(&self.units, range),
                segments: segments.iter().flatten().copied().collect(),
            })
        };
        self.ranges.iter().enumerate().map(file).collect()
    }

    fn is_chunk(&self, path: &str) -> bool {
        path.starts_with(&format!("{}/", self.folder)) && path != self.manifest_path()
    }

    /// Path of the chunk manifest, relative to the presentation's root.
    pub fn manifest_path(&self) -> String {
        format!("{}/{CHUNK_MANIFEST_NAME}", self.folder)
    }

    /// The chunk manifest over the written files, in the order of [`ChunkSet::files`].
    ///
    /// # Errors
    /// [`ChunkError`].
    pub fn manifest(&self, written: &[WrittenChunk]) -> Result<String, ChunkError> {
        ChunkManifest::new(&self.base, self.mime_type.clone(), self.timescale, written)?.to_json()
    }
}

/// The chunk manifest of a published presentation, from its rows and the chunk files in its catalogue. `None` when the
/// presentation has no chunk set.
pub(crate) fn published_manifest(
    rows: &Rows<'_>,
    base: &str,
    catalogue: &Catalogue,
) -> Result<Option<String>, ManifestError> {
    let Some(bare) = ChunkSet::new(rows, base, 0)? else { return Ok(None) };
    let stored: Vec<StoredObject> =
        catalogue.files().filter(|file| bare.is_chunk(&file.path)).map(|file| file.object).collect();
    // Every chunk starts with the same init segment; the rest is known from the parts.
    let media: u64 = bare.units.iter().map(|unit| unit.bytes).sum();
    let total: u64 = stored.iter().map(|object| object.bytes).sum();
    let Some(init_bytes) = total.saturating_sub(media).checked_div(stored.len() as u64) else { return Ok(None) };
    let Some(set) = ChunkSet::new(rows, base, init_bytes)? else { return Ok(None) };
    let (planned, mut written) = (set.files()?, Vec::new());
    if planned.len() != stored.len() {
        return Err(ManifestError::ChunksDiffer);
    }
    for (chunk, object) in planned.iter().zip(&stored) {
        let hash = sha256_bytes(&object.sha256).filter(|_| chunk.bytes == object.bytes);
        let sha256 = hash.ok_or(ManifestError::ChunksDiffer)?;
        written.push(WrittenChunk { duration: chunk.duration, bytes: object.bytes, sha256 });
    }
    Ok(Some(set.manifest(&written)?))
}

/// The bytes of a SHA-256 in lower-case hexadecimal.
pub fn sha256_bytes(hex: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if hex.len() != 64 {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}

/// Units of a chunk set: a segment of the leading track, and every segment that plays before the next one.
fn units<'a>(lead: &StoredTrack<'a>, tracks: &[StoredTrack<'a>]) -> (Vec<ChunkUnit>, Vec<Vec<&'a StoredSegment>>) {
    let last = lead.segments.last().map_or(0, |s| s.number);
    let first = lead.segments.first().map_or(0, |s| s.number);
    let mut units: Vec<ChunkUnit> = lead
        .segments
        .iter()
        .map(|s| ChunkUnit { bytes: 0, start: s.start.get(), duration: s.duration.unsigned() })
        .collect();
    let mut members: Vec<Vec<&StoredSegment>> = vec![Vec::new(); units.len()];
    for (_, segment) in StoredTrack::interleaved(tracks) {
        let at = usize::try_from(segment.number.clamp(first, last) - first).unwrap_or(0);
        if let (Some(unit), Some(segments)) = (units.get_mut(at), members.get_mut(at)) {
            unit.bytes += segment.object.bytes;
            segments.push(segment);
        }
    }
    (units, members)
}
