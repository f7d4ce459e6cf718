//! What is particular to a SQLite file: schema versions, several processes, damage, abandoned calls.

use crate::Directory;
use splitreel_backend::conformance::StoreHarness;
use splitreel_backend::conformance::fixture::{Stage, job_id, plan, request};
use splitreel_backend::store::JobFilter;
use splitreel_backend::{JobStore, StoreError};
use splitreel_backend_embedded::{SqliteStore, migrate, schema_version};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use std::future::poll_fn;
use std::task::Poll;

async fn raw(directory: &Directory) -> SqliteConnection {
    SqliteConnectOptions::new().filename(directory.database()).connect().await.unwrap()
}

#[tokio::test]
async fn a_missing_file_has_no_version_and_stays_missing() {
    let directory = Directory::new();
    assert_eq!(schema_version(&directory.database()).await.unwrap(), None);
    assert!(!directory.database().exists());
    assert_eq!(migrate(&directory.database()).await.unwrap(), 1);
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(1));
    assert_eq!(migrate(&directory.database()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let directory = Directory::new();
    migrate(&directory.database()).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', TRUE, x'00', 0)")
        .execute(&mut raw(&directory).await)
        .await
        .unwrap();
    let error = SqliteStore::open(directory.database()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { what } if what.contains("99") && what.contains("newer")), "{error}");
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(99));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = Directory::new();
    std::fs::write(directory.database(), [b'x'; 8192]).unwrap();
    let error = SqliteStore::open(directory.database()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unreadable_row_is_corrupt_and_not_a_panic() {
    let directory = Directory::new();
    let stage = Stage::submitted(&directory).await;
    sqlx::query("UPDATE jobs SET request = '{\"tenant\": 1}'").execute(&mut raw(&directory).await).await.unwrap();
    let error = stage.store.job(stage.job).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { what } if what.starts_with("request: ")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_first_starts_at_once_all_succeed() {
    let directory = Directory::new();
    let mut running = tokio::task::JoinSet::new();
    for n in 0..8 {
        let path = directory.database();
        running.spawn(async move {
            let store = SqliteStore::open(path).await.unwrap();
            store.submit(job_id(n), request("t", &n.to_string()), 0).await.unwrap();
        });
    }
    running.join_all().await;
    let store = StoreHarness::open(&directory).await;
    assert_eq!(store.jobs(JobFilter { limit: 100, ..JobFilter::default() }).await.unwrap().len(), 8);
}

#[tokio::test]
async fn an_abandoned_call_leaves_no_transaction_behind() {
    let directory = Directory::new();
    let stage = Stage::probed(&directory).await;
    for now_ms in 0..20 {
        let plan = plan(50, 0);
        let mut call = stage.store.record_plan(stage.job, &plan, now_ms);
        let _ = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
        drop(call);
        assert!(!stage.store.cancel(job_id(9), now_ms).await.unwrap(), "the writer still works");
    }
    assert_eq!(stage.tasks().await.len(), 51);
    stage.audit().await;
}

#[tokio::test]
async fn closing_leaves_a_complete_file() {
    let directory = Directory::new();
    let store = SqliteStore::open(directory.database()).await.unwrap();
    store.submit(job_id(1), request("t", "k"), 0).await.unwrap();
    store.close().await;
    assert!(matches!(store.job(job_id(1)).await, Err(StoreError::Unavailable(_))));
    let store = SqliteStore::open(directory.database()).await.unwrap();
    assert!(store.job(job_id(1)).await.unwrap().is_some());
}
