//! How Postgres carries statements out: what is read must not grow with the tasks of a job, nor with what is done.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

#[path = "../../tests/it/postgres/database.rs"]
mod database;

use super::{PgConfig, PgStore, dispatch, locks, outbox, records, save, speculate, statistics, takeback};
use database::TestDatabase;
use serde_json::Value;
use splitreel_backend::JobStore;
use splitreel_backend::conformance::fixture::{Stage, plan};
use splitreel_core::fair::Shares;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};
use std::sync::Arc;
use std::time::Instant;

const SEGMENTS: u32 = 20_000;
const SHORT_JOBS: u128 = 100;
const ASSEMBLING_JOBS: u128 = 20;

/// What one step of a query plan did.
fn steps(plan: &Value, into: &mut Vec<(String, u64)>) {
    let count = |name: &str| plan.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let loops = count("Actual Loops").max(1.0);
    let read =
        (count("Actual Rows") + count("Rows Removed by Filter") + count("Rows Removed by Index Recheck")) * loops;
    let text = |name: &str| plan.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    into.push((format!("{} {} {}", text("Node Type"), text("Relation Name"), text("Index Name")), read as u64));
    for child in plan.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        steps(child, into);
    }
}

type Bound = Query<'static, Postgres, PgArguments>;

/// Carries a statement out in a transaction that is rolled back, and answers its steps with the rows each read.
async fn explained(store: &PgStore, statement: &str, bind: impl FnOnce(Bound) -> Bound) -> Vec<(String, u64)> {
    let mut transaction = store.database.pool().begin().await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF, COSTS OFF) {statement}");
    let row = bind(sqlx::query(AssertSqlSafe(explain))).fetch_one(&mut *transaction).await.unwrap();
    let plan: Value = row.get(0);
    transaction.rollback().await.unwrap();
    let mut found = Vec::new();
    steps(&plan[0]["Plan"], &mut found);
    found
}

fn assert_reads_at_most(what: &str, most: u64, steps: &[(String, u64)]) {
    assert!(steps.iter().all(|(_, read)| *read <= most), "{what}: {steps:?}");
    assert!(!steps.iter().any(|(step, _)| step.contains("Seq Scan")), "{what}: {steps:?}");
}

