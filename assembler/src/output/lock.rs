//! Lock of an output directory: `flock` on a file next to it, so that processes with different state directories meet.
//! The kernel drops the lock however its holder ends; a file left by a dead holder is used again.

use super::names::{PREFIX, id_of};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First line of a lock file. A file of that name without it is not ours: it is locked, never written or deleted.
const MARKER: &str = "splitreel lock: one process at a time writes the output directory beside it";
/// Tries to lock a file that its holder deletes at the same moment.
const TRIES: usize = 100;

/// What the holder of a lock wrote of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub process: Option<u32>,
    /// Fingerprint of the locator of the source that goes there.
    pub source: Option<String>,
}

/// Why an output directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process is writing the directory.
    #[error("another splitreel is writing this directory")]
    Busy(Holder),
    /// The lock file could not be made or locked.
    #[error("the lock file {path} cannot be used")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The right to write an output directory and its helpers, until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct OutputLock(Arc<Locked>);

#[derive(Debug)]
struct Locked {
    dir: PathBuf,
    path: PathBuf,
    /// Holds the lock as long as it is open.
    file: File,
    is_ours: bool,
}

impl OutputLock {
    /// Locks an output directory, whose parent must exist, for the source with this fingerprint.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(dir: &Path, source: &str) -> Result<Self, LockError> {
        let path = dir.with_file_name(format!("{PREFIX}{}.lock", id_of(dir)));
        let failed = |source: io::Error| LockError::Io { path: path.clone(), source };
        for _ in 0..TRIES {
            let Some((mut file, is_fresh)) = open(&path).map_err(failed)? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Busy(Holder::read(&mut file))),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            if !is_at(&file, &path) {
                // The holder before deleted the file between our opening and our locking.
                continue;
            }
            let is_ours = is_fresh || is_marked(&mut file);
            if is_ours {
                let text = format!("{MARKER}\nprocess {}\nsource {source}\n", std::process::id());
                // What others say about the holder is worth no failure.
                let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
            }
            return Ok(OutputLock(Arc::new(Locked { dir: dir.to_owned(), path, file, is_ours })));
        }
        Err(failed(ErrorKind::ResourceBusy.into()))
    }

    /// The output directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Still locked: a process that opens the file before this finds afterwards that its name is gone.
        if self.is_ours && is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Holder {
    fn read(file: &mut File) -> Holder {
        let text = beginning(file);
        if !text.starts_with(MARKER) {
            return Holder::default();
        }
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Holder { process: field("process").and_then(|id| id.parse().ok()), source: field("source").map(str::to_owned) }
    }
}

/// Opens or makes the lock file; true: it was made. `None`: its holder deleted it meanwhile.
fn open(path: &Path) -> io::Result<Option<(File, bool)>> {
    match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
        Ok(file) => return Ok(Some((file, true))),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    // No link is followed, and a pipe of that name blocks nothing.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::IsADirectory) => {
            OpenOptions::new().read(true).custom_flags(flags).open(path)
        }
        opened => opened,
    };
    match opened {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(|file| Some((file, false))),
    }
}

/// Whether an open file is the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn is_marked(file: &mut File) -> bool {
    beginning(file).starts_with(MARKER)
}

fn beginning(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(512).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
