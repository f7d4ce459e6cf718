//! A database that an older version left with jobs in several states: migrated, and all its jobs brought to their end.

use super::PgStore;
use super::database::TestDatabase;
use bytes::Bytes;
use splitreel_backend::BlobStore;
use splitreel_backend::PartWriter;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_testkit::stored::Stored;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Written by coordinator, worker and assembler before jobs had generations: one job is published, one failed, one
/// probing, one has six segments of which two are done and one is leased, one waits for its assembly. Its plans have
/// format version 1.
const DATABASE: &str = include_str!("../../fixtures/before-generations.sql");

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The objects of the published job.
async fn objects() -> Arc<dyn BlobStore> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/objects");
    let blobs = MemoryBlobs::new();
    for path in files(&folder) {
        let key = path.strip_prefix(&folder).unwrap().to_str().unwrap();
        blobs.put(key, Bytes::from(std::fs::read(&path).unwrap())).await.unwrap();
    }
    Arc::new(blobs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_an_older_version_come_to_their_end() {
    let database = TestDatabase::empty().await;
    let mut connection = database.connection().await;
    sqlx::raw_sql(DATABASE).execute(&mut connection).await.unwrap();
    drop(connection);
    PgStore::migrate(&database.url()).await.unwrap();
    let stored = Stored { store: Arc::new(database.store().await), blobs: objects().await };
    assert_eq!(stored.read_published().await.unwrap(), 20);
    stored.check().await.unwrap();
}
