//! Outputs in directories: the output seam over the assembler's export of a presentation.

use async_trait::async_trait;
use splitreel_assembler::export::export_files;
use splitreel_backend::BlobReader;
use splitreel_backend::outputs::{OutputError, OutputStore};
use splitreel_core::job::Job;
use splitreel_core::part::PresentationFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Outputs in directories: `DIR/SOURCE-FILE-NAME.streams`, replaced in one step when the source is.
pub struct LocalOutputs {
    /// Objects.
    pub blobs: Arc<dyn BlobReader>,
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
    async fn copy(&self, job: &Job, files: &[PresentationFile], location: &str) -> Result<(), OutputError> {
        let exported = async {
            tokio::fs::create_dir_all(location).await?;
            export_files(self.blobs.as_ref(), files, &directory(job, location)).await?;
            Ok(())
        };
        exported.await.map_err(|source: Cause| OutputError { location: location.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use splitreel_backend::BlobStore;
    use splitreel_backend::conformance::OutputHarness;
    use splitreel_backend_embedded::LocalBlobs;
    use tempfile::TempDir;

    struct Folder(TempDir);

    #[async_trait]
    impl OutputHarness for Folder {
        async fn open(&self) -> Arc<dyn OutputStore> {
            Arc::new(LocalOutputs { blobs: self.blobs().await })
        }
        async fn blobs(&self) -> Arc<dyn BlobStore> {
            Arc::new(LocalBlobs::open(self.0.path().join("objects")).await.unwrap())
        }
        fn location(&self) -> String {
            self.0.path().join("out").to_str().unwrap().to_owned()
        }
        fn unusable_location(&self) -> String {
            let file = self.0.path().join("file");
            std::fs::write(&file, "not a folder").unwrap();
            file.to_str().unwrap().to_owned()
        }
        async fn content(&self, job: &Job, path: &str) -> Option<Bytes> {
            std::fs::read(directory(job, &self.location()).join(path)).ok().map(Bytes::from)
        }
    }

    splitreel_backend::output_conformance!(Folder(tempfile::tempdir().unwrap()));
}
