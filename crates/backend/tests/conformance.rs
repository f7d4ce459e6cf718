//! The in-memory reference against the suite.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use async_trait::async_trait;
use splitreel_backend::conformance::model::{self, Effects};
use splitreel_backend::conformance::{BlobHarness, DoorbellHarness, RecordsHarness, StoreHarness};
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs, MemoryRecords, MemoryStore};
use splitreel_backend::{BlobStore, Doorbell, JobStore, Records};
use std::path::PathBuf;
use std::sync::Arc;

/// State that lives as long as the test.
#[derive(Default)]
struct Memory {
    store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
    bell: Arc<ChannelDoorbell>,
    records: Arc<MemoryRecords>,
    scratch: Option<Scratch>,
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Memory {
    fn with_scratch() -> Self {
        let path = std::env::temp_dir().join(format!("splitreel-memory-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Memory { scratch: Some(Scratch(path)), ..Memory::default() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[async_trait]
impl StoreHarness for Memory {
    async fn open(&self) -> Arc<dyn JobStore> {
        self.store.clone()
    }
}

#[async_trait]
impl BlobHarness for Memory {
    async fn open(&self) -> Arc<dyn BlobStore> {
        self.blobs.clone()
    }
    fn scratch(&self) -> PathBuf {
        self.scratch.as_ref().unwrap().0.clone()
    }
}

#[async_trait]
impl DoorbellHarness for Memory {
    async fn open(&self) -> Arc<dyn Doorbell> {
        self.bell.clone()
    }
}

#[async_trait]
impl RecordsHarness for Memory {
    async fn open(&self) -> Arc<dyn Records> {
        self.records.clone()
    }
}

mod store {
    splitreel_backend::store_conformance!(super::Memory::default());
}

mod blobs {
    splitreel_backend::blob_conformance!(super::Memory::with_scratch());
}

mod doorbell {
    splitreel_backend::doorbell_conformance!(super::Memory::default());
}

mod records {
    splitreel_backend::records_conformance!(super::Memory::default());
}

/// The walk is the same each time, and is eventful for other seeds than that of the suite.
#[tokio::test]
async fn random_walks_of_several_seeds_hold() {
    let mut effects = Effects::default();
    for seed in 100..104 {
        effects.add(model::run(&[&MemoryStore::new()], seed, 1_500).await);
    }
    effects.assert_eventful();
}
