//! Storing the parts: header and samples become one immutable object each, hashed on the way.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use splitreel_backend::{BlobError, PartWriter};
use splitreel_core::captions::{CaptionScan, Captions};
use splitreel_core::part::{StoredObject, StoredSegment, TrackPart};
use splitreel_core::plan::hex;
use splitreel_core::{Failure, FailureCode};
use splitreel_media::piece::{EncodedSample, EncodedTrack, Payload};
use splitreel_telemetry::Chain;
use std::io::Write;
use std::path::PathBuf;

use crate::piece::{CutSegment, CutTrack};
use crate::progress::Transfer;

/// Media segments above this many bytes go through a scratch file instead of memory.
const IN_MEMORY_BYTES: u64 = 64 << 20;

/// What storing a blob's failure means for the attempt.
pub(crate) fn blob_failure(e: &BlobError) -> Failure {
    match e {
        BlobError::NoSpace { .. } => Failure::of(FailureCode::NoSpace, format!("{e}: free some space")),
        BlobError::BadKey { .. } => Failure::of(FailureCode::BadKey, e.to_string()),
        BlobError::NotFound { .. } | BlobError::Unavailable { .. } => {
            Failure::of(FailureCode::Storage, Chain(e).to_string())
        }
    }
}

/// Stores literal bytes.
pub(crate) async fn store_bytes(blobs: &dyn PartWriter, key: String, bytes: Vec<u8>) -> Result<StoredObject, Failure> {
    let object = StoredObject { sha256: hex(&Sha256::digest(&bytes)), bytes: bytes.len() as u64, key };
    blobs.put(&object.key, Bytes::from(bytes)).await.map_err(|e| blob_failure(&e))?;
    Ok(object)
}

/// What is stored of a track, without its headers: what a [`Transfer`] of it counts.
pub(crate) fn bytes_to_store(cut: &CutTrack, track: &EncodedTrack) -> u64 {
    cut.segments.iter().map(|segment| sample_bytes(segment, track)).sum()
}

fn sample_bytes(segment: &CutSegment, track: &EncodedTrack) -> u64 {
    track.samples.get(segment.samples.clone()).unwrap_or_default().iter().map(|s| u64::from(s.size)).sum()
}

/// Stores the init and media segments of the track with an id under a prefix.
pub(crate) async fn store_track(
    blobs: &dyn PartWriter,
    (id, prefix): (&str, &str),
    cut: CutTrack,
    track: &EncodedTrack,
    transfer: &Transfer<'_>,
) -> Result<TrackPart, Failure> {
    let init = store_bytes(blobs, format!("{prefix}init.mp4"), cut.init).await?;
    let mut stored = Vec::with_capacity(cut.segments.len());
    let mut captions = Captions::default();
    for s in cut.segments {
        let key = format!("{prefix}seg-{:05}.m4s", s.number);
        let bytes = sample_bytes(&s, track);
        let (segment, found) = store_segment(blobs, key, s, track).await?;
        stored.push(segment);
        captions = captions.or(found);
        transfer.moved(bytes);
    }
    Ok(TrackPart { track: id.to_owned(), init, codec: cut.codec, captions, segments: stored })
}

async fn store_segment(
    blobs: &dyn PartWriter,
    key: String,
    cut: CutSegment,
    track: &EncodedTrack,
) -> Result<(StoredSegment, Captions), Failure> {
    let CutSegment { number, start, duration, decode_time, header, samples_sha256, samples } = cut;
    let samples = track.samples.get(samples).unwrap_or_default().to_vec();
    let num_samples = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let bytes = u64::from(header_bytes) + samples.iter().map(|s| u64::from(s.size)).sum::<u64>();
    let (object, captions) = match &track.payload {
        Payload::File(path) if bytes > IN_MEMORY_BYTES => {
            let spool = path.with_extension("spool");
            let (payload, to) = (track.payload.clone(), spool.clone());
            let (sha256, captions) = blocking(move || spool_segment(&payload, &header, &samples, to)).await?;
            blobs.put_file(&key, &spool).await.map_err(|e| blob_failure(&e))?;
            let _ = tokio::fs::remove_file(&spool).await;
            (StoredObject { key, bytes, sha256 }, captions)
        }
        Payload::File(_) => {
            let payload = track.payload.clone();
            let (content, captions) = blocking(move || in_memory(&payload, header, &samples, bytes)).await?;
            (store_bytes(blobs, key, content).await?, captions)
        }
        // Inline: the simulation runs in one thread under virtual time.
        Payload::Memory(_) => {
            let in_memory = in_memory(&track.payload, header, &samples, bytes);
            let (content, captions) = in_memory.map_err(|e| scratch_failure(&e))?;
            (store_bytes(blobs, key, content).await?, captions)
        }
    };
    let segment =
        StoredSegment { number, start, duration, decode_time, num_samples, header_bytes, samples_sha256, object };
    Ok((segment, captions))
}

fn in_memory(
    payload: &Payload,
    mut header: Vec<u8>,
    samples: &[EncodedSample],
    bytes: u64,
) -> std::io::Result<(Vec<u8>, Captions)> {
    header.reserve(usize::try_from(bytes).unwrap_or(0).saturating_sub(header.len()));
    payload.copy(samples, &mut header)?;
    let mut scan = CaptionScan::default();
    scan.push(&header);
    Ok((header, scan.finish()))
}

fn spool_segment(
    payload: &Payload,
    header: &[u8],
    samples: &[EncodedSample],
    to: PathBuf,
) -> std::io::Result<(String, Captions)> {
    struct Hashing<W>(W, Sha256, CaptionScan);
    impl<W: Write> Write for Hashing<W> {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            let n = self.0.write(buf)?;
            self.1.update(buf.get(..n).unwrap_or(buf));
            self.2.push(buf.get(..n).unwrap_or(buf));
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let mut out = Hashing(std::io::BufWriter::new(std::fs::File::create(to)?), Sha256::new(), CaptionScan::default());
    out.write_all(header)?;
    payload.copy(samples, &mut out)?;
    out.flush()?;
    Ok((hex(&out.1.finalize()), out.2.finish()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| scratch_failure(&e)),
        Err(e) => Err(Failure::of(FailureCode::WorkerThread, e.to_string())),
    }
}

fn scratch_failure(e: &std::io::Error) -> Failure {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Failure::of(FailureCode::NoSpace, format!("scratch space is full: {e}"))
        }
        _ => Failure::of(FailureCode::Scratch, format!("scratch files cannot be read or written: {e}")),
    }
}
