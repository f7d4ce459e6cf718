//! What goes wrong around a transaction: callers that go away, connections that are killed, locks that are held.

use super::{PgConfig, PgStore, TestDatabase};
use splitreel_backend::conformance::fixture::{Answered, Stage, job_id, lease_id, plan, request, result};
use splitreel_backend::lease::LeaseError;
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::store::{JobFilter, LeaseStore, Scheduling, Submissions};
use splitreel_backend::{Records, StoreError};
use splitreel_core::job::JobState;
use splitreel_core::task::{TaskKind, TaskState};
use sqlx::Connection;
use std::sync::Arc;
use std::time::Duration;

/// Kills every connection of the stores.
async fn kill_connections(database: &TestDatabase) -> usize {
    let mut connection = database.connection().await;
    let killed = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'splitreel'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    killed.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let database = TestDatabase::new().await;
    let store = Arc::new(database.store().await);
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(40, 0), 0).await.unwrap());
    for number in 1..=40 {
        // Cut off at the first await, and after ever longer.
        let claim = stage.claim(number, 1, u128::from(number), 0);
        let _ = tokio::time::timeout(Duration::from_micros(u64::from(number) * 40), claim).await;
    }
    // What was asked before is done before: all of it goes through one queue.
    let _ = stage.claim(99, 1, 99, 0).await;
    let tasks = stage.tasks().await;
    let leased = tasks.iter().filter(|t| t.state == TaskState::Leased).count();
    assert!(leased >= 1 && tasks.iter().all(|t| t.lease.is_some() == (t.state == TaskState::Leased)));
    stage.audit().await;
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    )
    .fetch_one(&mut database.connection().await)
    .await
    .unwrap();
    assert_eq!(open, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_are_replaced() {
    let database = TestDatabase::new().await;
    let store = Arc::new(database.store().await);
    let stage = Stage::submit(store.clone(), 1, 0).await;
    for round in 0..3 {
        assert!(kill_connections(&database).await > 0);
        // At most one use-case per killed connection may fail; none is answered wrongly.
        let mut is_back = false;
        for _ in 0..20 {
            match store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await {
                Ok(jobs) => {
                    assert_eq!(jobs.len(), 1, "round {round}");
                    is_back = true;
                    break;
                }
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
            }
        }
        assert!(is_back, "round {round}");
    }
    stage.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_is_an_answer_and_no_harm() {
    let database = TestDatabase::new().await;
    let patient = Arc::new(database.store().await);
    let config = PgConfig { statement_timeout_ms: 150, ..PgConfig::default() };
    let store = Arc::new(PgStore::open(&database.url(), &config).await.unwrap());
    let stage = Stage::submit(store.clone(), 1, 0).await;
    let other = Stage::submit(patient, 2, 0).await;
    let mut holder = database.connection().await;
    let mut holding = holder.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE").bind(stage.job.0).execute(&mut *holding).await.unwrap();
    let waiting = store.claim(stage.request(0, 1, 1, 0)).await;
    assert!(matches!(waiting, Err(LeaseError::Store(StoreError::Unavailable(_)))), "{waiting:?}");
    assert!(matches!(store.cancel(stage.job, 0).await, Err(StoreError::Unavailable(_))));
    // Other jobs are not delayed: not by jobs' locks, and dispatch leaves the locked job out.
    let elsewhere = Stage { store: store.clone(), ..other.clone() };
    assert_eq!(store.dispatch(&None, 10.into(), &Default::default(), 0).await.unwrap(), 1);
    assert!(elsewhere.claim(0, 1, 2, 0).await.is_ok());
    holding.rollback().await.unwrap();
    assert_eq!(store.dispatch(&None, 10.into(), &Default::default(), 0).await.unwrap(), 1);
    assert!(stage.claim(0, 1, 1, 0).await.is_ok());
    stage.audit().await;
    other.audit().await;
}

/// Counting a completion, which may wait for a disk, does not hold up claims of the same job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_dispatch_go_on_beside_a_completion() {
    let database = TestDatabase::new().await;
    let config = PgConfig { statement_timeout_ms: 500, ..PgConfig::default() };
    let store = Arc::new(PgStore::open(&database.url(), &config).await.unwrap());
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(4, 0), 0).await.unwrap());
    stage.claim(1, 1, 1, 0).await.unwrap();
    let mut holder = database.connection().await;
    let mut completing = holder.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM jobs WHERE id = $1 FOR NO KEY UPDATE")
        .bind(stage.job.0)
        .execute(&mut *completing)
        .await
        .unwrap();
    sqlx::query("UPDATE jobs SET remaining = remaining WHERE id = $1")
        .bind(stage.job.0)
        .execute(&mut *completing)
        .await
        .unwrap();
    assert!(stage.claim(2, 1, 2, 0).await.is_ok());
    assert_eq!(store.dispatch(&None, 10.into(), &Default::default(), 0).await.unwrap(), 2);
    let renewed = store.renew(stage.id(1), lease_id(1), Default::default(), 1, &stage.policy).await.answered();
    assert_eq!(renewed, Ok(1 + stage.policy.lease_ttl_ms));
    let result = result(TaskKind::Segment, 0);
    let waiting = store.complete(stage.id(1), lease_id(1), result.clone(), 1).await;
    assert!(matches!(waiting, Err(LeaseError::Store(StoreError::Unavailable(_)))), "{waiting:?}");
    completing.rollback().await.unwrap();
    assert_eq!(store.complete(stage.id(1), lease_id(1), result, 1).await.answered(), Ok(true));
    stage.audit().await;
}

