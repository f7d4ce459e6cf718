//! Exports a published presentation to a local directory: everything into a helper directory next to the target, then
//! one rename. A half-written directory is never visible under the final name.

use crate::output::{OutputLock, Permit, PlaceError, Staging, clear_leftovers, place};
use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_backend::{BlobError, BlobReader};
use splitreel_core::part::{Presentation, PresentationFile};
use splitreel_presentation::{Catalogue, CatalogueError};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Why a presentation could not be exported. The target is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The catalogue could not be read, or is damaged.
    #[error(transparent)]
    Object(#[from] ReadError),
    /// An object could not be linked or copied.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The directory holds something that the permit does not cover.
    #[error("{} holds something that is not part of the earlier presentation{}", dir.display(), named(path))]
    Holds {
        /// The directory.
        dir: PathBuf,
        /// The file or folder inside; empty when the directory itself is a file.
        path: PathBuf,
    },
    /// A directory could not be made, synced or renamed.
    #[error("{path} cannot be written")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The catalogue is unreadable or names a path outside the presentation.
    #[error("the catalogue cannot be used")]
    Catalogue(#[from] CatalogueError),
}

fn named(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(": {}", path.display()) }
}

/// Reads the catalogue of a presentation.
///
/// # Errors
/// [`ExportError::Object`], [`ExportError::Catalogue`].
pub async fn catalogue(blobs: &dyn BlobReader, presentation: &Presentation) -> Result<Catalogue, ExportError> {
    let json = read_whole(blobs, &presentation.catalogue).await?;
    Ok(Catalogue::from_json(&json)?)
}

/// Exports a presentation to the locked directory, replacing in one step what the permit covers.
///
/// # Errors
/// [`ExportError`]; the directory is then unchanged.
pub async fn export(
    blobs: &dyn BlobReader,
    presentation: &Presentation,
    lock: &OutputLock,
    permit: &Permit,
) -> Result<(), ExportError> {
    let files: Vec<PresentationFile> = catalogue(blobs, presentation).await?.files().collect();
    export_files(blobs, &files, lock, permit).await
}

/// Exports the files of a presentation to the locked directory, replacing in one step what the permit covers.
///
/// # Errors
/// [`ExportError::Blob`], [`ExportError::Holds`], [`ExportError::Io`]; the directory is then unchanged.
pub async fn export_files(
    blobs: &dyn BlobReader,
    files: &[PresentationFile],
    lock: &OutputLock,
    permit: &Permit,
) -> Result<(), ExportError> {
    let io_error = |source| ExportError::Io { path: lock.dir().to_owned(), source };
    let (held, permitted) = (lock.clone(), permit.clone());
    let helper = blocking(move || {
        clear_leftovers(&held)?;
        Staging::make(&held, &permitted.job, &permitted.base)
    });
    let helper = helper.await.map_err(io_error)?;
    if let Err(error) = fill(blobs, files, &helper).await {
        discard(helper).await;
        return Err(error);
    }
    let (filled, held, permitted) = (helper.clone(), lock.clone(), permit.clone());
    let placed = blocking(move || Ok(place(&filled, &held, &permitted)));
    let refused = match placed.await.map_err(io_error)? {
        Ok(()) => return Ok(()),
        Err(PlaceError::Holds(path)) => ExportError::Holds { dir: lock.dir().to_owned(), path },
        Err(PlaceError::Io(source)) => io_error(source),
    };
    discard(helper).await;
    Err(refused)
}

/// Links or copies the files into the helper's staging folder, and syncs its folders.
async fn fill(blobs: &dyn BlobReader, files: &[PresentationFile], helper: &Staging) -> Result<(), ExportError> {
    let staging = helper.folder();
    let folders: BTreeSet<PathBuf> =
        files.iter().filter_map(|f| Path::new(&f.path).parent()).map(|p| staging.join(p)).collect();
    for folder in &folders {
        let made = tokio::fs::create_dir_all(folder).await;
        made.map_err(|source| ExportError::Io { path: folder.clone(), source })?;
    }
    for f in files {
        blobs.export(&f.object.key, &staging.join(&f.path)).await?;
    }
    for folder in folders.into_iter().chain([staging]) {
        let path = folder.clone();
        let synced = blocking(move || std::fs::File::open(path)?.sync_all()).await;
        synced.map_err(|source| ExportError::Io { path: folder, source })?;
    }
    Ok(())
}

/// Deletes a helper that was not put in place. What stays is deleted by the next run.
async fn discard(helper: Staging) {
    if let Err(error) = blocking(move || helper.remove()).await {
        tracing::warn!(%error, "helper directory not removed; the next run will");
    }
}

/// Runs work on files on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
