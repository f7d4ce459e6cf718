//! Second attempts of tasks that take too long. Reads what is in flight, never all tasks of a job. One transaction per
//! job.

use super::connection::Database;
use super::error::Fault;
use super::locks::{Lock, lock_job, lock_tasks};
use super::outbox::ids;
use super::rows::col;
use super::save::{log, save_tasks};
use splitreel_backend::StoreError;
use splitreel_backend::store::Scope;
use splitreel_backend::transition;
use splitreel_core::event::EventKind;
use splitreel_core::{JobId, TaskId};
use sqlx::PgConnection;

/// Running jobs of the scope all of whose open tasks are leased, with these tasks, provided that no worker's outbox
/// row of the scope exists.
pub(super) const NOTHING_WAITS: &str = "SELECT j.id, b.numbers
     FROM (SELECT job, count(*) AS num, array_agg(number) AS numbers FROM tasks WHERE state = 'leased' GROUP BY job)
         AS b
     JOIN jobs AS j ON j.id = b.job
     WHERE j.state = 'running' AND NOT j.is_paused AND j.remaining = b.num AND ($1 IS NULL OR j.id = ANY($1))
       AND NOT EXISTS (SELECT 1 FROM outbox WHERE kind <> 'assemble' AND ($1 IS NULL OR job = ANY($1)))
     ORDER BY j.id";

pub(super) async fn speculate(database: &Database, scope: Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
    let found = database.plain(move |c| Box::pin(nothing_waits(c, scope))).await?;
    let mut called = Vec::new();
    for (job, numbers) in found {
        let work = database.write(move |c| {
            let numbers = numbers.clone();
            Box::pin(async move { speculate_in(c, job, &numbers, now_ms).await })
        });
        called.extend(work.await?.into_iter().map(|number| TaskId { job, number }));
    }
    Ok(called)
}

async fn nothing_waits(c: &mut PgConnection, scope: Scope) -> Result<Vec<(JobId, Vec<u32>)>, Fault> {
    let found = sqlx::query(NOTHING_WAITS).bind(ids(&scope)).fetch_all(c).await?;
    let job = |row| {
        let numbers = col::<Vec<i32>>(row, "numbers")?.into_iter().map(i32::cast_unsigned);
        Ok((JobId(col(row, "id")?), numbers.collect()))
    };
    Ok(found.iter().map(job).collect::<Result<_, StoreError>>()?)
}

async fn speculate_in(c: &mut PgConnection, id: JobId, numbers: &[u32], now_ms: i64) -> Result<Vec<u32>, Fault> {
    let Some(job) = lock_job(c, id, Lock::NoKeyUpdate).await? else { return Ok(Vec::new()) };
    let mut tasks = lock_tasks(c, id, numbers).await?;
    // The list was made without locks.
    tasks.retain(|_, task| task.lease.is_some());
    let events = transition::speculate(&job, &mut tasks, now_ms);
    let called: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            EventKind::Speculated { task, .. } => Some(*task),
            _ => None,
        })
        .collect();
    let changed: Vec<_> = called.iter().filter_map(|number| tasks.get(number)).collect();
    save_tasks(c, id, &changed).await?;
    log(c, id, &events.into_iter().map(|event| (now_ms, event)).collect::<Vec<_>>()).await?;
    Ok(called)
}