/// Many completions of one job at a time share transactions: they do not wait for a disk sync each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_at_the_same_time_are_put_together() {
    const SEGMENTS: u32 = 300;
    let database = TestDatabase::new().await;
    let store = Arc::new(database.store().await);
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(SEGMENTS, 0), 0).await.unwrap());
    let mut running = tokio::task::JoinSet::new();
    for number in 1..=SEGMENTS {
        let stage = stage.clone();
        running.spawn(async move { stage.claim(number, 1, u128::from(number), 0).await.unwrap() });
    }
    running.join_all().await;
    let mut running = tokio::task::JoinSet::new();
    for number in 1..=SEGMENTS {
        let (store, id, lease) = (store.clone(), stage.id(number), lease_id(u128::from(number)));
        running
            .spawn(async move { store.complete(id, lease, result(TaskKind::Segment, number - 1), 0).await.answered() });
    }
    assert!(running.join_all().await.into_iter().all(|answer| answer == Ok(true)));
    let num_transactions: i64 = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM arrivals")
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap();
    assert!(num_transactions < 150, "{num_transactions} for 600 attempts");
    stage.audit().await;
    stage.finish(SEGMENTS + 1).await;
    assert_eq!(stage.job().await.state, JobState::Published);
}

/// The server rolls one of two back; the store tries again and the caller sees nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again() {
    let database = TestDatabase::new().await;
    let stage = Stage::submit(Arc::new(database.store().await), 1, 0).await;
    let mut other = database.connection().await;
    sqlx::query("SET deadlock_timeout = '60s'").execute(&mut other).await.unwrap();
    let mut foreign = other.begin().await.unwrap();
    // In the wrong order: first the task, then the job.
    sqlx::query("SELECT 1 FROM tasks WHERE job = $1 FOR UPDATE")
        .bind(stage.job.0)
        .execute(&mut *foreign)
        .await
        .unwrap();
    let claiming = tokio::spawn({
        let stage = stage.clone();
        async move { stage.claim(0, 1, 1, 0).await }
    });
    let mut observer = database.connection().await;
    for _ in 0..1_000 {
        let num_waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'splitreel' AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut observer)
        .await
        .unwrap();
        if num_waiting > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The claim holds the job and waits for the task: its deadlock check finds the circle and ends it.
    sqlx::query("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE").bind(stage.job.0).execute(&mut *foreign).await.unwrap();
    foreign.commit().await.unwrap();
    assert!(claiming.await.unwrap().is_ok());
    assert_eq!(stage.task(0).await.state, TaskState::Leased);
    stage.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_stored_spoils_nothing_else() {
    let database = TestDatabase::new().await;
    let store = Arc::new(database.store().await);
    let bad = store.submit(job_id(9), request("t", "with \0"), 0).await;
    assert!(matches!(bad, Err(StoreError::Corrupt { .. })), "{bad:?}");
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(20, 0), 0).await.unwrap());
    let mut running = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let (store, mut claim) = (store.clone(), stage.request(number, 1, u128::from(number), 0));
        if number == 7 {
            claim.worker.0.push('\0');
        }
        running.spawn(async move { (number, store.claim(claim).await) });
    }
    for (number, answer) in running.join_all().await {
        match answer {
            Err(LeaseError::Store(StoreError::Corrupt { .. })) => assert_eq!(number, 7),
            other => assert!(other.is_ok(), "{number}: {other:?}"),
        }
    }
    assert_eq!(stage.task(7).await.state, TaskState::Ready);
    stage.audit().await;
    let key = RecordKey { kind: "k".into(), tenant: "a\0b".into(), id: "\0".into() };
    assert_eq!(store.put(&key, Expect::Absent, serde_json::json!("\0"), None, 0).await.unwrap(), Ok(1));
    assert_eq!(store.get(&key).await.unwrap().map(|r| (r.key, r.doc)), Some((key, serde_json::json!("\0"))));
}

/// An ended job's tasks are not rewritten, but nobody can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_writes_only_what_is_in_flight() {
    let database = TestDatabase::new().await;
    let store = Arc::new(database.store().await);
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(3_000, 0), 0).await.unwrap());
    for number in 1..=3 {
        stage.claim(number, 1, u128::from(number), 0).await.unwrap();
    }
    stage.complete(1, 1, 0).await.unwrap();
    store.dispatch(&None, 5.into(), &Default::default(), 0).await.unwrap();
    let mut connection = database.connection().await;
    let before: Vec<(i32, String)> = sqlx::query_as("SELECT number, ctid::text FROM tasks ORDER BY number")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert!(store.cancel(stage.job, 1).await.unwrap());
    let after: Vec<(i32, String)> = sqlx::query_as("SELECT number, ctid::text FROM tasks ORDER BY number")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let rewritten: Vec<i32> = before.iter().zip(&after).filter(|(b, a)| b != a).map(|(before, _)| before.0).collect();
    assert_eq!(rewritten, [2, 3]);
    assert_eq!(stage.job().await.state, JobState::Cancelled);
    let states: Vec<_> = stage.tasks().await.into_iter().map(|t| t.state).collect();
    assert_eq!(states.iter().filter(|s| **s == TaskState::Done).count(), 2);
    assert_eq!(states.iter().filter(|s| **s == TaskState::Cancelled).count(), 2_999);
    let late = store.complete(stage.id(2), lease_id(2), result(TaskKind::Segment, 1), 2).await.answered();
    assert_eq!(late, Err(splitreel_core::task::Refusal::Cancelled));
    stage.audit().await;
    assert!(store.retry(stage.job, 3).await.unwrap());
    assert!(stage.tasks().await.iter().skip(2).all(|t| (t.state, t.attempt) == (TaskState::Ready, 2)));
    stage.audit().await;
}
