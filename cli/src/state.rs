//! The state directory: database, objects, scratch, and one lock file per live process. The lock shows
//! whether the process is alive: the kernel drops the lock with the process, however the process ends.

use crate::exit::Problem;
use splitreel_core::WorkerId;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// An opened state directory.
pub struct State {
    root: PathBuf,
    /// This process.
    pub worker: WorkerId,
    /// Held until the process ends.
    _lock: File,
    /// Processes that ended without saying good-bye.
    pub dead: Vec<WorkerId>,
}

/// The database file of a state directory.
pub fn database(root: &Path) -> PathBuf {
    root.join("splitreel.db")
}

/// The objects of a state directory.
pub fn objects(root: &Path) -> PathBuf {
    root.join("objects")
}

/// A name that no other process has or ever had.
pub fn process_name() -> String {
    format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple())
}

impl State {
    /// Creates what is missing, takes this process's lock, finds the dead.
    pub fn open(root: &Path, process: &str) -> Result<State, Problem> {
        let at = |path: &Path, e: std::io::Error| {
            Problem::usage(format!("the state directory {} cannot be used: {e}", path.display()))
                .line("choose another with --state DIR or SPLITREEL_STATE")
        };
        let locks = root.join("workers");
        for dir in [root.to_owned(), locks.clone(), root.join("scratch"), objects(root)] {
            std::fs::create_dir_all(&dir).map_err(|e| at(&dir, e))?;
        }
        let root = root.canonicalize().map_err(|e| at(root, e))?;
        let locks = root.join("workers");
        let worker = WorkerId(process.to_owned());
        // Locked before it gets its name: no other process can see it unlocked.
        let fresh = locks.join(format!(".{process}"));
        let lock =
            OpenOptions::new().create(true).write(true).truncate(false).open(&fresh).map_err(|e| at(&fresh, e))?;
        lock.try_lock().map_err(|e| at(&fresh, std::io::Error::other(e.to_string())))?;
        std::fs::rename(&fresh, locks.join(process)).map_err(|e| at(&fresh, e))?;
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(&locks).map_err(|e| at(&locks, e))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == process {
                continue;
            }
            let Ok(file) = File::open(entry.path()) else { continue };
            match file.try_lock() {
                Ok(()) => dead.push(WorkerId(name.trim_start_matches('.').to_owned())),
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
        Ok(State { root, worker, _lock: lock, dead })
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        database(&self.root)
    }

    /// The object store's directory.
    pub fn objects(&self) -> PathBuf {
        objects(&self.root)
    }

    /// This process's scratch directory.
    pub fn scratch(&self) -> PathBuf {
        self.scratch_of(&self.worker)
    }

    fn scratch_of(&self, worker: &WorkerId) -> PathBuf {
        self.root.join("scratch").join(&worker.0)
    }

    /// Removes what a dead process left: scratch first, its lock file last.
    pub fn bury(&self, worker: &WorkerId) {
        let _ = splitreel_media::clear_scratch(&self.scratch_of(worker));
        for name in [worker.0.clone(), format!(".{}", worker.0)] {
            let _ = std::fs::remove_file(self.root.join("workers").join(name));
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.bury(&self.worker);
    }
}
