//! Published presentations: the catalogue of each, and its objects as bytes.

use bytes::Bytes;
use splitreel_backend::blob::{BlobError, BlobStore};
use splitreel_backend::cache::Cache;
use splitreel_backend::{JobStore, StoreError, World};
use splitreel_core::JobId;
use splitreel_core::digest::sha256_hex;
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::StoredObject;
use splitreel_presentation::Catalogue;
use std::sync::Arc;

/// Number of catalogues held in memory; the least recently used makes room. A published catalogue never changes.
const MAX_CATALOGUES: usize = 64;
/// Largest object that is read as a whole, in bytes.
const MAX_WHOLE: u64 = 64 << 20;
/// Bytes read from storage at a time.
const STEP: usize = 4 << 20;

/// Why a presentation could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PresentationError {
    /// The job has published nothing.
    #[error("the job is {}", state.as_str())]
    NotPublished {
        /// State of the job.
        state: JobState,
    },
    /// What is stored is not what was published.
    #[error("the stored object {key} is damaged: {why}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// The difference.
        why: String,
    },
    /// Storage failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The job store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a job has published.
#[derive(Debug)]
pub struct Published {
    /// Hash of the presentation.
    pub hash: String,
    /// Its files.
    pub catalogue: Catalogue,
}

/// Published presentations; cheap to clone.
#[derive(Clone)]
pub struct Presentations {
    store: Arc<dyn JobStore>,
    blobs: Arc<dyn BlobStore>,
    world: World,
    recent: Arc<Cache<JobId, Arc<Published>>>,
}

impl Presentations {
    /// Presentations over the given stores.
    pub fn new(store: Arc<dyn JobStore>, blobs: Arc<dyn BlobStore>, world: World) -> Self {
        Presentations { store, blobs, world, recent: Arc::new(Cache::new(MAX_CATALOGUES)) }
    }

    /// Hash and files of a published job.
    ///
    /// # Errors
    /// [`PresentationError`].
    pub async fn of(&self, job: &Job) -> Result<Arc<Published>, PresentationError> {
        let not_published = || PresentationError::NotPublished { state: job.state };
        if job.state != JobState::Published {
            return Err(not_published());
        }
        let now = self.world.clock.now_ms();
        if let Some(found) = self.recent.get(&job.id, now) {
            return Ok(found);
        }
        let presentation = self.store.presentation(job.id).await?.ok_or_else(not_published)?;
        let json = self.whole(&presentation.catalogue).await?;
        let catalogue = Catalogue::from_json(&json).map_err(|error| PresentationError::Damaged {
            key: presentation.catalogue.key.clone(),
            why: error.to_string(),
        })?;
        let published = Arc::new(Published { hash: presentation.hash, catalogue });
        self.recent.put(job.id, Arc::clone(&published), now);
        Ok(published)
    }

    /// A whole small object, checked against its recorded size and hash.
    ///
    /// # Errors
    /// [`PresentationError`].
    pub async fn whole(&self, object: &StoredObject) -> Result<Vec<u8>, PresentationError> {
        let damaged = |why: &str| PresentationError::Damaged { key: object.key.clone(), why: why.to_owned() };
        if object.bytes > MAX_WHOLE {
            return Err(damaged("too large to be read as a whole"));
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < object.bytes {
            let piece = self.blobs.read(&object.key, bytes.len() as u64, STEP).await?;
            if piece.is_empty() {
                return Err(damaged("shorter than recorded"));
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() as u64 != object.bytes || sha256_hex(&bytes) != object.sha256 {
            return Err(damaged("size or hash differs"));
        }
        Ok(bytes)
    }

    /// Up to `len` bytes of an object from offset `at` on; empty at its end.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn read(&self, object: &StoredObject, at: u64, len: usize) -> Result<Bytes, BlobError> {
        self.blobs.read(&object.key, at, len).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::memory::{MemoryBlobs, MemoryStore};

    #[tokio::test]
    async fn an_object_that_differs_from_its_record_is_refused() {
        let blobs = Arc::new(MemoryBlobs::new());
        blobs.put("a", Bytes::from_static(b"abc")).await.unwrap();
        let presentations =
            Presentations::new(Arc::new(MemoryStore::new()), Arc::clone(&blobs) as Arc<_>, World::machine());
        let object = |bytes, of: &[u8]| StoredObject { key: "a".into(), bytes, sha256: sha256_hex(of) };
        assert_eq!(presentations.whole(&object(3, b"abc")).await.unwrap(), b"abc");
        for (bytes, of) in [(3, b"abd"), (2, b"abc"), (4, b"abc"), (MAX_WHOLE + 1, b"abc")] {
            let read = presentations.whole(&object(bytes, of)).await;
            assert!(matches!(read, Err(PresentationError::Damaged { .. })), "{bytes} {read:?}");
        }
    }
}
