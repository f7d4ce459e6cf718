//! Scratch files for fetched bytes, and the budget of bytes that all of them together may take.

use splitreel_core::{Failure, FailureCode, LeaseId};
use splitreel_telemetry::record;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per unit of the budget.
const UNIT_BYTES: u64 = 1 << 20;
/// Other attempts that hold the space are waited for no longer than this.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A directory whose files share a budget of bytes.
pub(super) struct Scratch {
    dir: PathBuf,
    budget_bytes: u64,
    free: Arc<Semaphore>,
    next: AtomicU64,
}

impl Scratch {
    pub(super) fn new(dir: PathBuf, budget_bytes: u64) -> Self {
        let units = usize::try_from(units(budget_bytes)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Scratch { dir, budget_bytes, free: Arc::new(Semaphore::new(units)), next: AtomicU64::new(0) }
    }

    async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Failure> {
        let wanted = u32::try_from(units(bytes)).ok().filter(|_| bytes <= self.budget_bytes).ok_or_else(|| {
            Failure::of(
                FailureCode::NoSpace,
                format!(
                    "{bytes} bytes of the source are needed, the worker may keep {} in scratch_bytes: raise it",
                    self.budget_bytes
                ),
            )
        })?;
        let full = || {
            Failure::of(
                FailureCode::NoSpace,
                format!(
                    "the {} bytes of scratch_bytes are taken by other attempts: raise it, or use fewer slots",
                    self.budget_bytes
                ),
            )
        };
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&self.free).acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// A new file of `file_bytes`, all holes, of which `bytes` will be filled.
    pub(super) async fn file(&self, lease: LeaseId, file_bytes: u64, bytes: u64) -> Result<ScratchFile, Failure> {
        let permit = self.reserve(bytes).await?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{lease}-{number}"));
        let (dir, at) = (self.dir.clone(), path.clone());
        let made = blocking(move || {
            std::fs::create_dir_all(&dir)?;
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&at)?;
            file.set_len(file_bytes)?;
            Ok(file)
        });
        // From here on the file goes with the guard, whatever happens.
        let guard = PathGuard { path };
        let file = made.await.map_err(|error| unwritable(&self.dir, &error))?;
        Ok(ScratchFile { file: Arc::new(file), guard, permit, in_use: vec![record::scratch(bytes)] })
    }

    /// Room for more bytes in a file.
    pub(super) async fn grow(&self, file: &mut ScratchFile, bytes: u64) -> Result<(), Failure> {
        file.permit.merge(self.reserve(bytes).await?);
        file.in_use.push(record::scratch(bytes));
        Ok(())
    }
}

/// Whole units that hold `bytes`.
fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT_BYTES).max(1)
}

struct PathGuard {
    path: PathBuf,
}

impl Drop for PathGuard {
    fn drop(&mut self) {
        // What is left here is taken by the start-up clean-up.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A scratch file; it and its share of the budget go with this.
pub(super) struct ScratchFile {
    file: Arc<File>,
    guard: PathGuard,
    permit: OwnedSemaphorePermit,
    in_use: Vec<record::InUse>,
}

impl ScratchFile {
    pub(super) fn path(&self) -> &Path {
        &self.guard.path
    }

    pub(super) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Writes at an offset.
    pub(super) async fn write(&self, offset: u64, data: Vec<u8>) -> Result<(), Failure> {
        let file = self.handle();
        blocking(move || file.write_all_at(&data, offset)).await.map_err(|error| unwritable(self.path(), &error))
    }
}

/// Runs file work on the blocking thread pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let code = if is_full { FailureCode::NoSpace } else { FailureCode::Scratch };
    Failure::of(code, format!("fetched bytes cannot be written to {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn files_and_their_space_go_with_their_guard() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path().join("new"), 3 * UNIT_BYTES);
        let lease = LeaseId(Uuid::from_u128(7));
        let mut file = scratch.file(lease, 10 * UNIT_BYTES, UNIT_BYTES + 1).await.unwrap();
        file.write(5, b"abc".to_vec()).await.unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 10 * UNIT_BYTES);
        scratch.grow(&mut file, 1).await.unwrap();
        assert_eq!(scratch.free.available_permits(), 0);
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
        assert_eq!(scratch.free.available_permits(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path().to_owned(), 2 * UNIT_BYTES);
        let reserved = scratch.reserve(UNIT_BYTES).await.unwrap();
        for bytes in [2 * UNIT_BYTES, 3 * UNIT_BYTES] {
            let failure = scratch.reserve(bytes).await.unwrap_err();
            assert_eq!(failure.code, "no_space");
        }
        drop(reserved);
        drop(scratch.reserve(2 * UNIT_BYTES).await.unwrap());
    }
}
