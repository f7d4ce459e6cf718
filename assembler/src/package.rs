//! Packaging: manifests over the parts' own objects, the progressive MP4, the chunk set, the report, and the
//! catalogue that names them all. Everything is written before anything is published.

use crate::gate::{Verified, verify};
use crate::report::Report;
use crate::{blob_failure, model};
use bytes::Bytes;
use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use splitreel_backend::BlobStore;
use splitreel_backend::blob::Piece;
use splitreel_backend::lease::Assembly;
use splitreel_core::assembly;
use splitreel_core::part::{AudioPart, Presentation, PresentationFile, StoredObject, StoredSegment, VideoPart};
use splitreel_core::plan::{MediaKind, hex};
use splitreel_core::task::Progress;
use splitreel_core::{Failure, FailureCode};
use splitreel_packaging::chunks::{self, ChunkManifest, ChunkUnit, WrittenChunk};
use splitreel_packaging::init::{Gapless, TrackHeader, TrackKind, parse_init, write_init};
use splitreel_packaging::presentation::{Form, MPD_NAME, TrackKind as Folder, init_path, segment_path};
use splitreel_packaging::progressive::{ProgressiveBuilder, ProgressiveTrack};
use splitreel_packaging::{dash, hls};
use std::collections::BTreeMap;
use std::pin::pin;
use tokio::sync::watch;

/// Bytes read at a time when an object is hashed.
const HASH_STEP: usize = 4 << 20;
/// Media segments whose headers are asked for at a time: storage answers slowly, but many at once.
const AT_ONCE: usize = 16;

/// One assembly.
pub(crate) struct Package<'a> {
    pub(crate) blobs: &'a dyn BlobStore,
    pub(crate) prefix: &'a str,
    pub(crate) assembly: &'a Assembly,
}

/// A track as stored, over all parts.
struct Track<'a> {
    id: u32,
    folder: Folder,
    rendition: &'a str,
    init: &'a StoredObject,
    segments: Vec<&'a StoredSegment>,
}

fn unpackable(what: &str, e: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::Packaging, format!("{what} cannot be written: {e}"))
}

