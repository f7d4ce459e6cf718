//! Faults of stored media that no worker can see: headers are changed behind the worker's check, and the records of the
//! part with them. Hashes and sizes fit, so that only reading the stored headers back finds the fault.

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use splitreel_backend::Wakeup;
use splitreel_backend::blob::{BlobAdmin, BlobError, BlobReader, BlobStore, PartWriter, Piece};
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_core::part::{StoredSegment, TaskResult};
use splitreel_core::plan::hex;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use splitreel_packaging::fragment::{FragmentSpec, Parsed, SampleSpec, parse_segment, write_fragment};
use splitreel_packaging::movie::SampleDefaults;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of the media segment whose samples are changed.
const SPOILT_NUMBER: u32 = 1;

/// A fault to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// One frame is shown one tick late.
    FrameShifted,
    /// Two frames are shown in each other's place.
    FramesSwapped,
    /// A media segment holds what its neighbour should hold.
    NeighbourStored,
}

/// Plants a fault into the parts of video tracks.
pub struct Spoiler {
    spoil: Spoil,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Spoilt objects by key.
    spoilt: BTreeMap<String, Spoilt>,
    /// Media segments as their workers made them, by job and rendition, then by number.
    made: BTreeMap<(String, String), BTreeMap<u32, Bytes>>,
}

/// What a record has to state so that it fits a spoilt object.
#[derive(Clone)]
struct Spoilt {
    bytes: u64,
    header_bytes: u32,
    sha256: String,
}

impl Spoiler {
    /// A spoiler for one engine.
    pub fn new(spoil: Spoil) -> Arc<Self> {
        Arc::new(Spoiler { spoil, state: Mutex::default() })
    }

    /// The store as workers and assemblers see it.
    pub fn blobs(self: &Arc<Self>, inner: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
        Arc::new(SpoiltBlobs { inner, spoiler: Arc::clone(self) })
    }

