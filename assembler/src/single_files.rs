//! Files that players without adaptive streaming use: the progressive MP4 and the chunk set. Both are headers in front of
//! the stored media segments as they are, so that a store can put them together on its side.

use crate::attempt_files::{AttemptFiles, unpackable};
use crate::gate::Headers;
use bytes::Bytes;
use splitreel_backend::blob::Piece;
use splitreel_core::part::{AudioPart, PresentationFile};
use splitreel_core::plan::TrackPlan;
use splitreel_core::{Failure, MediaKind};
use splitreel_packaging::chunks::{ChunkError, WrittenChunk};
use splitreel_packaging::init::{Gapless, TrackHeader, parse_init, write_init};
use splitreel_packaging::movie::Handler;
use splitreel_packaging::progressive::{ProgressiveBuilder, ProgressiveError, ProgressiveTrack};
use splitreel_presentation::{ChunkSet, Rows, StoredTrack, sha256_bytes};
use std::collections::BTreeMap;

/// Headers of stored media segments by `track_ID` and number.
pub(crate) type SegmentHeaders = BTreeMap<(u32, u32), Headers>;

/// Stores the progressive MP4: a header of its own, then all media segments of its tracks.
pub(crate) async fn progressive(
    output: &AttemptFiles<'_>,
    rows: &Rows<'_>,
    base: &str,
    tracks: &[StoredTrack<'_>],
    headers: &SegmentHeaders,
) -> Result<PresentationFile, Failure> {
    let failed = |e: ProgressiveError| unpackable("the MP4", e);
    let mut heads = Vec::new();
    for track in tracks {
        let header = track_header(output, rows, track).await?;
        let (start, duration) = presented(rows, track);
        heads.push(ProgressiveTrack {
            leading_empty: (start, header.timescale),
            presentation_duration: duration,
            header,
        });
    }
    let mut builder = ProgressiveBuilder::new(heads).map_err(failed)?;
    let mut pieces = vec![Piece::Bytes(Bytes::new())];
    for (id, segment) in StoredTrack::interleaved(tracks) {
        let found = headers.get(&(id, segment.number));
        let found = found.ok_or_else(|| unpackable("the MP4", "a segment was not verified"))?;
        builder.push_segment(id, segment.object.bytes, found.decode_time, &found.samples).map_err(failed)?;
        pieces.push(Piece::Object { key: segment.object.key.clone(), bytes: segment.object.bytes });
    }
    let head = builder.finish().map_err(failed)?;
    let expected = head.total_bytes();
    if let Some(first) = pieces.first_mut() {
        *first = Piece::Bytes(Bytes::from(head.bytes));
    }
    output.compose(&format!("{base}.mp4"), &pieces, expected).await
}

/// Start and length of what a track presents, in its ticks.
fn presented(rows: &Rows<'_>, track: &StoredTrack<'_>) -> (u64, u64) {
    let (start, duration) = match (track.kind, &rows.plan.timeline) {
        (MediaKind::Video, Some(t)) => (t.output_start.get(), (t.output_end - t.output_start).get()),
        _ => rows.audio_part(track.id).map_or((0, 0), |a| (a.start.get(), i64::try_from(a.num_samples).unwrap_or(0))),
    };
    (u64::try_from(start).unwrap_or(0), u64::try_from(duration).unwrap_or(0))
}

/// Stores the chunk set: runs of media segments, each run behind an init segment, and the chunk manifest.
pub(crate) async fn chunk_set(
    output: &AttemptFiles<'_>,
    rows: &Rows<'_>,
    base: &str,
) -> Result<Vec<PresentationFile>, Failure> {
    let failed = |e: ChunkError| unpackable("the chunk set", e);
    let tracks = ChunkSet::tracks(rows);
    let mut heads = Vec::new();
    for track in &tracks {
        heads.push(track_header(output, rows, track).await?);
    }
    let sound = tracks.iter().find(|track| track.kind == MediaKind::Audio).and_then(|track| rows.audio_part(track.id));
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let header = heads.iter().find(|head| head.handler == Handler::Audio);
    let gapless = header.zip(sound).and_then(|(header, part)| gapless(header, part));
    let init = write_init(&heads, gapless).map_err(|e| unpackable("the chunk set", e))?;
    let Some(set) = ChunkSet::new(rows, base, init.len() as u64).map_err(failed)? else { return Ok(Vec::new()) };
    let (mut files, mut written) = (Vec::new(), Vec::new());
    for chunk in set.files().map_err(failed)? {
        let segments = chunk.segments.iter();
        let segments = segments.map(|s| Piece::Object { key: s.object.key.clone(), bytes: s.object.bytes });
        let pieces: Vec<Piece> = [Piece::Bytes(Bytes::from(init.clone()))].into_iter().chain(segments).collect();
        let file = output.compose(&chunk.path, &pieces, chunk.bytes).await?;
        let sha256 =
            sha256_bytes(&file.object.sha256).ok_or_else(|| unpackable("the chunk set", "a hash is malformed"))?;
        written.push(WrittenChunk { duration: chunk.duration, bytes: file.object.bytes, sha256 });
        files.push(file);
    }
    let json = set.manifest(&written).map_err(failed)?;
    files.push(output.put(&set.manifest_path(), json.into_bytes()).await?);
    Ok(files)
}

/// Priming and padding of an audio track, for players that do not apply edit lists.
fn gapless(header: &TrackHeader, part: &AudioPart) -> Option<Gapless> {
    let held = part.stored.segments.iter().map(|s| s.duration.unsigned()).sum();
    let priming = u32::try_from(part.priming.get()).unwrap_or(0);
    Gapless::of(&header.sample_entry, priming, held, part.num_samples)
}

/// The header of a track, from its stored init segment and the model.
async fn track_header(
    output: &AttemptFiles<'_>,
    rows: &Rows<'_>,
    track: &StoredTrack<'_>,
) -> Result<TrackHeader, Failure> {
    let init = track.init.ok_or_else(|| unpackable("the header", "a track has no init segment"))?;
    let movie = parse_init(&output.read(init).await?).map_err(|e| unpackable("the header", e))?;
    let parsed = movie.tracks.first().ok_or_else(|| unpackable("the header", "an init segment has no track"))?;
    let entry =
        parsed.sample_entries.first().ok_or_else(|| unpackable("the header", "an init segment has no sample entry"))?;
    let mut header = TrackHeader {
        id: track.track_id,
        handler: Handler::Audio,
        timescale: parsed.timescale,
        language: parsed.language_code(),
        sample_entry: entry.raw.clone(),
        width: 0,
        height: 0,
        sar: (1, 1),
        matrix: parsed.matrix,
        delay: parsed.edits.first().map_or(0, |e| u64::try_from(e.media_time).unwrap_or(0)),
        name: parsed.name.clone().unwrap_or_default(),
    };
    let planned = rows.plan.tracks.iter().find(|planned| planned.id == track.id && planned.kind() == track.kind);
    if let Some(video) = planned.and_then(TrackPlan::video) {
        header.handler = Handler::Video;
        (header.width, header.height) = (video.width, video.height);
        header.sar = (u32::try_from(video.sar.num()).unwrap_or(1), u32::try_from(video.sar.den()).unwrap_or(1));
    }
    Ok(header)
}
