//! A database that an older version left with jobs in several states: opened, migrated, and all its jobs brought to
//! their end.

use super::Directory;
use splitreel_backend::conformance::{BlobHarness, StoreHarness};
use splitreel_backend_embedded::schema_version;
use splitreel_testkit::stored::Stored;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

/// Written by `splitreel run` before jobs had generations: one job is published and exported, one failed, one probing,
/// one has six segments of which two are done, one waits for its assembly. Its plans have format version 1.
const DATABASE: &str = include_str!("../fixtures/before-generations.sql");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_an_older_version_come_to_their_end() {
    let directory = Directory::new();
    let making = SqliteConnectOptions::new().filename(directory.database()).create_if_missing(true).foreign_keys(false);
    let mut connection = making.connect().await.unwrap();
    sqlx::raw_sql(DATABASE).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(3));

    let (store, blobs) = (StoreHarness::open(&directory).await, BlobHarness::open(&directory).await);
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(5));
    Stored { store, blobs }.check().await.unwrap();
}
