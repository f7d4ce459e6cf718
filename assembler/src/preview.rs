//! Writer of a preview directory: the preview of a running job as files, brought up to date while the job runs.

use crate::export::{ExportError, remove_dir};
use splitreel_backend::BlobReader;
use splitreel_core::part::PresentationFile;
use splitreel_presentation::{Manifest, Preview};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that shows a preview.
pub struct PreviewDir {
    blobs: Arc<dyn BlobReader>,
    dir: PathBuf,
    linked: BTreeSet<String>,
}

impl PreviewDir {
    /// Starts without a preview: removes what an earlier run left in `dir`.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn start(blobs: Arc<dyn BlobReader>, dir: PathBuf) -> io::Result<Self> {
        remove_dir(&dir).await?;
        Ok(PreviewDir { blobs, dir, linked: BTreeSet::new() })
    }

    /// Brings the directory up to date: media first, then the manifests in their order, so that a reader never meets a
    /// name without a file.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn show(&mut self, preview: &Preview) -> Result<(), ExportError> {
        for file in &preview.media {
            self.link(file).await?;
        }
        for manifest in &preview.manifests {
            self.write(manifest).await?;
        }
        Ok(())
    }

    /// Removes the directory: the presentation is published, or the job ended without one.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn remove(self) -> io::Result<()> {
        remove_dir(&self.dir).await
    }

    async fn link(&mut self, file: &PresentationFile) -> Result<(), ExportError> {
        if self.linked.contains(&file.path) {
            return Ok(());
        }
        let target = self.dir.join(&file.path);
        make_parent(&target).await?;
        self.blobs.export(&file.object.key, &target).await?;
        self.linked.insert(file.path.clone());
        Ok(())
    }

    /// Replaces a manifest in one step: readers see the old text or the new one.
    async fn write(&self, manifest: &Manifest) -> Result<(), ExportError> {
        let target = self.dir.join(&manifest.path);
        make_parent(&target).await?;
        let fresh = target.with_extension("new");
        let io_error = |source| ExportError::Io { path: target.clone(), source };
        tokio::fs::write(&fresh, &manifest.text).await.map_err(io_error)?;
        tokio::fs::rename(&fresh, &target).await.map_err(|source| ExportError::Io { path: target.clone(), source })
    }
}

async fn make_parent(target: &Path) -> Result<(), ExportError> {
    let Some(parent) = target.parent() else { return Ok(()) };
    tokio::fs::create_dir_all(parent).await.map_err(|source| ExportError::Io { path: parent.to_owned(), source })
}