    /// The leases as workers see them.
    pub fn leases(self: &Arc<Self>, inner: Arc<dyn Leases>) -> Arc<dyn Leases> {
        Arc::new(SpoiltLeases { inner, spoiler: Arc::clone(self) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is stored in place of `content`.
    fn stored(&self, key: &str, content: Bytes) -> Bytes {
        let Some((track, number)) = media_segment(key) else { return content };
        let mut state = self.state();
        let made = state.made.entry(track).or_default();
        made.insert(number, content.clone());
        let spoilt = match self.spoil {
            Spoil::NeighbourStored if number.is_multiple_of(2) => {
                made.get(&(number - 1)).or_else(|| made.get(&(number + 1))).cloned()
            }
            Spoil::FrameShifted if number == SPOILT_NUMBER => rewritten(&content, |samples| {
                if let Some((_, last)) = samples.last_mut() {
                    last.composition_offset += 1;
                }
            }),
            Spoil::FramesSwapped if number == SPOILT_NUMBER => rewritten(&content, swap_last_two),
            _ => None,
        };
        let Some(spoilt) = spoilt else { return content };
        let header_bytes = samples(&spoilt).map_or(0, |(header_bytes, ..)| header_bytes);
        let record = Spoilt { bytes: spoilt.len() as u64, header_bytes, sha256: hex(&Sha256::digest(&spoilt)) };
        state.spoilt.insert(key.to_owned(), record);
        spoilt
    }

    /// Makes the records of a part fit what is stored.
    fn records(&self, mut result: TaskResult) -> TaskResult {
        let state = self.state();
        if let TaskResult::Video(part) = &mut result {
            for segment in part.renditions.iter_mut().flat_map(|r| &mut r.stored.segments) {
                if let Some(spoilt) = state.spoilt.get(&segment.object.key) {
                    fit(segment, spoilt);
                }
            }
        }
        result
    }
}

fn fit(segment: &mut StoredSegment, spoilt: &Spoilt) {
    segment.object.bytes = spoilt.bytes;
    segment.object.sha256.clone_from(&spoilt.sha256);
    segment.header_bytes = spoilt.header_bytes;
}

/// Job and rendition, and number, of a video media segment's key: `jobs/JOB/TASK/ATTEMPT/RENDITION/seg-NUMBER.m4s`.
fn media_segment(key: &str) -> Option<((String, String), u32)> {
    let parts: Vec<&str> = key.split('/').collect();
    let ["jobs", job, _task, _attempt, rendition, name] = parts.as_slice() else { return None };
    let number = name.strip_prefix("seg-")?.strip_suffix(".m4s")?.parse().ok()?;
    Some((((*job).to_owned(), (*rendition).to_owned()), number))
}

type Samples = Vec<(u64, SampleSpec)>;

/// Length of the headers, sequence number, track, decode time and samples (with decode times) of a media segment.
fn samples(content: &[u8]) -> Option<(u32, u32, u32, u64, Samples)> {
    let parsed = parse_segment(content, content.len() as u64, &|_| SampleDefaults::default()).ok()?;
    let Parsed::Complete(index) = parsed else { return None };
    let fragment = index.fragments.first()?;
    let run = fragment.tracks.first()?;
    let mut at = run.base_decode_time?;
    let samples = run.samples.iter().map(|s| {
        let decode_time = at;
        at += u64::from(s.duration);
        let (duration, size, is_sync, composition_offset) = (s.duration, s.size, s.is_sync(), s.composition_offset);
        (decode_time, SampleSpec { duration, size, is_sync, composition_offset })
    });
    let samples = samples.collect();
    let header_bytes = u32::try_from(run.samples.first()?.offset).ok()?;
    Some((header_bytes, fragment.sequence_number, run.track_id, run.base_decode_time?, samples))
}

/// The media segment with other samples stated in its headers.
fn rewritten(content: &Bytes, change: impl FnOnce(&mut [(u64, SampleSpec)])) -> Option<Bytes> {
    let (header_bytes, sequence_number, track_id, base_decode_time, mut samples) = samples(content)?;
    change(&mut samples);
    let samples: Vec<SampleSpec> = samples.into_iter().map(|(_, sample)| sample).collect();
    let spec = FragmentSpec { sequence_number, track_id, base_decode_time, samples: &samples };
    let mut whole = write_fragment(&spec).ok()?.bytes;
    whole.extend_from_slice(content.get(header_bytes as usize..)?);
    Some(whole.into())
}

/// Shows the last two samples in each other's place: the set of presentation times stays.
fn swap_last_two(samples: &mut [(u64, SampleSpec)]) {
    let [.., (a_at, a), (b_at, b)] = samples else { return };
    let apart = i32::try_from(*b_at - *a_at).unwrap_or(0);
    let (a_offset, b_offset) = (a.composition_offset, b.composition_offset);
    a.composition_offset = b_offset + apart;
    b.composition_offset = a_offset - apart;
}

struct SpoiltBlobs {
    inner: Arc<dyn BlobStore>,
    spoiler: Arc<Spoiler>,
}

#[async_trait]
impl BlobReader for SpoiltBlobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        self.inner.read(key, offset, len).await
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        self.inner.size(key).await
    }

    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        self.inner.export(key, target).await
    }
}

#[async_trait]
impl PartWriter for SpoiltBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.inner.put(key, self.spoiler.stored(key, bytes)).await
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        self.inner.put_file(key, path).await
    }
}

#[async_trait]
impl BlobAdmin for SpoiltBlobs {
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
        self.inner.compose(key, pieces).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.inner.delete(key).await
    }
}

struct SpoiltLeases {
    inner: Arc<dyn Leases>,
    spoiler: Arc<Spoiler>,
}

#[async_trait]
impl Leases for SpoiltLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        self.inner.claim(wakeup, worker, lease).await
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.inner.renew(task, lease, progress).await
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.inner.complete(task, lease, self.spoiler.records(result)).await
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.inner.fail(task, lease, failure).await
    }
}
