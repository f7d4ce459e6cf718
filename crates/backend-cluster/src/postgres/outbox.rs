//! The outbox after dispatch: what is to be notified, what was, and what is given up as lost.
//!
//! Rows that another transaction has locked are about to go away (claimed, cancelled) or are marked by another
//! coordinator: they are skipped, so that nothing here waits for anybody.

use super::error::Fault;
use super::rows;
use splitreel_backend::Wakeup;
use splitreel_backend::store::Scope;
use sqlx::PgConnection;
use uuid::Uuid;

/// A scope as an array; `NULL` = all.
pub(super) fn ids(scope: &Scope) -> Option<Vec<Uuid>> {
    scope.as_ref().map(|only| only.iter().map(|job| job.0).collect())
}

/// A count as Postgres takes it.
pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) const UNSENT: &str = "SELECT job, number, attempt, kind FROM outbox
     WHERE sent_ms IS NULL AND ($1::uuid[] IS NULL OR job = ANY($1)) ORDER BY seq LIMIT $2";

// As with dispatch, nobody waits for the disk.
const MARK_SENT: &str = "WITH mine AS (
         SELECT o.seq FROM outbox AS o
         JOIN unnest($1::uuid[], $2::int[], $3::int[], $4::text[]) AS r (job, number, attempt, kind)
             ON o.job = r.job AND o.number = r.number AND o.attempt = r.attempt AND o.kind = r.kind
         WHERE o.sent_ms IS NULL FOR UPDATE OF o SKIP LOCKED)
     UPDATE outbox AS o SET sent_ms = $5
     FROM mine, (SELECT set_config('synchronous_commit', 'off', true)) AS lax WHERE o.seq = mine.seq";

pub(super) const SWEEP: &str = "WITH lost AS (
         SELECT seq FROM outbox
         WHERE sent_ms IS NOT NULL AND sent_ms < $2 AND ($1::uuid[] IS NULL OR job = ANY($1)) FOR UPDATE SKIP LOCKED)
     DELETE FROM outbox AS o USING lost WHERE o.seq = lost.seq";

pub(super) async fn unsent(c: &mut PgConnection, scope: &Scope, max: usize) -> Result<Vec<Wakeup>, Fault> {
    let found = sqlx::query(UNSENT).bind(ids(scope)).bind(limit(max)).fetch_all(c).await?;
    Ok(found.iter().map(rows::wakeup).collect::<Result<_, _>>()?)
}

pub(super) async fn mark_sent(c: &mut PgConnection, wakeups: &[Wakeup], now_ms: i64) -> Result<(), Fault> {
    sqlx::query(MARK_SENT)
        .bind(wakeups.iter().map(|r| r.task.job.0).collect::<Vec<_>>())
        .bind(wakeups.iter().map(|r| r.task.number.cast_signed()).collect::<Vec<_>>())
        .bind(wakeups.iter().map(|r| r.attempt.cast_signed()).collect::<Vec<_>>())
        .bind(wakeups.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>())
        .bind(now_ms)
        .execute(c)
        .await?;
    Ok(())
}

pub(super) async fn sweep(c: &mut PgConnection, scope: &Scope, sent_before_ms: i64) -> Result<usize, Fault> {
    let swept = sqlx::query(SWEEP).bind(ids(scope)).bind(sent_before_ms).execute(c).await?;
    Ok(usize::try_from(swept.rows_affected()).unwrap_or(usize::MAX))
}
