//! The embedded backends against the conformance suite, and what is theirs alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod blobs;
mod local;
mod manifests;
mod sqlite;
mod stored;

use async_trait::async_trait;
use splitreel_backend::conformance::{BlobHarness, DoorbellHarness, RecordsHarness, StoreHarness};
use splitreel_backend::{BlobStore, Doorbell, JobStore, Records};
use splitreel_backend_embedded::{ChannelDoorbell, LocalBlobs, SqliteStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A directory that goes away with the test.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("scratch")).unwrap();
        Directory(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn database(&self) -> PathBuf {
        self.0.path().join("splitreel.db")
    }

    fn blobs(&self) -> PathBuf {
        self.0.path().join("blobs")
    }
}

#[async_trait]
impl StoreHarness for Directory {
    async fn open(&self) -> Arc<dyn JobStore> {
        Arc::new(SqliteStore::open(self.database()).await.unwrap())
    }
}

#[async_trait]
impl BlobHarness for Directory {
    async fn open(&self) -> Arc<dyn BlobStore> {
        Arc::new(LocalBlobs::open(self.blobs()).await.unwrap())
    }
    fn scratch(&self) -> PathBuf {
        self.0.path().join("scratch")
    }
}

#[async_trait]
impl RecordsHarness for Directory {
    async fn open(&self) -> Arc<dyn Records> {
        Arc::new(SqliteStore::open(self.database()).await.unwrap())
    }
}

/// The doorbell of one process.
struct InProcess(Arc<ChannelDoorbell>);

#[async_trait]
impl DoorbellHarness for InProcess {
    async fn open(&self) -> Arc<dyn Doorbell> {
        self.0.clone()
    }
}

mod store_conformance {
    splitreel_backend::store_conformance!(super::Directory::new());
}

mod blob_conformance {
    splitreel_backend::blob_conformance!(super::Directory::new());
}

mod doorbell_conformance {
    splitreel_backend::doorbell_conformance!(super::InProcess(Default::default()));
}

mod records_conformance {
    splitreel_backend::records_conformance!(super::Directory::new());
}
