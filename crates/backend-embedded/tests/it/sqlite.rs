//! What is particular to a SQLite file: schema versions, several processes, damage, abandoned calls.

use crate::Directory;
use splitreel_backend::conformance::fixture::{Stage, job_id, plan, request};
use splitreel_backend::conformance::{StoreHarness, model};
use splitreel_backend::store::JobFilter;
use splitreel_backend::{StoreError, Submissions};
use splitreel_backend_embedded::{SqliteStore, migrate, schema_version};
use splitreel_core::fair::Shares;
use splitreel_core::job::{JobRequest, JobState};
use splitreel_core::task::RetryPolicy;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
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
    assert_eq!(migrate(&directory.database()).await.unwrap(), 5);
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(5));
    assert_eq!(migrate(&directory.database()).await.unwrap(), 5);
}

/// The file as the first version of the schema left it, with a job in the middle of its work.
#[tokio::test]
async fn a_database_of_the_first_version_is_read_and_goes_on() {
    let directory = Directory::new();
    let migrations = directory.blobs();
    std::fs::create_dir(&migrations).unwrap();
    let first = "0001_jobs.sql";
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite").join(first);
    std::fs::copy(source, migrations.join(first)).unwrap();
    let making = SqliteConnectOptions::new().filename(directory.database()).create_if_missing(true);
    let mut connection = making.connect().await.unwrap();
    sqlx::migrate::Migrator::new(migrations.as_path())
        .await
        .unwrap()
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    let mut asked = serde_json::to_value(request("t", "key-1")).unwrap();
    assert!(asked.as_object_mut().unwrap().remove("priority").is_some());
    let id = job_id(1).to_string();
    for statement in [
        "INSERT INTO jobs (id, tenant, idempotency_key, state, request, remaining, generation, next_task, created_ms)
            VALUES (?1, 't', 'key-1', 'probing', ?2, 1, 0, 1, 5)",
        "INSERT INTO tasks (job, number, generation, kind, idx, cost, state, attempt, media_failures, infra_failures,
            not_before_ms, failed_on) VALUES (?1, 0, 0, 'probe', 0, 1, 'ready', 1, 0, 0, 0, '[]')",
        "INSERT INTO outbox (job, number, attempt, kind, created_ms) VALUES (?1, 0, 1, 'probe', 5)",
        "INSERT INTO events (job, at_ms, what) VALUES (?1, 5, '{\"event\":\"submitted\"}')",
    ] {
        sqlx::query(statement).bind(&id).bind(asked.to_string()).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(1));

    let store = StoreHarness::open(&directory).await;
    assert_eq!(schema_version(&directory.database()).await.unwrap(), Some(5));
    let stage = Stage { store, job: job_id(1), policy: RetryPolicy::default() };
    let job = stage.job().await;
    assert_eq!((&job.request, job.is_paused, job.created_ms), (&request("t", "key-1"), false, 5));
    assert_eq!(stage.store.unsent(&None, 10).await.unwrap().len(), 1);
    stage.finish(0).await;
    assert!(stage.store.record_plan(stage.job, 0, &plan(1, 0), 6).await.unwrap());
    assert!(stage.store.pause(stage.job, true, 7).await.unwrap());
    assert!(stage.store.pause(stage.job, false, 8).await.unwrap());
    assert_eq!(stage.store.dispatch(&None, 9.into(), &Shares::default(), 8).await.unwrap(), 1);
    stage.finish(1).await;
    stage.finish(2).await;
    assert_eq!(stage.job().await.state, JobState::Published);
    stage.audit().await;
}

/// Several walks side by side: 10,500 operations, each answer and every row compared with the reference in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_operations_leave_the_same_rows_as_in_memory() {
    let mut running = tokio::task::JoinSet::new();
    for seed in 1..=7 {
        running.spawn(async move {
            let directory = Directory::new();
            model::run(&[&*StoreHarness::open(&directory).await], seed, 1_500).await
        });
    }
    let mut effects = model::Effects::default();
    running.join_all().await.into_iter().for_each(|walk| effects.add(walk));
    effects.assert_eventful();
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

#[tokio::test]
async fn a_requested_deep_probe_holds_in_rows_of_programs_that_did_not_store_it() {
    let directory = Directory::new();
    let store = StoreHarness::open(&directory).await;
    for (n, deep_probe) in [(1, true), (2, false)] {
        let request = JobRequest { deep_probe, ..request("t", &n.to_string()) };
        store.submit(job_id(n), request, 0).await.unwrap();
    }
    sqlx::query("UPDATE jobs SET deep_probe = 0").execute(&mut raw(&directory).await).await.unwrap();
    assert!(store.job(job_id(1)).await.unwrap().unwrap().deep_probe);
    assert!(!store.job(job_id(2)).await.unwrap().unwrap().deep_probe);
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
        let mut call = stage.store.record_plan(stage.job, 0, &plan, now_ms);
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
