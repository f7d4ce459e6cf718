//! Outputs in directories: the output seam over the assembler's export of a presentation.

use async_trait::async_trait;
use splitreel_assembler::export::{ExportError, export_files};
use splitreel_assembler::output::{NAME_MAX, OutputLock, Permit, Whose, cut};
use splitreel_backend::BlobReader;
use splitreel_backend::grants::local_path;
use splitreel_backend::outputs::{OutputError, OutputStore};
use splitreel_core::digest::sha256_hex;
use splitreel_core::job::Job;
use splitreel_core::part::PresentationFile;
use std::path::PathBuf;
use std::sync::Arc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Outputs in directories: `DIR/SOURCE-FILE-NAME.streams`, replaced in one step when the source is. A directory of that
/// name which holds anything else stays, and the presentation goes to `DIR/SOURCE-FILE-NAME-HASH.streams`.
pub struct LocalOutputs {
    /// Objects.
    pub blobs: Arc<dyn BlobReader>,
}

/// End of the name of a presentation's directory.
const END: &str = ".streams";

/// The directories where a job's presentation may go, by preference: the second has a hash of the source's locator.
fn directories(job: &Job, location: &str) -> [PathBuf; 2] {
    let locator = &job.request.source.locator;
    let path = local_path(locator).unwrap_or_default();
    let name = path.file_name().unwrap_or(job.request.base.as_ref());
    let mut hash = sha256_hex(locator.as_bytes());
    hash.truncate(8);
    let dir = |end: String| {
        let mut name = cut(name, NAME_MAX - end.len());
        name.push(end);
        local_path(location).unwrap_or_else(|| PathBuf::from(location)).join(name)
    };
    [dir(END.to_owned()), dir(format!("-{hash}{END}"))]
}

impl LocalOutputs {
    async fn lay_out(&self, job: &Job, files: &[PresentationFile], location: &str) -> Result<(), Cause> {
        tokio::fs::create_dir_all(local_path(location).unwrap_or_else(|| PathBuf::from(location))).await?;
        let source = sha256_hex(job.request.source.locator.as_bytes());
        let permit =
            Permit { job: job.id.to_string(), base: job.request.base.clone(), whose: Whose::Source(source.clone()) };
        let mut refused = None;
        for dir in directories(job, location) {
            let lock = OutputLock::acquire(&dir, &source)?;
            match export_files(self.blobs.as_ref(), files, &lock, &permit).await {
                Err(error @ ExportError::Holds { .. }) => refused = Some(error),
                exported => return Ok(exported?),
            }
        }
        refused.map_or(Ok(()), |error| Err(error.into()))
    }
}

#[async_trait]
impl OutputStore for LocalOutputs {
    async fn copy(&self, job: &Job, files: &[PresentationFile], location: &str) -> Result<(), OutputError> {
        let exported = self.lay_out(job, files, location).await;
        exported.map_err(|source| OutputError { location: location.to_owned(), source })
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
            let [dir, _] = directories(job, &self.location());
            std::fs::read(dir.join(path)).ok().map(Bytes::from)
        }
    }

    splitreel_backend::output_conformance!(Folder(tempfile::tempdir().unwrap()));
}
