//! The outbox: dispatch, relay and sweep. Statements walk indexes of ready tasks and unsent or sent rows, never
//! all tasks of a job.

use super::error::db;
use super::jobs::{limit, scope_json};
use super::rows;
use splitreel_backend::statistics::{Line, StoreStatistics};
use splitreel_backend::store::{InFlightLimit, Scope};
use splitreel_backend::{Queue, StoreError, Wakeup};
use splitreel_core::JobId;
use splitreel_core::deadline;
use splitreel_core::fair::{Demand, Shares, allot};
use splitreel_core::task::LONGEST_BACKOFF_MS;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::{BTreeMap, VecDeque};

/// Open jobs of the scope by age, with the ready, due tasks without an outbox row of one queue, counted up to a limit. Join
/// order and indexes are given, because the planner would read all tasks of a job; what the walk passes over is
/// notified for or in back-off, never all that wait: a job waits for an assembler when one task is left.
pub(super) const DEMANDS: &str = "SELECT j.id, j.tenant, j.priority, j.created_ms, (SELECT count(*) FROM
        (SELECT 1 FROM tasks AS t INDEXED BY tasks_ready
         WHERE t.job = j.id AND t.state = 'ready' AND (t.not_before_ms <= ?2 OR t.not_before_ms > ?5)
           AND (t.kind = 'assemble') = ?4
           AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.job = t.job AND o.number = t.number)
         LIMIT ?3)) AS waiting
    FROM jobs AS j INDEXED BY jobs_open
    WHERE j.ended_ms IS NULL AND j.is_paused = 0 AND (?1 IS NULL OR j.id IN (SELECT value FROM json_each(?1)))
      AND (?4 = 0 OR (j.state = 'running' AND j.remaining = 1))
    ORDER BY j.created_ms, j.id";

/// What is leased and what is notified of one queue, within a scope.
pub(super) const OUT: &str = "SELECT
    (SELECT count(*) FROM tasks INDEXED BY tasks_leased WHERE state = 'leased'
       AND (kind = 'assemble') = ?2 AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1)))) AS leased,
    (SELECT count(*) FROM outbox
     WHERE (kind = 'assemble') = ?2 AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1)))) AS notified";

/// The first waiting tasks of one job and queue.
pub(super) const WAITING: &str = "SELECT t.job, t.number, t.attempt, t.kind FROM tasks AS t INDEXED BY tasks_ready
    WHERE t.job = ?1 AND t.state = 'ready' AND (t.not_before_ms <= ?2 OR t.not_before_ms > ?5)
      AND (t.kind = 'assemble') = ?4
      AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.job = t.job AND o.number = t.number)
    ORDER BY t.number LIMIT ?3";

/// Notified tasks and leases of one queue, by tenant, over all jobs.
pub(super) const IN_FLIGHT: &str = "SELECT j.tenant, count(*) AS n FROM
        (SELECT job, kind FROM outbox
         UNION ALL SELECT job, kind FROM tasks INDEXED BY tasks_leased WHERE state = 'leased'
         UNION ALL SELECT job, kind FROM tasks INDEXED BY tasks_beside WHERE elder IS NOT NULL) AS f
    CROSS JOIN jobs AS j WHERE (f.kind = 'assemble') = ?1 AND j.id = f.job GROUP BY j.tenant";

pub(super) const UNSENT: &str = "SELECT job, number, attempt, kind FROM outbox
    WHERE sent_ms IS NULL AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1)))
    ORDER BY seq LIMIT ?2";

pub(super) const STALE: &str = "SELECT EXISTS (SELECT 1 FROM outbox
    WHERE sent_ms IS NOT NULL AND sent_ms < ?2 AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1))))";

const SWEEP: &str = "DELETE FROM outbox
    WHERE sent_ms IS NOT NULL AND sent_ms < ?2 AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1)))";

/// The lines of a [`StoreStatistics`]. An open job's assemble task is the last of its tasks.
pub(super) const STATISTICS: &str = "SELECT 'job' AS what, state AS word, count(*) AS num,
           coalesce(sum(remaining) FILTER (WHERE is_paused = 0), 0) AS also
    FROM jobs INDEXED BY jobs_open WHERE ended_ms IS NULL GROUP BY state
    UNION ALL SELECT 'lease', t.kind, count(*), count(*) FILTER (WHERE j.is_paused = 0)
    FROM tasks AS t INDEXED BY tasks_leased CROSS JOIN jobs AS j WHERE t.state = 'leased' AND j.id = t.job GROUP BY t.kind
    UNION ALL SELECT 'lease', kind, count(*), 0 FROM tasks INDEXED BY tasks_beside WHERE elder IS NOT NULL GROUP BY kind
    UNION ALL SELECT 'assemble', '', count(*), 0
    FROM jobs AS j INDEXED BY jobs_open CROSS JOIN tasks AS t INDEXED BY tasks_assemble
    WHERE j.ended_ms IS NULL AND j.is_paused = 0 AND j.state = 'running' AND j.remaining = 1
      AND t.job = j.id AND t.kind = 'assemble' AND t.state = 'ready'
    UNION ALL SELECT 'unsent', '', count(*), coalesce(min(created_ms), 0) FROM outbox WHERE sent_ms IS NULL
    UNION ALL SELECT 'sent', '', count(*), 0 FROM outbox WHERE sent_ms IS NOT NULL";

fn wakeup(row: &SqliteRow) -> Result<Wakeup, StoreError> {
    Ok(Wakeup {
        task: rows::task_id(row)?,
        attempt: rows::attempt(row)?,
        kind: rows::kind(row)?,
        trace: Default::default(),
    })
}

