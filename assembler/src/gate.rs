//! The verification gate: reads back the headers of every stored media segment, and no byte of its media, and measures
//! what they state. An object that cannot be read as stored fails the attempt; whether the measurements are right is
//! decided by `splitreel_core::assembly`.

use crate::blob_failure;
use sha2::{Digest, Sha256};
use splitreel_backend::BlobReader;
use splitreel_core::measure::{MeasuredSample, MeasuredSegment, presentation_times};
use splitreel_core::part::{StoredObject, StoredSegment};
use splitreel_core::plan::hex;
use splitreel_core::stated::StatedPicture;
use splitreel_core::{Failure, FailureCode};
use splitreel_packaging::fragment::{FragmentSample, Parsed, SegmentIndex, parse_segment};
use splitreel_packaging::init::parse_init;
use splitreel_packaging::movie::{Handler, SampleDefaults};
use splitreel_packaging::stated::stated_picture;

/// Bytes read first of a media segment whose header length is not recorded: its first boxes state how much more is
/// needed.
const FIRST_READ: u32 = 16;
/// No header of a media segment is larger.
const MAX_HEADER: u64 = 64 << 20;

/// Headers of a stored media segment.
pub(crate) struct Headers {
    /// Decode time of the first sample.
    pub(crate) decode_time: u64,
    /// Samples in decode order, with offsets into the object.
    pub(crate) samples: Vec<FragmentSample>,
}

/// What the header of a stored track states.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// Ticks per second.
    pub(crate) timescale: u32,
    /// Ticks that the edit list hides in front of the presentation.
    pub(crate) delay: i64,
    /// Its pictures; `None` for other kinds.
    pub(crate) stated: Option<StatedPicture>,
}

impl Headers {
    /// Measures the samples of a track with this delay.
    pub(crate) fn measure(&self, delay: i64) -> MeasuredSegment {
        let decode_time = i64::try_from(self.decode_time).unwrap_or(i64::MAX);
        let times = self.samples.iter().map(|s| (s.duration, s.composition_offset));
        let samples: Vec<MeasuredSample> = self
            .samples
            .iter()
            .zip(presentation_times(decode_time, delay, times))
            .map(|(s, pts)| MeasuredSample { pts, duration: s.duration, bytes: s.size, is_sync: s.is_sync() })
            .collect();
        MeasuredSegment::of(decode_time, &samples)
    }
}

fn damaged(object: &StoredObject, what: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::PartDamaged, format!("{} is not what was stored: {what}", object.key))
}

/// Reads the init segment of a track.
///
/// # Errors
/// A [`Failure`] that names the object and the difference from its record.
pub(crate) async fn read_header(blobs: &dyn BlobReader, init: &StoredObject) -> Result<Header, Failure> {
    let want = usize::try_from(init.bytes.min(MAX_HEADER)).unwrap_or(usize::MAX);
    let bytes = blobs.read(&init.key, 0, want).await.map_err(|e| blob_failure(&e))?;
    if hex(&Sha256::digest(&bytes)) != init.sha256 {
        return Err(damaged(init, "its hash differs"));
    }
    let movie = parse_init(&bytes).map_err(|e| damaged(init, e))?;
    let track = movie.tracks.first().ok_or_else(|| damaged(init, "no track"))?;
    let stated = Some(track).filter(|track| track.handler == Handler::Video).and_then(stated_picture);
    let delay = track.edits.first().map_or(0, |edit| edit.media_time);
    Ok(Header { timescale: track.timescale, delay, stated })
}

/// Reads the headers of a media segment.
///
/// # Errors
/// A [`Failure`] that names the object when it is missing, has another size than recorded, or is no media segment of
/// this track.
pub(crate) async fn read_headers(blobs: &dyn BlobReader, track_id: u32, s: &StoredSegment) -> Result<Headers, Failure> {
    let size = blobs.size(&s.object.key).await.map_err(|e| blob_failure(&e))?;
    if size != s.object.bytes {
        return Err(damaged(&s.object, format_args!("{size} bytes instead of {}", s.object.bytes)));
    }
    let index = read_index(blobs, s, size).await?;
    let mut runs = index.runs(track_id);
    let (Some(run), None) = (runs.next(), runs.next()) else {
        return Err(damaged(&s.object, format_args!("not one run of track {track_id}")));
    };
    let media_from = run.samples.first().map_or(size, |sample| sample.offset);
    if s.header_bytes != 0 && media_from != u64::from(s.header_bytes) {
        return Err(damaged(&s.object, format_args!("headers of {media_from} bytes instead of {}", s.header_bytes)));
    }
    let decode_time = run.base_decode_time.ok_or_else(|| damaged(&s.object, "no decode time"))?;
    Ok(Headers { decode_time, samples: run.samples.clone() })
}

async fn read_index(blobs: &dyn BlobReader, s: &StoredSegment, size: u64) -> Result<SegmentIndex, Failure> {
    let headers = if s.header_bytes == 0 { FIRST_READ } else { s.header_bytes };
    if u64::from(headers) > MAX_HEADER.min(size) {
        return Err(damaged(&s.object, format_args!("headers of {headers} bytes")));
    }
    let mut want = headers as usize;
    loop {
        let prefix = blobs.read(&s.object.key, 0, want).await.map_err(|e| blob_failure(&e))?;
        match parse_segment(&prefix, size, &|_| SampleDefaults::default()).map_err(|e| damaged(&s.object, e))? {
            Parsed::Complete(index) => return Ok(index),
            Parsed::NeedsPrefix(n) if n > prefix.len() as u64 && n <= MAX_HEADER.min(size) => {
                want = usize::try_from(n).unwrap_or(usize::MAX);
            }
            Parsed::NeedsPrefix(_) => return Err(damaged(&s.object, "its headers are cut off")),
        }
    }
}
