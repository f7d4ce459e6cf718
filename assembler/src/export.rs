//! Exports a published presentation to a local directory: everything into a staging directory next to the target, then
//! one rename. A half-written directory is never visible under the final name.

#![allow(unsafe_code, reason = "exchanges two directories by a system call")]

use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_backend::{BlobError, BlobReader};
use splitreel_core::part::{Presentation, PresentationFile};
use splitreel_presentation::{Catalogue, CatalogueError};
use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
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

/// A sibling of `dir` with `suffix` after its name.
pub fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().map_or_else(|| OsString::from("out"), OsString::from);
    name.push(suffix);
    dir.with_file_name(name)
}

/// Reads the catalogue of a presentation.
///
/// # Errors
/// [`ExportError::Object`], [`ExportError::Catalogue`].
pub async fn catalogue(blobs: &dyn BlobReader, presentation: &Presentation) -> Result<Catalogue, ExportError> {
    let json = read_whole(blobs, &presentation.catalogue).await?;
    Ok(Catalogue::from_json(&json)?)
}

/// Exports a presentation to `dir`, replacing existing content in one step.
///
/// # Errors
/// [`ExportError`]; `dir` is then unchanged.
pub async fn export(blobs: &dyn BlobReader, presentation: &Presentation, dir: &Path) -> Result<(), ExportError> {
    let files: Vec<PresentationFile> = catalogue(blobs, presentation).await?.files().collect();
    export_files(blobs, &files, dir).await
}

/// Exports the files of a presentation to `dir`, replacing existing content in one step.
///
/// # Errors
/// [`ExportError::Blob`], [`ExportError::Io`]; `dir` is then unchanged.
pub async fn export_files(blobs: &dyn BlobReader, files: &[PresentationFile], dir: &Path) -> Result<(), ExportError> {
    let staging = sibling(dir, ".staging");
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Io { path, source }
    };
    remove_dir(&staging).await.map_err(io_error(&staging))?;
    let folders: BTreeSet<PathBuf> =
        files.iter().filter_map(|f| Path::new(&f.path).parent()).map(|p| staging.join(p)).collect();
    for folder in &folders {
        tokio::fs::create_dir_all(folder).await.map_err(io_error(folder))?;
    }
    for f in files {
        blobs.export(&f.object.key, &staging.join(&f.path)).await?;
    }
    for folder in folders.iter().chain([&staging]) {
        sync_dir(folder).await.map_err(io_error(folder))?;
    }
    swap(&staging, dir).await.map_err(io_error(dir))?;
    remove_dir(&staging).await.map_err(io_error(&staging))?;
    Ok(())
}

/// Puts `staging` in the place of `dir`. Afterwards `staging` holds the former content of `dir`, if any.
async fn swap(staging: &Path, dir: &Path) -> io::Result<()> {
    let (staging, dir) = (staging.to_owned(), dir.to_owned());
    tokio::task::spawn_blocking(move || {
        let swapped =
            if dir.symlink_metadata().is_ok() { exchange(&staging, &dir) } else { std::fs::rename(&staging, &dir) };
        swapped?;
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent)?.sync_all()
    })
    .await
    .map_err(io::Error::other)?
}

/// Atomically exchanges two directories (renameat2(2) with RENAME_EXCHANGE).
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let (a, b) = (CString::new(a.as_os_str().as_bytes())?, CString::new(b.as_os_str().as_bytes())?);
    // SAFETY: both are valid NUL-terminated strings that live over the call.
    let rc = unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

async fn sync_dir(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || std::fs::File::open(path)?.sync_all()).await.map_err(io::Error::other)?
}

/// Removes a directory tree; a missing one is no error.
///
/// # Errors
/// Those of the file system.
pub async fn remove_dir(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
