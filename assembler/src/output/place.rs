//! Puts a finished directory in the place of an output directory: in one step, after a second look, and never at the
//! cost of files that the permit does not cover.

#![allow(unsafe_code, reason = "exchanges two directories by a system call")]

use super::contents::{Contents, Permit};
use super::lock::OutputLock;
use super::staging::Staging;
use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a directory was not put in place. The output directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It holds this file or folder, which may not be replaced; an empty path when the output directory itself is a file.
    #[error("other files are there: {0}")]
    Holds(PathBuf),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Moments between two system calls; tests let the process end there, or files appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The staging folder is complete.
    Staged,
    /// The output directory was looked at.
    Looked,
    /// The new content has its place, the old content is in the staging folder.
    Exchanged,
    /// The old content may be deleted.
    Replaced,
}

/// Puts the helper's staging folder in the place of the locked directory, and deletes what was there.
///
/// # Errors
/// [`PlaceError`].
pub fn place(helper: &Staging, lock: &OutputLock, permit: &Permit) -> Result<(), PlaceError> {
    place_step_by_step(helper, lock, permit, &|_| Ok(()))
}

/// [`place`], with a call between the steps, which ends it by an error.
pub(super) fn place_step_by_step(
    helper: &Staging,
    lock: &OutputLock,
    permit: &Permit,
    at: &dyn Fn(Moment) -> io::Result<()>,
) -> Result<(), PlaceError> {
    let (staging, dir) = (helper.folder(), lock.dir());
    at(Moment::Staged)?;
    // Replaces nothing but an empty directory: rename(2).
    match std::fs::rename(&staging, dir) {
        Ok(()) => {
            sync_parent(dir)?;
            helper.remove()?;
            return Ok(());
        }
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
        Err(e) if e.kind() == ErrorKind::NotADirectory => return Err(PlaceError::Holds(PathBuf::new())),
        Err(e) => return Err(e.into()),
    }
    permitted(permit, dir)?;
    at(Moment::Looked)?;
    exchange(&staging, dir)?;
    at(Moment::Exchanged)?;
    // Files that appeared between the look and the exchange are in the staging folder now.
    if let Err(refused) = permitted(permit, &staging) {
        exchange(&staging, dir)?;
        return Err(refused);
    }
    helper.mark_replaced()?;
    sync_parent(dir)?;
    at(Moment::Replaced)?;
    helper.remove()?;
    Ok(())
}

fn permitted(permit: &Permit, dir: &Path) -> Result<(), PlaceError> {
    match Contents::look(dir)?.and_then(|now| permit.foreign(&now)) {
        Some(path) => Err(PlaceError::Holds(path)),
        None => Ok(()),
    }
}

fn sync_parent(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

/// Atomically exchanges two directories (renameat2(2) with RENAME_EXCHANGE).
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let (a, b) = (CString::new(a.as_os_str().as_bytes())?, CString::new(b.as_os_str().as_bytes())?);
    // SAFETY: both are valid NUL-terminated strings that live over the call.
    let rc = unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
