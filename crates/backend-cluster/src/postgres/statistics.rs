//! Counts what an operator watches: open jobs, and what is in flight.

use super::error::Fault;
use super::rows::col;
use splitreel_backend::StoreError;
use splitreel_backend::statistics::{Line, StoreStatistics};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

/// The lines of a [`StoreStatistics`]. An open job's assemble task is the last of its tasks; each is looked up by itself, whatever
/// the planner thinks of how many there are.
pub(super) const STATISTICS: &str = "SELECT 'job' AS what, state AS word, count(*) AS num,
         coalesce(sum(remaining) FILTER (WHERE NOT is_paused), 0)::bigint AS also
     FROM jobs WHERE state IN ('probing', 'planning', 'running') GROUP BY state
     UNION ALL SELECT 'lease', t.kind, count(*), count(*) FILTER (WHERE NOT j.is_paused)
     FROM tasks AS t JOIN jobs AS j ON j.id = t.job WHERE t.state = 'leased' GROUP BY t.kind
     UNION ALL SELECT 'lease', kind, count(*), 0 FROM tasks WHERE elder IS NOT NULL GROUP BY kind
     UNION ALL SELECT 'assemble', '', count(*), 0
     FROM jobs AS j CROSS JOIN LATERAL (
         SELECT state FROM tasks WHERE job = j.id AND kind = 'assemble' OFFSET 0) AS t
     WHERE j.state = 'running' AND NOT j.is_paused AND j.remaining = 1 AND t.state = 'ready'
     UNION ALL SELECT 'unsent', '', count(*), coalesce(min(created_ms), 0) FROM outbox WHERE sent_ms IS NULL
    UNION ALL SELECT 'sent', '', count(*), 0 FROM outbox WHERE sent_ms IS NOT NULL";

pub(super) async fn statistics(c: &mut PgConnection) -> Result<StoreStatistics, Fault> {
    let found = sqlx::query(STATISTICS).fetch_all(c).await?;
    Ok(found.iter().map(line).collect::<Result<_, _>>()?)
}

fn line(row: &PgRow) -> Result<Line, StoreError> {
    Ok(Line { what: col(row, "what")?, word: col(row, "word")?, num: col(row, "num")?, also: col(row, "also")? })
}