impl<'a> Package<'a> {
    /// Does it all. The answer is not visible to anyone until its task is completed.
    pub(crate) async fn make(&self, progress: &watch::Sender<Progress>) -> Result<Presentation, Failure> {
        let certificate = assembly::check(
            &self.assembly.plan,
            &self.assembly.probe.ffmpeg_build,
            &self.assembly.video,
            &self.assembly.audio,
        )
        .map_err(|bad| {
            let first = bad.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Failure::of(
                FailureCode::PartsDiffer,
                format!("the parts do not make up the plan ({} differences): {first}", bad.len()),
            )
        })?;
        let tracks = self.tracks();
        let total = tracks.iter().map(|t| t.segments.len()).sum::<usize>().max(1);
        let mut seen = 0usize;
        let mut files = Vec::new();
        // Only the top video rendition and the audio tracks go into single files: their sample lists are kept.
        let mut kept: BTreeMap<(u32, u32), Verified> = BTreeMap::new();
        for (i, t) in tracks.iter().enumerate() {
            files.push(PresentationFile { path: init_path(t.folder, t.rendition), object: t.init.clone() });
            let is_video = matches!(t.folder, Folder::Video);
            // In order, so that the first difference told is the first there is.
            let checks: Vec<_> = t.segments.iter().map(|s| verify(self.blobs, t.id, s, is_video)).collect();
            let mut gate = pin!(stream::iter(checks).buffered(AT_ONCE));
            for s in &t.segments {
                let Some(verified) = gate.next().await.transpose()? else { break };
                if i == 0 || !is_video {
                    kept.insert((t.id, s.number), verified);
                }
                files.push(PresentationFile {
                    path: segment_path(t.folder, t.rendition, u64::from(s.number)),
                    object: s.object.clone(),
                });
                seen += 1;
                let done = u16::try_from(seen * 500 / total).unwrap_or(500);
                progress.send_modify(|p| p.done_per_mille = done);
            }
        }
        let audio: Vec<Option<&AudioPart>> = self.assembly.audio.iter().map(Some).collect();
        let model = model::presentation(&self.assembly.plan, &self.assembly.video, &audio);
        let checked = model.check(Form::Final).map_err(|e| unpackable("the manifests", e))?;
        for playlist in hls::playlists(&checked) {
            files.push(self.put(&playlist.path, playlist.text.into_bytes()).await?);
        }
        let mpd = dash::mpd(&checked).map_err(|e| unpackable("the MPD", e))?;
        files.push(self.put(MPD_NAME, mpd.into_bytes()).await?);
        let singles: Vec<&Track<'_>> = tracks
            .iter()
            .enumerate()
            .filter(|(i, t)| *i == 0 || matches!(t.folder, Folder::Audio))
            .map(|(_, t)| t)
            .collect();
        if self.assembly.plan.packaging.progressive {
            files.push(self.progressive(&singles, &kept).await?);
        }
        progress.send_modify(|p| p.done_per_mille = 800);
        if self.assembly.plan.packaging.chunk_mb > 0 {
            files.extend(self.chunk_set(&singles).await?);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hash = Sha256::new();
        for f in &files {
            hash.update(f.path.as_bytes());
            hash.update([0]);
            hash.update(f.object.sha256.as_bytes());
        }
        let report = Report::new(
            &certificate,
            &self.assembly.plan,
            &self.assembly.probe,
            &self.assembly.video,
            &self.assembly.audio,
            &self.assembly.history,
        );
        let json = serde_json::to_vec_pretty(&report).map_err(|e| unpackable("the report", e))?;
        files.push(self.put("report.json", json).await?);
        let catalogue = serde_json::to_vec(&files).map_err(|e| unpackable("the catalogue", e))?;
        let catalogue = self.put("catalogue.json", catalogue).await?.object;
        progress.send_modify(|p| p.done_per_mille = 1000);
        Ok(Presentation {
            hash: hex(&hash.finalize()),
            catalogue,
            bytes: files.iter().map(|f| f.object.bytes).sum(),
            num_files: u32::try_from(files.len()).unwrap_or(u32::MAX),
        })
    }

    /// All tracks: video renditions, best first, then audio.
    fn tracks(&self) -> Vec<Track<'a>> {
        let mut parts: Vec<&'a VideoPart> = self.assembly.video.iter().collect();
        parts.sort_by_key(|p| p.segment);
        let video = self.assembly.plan.timeline_tracks().enumerate().filter_map(|(r, planned)| {
            let of: Vec<_> = parts.iter().filter_map(|p| p.renditions.get(r)).collect();
            let init = &of.first()?.init;
            Some(Track {
                id: 1,
                folder: Folder::Video,
                rendition: &planned.id,
                init,
                segments: of.iter().flat_map(|p| &p.segments).collect(),
            })
        });
        let audio = self.assembly.audio.iter().zip(2u32..).map(|(a, id)| Track {
            id,
            folder: Folder::Audio,
            rendition: &a.rendition,
            init: &a.init,
            segments: a.segments.iter().collect(),
        });
        video.chain(audio).collect()
    }

    /// The track's header again, from its init segment and the plan.
    async fn header(&self, track: &Track<'_>) -> Result<TrackHeader, Failure> {
        let len = usize::try_from(track.init.bytes).unwrap_or(usize::MAX);
        let bytes = self.blobs.read(&track.init.key, 0, len).await.map_err(|e| blob_failure(&e))?;
        let movie = parse_init(&bytes).map_err(|e| unpackable("the header", e))?;
        let parsed = movie.tracks.first().ok_or_else(|| unpackable("the header", "an init segment has no track"))?;
        let entry = parsed
            .sample_entries
            .first()
            .ok_or_else(|| unpackable("the header", "an init segment has no sample entry"))?;
        let delay = parsed.edits.first().map_or(0, |e| u64::try_from(e.media_time).unwrap_or(0));
        let mut header = TrackHeader {
            id: track.id,
            kind: TrackKind::Audio,
            timescale: parsed.timescale,
            language: parsed.language_code(),
            sample_entry: entry.raw.clone(),
            width: 0,
            height: 0,
            sar: (1, 1),
            delay,
            name: parsed.name.clone().unwrap_or_default(),
        };
        if matches!(track.folder, Folder::Video)
            && let Some((_, r)) = self.assembly.plan.video_tracks().find(|(planned, _)| planned.id == track.rendition)
        {
            header.kind = TrackKind::Video;
            (header.width, header.height) = (r.width, r.height);
            header.sar = (u32::try_from(r.sar.num()).unwrap_or(1), u32::try_from(r.sar.den()).unwrap_or(1));
        }
        Ok(header)
    }