/// What dispatch would write now.
pub(super) async fn due(
    c: &mut SqliteConnection,
    scope: &Scope,
    max_in_flight: InFlightLimit,
    shares: &Shares,
    now_ms: i64,
) -> Result<Vec<Wakeup>, StoreError> {
    let mut due = Vec::new();
    for queue in Queue::ALL {
        due.extend(due_of(c, queue, scope, max_in_flight, shares, now_ms).await?);
    }
    Ok(due)
}

async fn due_of(
    c: &mut SqliteConnection,
    queue: Queue,
    scope: &Scope,
    max_in_flight: InFlightLimit,
    shares: &Shares,
    now_ms: i64,
) -> Result<Vec<Wakeup>, StoreError> {
    let (scope, is_assembly) = (scope_json(scope)?, queue == Queue::Assemble);
    let row = sqlx::query(OUT).bind(&scope).bind(is_assembly).fetch_one(&mut *c).await.map_err(db)?;
    let count = |name| row.try_get::<i64, _>(name).map(|n| usize::try_from(n).unwrap_or(usize::MAX)).map_err(db);
    let room = max_in_flight.of(queue).room(count("leased")?, count("notified")?);
    if room == 0 {
        return Ok(Vec::new());
    }
    // Later ends of back-offs are from before the clock was set back.
    let latest = deadline::latest(now_ms, LONGEST_BACKOFF_MS);
    let query = sqlx::query(DEMANDS).bind(scope).bind(now_ms).bind(limit(room)).bind(is_assembly).bind(latest);
    let found = query.fetch_all(&mut *c).await.map_err(db)?;
    let mut demands = found.iter().map(demand).collect::<Result<Vec<_>, _>>()?;
    demands.retain(|demand| demand.waiting > 0);
    if demands.is_empty() {
        return Ok(Vec::new());
    }
    let in_flight = in_flight(c, is_assembly).await?;
    let picks = allot(room, &demands, &in_flight, shares, now_ms);
    let mut places: BTreeMap<JobId, usize> = BTreeMap::new();
    for job in &picks {
        *places.entry(*job).or_default() += 1;
    }
    let mut waiting: BTreeMap<JobId, VecDeque<Wakeup>> = BTreeMap::new();
    for (job, num) in places {
        let query = sqlx::query(WAITING).bind(job.to_string()).bind(now_ms).bind(limit(num));
        let query = query.bind(is_assembly).bind(latest);
        let found = query.fetch_all(&mut *c).await.map_err(db)?;
        waiting.insert(job, found.iter().map(wakeup).collect::<Result<_, _>>()?);
    }
    Ok(picks.iter().filter_map(|job| waiting.get_mut(job)?.pop_front()).collect())
}

fn demand(row: &SqliteRow) -> Result<Demand, StoreError> {
    Ok(Demand {
        job: rows::job_id(row)?,
        tenant: row.try_get("tenant").map_err(db)?,
        priority: rows::priority(row)?,
        created_ms: row.try_get("created_ms").map_err(db)?,
        waiting: rows::count(row, "waiting")?,
    })
}

async fn in_flight(c: &mut SqliteConnection, is_assembly: bool) -> Result<BTreeMap<String, usize>, StoreError> {
    let found = sqlx::query(IN_FLIGHT).bind(is_assembly).fetch_all(c).await.map_err(db)?;
    found.iter().map(|row| Ok((row.try_get("tenant").map_err(db)?, rows::count(row, "n")?))).collect()
}

pub(super) async fn dispatch(
    c: &mut SqliteConnection,
    scope: &Scope,
    max_in_flight: InFlightLimit,
    shares: &Shares,
    now_ms: i64,
) -> Result<usize, StoreError> {
    let due = due(c, scope, max_in_flight, shares, now_ms).await?;
    for wakeup in &due {
        sqlx::query("INSERT INTO outbox (job, number, attempt, kind, created_ms) VALUES (?, ?, ?, ?, ?)")
            .bind(wakeup.task.job.to_string())
            .bind(wakeup.task.number)
            .bind(wakeup.attempt)
            .bind(wakeup.kind.as_str())
            .bind(now_ms)
            .execute(&mut *c)
            .await
            .map_err(db)?;
    }
    Ok(due.len())
}

pub(super) async fn unsent(c: &mut SqliteConnection, scope: &Scope, max: usize) -> Result<Vec<Wakeup>, StoreError> {
    let found = sqlx::query(UNSENT).bind(scope_json(scope)?).bind(limit(max)).fetch_all(c).await.map_err(db)?;
    found.iter().map(wakeup).collect()
}

pub(super) async fn mark_sent(c: &mut SqliteConnection, wakeups: &[Wakeup], now_ms: i64) -> Result<(), StoreError> {
    for wakeup in wakeups {
        sqlx::query("UPDATE outbox SET sent_ms = ? WHERE job = ? AND number = ? AND attempt = ? AND sent_ms IS NULL")
            .bind(now_ms)
            .bind(wakeup.task.job.to_string())
            .bind(wakeup.task.number)
            .bind(wakeup.attempt)
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

pub(super) async fn statistics(c: &mut SqliteConnection) -> Result<StoreStatistics, StoreError> {
    let found = sqlx::query(STATISTICS).fetch_all(c).await.map_err(db)?;
    found.iter().map(line).collect()
}

fn line(row: &SqliteRow) -> Result<Line, StoreError> {
    Ok(Line {
        what: row.try_get("what").map_err(db)?,
        word: row.try_get("word").map_err(db)?,
        num: row.try_get("num").map_err(db)?,
        also: row.try_get("also").map_err(db)?,
    })
}
