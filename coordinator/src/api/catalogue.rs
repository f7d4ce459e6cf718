//! Which files a published presentation has and where their bytes are.

use super::Api;
use super::problem::ApiError;
use splitreel_backend::blob::BlobError;
use splitreel_client::problem::Code;
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::{PresentationFile, StoredObject};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Catalogues kept in memory; what is published never changes.
const KEPT: usize = 64;
/// Larger objects are not read as a whole.
const MAX_WHOLE: u64 = 64 << 20;
const STEP: usize = 4 << 20;

/// The files of one presentation.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) hash: String,
    files: BTreeMap<String, StoredObject>,
}

impl Catalogue {
    pub(crate) fn file(&self, path: &str) -> Option<PresentationFile> {
        self.files.get(path).map(|object| PresentationFile { path: path.to_owned(), object: object.clone() })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &StoredObject)> {
        self.files.iter().map(|(path, object)| (path.as_str(), object))
    }
}

/// Catalogues that were read.
#[derive(Default)]
pub(crate) struct Catalogues {
    by_job: Mutex<BTreeMap<JobId, Arc<Catalogue>>>,
}

pub(crate) fn blob_refused(error: BlobError) -> ApiError {
    tracing::warn!(%error, "a stored object cannot be read");
    ApiError::unavailable("Storage did not answer.")
}

impl Api {
    /// The catalogue of a published job.
    pub(crate) async fn catalogue(&self, job: &Job) -> Result<Arc<Catalogue>, ApiError> {
        if job.state != JobState::Published {
            return Err(ApiError::new(Code::NotPublished, format!("It is {}.", job.state.as_str())));
        }
        let kept = &self.inner.catalogues.by_job;
        if let Some(found) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&job.id) {
            return Ok(Arc::clone(found));
        }
        let presentation = self.inner.store.presentation(job.id).await?;
        let presentation = presentation.ok_or_else(|| ApiError::new(Code::NotPublished, ""))?;
        let json = self.whole(&presentation.catalogue).await?;
        let files: Vec<PresentationFile> = serde_json::from_slice(&json).map_err(|error| {
            tracing::error!(job = %job.id, %error, "the catalogue is unreadable");
            ApiError::new(Code::Internal, "")
        })?;
        let files = files.into_iter().map(|f| (f.path, f.object)).collect();
        let catalogue = Arc::new(Catalogue { hash: presentation.hash, files });
        let mut all = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT {
            all.pop_first();
        }
        all.insert(job.id, Arc::clone(&catalogue));
        Ok(catalogue)
    }

    /// A whole small object.
    pub(crate) async fn whole(&self, object: &StoredObject) -> Result<Vec<u8>, ApiError> {
        if object.bytes > MAX_WHOLE {
            tracing::error!(key = object.key, bytes = object.bytes, "too large to be read as a whole");
            return Err(ApiError::new(Code::Internal, ""));
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < object.bytes {
            let piece = self.inner.blobs.read(&object.key, bytes.len() as u64, STEP).await.map_err(blob_refused)?;
            if piece.is_empty() {
                tracing::error!(key = object.key, "a stored object is shorter than its row says");
                return Err(ApiError::new(Code::Internal, ""));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}
