//! The outbox: dispatch, relay and sweep. Statements walk indexes of ready tasks and unsent or sent rows, never
//! all tasks of a job.

use super::error::db;
use super::jobs::{limit, scope_json};
use super::rows;
use splitreel_backend::store::Scope;
use splitreel_backend::{Ring, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// Ready, due tasks without an outbox row, in dispatch order. Join order and indexes are given, because the
/// planner would read all tasks of a job: jobs by age outside, ready tasks by number inside, so that nothing is
/// sorted and the limit ends the walk.
pub(super) const DUE: &str = "SELECT t.job, t.number, t.attempt, t.kind
    FROM jobs AS j INDEXED BY jobs_open CROSS JOIN tasks AS t INDEXED BY tasks_ready
    WHERE j.ended_ms IS NULL AND t.job = j.id AND t.state = 'ready' AND t.not_before_ms <= ?2
      AND (?1 IS NULL OR j.id IN (SELECT value FROM json_each(?1)))
      AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.job = t.job AND o.number = t.number)
    ORDER BY j.created_ms, j.id, t.number LIMIT ?3";

pub(super) const UNSENT: &str = "SELECT job, number, attempt, kind FROM outbox
    WHERE sent_ms IS NULL AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1)))
    ORDER BY seq LIMIT ?2";

pub(super) const STALE: &str = "SELECT EXISTS (SELECT 1 FROM outbox
    WHERE sent_ms IS NOT NULL AND sent_ms < ?2 AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1))))";

const SWEEP: &str = "DELETE FROM outbox
    WHERE sent_ms IS NOT NULL AND sent_ms < ?2 AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1)))";

fn ring(row: &SqliteRow) -> Result<Ring, StoreError> {
    Ok(Ring { task: rows::task_id(row)?, attempt: rows::attempt(row)?, kind: rows::kind(row)? })
}

/// What dispatch would write now.
pub(super) async fn due(
    c: &mut SqliteConnection,
    scope: &Scope,
    window: usize,
    now_ms: i64,
) -> Result<Vec<Ring>, StoreError> {
    let scope = scope_json(scope)?;
    let num_out: i64 =
        sqlx::query("SELECT count(*) AS n FROM outbox WHERE ?1 IS NULL OR job IN (SELECT value FROM json_each(?1))")
            .bind(&scope)
            .fetch_one(&mut *c)
            .await
            .and_then(|row| row.try_get("n"))
            .map_err(db)?;
    let room = limit(window).saturating_sub(num_out).max(0);
    if room == 0 {
        return Ok(Vec::new());
    }
    let found = sqlx::query(DUE).bind(scope).bind(now_ms).bind(room).fetch_all(c).await.map_err(db)?;
    found.iter().map(ring).collect()
}

pub(super) async fn dispatch(
    c: &mut SqliteConnection,
    scope: &Scope,
    window: usize,
    now_ms: i64,
) -> Result<usize, StoreError> {
    let due = due(c, scope, window, now_ms).await?;
    for ring in &due {
        sqlx::query("INSERT INTO outbox (job, number, attempt, kind, created_ms) VALUES (?, ?, ?, ?, ?)")
            .bind(ring.task.job.to_string())
            .bind(ring.task.number)
            .bind(ring.attempt)
            .bind(ring.kind.as_str())
            .bind(now_ms)
            .execute(&mut *c)
            .await
            .map_err(db)?;
    }
    Ok(due.len())
}

pub(super) async fn unsent(c: &mut SqliteConnection, scope: &Scope, max: usize) -> Result<Vec<Ring>, StoreError> {
    let found = sqlx::query(UNSENT).bind(scope_json(scope)?).bind(limit(max)).fetch_all(c).await.map_err(db)?;
    found.iter().map(ring).collect()
}

pub(super) async fn mark_sent(c: &mut SqliteConnection, rings: &[Ring], now_ms: i64) -> Result<(), StoreError> {
    for ring in rings {
        sqlx::query("UPDATE outbox SET sent_ms = ? WHERE job = ? AND number = ? AND attempt = ? AND sent_ms IS NULL")
            .bind(now_ms)
            .bind(ring.task.job.to_string())
            .bind(ring.task.number)
            .bind(ring.attempt)
            .execute(&mut *c)
            .await
            .map_err(db)?;
    }
    Ok(())
}

/// True when `sweep` would delete something.
pub(super) async fn has_stale(
    c: &mut SqliteConnection,
    scope: &Scope,
    sent_before_ms: i64,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(STALE).bind(scope_json(scope)?).bind(sent_before_ms).fetch_one(c).await.map_err(db)
}

pub(super) async fn sweep(c: &mut SqliteConnection, scope: &Scope, sent_before_ms: i64) -> Result<usize, StoreError> {
    let swept = sqlx::query(SWEEP).bind(scope_json(scope)?).bind(sent_before_ms).execute(c).await.map_err(db)?;
    Ok(usize::try_from(swept.rows_affected()).unwrap_or(usize::MAX))
}
