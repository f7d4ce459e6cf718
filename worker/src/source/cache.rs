//! What several attempts of one worker need alike is fetched once: the ranges that all segments share, kept in memory
//! within a bound, and whole sources while they are in use. Fetches nothing itself.

use super::scratch::ScratchFile;
use bytes::Bytes;
use splitreel_backend::cache::Cache;
use splitreel_core::source::{ByteRange, SourceRef};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;

/// A version of a source.
type Version = (String, String);

fn version(source: &SourceRef) -> Version {
    (source.locator.clone(), source.version.clone())
}

/// A cache entry; the holder of its lock fetches the bytes for all waiting attempts.
pub(super) type PieceSlot = Arc<tokio::sync::Mutex<Option<Bytes>>>;

#[derive(Clone)]
struct HeldRange {
    slot: PieceSlot,
    bytes: usize,
}

/// Ranges in memory; the least recently used make room.
pub(super) struct Pieces {
    limit_bytes: usize,
    /// By version, first byte and the byte behind the last.
    held: Cache<(Version, u64, u64), HeldRange>,
}

impl Pieces {
    pub(super) fn new(limit_bytes: u64) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Pieces { limit_bytes, held: Cache::new(limit_bytes).weighed(|held: &HeldRange| held.bytes) }
    }

    /// The cache entry of a range; `None` when the range is too large to be held.
    pub(super) fn slot(&self, source: &SourceRef, range: ByteRange) -> Option<PieceSlot> {
        let bytes = usize::try_from(range.len()).ok().filter(|bytes| *bytes <= self.limit_bytes / 2)?;
        let fresh = || HeldRange { slot: PieceSlot::default(), bytes };
        // Without a limit of age the cache needs no clock.
        Some(self.held.get_or_put((version(source), range.start, range.end), 0, fresh).slot)
    }
}

/// The running fetch of a whole source, or its result while it is in use.
pub(super) struct WholeSlot {
    pub(super) file: tokio::sync::Mutex<Weak<ScratchFile>>,
    /// Progress of the fetch in per mille of an attempt: waiting attempts report it as their own.
    pub(super) done: watch::Sender<u16>,
}

/// Whole sources in use.
#[derive(Default)]
pub(super) struct Wholes {
    held: Mutex<Vec<(Version, Arc<WholeSlot>)>>,
}

impl Wholes {
    pub(super) fn slot(&self, source: &SourceRef) -> Arc<WholeSlot> {
        let key = version(source);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(known, slot)| {
            let is_used = Arc::strong_count(slot) > 1;
            *known == key || is_used || slot.file.try_lock().is_ok_and(|file| file.strong_count() > 0)
        });
        if let Some((_, slot)) = held.iter().find(|(known, _)| *known == key) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(WholeSlot { file: tokio::sync::Mutex::default(), done: watch::Sender::new(0) });
        held.push((key, Arc::clone(&slot)));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(version: &str) -> SourceRef {
        SourceRef { locator: "s3://b/k".into(), bytes: 100, version: version.into() }
    }

    #[tokio::test]
    async fn pieces_are_kept_within_the_bound() {
        let pieces = Pieces::new(100);
        let range = |start| ByteRange { start, end: start + 40 };
        *pieces.slot(&source("a"), range(0)).unwrap().lock().await = Some(Bytes::from_static(b"x"));
        assert!(pieces.slot(&source("b"), range(0)).unwrap().lock().await.is_none());
        assert!(pieces.slot(&source("a"), range(0)).unwrap().lock().await.is_some());
        // The one used longest ago goes first.
        pieces.slot(&source("a"), range(50)).unwrap();
        assert!(pieces.slot(&source("a"), range(0)).unwrap().lock().await.is_some());
        pieces.slot(&source("c"), range(0)).unwrap();
        pieces.slot(&source("d"), range(0)).unwrap();
        assert!(pieces.slot(&source("a"), range(0)).unwrap().lock().await.is_none());
        assert!(pieces.slot(&source("a"), ByteRange { start: 0, end: 51 }).is_none());
    }

    #[test]
    fn unused_slots_are_forgotten() {
        let wholes = Wholes::default();
        let first = wholes.slot(&source("a"));
        assert!(Arc::ptr_eq(&first, &wholes.slot(&source("a"))));
        drop(first);
        wholes.slot(&source("b"));
        assert_eq!(wholes.held.lock().unwrap().len(), 1);
    }
}
