//! Writer of a preview directory: the preview of a running job as files, brought up to date while the job runs.

use crate::export::{ExportError, blocking};
use crate::output::{OutputLock, is_marked, mark, preview_names, remove_ours};
use splitreel_backend::BlobReader;
use splitreel_core::part::PresentationFile;
use splitreel_presentation::{Manifest, Preview};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that shows a preview: `DIR.partial` next to the output directory DIR, or another name where that one is
/// taken or too long.
pub struct PreviewDir {
    blobs: Arc<dyn BlobReader>,
    /// The output directory.
    output: PathBuf,
    base: String,
    /// The preview, once it exists.
    dir: Option<PathBuf>,
    linked: BTreeSet<String>,
}

impl PreviewDir {
    /// Starts without a preview: removes what an earlier run left. The caller holds the lock of the output directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn start(blobs: Arc<dyn BlobReader>, lock: &OutputLock, base: &str) -> io::Result<Self> {
        clear(lock, base).await?;
        let (output, base) = (lock.dir().to_owned(), base.to_owned());
        Ok(PreviewDir { blobs, output, base, dir: None, linked: BTreeSet::new() })
    }

    /// The directory, once it exists.
    pub fn path(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Makes the directory under the first name that is free.
    async fn make(&mut self) -> Result<PathBuf, ExportError> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let (output, base) = (self.output.clone(), self.base.clone());
        let made = blocking(move || {
            for dir in preview_names(&output) {
                match std::fs::create_dir(&dir) {
                    Ok(()) => return mark(&dir, &output, &base).map(|()| dir),
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
            }
            Err(io::ErrorKind::AlreadyExists.into())
        });
        let dir = made.await.map_err(|source| ExportError::Io { path: self.output.clone(), source })?;
        self.dir = Some(dir.clone());
        Ok(dir)
    }

    /// Brings the directory up to date: media first, then the manifests in their order, so that a reader never meets a
    /// name without a file.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn show(&mut self, preview: &Preview) -> Result<(), ExportError> {
        let dir = self.make().await?;
        for file in &preview.media {
            self.link(&dir, file).await?;
        }
        for manifest in &preview.manifests {
            write(&dir, manifest).await?;
        }
        Ok(())
    }

    /// Removes the directory: the presentation is published, or the job ended without one.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn remove(self) -> io::Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        blocking(move || remove_ours(&dir, &self.base)).await
    }

    async fn link(&mut self, dir: &Path, file: &PresentationFile) -> Result<(), ExportError> {
        if self.linked.contains(&file.path) {
            return Ok(());
        }
        let target = dir.join(&file.path);
        make_parent(&target).await?;
        self.blobs.export(&file.object.key, &target).await?;
        self.linked.insert(file.path.clone());
        Ok(())
    }
}

/// Removes the previews of an output directory that earlier runs left. The caller holds its lock.
///
/// # Errors
/// Those of the file system.
pub async fn clear(lock: &OutputLock, base: &str) -> io::Result<()> {
    let (output, base) = (lock.dir().to_owned(), base.to_owned());
    blocking(move || {
        for dir in preview_names(&output).filter(|dir| is_marked(dir, &output)) {
            remove_ours(&dir, &base)?;
        }
        Ok(())
    })
    .await
}

/// Replaces a manifest in one step: readers see the old text or the new one.
async fn write(dir: &Path, manifest: &Manifest) -> Result<(), ExportError> {
    let target = dir.join(&manifest.path);
    make_parent(&target).await?;
    let fresh = target.with_extension("new");
    let io_error = |source| ExportError::Io { path: target.clone(), source };
    tokio::fs::write(&fresh, &manifest.text).await.map_err(io_error)?;
    tokio::fs::rename(&fresh, &target).await.map_err(|source| ExportError::Io { path: target.clone(), source })
}

async fn make_parent(target: &Path) -> Result<(), ExportError> {
    let Some(parent) = target.parent() else { return Ok(()) };
    tokio::fs::create_dir_all(parent).await.map_err(|source| ExportError::Io { path: parent.to_owned(), source })
}
