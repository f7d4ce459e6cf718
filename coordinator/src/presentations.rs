//! Published presentations: the catalogue of each, and its objects as bytes.

use bytes::Bytes;
use futures::Stream;
use splitreel_backend::blob::{BlobError, BlobReader, stream};
use splitreel_backend::cache::Cache;
use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_backend::{JobStore, StoreError, World};
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::StoredObject;
use splitreel_presentation::Catalogue;
use std::ops::Range;
use std::sync::Arc;

/// Number of catalogues held in memory; the least recently used makes room. A published catalogue never changes.
const MAX_CATALOGUES: usize = 64;
/// Largest object that is read as a whole, in bytes.
const MAX_WHOLE: u64 = 64 << 20;

/// Why a presentation could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PresentationError {
    /// The job has published nothing.
    #[error("the job is {}", state.as_str())]
    NotPublished {
        /// State of the job.
        state: JobState,
    },
    /// An object could not be read, or is not what was published.
    #[error(transparent)]
    Object(#[from] ReadError),
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
    blobs: Arc<dyn BlobReader>,
    world: World,
    recent: Arc<Cache<JobId, Arc<Published>>>,
}

impl Presentations {
    /// Presentations over the given stores.
    pub fn new(store: Arc<dyn JobStore>, blobs: Arc<dyn BlobReader>, world: World) -> Self {
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
        let catalogue =
            Catalogue::from_json(&json).map_err(|error| ReadError::damaged(&presentation.catalogue, error))?;
        let published = Arc::new(Published { hash: presentation.hash, catalogue });
        self.recent.put(job.id, Arc::clone(&published), now);
        Ok(published)
    }

    /// A whole small object, checked against its recorded size and hash.
    ///
    /// # Errors
    /// [`PresentationError`].
    pub async fn whole(&self, object: &StoredObject) -> Result<Vec<u8>, PresentationError> {
        if object.bytes > MAX_WHOLE {
            return Err(ReadError::damaged(object, "too large to be read as a whole").into());
        }
        Ok(read_whole(self.blobs.as_ref(), object).await?)
    }

    /// Bytes `range` of an object.
    pub fn stream(
        &self,
        object: StoredObject,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + use<> {
        stream(Arc::clone(&self.blobs), object.key, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::memory::{MemoryBlobs, MemoryStore};

    #[tokio::test]
    async fn an_object_too_large_for_memory_is_refused_before_it_is_read() {
        let blobs = Arc::new(MemoryBlobs::new());
        let presentations = Presentations::new(Arc::new(MemoryStore::new()), blobs, World::machine());
        let large = StoredObject { key: "a".into(), bytes: MAX_WHOLE + 1, sha256: String::new() };
        let read = presentations.whole(&large).await;
        assert!(matches!(read, Err(PresentationError::Object(ReadError::Damaged { .. }))), "{read:?}");
    }
}