    /// The progressive MP4: a new header in front of the media segments as they are, so that a store can put
    /// it together by itself.
    async fn progressive(
        &self,
        tracks: &[&Track<'_>],
        kept: &BTreeMap<(u32, u32), Verified>,
    ) -> Result<PresentationFile, Failure> {
        let failed = |e: splitreel_packaging::progressive::ProgressiveError| unpackable("the MP4", e);
        let mut heads = Vec::new();
        for t in tracks {
            let header = self.header(t).await?;
            let (start, duration) = match (t.folder, &self.assembly.plan.timeline) {
                (Folder::Video, Some(v)) => (v.output_start.get(), (v.output_end - v.output_start).get()),
                _ => {
                    let part = self.assembly.audio.iter().find(|a| a.rendition == t.rendition);
                    part.map_or((0, 0), |a| (a.start, i64::try_from(a.num_samples).unwrap_or(0)))
                }
            };
            let leading_empty = (u64::try_from(start).unwrap_or(0), header.timescale);
            heads.push(ProgressiveTrack {
                header,
                leading_empty,
                presentation_duration: u64::try_from(duration).unwrap_or(0),
            });
        }
        let mut builder = ProgressiveBuilder::new(heads).map_err(failed)?;
        let mut pieces = vec![Piece::Bytes(Bytes::new())];
        for (id, s) in interleaved(tracks) {
            let v = kept.get(&(id, s.number)).ok_or_else(|| unpackable("the MP4", "a segment was not verified"))?;
            builder.push_segment(id, s.object.bytes, v.decode_time, &v.samples).map_err(failed)?;
            pieces.push(Piece::Object { key: s.object.key.clone(), bytes: s.object.bytes });
        }
        let head = builder.finish().map_err(failed)?;
        let expected = head.total_bytes();
        if let Some(first) = pieces.first_mut() {
            *first = Piece::Bytes(Bytes::from(head.bytes));
        }
        self.compose(&format!("{}.mp4", self.assembly.base), &pieces, expected).await
    }

    /// The chunk set: runs of media segments of the top rendition and the default audio, each behind an init
    /// segment of its own, and their manifest.
    async fn chunk_set(&self, tracks: &[&Track<'_>]) -> Result<Vec<PresentationFile>, Failure> {
        let failed = |e: chunks::ChunkError| unpackable("the chunk set", e);
        let default = self
            .assembly
            .plan
            .tracks_of(MediaKind::Audio)
            .position(|a| a.label.is_default)
            .and_then(|i| self.assembly.audio.get(i))
            .map(|a| a.rendition.as_str());
        let chosen: Vec<&Track<'_>> = tracks
            .iter()
            .filter(|t| matches!(t.folder, Folder::Video) || Some(t.rendition) == default)
            .copied()
            .collect();
        let Some(lead) = chosen.first() else { return Ok(Vec::new()) };
        let mut heads = Vec::new();
        for t in &chosen {
            heads.push(self.header(t).await?);
        }
        let codecs: Vec<String> =
            heads.iter().filter_map(|h| splitreel_packaging::codecs::codec_string(&h.sample_entry).ok()).collect();
        let timescale = heads.first().map_or(1, |h| h.timescale);
        let sound = chosen.iter().find_map(|t| {
            self.assembly.audio.iter().find(|a| matches!(t.folder, Folder::Audio) && a.rendition == t.rendition)
        });
        let gapless = sound.filter(|a| a.priming > 0 && !a.codec.starts_with("opus")).map(|a| {
            let held = a.segments.iter().map(|s| u64::try_from(s.duration).unwrap_or(0)).sum::<u64>();
            let padding = held.saturating_sub(a.num_samples).saturating_sub(u64::from(a.priming));
            Gapless { priming: a.priming, padding: u32::try_from(padding).unwrap_or(0), num_samples: a.num_samples }
        });
        let init = write_init(&heads, gapless).map_err(|e| unpackable("the chunk set", e))?;
        let has_video = matches!(lead.folder, Folder::Video);

        // A unit is what starts together: a lead segment and everything up to the next one.
        let last = lead.segments.last().map_or(0, |s| s.number);
        let first = lead.segments.first().map_or(0, |s| s.number);
        let mut units: Vec<(ChunkUnit, Vec<&StoredSegment>)> = lead
            .segments
            .iter()
            .map(|s| {
                (ChunkUnit { bytes: 0, start: s.start, duration: u64::try_from(s.duration).unwrap_or(0) }, Vec::new())
            })
            .collect();
        for (_, s) in interleaved(&chosen) {
            let at = usize::try_from(s.number.clamp(first, last) - first).unwrap_or(0);
            if let Some((unit, segments)) = units.get_mut(at) {
                unit.bytes += s.object.bytes;
                segments.push(s);
            }
        }
        let sizes: Vec<ChunkUnit> = units.iter().map(|(u, _)| *u).collect();
        let limit =
            chunks::chunk_limit_bytes(self.assembly.plan.packaging.chunk_mb).map_err(failed)?.unwrap_or(u64::MAX);
        let ranges = chunks::plan_chunks(&sizes, limit, init.len() as u64);
        let folder = chunks::chunk_folder(&self.assembly.base).map_err(failed)?;
        let mut files = Vec::new();
        let mut written = Vec::new();
        for (i, range) in ranges.iter().enumerate() {
            let mut pieces = vec![Piece::Bytes(Bytes::from(init.clone()))];
            for (_, segments) in units.get(range.clone()).unwrap_or_default() {
                pieces.extend(
                    segments.iter().map(|s| Piece::Object { key: s.object.key.clone(), bytes: s.object.bytes }),
                );
            }
            let expected = chunks::chunk_bytes(&sizes, range, init.len() as u64);
            let name = chunks::chunk_file_name(&self.assembly.base, i, ranges.len()).map_err(failed)?;
            let file = self.compose(&format!("{folder}/{name}"), &pieces, expected).await?;
            let sha256 =
                unhex(&file.object.sha256).ok_or_else(|| unpackable("the chunk set", "a hash is malformed"))?;
            written.push(WrittenChunk {
                duration: chunks::chunk_ticks(&sizes, range),
                bytes: file.object.bytes,
                sha256,
            });
            files.push(file);
        }
        let manifest =
            ChunkManifest::new(&self.assembly.base, chunks::mime_type(has_video, &codecs), timescale, &written)
                .map_err(failed)?;
        let json = manifest.to_json().map_err(failed)?;
        files.push(self.put(&format!("{folder}/{}", chunks::CHUNK_MANIFEST_NAME), json.into_bytes()).await?);
        Ok(files)
    }

    async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<PresentationFile, Failure> {
        let object = StoredObject {
            key: format!("{}{path}", self.prefix),
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
        };
        self.blobs.put(&object.key, Bytes::from(bytes)).await.map_err(|e| blob_failure(&e))?;
        Ok(PresentationFile { path: path.to_owned(), object })
    }

    async fn compose(&self, path: &str, pieces: &[Piece], expected: u64) -> Result<PresentationFile, Failure> {
        let key = format!("{}{path}", self.prefix);
        let bytes = self.blobs.compose(&key, pieces).await.map_err(|e| blob_failure(&e))?;
        if bytes != expected {
            return Err(Failure::of(FailureCode::Compose, format!("{key} has {bytes} bytes instead of {expected}")));
        }
        let sha256 = self.hash(&key).await?;
        Ok(PresentationFile { path: path.to_owned(), object: StoredObject { key, bytes, sha256 } })
    }

    async fn hash(&self, key: &str) -> Result<String, Failure> {
        let (mut hash, mut at) = (Sha256::new(), 0u64);
        loop {
            let piece = self.blobs.read(key, at, HASH_STEP).await.map_err(|e| blob_failure(&e))?;
            if piece.is_empty() {
                return Ok(hex(&hash.finalize()));
            }
            hash.update(&piece);
            at += piece.len() as u64;
        }
    }
}

/// Segments of several tracks in the order of their numbers: what is played together lies together.
fn interleaved<'a>(tracks: &[&Track<'a>]) -> Vec<(u32, &'a StoredSegment)> {
    let mut all: Vec<(u32, u32, &StoredSegment)> =
        tracks.iter().flat_map(|t| t.segments.iter().map(|s| (s.number, t.id, *s))).collect();
    all.sort_by_key(|(number, id, _)| (*number, *id));
    all.into_iter().map(|(_, id, s)| (id, s)).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if text.len() != 64 {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}
