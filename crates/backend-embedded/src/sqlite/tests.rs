//! How SQLite carries statements out: nothing that polls may read the tasks that are done.

use super::{SqliteStore, attempts, outbox, records};
use splitreel_backend::JobStore;
use splitreel_backend::conformance::fixture::{Stage, plan};
use splitreel_core::fair::Shares;
use sqlx::Row;
use std::sync::Arc;

/// The steps of a statement's query plan.
async fn steps(store: &SqliteStore, statement: &'static str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows = sqlx::query(explain).fetch_all(&store.readers).await.unwrap();
    rows.iter().map(|row| row.try_get("detail").unwrap()).collect()
}

#[tokio::test]
async fn polling_statements_use_the_partial_indexes_and_do_not_sort() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("db")).await.unwrap();
    for (statement, indexes) in [
        (outbox::DEMANDS, vec!["jobs_open", "tasks_ready"]),
        (outbox::WAITING, vec!["tasks_ready"]),
        (outbox::IN_FLIGHT, vec!["tasks_leased", "tasks_beside"]),
        (outbox::UNSENT, vec!["outbox_unsent"]),
        (outbox::STALE, vec!["outbox_sent"]),
        (outbox::STATISTICS, vec!["jobs_open", "tasks_leased", "tasks_beside", "tasks_assemble"]),
        (attempts::EXPIRED, vec!["tasks_leased", "tasks_beside"]),
        (attempts::HELD_BY, vec!["tasks_leased", "tasks_beside"]),
        (records::DUE, vec!["records_due"]),
        (records::WRITTEN_AHEAD, vec!["records_written"]),
        (records::LIST, vec!["(kind=? AND (tenant,id)>(?,?))"]),
        (attempts::SHORTEN, vec!["tasks_leased"]),
        (attempts::SHORTEN_BESIDE, vec!["tasks_beside"]),
        (attempts::NOTHING_WAITS, vec!["tasks_leased"]),
    ] {
        let steps = steps(&store, statement).await;
        for index in indexes {
            assert!(steps.iter().any(|step| step.contains(index)), "{index} is not used: {steps:#?}");
        }
    }
    for statement in [outbox::DEMANDS, outbox::WAITING, records::LIST, records::DUE] {
        let steps = steps(&store, statement).await;
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
    }
}

#[tokio::test]
async fn a_job_of_thousands_of_segments_is_dispatched_and_claimed_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn JobStore> = Arc::new(SqliteStore::open(directory.path().join("db")).await.unwrap());
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(3600, 2), 0).await.unwrap());
    for round in 0..3 {
        assert_eq!(store.dispatch(&None, 4.into(), &Shares::default(), 0).await.unwrap(), 4);
        let wakeups = store.unsent(&None, 10).await.unwrap();
        let numbers: Vec<_> = wakeups.iter().map(|r| r.task.number).collect();
        assert_eq!(numbers, (1 + 4 * round..5 + 4 * round).collect::<Vec<_>>());
        store.mark_sent(&wakeups, 0).await.unwrap();
        for number in numbers {
            assert!(stage.claim(number, 1, u128::from(number), 0).await.is_ok());
        }
    }
    assert_eq!(stage.job().await.remaining, 3602);
}
