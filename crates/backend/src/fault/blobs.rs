//! Faults of the blob store.

use super::{FaultPlan, Injected, around};
use crate::blob::{BlobAdmin, BlobError, BlobReader, BlobStore, PartWriter, Piece};
use async_trait::async_trait;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

/// A [`BlobStore`] that fails as planned.
#[derive(Clone)]
pub struct FaultyBlobs {
    inner: Arc<dyn BlobStore>,
    plan: Arc<dyn FaultPlan>,
}

impl FaultyBlobs {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn BlobStore>, plan: Arc<dyn FaultPlan>) -> Self {
        FaultyBlobs { inner, plan }
    }
}

fn failed(key: &str) -> impl Fn(&'static str) -> BlobError {
    move |op| BlobError::Unavailable { key: key.to_owned(), source: std::io::Error::other(Injected { op }) }
}

#[async_trait]
impl BlobReader for FaultyBlobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        around!(self.plan, "blobs.read", failed(key), self.inner.read(key, offset, len))
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        around!(self.plan, "blobs.size", failed(key), self.inner.size(key))
    }

    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        around!(self.plan, "blobs.export", failed(key), self.inner.export(key, target))
    }
}

#[async_trait]
impl PartWriter for FaultyBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        around!(self.plan, "blobs.put", failed(key), self.inner.put(key, bytes))
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        around!(self.plan, "blobs.put_file", failed(key), self.inner.put_file(key, path))
    }
}

#[async_trait]
impl BlobAdmin for FaultyBlobs {
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
        around!(self.plan, "blobs.compose", failed(key), self.inner.compose(key, pieces))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        around!(self.plan, "blobs.list", failed(prefix), self.inner.list(prefix))
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        around!(self.plan, "blobs.delete", failed(key), self.inner.delete(key))
    }
}