/// A job with done, leased, notified and very many ready tasks, beside one that was cancelled with all of its, and jobs that
/// wait for an assembler.
async fn crowded(database: &TestDatabase) -> (PgStore, Stage) {
    let store = database.store().await;
    // Statistics are those of the ANALYZE below: autovacuum would take others at a time of its own.
    sqlx::raw_sql(
        "ALTER TABLE jobs SET (autovacuum_enabled = false); ALTER TABLE tasks SET (autovacuum_enabled = false);
         ALTER TABLE outbox SET (autovacuum_enabled = false)",
    )
    .execute(store.database.pool())
    .await
    .unwrap();
    let seam: Arc<dyn JobStore> = Arc::new(store.clone());
    for n in 1_000..1_000 + SHORT_JOBS {
        let short = Stage::submit(seam.clone(), n, 0).await;
        short.finish(0).await;
        assert!(seam.record_plan(short.job, 0, &plan(1, 0), 0).await.unwrap());
        assert!(seam.cancel(short.job, 0).await.unwrap());
    }
    for n in 2_000..2_000 + ASSEMBLING_JOBS {
        let parts = Stage::submit(seam.clone(), n, 0).await;
        parts.finish(0).await;
        assert!(seam.record_plan(parts.job, 0, &plan(1, 0), 0).await.unwrap());
        parts.finish(1).await;
    }
    sqlx::raw_sql("ANALYZE").execute(store.database.pool()).await.unwrap();
    let cancelled = Stage::submit(seam.clone(), 1, 0).await;
    let stage = Stage::submit(seam.clone(), 2, 0).await;
    for stage in [&cancelled, &stage] {
        stage.finish(0).await;
        assert!(seam.record_plan(stage.job, 0, &plan(SEGMENTS, 0), 0).await.unwrap());
    }
    assert!(seam.cancel(cancelled.job, 0).await.unwrap());
    for number in 1..=8 {
        stage.claim(number, 1, u128::from(number), 0).await.unwrap();
    }
    for number in 1..=4 {
        stage.complete(number, u128::from(number), 0).await.unwrap();
    }
    assert_eq!(seam.dispatch(&None, 10.into(), &Shares::default(), 0).await.unwrap(), 10 + 10, "of both queues");
    (store, stage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_polls_reads_only_what_it_may_act_on() {
    let database = TestDatabase::new().await;
    let (store, stage) = crowded(&database).await;
    let (job, none) = (stage.job.0, None::<Vec<uuid::Uuid>>);
    // Statistics of a database that has seen only short jobs, and those of one that knows its tables.
    for is_analyzed in [false, true] {
        if is_analyzed {
            sqlx::raw_sql("ANALYZE").execute(store.database.pool()).await.unwrap();
        }
        let due =
            explained(&store, dispatch::DUE, |q| q.bind(vec![job]).bind(vec![5_i64]).bind(0_i64).bind(360_000_i64))
                .await;
        // Four that are leased or done may still stand in the index; ten are notified, five are asked for. Right after
        // statistics were taken, the planner may walk through what is notified for each that it looks at.
        assert_reads_at_most("due", 15 * 10, &due);
        assert!(due.iter().any(|(step, _)| step.contains("tasks_ready")), "{due:?}");
        assert_reads_at_most("busy", 40, &explained(&store, dispatch::BUSY, |q| q).await);
        assert_reads_at_most("open jobs", 4, &explained(&store, dispatch::OPEN, |q| q.bind(10_i64).bind(false)).await);
        let to_assemble = explained(&store, dispatch::OPEN, |q| q.bind(3_i64).bind(true)).await;
        assert_reads_at_most("jobs to assemble", 4, &to_assemble);
        assert_reads_at_most("statistics", 40, &explained(&store, statistics::STATISTICS, |q| q).await);
        let unsent = explained(&store, outbox::UNSENT, |q| q.bind(none.clone()).bind(4_i64)).await;
        assert_reads_at_most("unsent", 10, &unsent);
        assert_reads_at_most("sweep", 0, &explained(&store, outbox::SWEEP, |q| q.bind(none.clone()).bind(5_i64)).await);
        assert_reads_at_most(
            "expired",
            8,
            &explained(&store, takeback::EXPIRED, |q| q.bind(0_i64).bind(1_i64 << 60)).await,
        );
        assert_reads_at_most("held by", 8, &explained(&store, takeback::HELD_BY, |q| q.bind("w5")).await);
        let nothing = explained(&store, speculate::NOTHING_WAITS, |q| q.bind(none.clone())).await;
        // It looks for one row of the outbox, which is as small as the window.
        let nothing: Vec<_> = nothing.into_iter().filter(|(step, _)| !step.contains("outbox")).collect();
        assert_reads_at_most("what waits for nothing", 10, &nothing);
        let beside = explained(&store, takeback::SHORTEN_BESIDE, |q| q.bind("w5").bind(1_i64)).await;
        assert_reads_at_most("shorten beside", 8, &beside);
        assert_reads_at_most("cancel beside", 8, &explained(&store, save::CANCEL_BESIDE, |q| q.bind(job)).await);
        let shorten = explained(&store, takeback::SHORTEN, |q| q.bind("w5").bind(1_i64)).await;
        assert_reads_at_most("shorten", 8, &shorten);
        let lock = explained(&store, locks::LOCK_TASKS, |q| q.bind(job).bind(vec![5_i32, 9_000])).await;
        assert_reads_at_most("lock tasks", 2, &lock);
        let saved = explained(&store, save::SAVE_TASKS, |q| {
            let (none, no_text, no_id) = (vec![None::<i64>; 2], vec![None::<String>; 2], vec![None::<uuid::Uuid>; 2]);
            q.bind(job)
                .bind(vec![5_i32, 9_000])
                .bind(vec!["ready", "ready"])
                .bind(vec![1_i32; 2])
                .bind(vec![0_i32; 2])
                .bind(vec![0_i32; 2])
                .bind(vec![0_i64; 2])
                .bind(no_id.clone())
                .bind(no_text.clone())
                .bind(none.clone())
                .bind(none.clone())
                .bind(none.clone())
                .bind(vec![None::<i32>; 2])
                .bind(vec![None::<i32>; 2])
                .bind(none)
                .bind(no_id)
                .bind(no_text.clone())
                .bind(no_text.clone())
                .bind(no_text.clone())
                .bind(no_text)
        });
        assert_reads_at_most("save tasks", 4, &saved.await);
        assert_reads_at_most("cancel", 8, &explained(&store, save::CANCEL_LEASED, |q| q.bind(job)).await);
        assert_reads_at_most(
            "due records",
            0,
            &explained(&store, records::DUE, |q| q.bind("k").bind(1_i64).bind(9_i64)).await,
        );
        let ahead = explained(&store, records::WRITTEN_AHEAD, |q| q.bind("k").bind(1_i64).bind(60_001_i64).bind(9_i64));
        assert_reads_at_most("records from before the clock was set back", 0, &ahead.await);
    }
}

/// Prints how long the use-cases take on a job of a million tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it by name with --nocapture"]
async fn a_million_tasks() {
    let database = TestDatabase::new().await;
    let config = PgConfig { max_connections: 16, ..PgConfig::default() };
    let store: Arc<dyn JobStore> = Arc::new(PgStore::open(&database.url(), &config).await.unwrap());
    let stage = Stage::submit(store.clone(), 1, 0).await;
    stage.finish(0).await;
    let plan = plan(1_000_000, 0);
    let mut start = Instant::now();
    let mut lap = |what: &str| {
        println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        start = Instant::now();
    };
    assert!(store.record_plan(stage.job, 0, &plan, 0).await.unwrap());
    lap("record plan");
    assert_eq!(store.dispatch(&None, 2_000.into(), &Shares::default(), 0).await.unwrap(), 2_000);
    lap("dispatch 2,000");
    for number in 1..=20 {
        stage.claim(number, 1, u128::from(number), 0).await.unwrap();
    }
    lap("20 claims, one by one");
    let mut running = tokio::task::JoinSet::new();
    for number in 21..=2_000 {
        let stage = stage.clone();
        running.spawn(async move { stage.claim(number, 1, u128::from(number), 0).await.unwrap() });
    }
    running.join_all().await;
    lap("1,980 claims at once");
    let mut running = tokio::task::JoinSet::new();
    for number in 1..=1_000 {
        let store = store.clone();
        let (id, lease) = (stage.id(number), splitreel_backend::conformance::fixture::lease_id(u128::from(number)));
        let result =
            splitreel_backend::conformance::fixture::result(splitreel_core::task::TaskKind::Segment, number - 1);
        running.spawn(async move { store.complete(id, lease, result, 0).await.unwrap() });
    }
    assert!(running.join_all().await.into_iter().all(|is_first| is_first));
    lap("1,000 completions at once");
    assert_eq!(store.dispatch(&None, 2_000.into(), &Shares::default(), 0).await.unwrap(), 2_000);
    lap("dispatch 2,000 again");
    assert!(store.reap(0, &stage.policy).await.unwrap().is_empty());
    lap("reap nothing");
    assert!(store.cancel(stage.job, 1).await.unwrap());
    lap("cancel");
    assert!(store.retry(stage.job, 2).await.unwrap());
    lap("retry");
    assert_eq!(stage.tasks().await.len(), 1_000_001);
    lap("read all tasks");
    assert!(store.cancel(stage.job, 3).await.unwrap());
    lap("cancel again");
    assert!(store.forget(stage.job).await.unwrap());
    lap("forget");
}
