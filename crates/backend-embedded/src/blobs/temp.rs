//! Files on their way to becoming objects: one directory per process under `.tmp`, on the same file system.
//!
//! A process holds a lock (`flock`) on `<name>.lock` for as long as it uses `<name>/`. The kernel drops the
//! lock with the process, however it ends, so that a sweeper never has to guess from process ids.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Name of the directory under the store's root.
pub(super) const DIRECTORY: &str = ".tmp";

/// This process's directory of temporary files.
#[derive(Debug)]
pub(super) struct TempDir {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    num_files: AtomicU64,
}

impl TempDir {
    pub fn new(root: &Path) -> io::Result<Self> {
        let all = root.join(DIRECTORY);
        fs::create_dir_all(&all)?;
        loop {
            let path = all.join(Uuid::new_v4().to_string());
            let lock_path = path.with_extension("lock");
            let lock = File::create_new(&lock_path)?;
            // A file system without locks keeps nobody from working; its leftovers are just never swept.
            let _ = lock.lock();
            // A sweeper may have taken the file between its creation and its lock.
            let is_ours =
                fs::metadata(&lock_path).is_ok_and(|found| lock.metadata().is_ok_and(|held| held.ino() == found.ino()));
            if is_ours {
                fs::create_dir(&path)?;
                return Ok(TempDir { path, lock_path, _lock: lock, num_files: AtomicU64::new(0) });
            }
        }
    }

    /// A new empty file.
    pub fn file(&self) -> io::Result<TempFile> {
        let number = self.num_files.fetch_add(1, Ordering::Relaxed);
        TempFile::create(self.path.join(number.to_string()))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed now is a sweeper's.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// A file that goes away unless it was kept.
#[derive(Debug)]
pub(super) struct TempFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl TempFile {
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create_new(&path)?;
        Ok(TempFile { path, file, is_kept: false })
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It has another name by now.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Deletes the directories of processes that are gone. Answers how many.
pub(super) fn sweep(root: &Path) -> io::Result<usize> {
    let mut num_swept = 0;
    for entry in fs::read_dir(root.join(DIRECTORY))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "lock") {
            num_swept += usize::from(sweep_one(&path)?);
        }
    }
    Ok(num_swept)
}

fn sweep_one(lock_path: &Path) -> io::Result<bool> {
    let lock = match File::open(lock_path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => {}
        // Alive, or nobody can tell.
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return Ok(false),
    }
    for outcome in [fs::remove_dir_all(lock_path.with_extension("")), fs::remove_file(lock_path)] {
        match outcome {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leftovers_of_the_dead_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let alive = TempDir::new(root.path()).unwrap();
        let kept = alive.file().unwrap();
        // A crash: the lock is dropped, the files stay.
        let mut dead = TempDir::new(root.path()).unwrap();
        dead.file().unwrap().keep();
        let (path, lock_path) = (dead.path.clone(), dead.lock_path.clone());
        dead._lock = File::open(&lock_path).unwrap();
        std::mem::forget(dead);
        assert_eq!(sweep(root.path()).unwrap(), 1);
        assert!(!path.exists() && !lock_path.exists());
        assert!(kept.path().exists());
        assert_eq!(sweep(root.path()).unwrap(), 0);
        drop((kept, alive));
        assert_eq!(fs::read_dir(root.path().join(DIRECTORY)).unwrap().count(), 0);
    }
}
