//! Files and directories behind the keys. Blocking; keys are checked by the caller.

use super::temp::{self, TempDir, TempFile};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// How often an object is put again when a concurrent delete took its empty directory away.
const TRIES: u32 = 100;

#[derive(Debug)]
pub(super) struct Objects {
    root: PathBuf,
    temp: TempDir,
    /// Held while directories are made, so that nobody relies on one that is not synced yet.
    making_directories: Mutex<()>,
}

impl Objects {
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        fs::create_dir_all(&root)?;
        Ok(Objects { temp: TempDir::new(&root)?, root, making_directories: Mutex::new(()) })
    }

    pub fn sweep_temp(&self) -> io::Result<usize> {
        temp::sweep(&self.root)
    }

    /// The file of an object and its size.
    pub fn open_object(&self, key: &str) -> io::Result<(File, u64)> {
        let file = File::open(self.path(key))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok((file, metadata.len()))
    }

    /// Stores what `fill` writes.
    pub fn write(&self, key: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let mut temp = self.temp.file()?;
        fill(temp.file())?;
        self.show_temp(key, temp)
    }

    /// Stores a file: moved when that is possible, else copied.
    pub fn adopt(&self, key: &str, path: &Path) -> io::Result<()> {
        // A link would move as a link, and its target is not ours.
        if fs::symlink_metadata(path)?.is_file() {
            File::open(path)?.sync_all()?;
            match self.show(key, path) {
                Err(error) if !is_hopeless(&error) => {}
                outcome => return outcome,
            }
        }
        let mut source = File::open(path)?;
        self.write(key, |file| io::copy(&mut source, file).map(drop))
    }

    /// Makes the object appear at `target`, which must not exist.
    pub fn export(&self, key: &str, mut object: File, target: &Path) -> io::Result<()> {
        match fs::hard_link(self.path(key), target) {
            Err(error) if !is_hopeless(&error) && error.kind() != ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
        // A copy is complete before it has the target's name.
        let beside = target.with_file_name(format!(".splitreel-{}.part", Uuid::new_v4()));
        let mut temp = TempFile::create(beside)?;
        io::copy(&mut object, temp.file())?;
        match fs::hard_link(temp.path(), target) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !fs::exists(target)? => {
                fs::rename(temp.path(), target)?;
                temp.keep();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Keys under a prefix, sorted. What vanishes meanwhile is left out.
    pub fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut open = vec![prefix.to_owned()];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(self.root.join(&directory)) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if directory.is_empty() && name == temp::DIRECTORY {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(format!("{directory}{name}/")),
                    Ok(kind) if kind.is_file() => keys.push(format!("{directory}{name}")),
                    Ok(_) => {}
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Deletes an object and the directories that it leaves empty.
    pub fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if is_absent(&error) || error.kind() == ErrorKind::IsADirectory => {}
            Err(error) => return Err(error),
        }
        // Fails on the first one that is not empty.
        for directory in path.ancestors().skip(1).take_while(|d| *d != self.root) {
            if fs::remove_dir(directory).is_err_and(|error| error.kind() != ErrorKind::NotFound) {
                break;
            }
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn show_temp(&self, key: &str, mut temp: TempFile) -> io::Result<()> {
        temp.file().sync_all()?;
        self.show(key, temp.path())?;
        temp.keep();
        Ok(())
    }

    /// Gives a complete, synced file its key, durably.
    fn show(&self, key: &str, from: &Path) -> io::Result<()> {
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = self.make_directories(parent).and_then(|()| fs::rename(from, &path));
            match &outcome {
                Err(error) if error.kind() == ErrorKind::NotFound && fs::exists(from)? => {}
                _ => break,
            }
        }
        outcome?;
        sync_directory(parent)
    }

    fn make_directories(&self, directory: &Path) -> io::Result<()> {
        let _guard = self.making_directories.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<_> = directory.ancestors().take_while(|d| !d.is_dir()).collect();
        for directory in missing.into_iter().rev() {
            match fs::create_dir(directory) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
                outcome => outcome?,
            }
            directory.parent().map_or(Ok(()), sync_directory)?;
        }
        Ok(())
    }
}

/// Copying instead of linking or moving would fail in the same way.
fn is_hopeless(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::InvalidFilename
    )
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Makes new names in a directory survive a power cut.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
