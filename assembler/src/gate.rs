//! The verification gate: the headers of every stored media segment are read, and no byte of its media, and held
//! against what its part claims. One difference and nothing is published.

use crate::blob_failure;
use splitreel_backend::BlobStore;
use splitreel_core::part::{StoredObject, StoredSegment};
use splitreel_core::{Failure, FailureCode};
use splitreel_packaging::fragment::{FragmentSample, Parsed, parse_segment};
use splitreel_packaging::movie::SampleDefaults;

/// Bytes read first of a media segment whose part does not tell how long its headers are: what comes first in it says
/// how much more is needed.
const FIRST_READ: u32 = 16;
/// No header of a media segment is larger.
const MAX_HEADER: u64 = 64 << 20;

/// What the headers of a verified media segment say.
pub(crate) struct Verified {
    /// Decode time of its first sample.
    pub(crate) decode_time: u64,
    /// Its samples, with offsets into the object.
    pub(crate) samples: Vec<FragmentSample>,
}

fn broken(object: &StoredObject, what: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::PartDamaged, format!("{} is not what was stored: {what}", object.key))
}

/// Reads the headers of a media segment and compares them with its record.
///
/// # Errors
/// A [`Failure`] that names the object and the difference.
pub(crate) async fn verify(
    blobs: &dyn BlobStore,
    track_id: u32,
    s: &StoredSegment,
    is_video: bool,
) -> Result<Verified, Failure> {
    let size = blobs.size(&s.object.key).await.map_err(|e| blob_failure(&e))?;
    if size != s.object.bytes {
        return Err(broken(&s.object, format_args!("{size} bytes instead of {}", s.object.bytes)));
    }
    let headers = if s.header_bytes == 0 { FIRST_READ } else { s.header_bytes };
    if u64::from(headers) > MAX_HEADER.min(size) {
        return Err(broken(&s.object, format_args!("headers of {headers} bytes")));
    }
    let mut want = headers as usize;
    let index = loop {
        let prefix = blobs.read(&s.object.key, 0, want).await.map_err(|e| blob_failure(&e))?;
        match parse_segment(&prefix, size, &|_| SampleDefaults::default()).map_err(|e| broken(&s.object, e))? {
            Parsed::Complete(index) => break index,
            Parsed::NeedsPrefix(n) if n > prefix.len() as u64 && n <= MAX_HEADER.min(size) => {
                want = usize::try_from(n).unwrap_or(usize::MAX)
            }
            Parsed::NeedsPrefix(_) => return Err(broken(&s.object, "its headers are cut off")),
        }
    };
    let mut runs = index.runs(track_id);
    let (Some(run), None) = (runs.next(), runs.next()) else {
        return Err(broken(&s.object, format_args!("not one run of track {track_id}")));
    };
    let media_from = run.samples.first().map_or(size, |sample| sample.offset);
    if s.header_bytes != 0 && media_from != u64::from(s.header_bytes) {
        return Err(broken(&s.object, format_args!("headers of {media_from} bytes instead of {}", s.header_bytes)));
    }
    let decode_time = run.base_decode_time.ok_or_else(|| broken(&s.object, "no decode time"))?;
    if i64::try_from(decode_time) != Ok(s.decode_time) {
        return Err(broken(&s.object, format_args!("decode time {decode_time} instead of {}", s.decode_time)));
    }
    if run.samples.len() as u64 != u64::from(s.num_samples) {
        return Err(broken(&s.object, format_args!("{} samples instead of {}", run.samples.len(), s.num_samples)));
    }
    if i64::try_from(run.duration()) != Ok(s.duration) {
        return Err(broken(&s.object, format_args!("lasts {} ticks instead of {}", run.duration(), s.duration)));
    }
    if is_video && !run.samples.first().is_some_and(FragmentSample::is_sync) && s.number != 1 {
        return Err(broken(&s.object, "does not start with a keyframe"));
    }
    Ok(Verified { decode_time, samples: run.samples.clone() })
}
