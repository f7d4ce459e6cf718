//! Lays a published presentation out as a local directory: everything into a staging directory beside the
//! target, then one rename. A half-written directory is never visible under the final name.

use splitreel_backend::{BlobError, BlobStore};
use splitreel_core::part::{Presentation, PresentationFile};
use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Why a presentation could not be laid out. The target is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An object could not be read or linked.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A directory could not be made, synced or renamed.
    #[error("{path} cannot be written")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The catalogue is unreadable or names a path outside the presentation.
    #[error("the catalogue cannot be used: {what}")]
    Catalogue {
        /// What is wrong.
        what: String,
    },
}

/// A sibling of `dir` with `suffix` after its name.
pub fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().map_or_else(|| OsString::from("out"), OsString::from);
    name.push(suffix);
    dir.with_file_name(name)
}

/// Reads the list of files of a presentation.
///
/// # Errors
/// [`ExportError::Blob`], [`ExportError::Catalogue`].
pub async fn catalogue(
    blobs: &dyn BlobStore,
    presentation: &Presentation,
) -> Result<Vec<PresentationFile>, ExportError> {
    let unusable = |what: &str| ExportError::Catalogue { what: what.to_owned() };
    let len = usize::try_from(presentation.catalogue.bytes).map_err(|_| unusable("too large"))?;
    let json = blobs.read(&presentation.catalogue.key, 0, len).await?;
    let files: Vec<PresentationFile> = serde_json::from_slice(&json).map_err(|e| unusable(&e.to_string()))?;
    for f in &files {
        let is_plain = Path::new(&f.path).components().all(|c| matches!(c, Component::Normal(_)));
        if !is_plain || f.path.is_empty() {
            return Err(unusable(&format!("{:?} is not a relative path", f.path)));
        }
    }
    Ok(files)
}

/// Exports a presentation to `dir`, replacing in one step what is there.
///
/// # Errors
/// [`ExportError`]; `dir` is then unchanged.
pub async fn export(blobs: &dyn BlobStore, presentation: &Presentation, dir: &Path) -> Result<(), ExportError> {
    let files = catalogue(blobs, presentation).await?;
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
    for f in &files {
        blobs.export(&f.object.key, &staging.join(&f.path)).await?;
    }
    for folder in folders.iter().chain([&staging]) {
        sync_dir(folder).await.map_err(io_error(folder))?;
    }
    swap(&staging, dir).await.map_err(io_error(dir))?;
    remove_dir(&staging).await.map_err(io_error(&staging))?;
    Ok(())
}

/// Puts `staging` in the place of `dir`. Afterwards `staging` holds what was there, if anything.
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

/// Removes a directory tree; one that is not there is fine.
///
/// # Errors
/// Those of the file system.
pub async fn remove_dir(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
