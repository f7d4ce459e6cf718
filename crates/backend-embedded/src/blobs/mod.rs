//! Blobs in one local directory: an object is a file whose path is its key.
//!
//! Objects appear by `rename` of a complete, synced file, so a crash leaves nothing half written under a key.
//! All file-system calls run on blocking threads; one that was started ends, even when its caller goes away.
//! As in any file system, a key cannot be an object and the beginning of another key's path at once.

mod objects;
mod temp;

use async_trait::async_trait;
use bytes::Bytes;
use objects::Objects;
use splitreel_backend::blob::{BlobAdmin, BlobError, BlobReader, PartWriter, Piece, check_key, check_prefix};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How much is written at once where bytes come in small pieces.
const BUFFER: usize = 1 << 20;

/// A directory store. Several processes may open the same directory.
#[derive(Clone, Debug)]
pub struct LocalBlobs {
    objects: Arc<Objects>,
}

impl LocalBlobs {
    /// Opens a directory and makes it if it is missing.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], or [`BlobError::NoSpace`], naming the directory.
    pub async fn open(root: impl AsRef<Path>) -> Result<Self, BlobError> {
        let root = root.as_ref().to_owned();
        let name = root.display().to_string();
        let objects =
            blocking(&name, move || Objects::open(&root).map_err(failed(&root.display().to_string()))).await?;
        Ok(LocalBlobs { objects: Arc::new(objects) })
    }

    /// Deletes temporary files that dead processes left behind. Answers how many such processes there were.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn sweep_temp(&self) -> Result<usize, BlobError> {
        self.run(".tmp", |objects| objects.sweep_temp().map_err(failed(".tmp"))).await
    }

    async fn run<T, F>(&self, key: &str, work: F) -> Result<T, BlobError>
    where
        T: Send + 'static,
        F: FnOnce(&Objects) -> Result<T, BlobError> + Send + 'static,
    {
        let objects = self.objects.clone();
        blocking(key, move || work(&objects)).await
    }
}

async fn blocking<T, F>(key: &str, work: F) -> Result<T, BlobError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, BlobError> + Send + 'static,
{
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|stopped| Err(failed(key)(io::Error::other(stopped))))
}

/// An I/O error of an operation on a key that is not about a missing object.
fn failed(key: &str) -> impl Fn(io::Error) -> BlobError {
    move |source| {
        let key = key.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::NoSpace { key },
            ErrorKind::InvalidFilename => BlobError::BadKey { key },
            _ => BlobError::Unavailable { key, source },
        }
    }
}

/// An I/O error of an operation that needs the object.
fn missing(key: &str) -> impl Fn(io::Error) -> BlobError {
    move |source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => BlobError::NotFound { key: key.to_owned() },
        _ => failed(key)(source),
    }
}

/// A key is usable when its form is good and it does not lie in the directory of temporary files.
fn checked(key: &str) -> Result<String, BlobError> {
    check_key(key)?;
    if key.split('/').next() == Some(temp::DIRECTORY) {
        return Err(BlobError::BadKey { key: key.to_owned() });
    }
    Ok(key.to_owned())
}

#[async_trait]
impl BlobReader for LocalBlobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        let key = checked(key)?;
        self.run(&key.clone(), move |objects| {
            let (file, size) = objects.open_object(&key).map_err(missing(&key))?;
            let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut buffer = vec![0; len.min(rest)];
            file.read_exact_at(&mut buffer, offset).map_err(failed(&key))?;
            Ok(buffer.into())
        })
        .await
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        let key = checked(key)?;
        self.run(&key.clone(), move |objects| objects.open_object(&key).map(|(_, size)| size).map_err(missing(&key)))
            .await
    }

    /// The target shares its bytes with the object where the file system can link: it is to be read or
    /// deleted, not written to.
    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        let (key, target) = (checked(key)?, target.to_owned());
        self.run(&key.clone(), move |objects| {
            let (object, _) = objects.open_object(&key).map_err(missing(&key))?;
            objects.export(&key, object, &target).map_err(failed(&key))
        })
        .await
    }
}

#[async_trait]
impl PartWriter for LocalBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        let key = checked(key)?;
        self.run(&key.clone(), move |objects| objects.write(&key, |file| file.write_all(&bytes)).map_err(failed(&key)))
            .await
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        let (key, path) = (checked(key)?, path.to_owned());
        self.run(&key.clone(), move |objects| objects.adopt(&key, &path).map_err(failed(&key))).await
    }
}

#[async_trait]
impl BlobAdmin for LocalBlobs {
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
        let (key, pieces) = (checked(key)?, pieces.to_vec());
        for piece in &pieces {
            if let Piece::Object { key, .. } = piece {
                checked(key)?;
            }
        }
        self.run(&key.clone(), move |objects| compose(objects, &key, &pieces)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        check_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.run(&prefix.clone(), move |objects| objects.list(&prefix).map_err(failed(&prefix))).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let key = checked(key)?;
        self.run(&key.clone(), move |objects| objects.delete(&key).map_err(failed(&key))).await
    }
}

fn compose(objects: &Objects, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
    let mut total = 0u64;
    let mut blame = None;
    let written = objects.write(key, |file| {
        let mut out = BufWriter::with_capacity(BUFFER, file);
        for piece in pieces {
            total += match piece {
                Piece::Bytes(bytes) => {
                    out.write_all(bytes)?;
                    bytes.len() as u64
                }
                Piece::Object { key, bytes } => {
                    let (mut object, _) = objects.open_object(key).inspect_err(|_| blame = Some(key))?;
                    // Between two files the kernel copies: no byte comes up here.
                    let copied = io::copy(&mut object, &mut out)?;
                    if copied != *bytes {
                        blame = Some(key);
                        return Err(io::Error::other(format!("{copied} bytes long, not {bytes}")));
                    }
                    copied
                }
            };
        }
        out.flush()
    });
    match (written, blame) {
        (Ok(()), _) => Ok(total),
        (Err(error), Some(piece)) => Err(missing(piece)(error)),
        (Err(error), None) => Err(failed(key)(error)),
    }
}
