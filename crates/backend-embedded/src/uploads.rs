//! Uploads in a local directory: one file each, named by the upload's id, never by a name from the client.

use async_trait::async_trait;
use futures::StreamExt;
use splitreel_backend::grants::file_locator;
use splitreel_backend::uploads::{Appended, ByteStream, Checksum, UploadRef, UploadStorage, UploadStorageError};
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use uuid::Uuid;

/// Keeps uploads below a directory: `ID.part` while they grow, `ID.upload` when they are complete.
#[derive(Clone, Debug)]
pub struct LocalUploads {
    folder: PathBuf,
}

impl LocalUploads {
    /// Uploads below an existing or new directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(LocalUploads { folder: folder.canonicalize()? })
    }

    fn part(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{}.part", id.simple()))
    }

    fn whole(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{}.upload", id.simple()))
    }
}

/// Runs file work off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadStorageError> + Send + 'static,
) -> Result<T, UploadStorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| UploadStorageError::Unavailable(io::Error::other(error)))?
}

fn failed(error: io::Error) -> UploadStorageError {
    match error.kind() {
        io::ErrorKind::NotFound => UploadStorageError::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UploadStorageError::NoSpace,
        _ => UploadStorageError::Unavailable(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Opens the growing file for the one writer there may be; the lock ends with the handle.
fn open_locked(path: &Path) -> Result<std::fs::File, UploadStorageError> {
    let file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(UploadStorageError::Busy),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[async_trait]
impl UploadStorage for LocalUploads {
    async fn begin(&self, id: Uuid, _bytes: u64) -> Result<String, UploadStorageError> {
        let (part, folder) = (self.part(id), self.folder.clone());
        blocking(move || {
            std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&part).map_err(failed)?;
            sync_folder(&folder).map_err(failed)?;
            Ok(String::new())
        })
        .await
    }

    async fn stored(&self, upload: &UploadRef) -> Result<u64, UploadStorageError> {
        let (part, whole) = (self.part(upload.id), self.whole(upload.id));
        blocking(move || {
            let metadata = std::fs::metadata(&part).or_else(|_| std::fs::metadata(&whole)).map_err(failed)?;
            Ok(metadata.len())
        })
        .await
    }

    async fn append(
        &self,
        upload: &UploadRef,
        offset: u64,
        mut piece: ByteStream,
        checksum: Option<Checksum>,
    ) -> Result<Appended, UploadStorageError> {
        let part = self.part(upload.id);
        let file = blocking(move || {
            let file = open_locked(&part)?;
            let stored = file.metadata().map_err(failed)?.len();
            if stored == offset { Ok(file) } else { Err(UploadStorageError::Offset { stored }) }
        })
        .await?;
        let mut file = tokio::fs::File::from_std(file);
        // Written at its place and not at the end: a writer that was believed dead can only repeat the same bytes.
        file.seek(io::SeekFrom::Start(offset)).await.map_err(failed)?;
        let mut hasher = checksum.as_ref().map(Checksum::hasher);
        let mut end = offset;
        let mut outcome = Ok(false);
        while let Some(bytes) = piece.next().await {
            let Ok(bytes) = bytes else {
                outcome = Ok(true);
                break;
            };
            let next = end.saturating_add(bytes.len() as u64);
            if next > upload.bytes {
                outcome = Err(UploadStorageError::TooLong);
                break;
            }
            if let Err(error) = file.write_all(&bytes).await {
                outcome = Err(failed(error));
                break;
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes);
            }
            end = next;
        }
        if let (Ok(is_broken), Some(hasher)) = (&outcome, hasher)
            && (*is_broken || !hasher.is_match())
        {
            outcome = if *is_broken { Ok(true) } else { Err(UploadStorageError::Checksum) };
            end = offset;
        }
        let flushed = file.flush().await;
        if flushed.is_err() || matches!(outcome, Err(UploadStorageError::TooLong)) {
            end = offset;
        }
        if end == offset {
            file.set_len(offset).await.map_err(failed)?;
        }
        file.sync_data().await.map_err(failed)?;
        flushed.map_err(failed)?;
        outcome.map(|is_broken| Appended { offset: end, is_broken })
    }

    async fn finish(&self, upload: &UploadRef) -> Result<String, UploadStorageError> {
        let (part, whole, folder, bytes) =
            (self.part(upload.id), self.whole(upload.id), self.folder.clone(), upload.bytes);
        blocking(move || {
            let locator = file_locator(&whole);
            match open_locked(&part) {
                Ok(file) => {
                    let stored = file.metadata().map_err(failed)?.len();
                    if stored != bytes {
                        return Err(UploadStorageError::Offset { stored });
                    }
                    file.sync_all().map_err(failed)?;
                    std::fs::rename(&part, &whole).map_err(failed)?;
                    sync_folder(&folder).map_err(failed)?;
                }
                Err(UploadStorageError::NotFound) => {
                    std::fs::metadata(&whole).map_err(failed)?;
                }
                Err(error) => return Err(error),
            }
            Ok(locator)
        })
        .await
    }

    async fn abort(&self, upload: &UploadRef) -> Result<(), UploadStorageError> {
        let paths = [self.part(upload.id), self.whole(upload.id)];
        blocking(move || {
            for path in paths {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}
