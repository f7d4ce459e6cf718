//! Copies presentations to directories of this machine. Fits the adapter to the coordinator's seam; when to copy, and
//! again, is decided there.

use async_trait::async_trait;
use splitreel_assembler::export::export;
use splitreel_backend::BlobStore;
use splitreel_coordinator::outputs::{OutputError, OutputStore};
use splitreel_core::job::Job;
use splitreel_core::part::Presentation;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Outputs in directories: `DIR/SOURCE-FILE-NAME.streams`, replaced in one step when the source is.
pub struct LocalOutputs {
    /// Objects.
    pub blobs: Arc<dyn BlobStore>,
}

/// The directory of a job's presentation.
pub fn directory(job: &Job, location: &str) -> PathBuf {
    let name = Path::new(&job.request.source.locator).file_name().unwrap_or(job.request.base.as_ref());
    let mut name = name.to_owned();
    name.push(".streams");
    Path::new(location).join(name)
}

#[async_trait]
impl OutputStore for LocalOutputs {
    async fn lay_out(&self, job: &Job, presentation: &Presentation, location: &str) -> Result<(), OutputError> {
        let laid_out = async {
            tokio::fs::create_dir_all(location).await?;
            export(self.blobs.as_ref(), presentation, &directory(job, location)).await?;
            Ok(())
        };
        laid_out.await.map_err(|source: Cause| OutputError { location: location.to_owned(), source })
    }
}
