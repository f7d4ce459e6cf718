//! Blobs in memory. Files are touched only where the caller names one (`put_file`, `export`).

use crate::blob::{BlobAdmin, BlobError, BlobReader, PartWriter, Piece, check_key, check_prefix};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects in an ordered map.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryBlobs {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &str) -> Result<Bytes, BlobError> {
        check_key(key)?;
        self.lock().get(key).cloned().ok_or_else(|| BlobError::NotFound { key: key.to_owned() })
    }
}

fn unavailable(key: &str) -> impl FnOnce(std::io::Error) -> BlobError {
    move |source| BlobError::Unavailable { key: key.to_owned(), source }
}

#[async_trait]
impl BlobReader for MemoryBlobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        let object = self.object(key)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(object.len());
        let end = start.saturating_add(len).min(object.len());
        Ok(object.slice(start..end))
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        Ok(self.object(key)?.len() as u64)
    }

    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        let object = self.object(key)?;
        let mut file = std::fs::File::create_new(target).map_err(unavailable(key))?;
        file.write_all(&object).map_err(unavailable(key))
    }
}

#[async_trait]
impl PartWriter for MemoryBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        check_key(key)?;
        self.lock().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        check_key(key)?;
        let bytes = std::fs::read(path).map_err(unavailable(key))?;
        self.put(key, bytes.into()).await
    }
}

#[async_trait]
impl BlobAdmin for MemoryBlobs {
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
        check_key(key)?;
        let mut whole = BytesMut::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => whole.extend_from_slice(bytes),
                Piece::Object { key: from, bytes } => {
                    let object = self.object(from)?;
                    if object.len() as u64 != *bytes {
                        let found = object.len();
                        return Err(unavailable(from)(std::io::Error::other(format!(
                            "{found} bytes long, not {bytes}"
                        ))));
                    }
                    whole.extend_from_slice(&object);
                }
            }
        }
        let size = whole.len() as u64;
        self.put(key, whole.freeze()).await?;
        Ok(size)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        check_prefix(prefix)?;
        let objects = self.lock();
        let from = objects.range(prefix.to_owned()..);
        Ok(from.map(|(key, _)| key).take_while(|key| key.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        check_key(key)?;
        self.lock().remove(key);
        Ok(())
    }
}
