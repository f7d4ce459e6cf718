//! Ends leases that expired and leases of dead workers, and shortens the leases of workers that may be dead. Reads the
//! tasks in flight, never all tasks. One transaction per job, so that a job whose row is locked for long delays no other.

use super::batch::save_changes;
use super::connection::Database;
use super::decide::{Rows, take_back};
use super::error::Fault;
use super::locks::{Lock, lock_job, lock_tasks};
use super::rows;
use splitreel_backend::StoreError;
use splitreel_backend::transition::{self, AttemptEnded};
use splitreel_core::job::Job;
use splitreel_core::task::{RetryPolicy, Task};
use splitreel_core::{JobId, TaskId, WorkerId};
use sqlx::PgConnection;
use std::collections::BTreeMap;

pub(super) const EXPIRED: &str = "SELECT job, number FROM tasks WHERE state = 'leased' AND lease_expires_ms <= $1
     UNION SELECT job, number FROM tasks WHERE state = 'leased' AND lease_expires_ms > $2
     UNION SELECT job, number FROM tasks
         WHERE elder IS NOT NULL AND ((elder::jsonb #>> '{lease,expires_ms}')::bigint <= $1
           OR (elder::jsonb #>> '{lease,expires_ms}')::bigint > $2)
     ORDER BY job, number";

pub(super) const HELD_BY: &str = "SELECT job, number FROM tasks WHERE state = 'leased' AND lease_worker = $1
     UNION SELECT job, number FROM tasks WHERE elder IS NOT NULL AND elder::jsonb #>> '{lease,worker}' = $1
     ORDER BY job, number";

/// Whose leases end.
#[derive(Clone)]
enum Whose {
    Expired,
    Worker(WorkerId),
}

pub(super) async fn reap(database: &Database, now_ms: i64, policy: RetryPolicy) -> Result<Vec<TaskId>, StoreError> {
    let latest = transition::latest_expiry(now_ms, &policy);
    let found = database.plain(move |c| Box::pin(expired(c, now_ms, latest))).await?;
    take_all(database, found, Whose::Expired, now_ms, policy).await
}

/// Tasks with a lease that has expired, or expires later than `latest`.
async fn expired(c: &mut PgConnection, now_ms: i64, latest: i64) -> Result<Vec<TaskId>, Fault> {
    let found = sqlx::query(EXPIRED).bind(now_ms).bind(latest).fetch_all(c).await?;
    Ok(found.iter().map(rows::task_id).collect::<Result<_, _>>()?)
}

pub(super) async fn release(
    database: &Database,
    worker: WorkerId,
    now_ms: i64,
    policy: RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let name = worker.0.clone();
    let found = database.plain(move |c| Box::pin(held_by(c, name))).await?;
    take_all(database, found, Whose::Worker(worker), now_ms, policy).await
}

async fn held_by(c: &mut PgConnection, worker: String) -> Result<Vec<TaskId>, Fault> {
    let found = sqlx::query(HELD_BY).bind(worker).fetch_all(c).await?;
    Ok(found.iter().map(rows::task_id).collect::<Result<_, _>>()?)
}

/// Leases that another transaction has locked are being renewed or ended: they are skipped, so that this waits for
/// nobody and needs no lock on the jobs.
pub(super) const SHORTEN: &str = "WITH mine AS (
         SELECT job, number FROM tasks
         WHERE state = 'leased' AND lease_worker = $1 AND lease_expires_ms > $2 FOR UPDATE SKIP LOCKED)
     UPDATE tasks AS t SET lease_expires_ms = $2 FROM mine WHERE t.job = mine.job AND t.number = mine.number";

pub(super) const SHORTEN_BESIDE: &str = "WITH mine AS (
         SELECT job, number FROM tasks
         WHERE elder IS NOT NULL AND elder::jsonb #>> '{lease,worker}' = $1
           AND (elder::jsonb #>> '{lease,expires_ms}')::bigint > $2 FOR UPDATE SKIP LOCKED)
     UPDATE tasks AS t SET elder = jsonb_set(t.elder::jsonb, '{lease,expires_ms}', to_jsonb($2::bigint))::text
     FROM mine WHERE t.job = mine.job AND t.number = mine.number";

pub(super) async fn shorten(c: &mut PgConnection, worker: &WorkerId, until_ms: i64) -> Result<usize, Fault> {
    let mut num_shortened = 0;
    for statement in [SHORTEN, SHORTEN_BESIDE] {
        num_shortened += sqlx::query(statement).bind(&worker.0).bind(until_ms).execute(&mut *c).await?.rows_affected();
    }
    Ok(usize::try_from(num_shortened).unwrap_or(usize::MAX))
}

/// Job by job. What was taken stays taken when a later job cannot be served: its leases are found again next time.
async fn take_all(
    database: &Database,
    found: Vec<TaskId>,
    whose: Whose,
    now_ms: i64,
    policy: RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let mut by_job: BTreeMap<JobId, Vec<u32>> = BTreeMap::new();
    for id in found {
        by_job.entry(id.job).or_default().push(id.number);
    }
    let mut taken = Vec::new();
    let mut missed = None;
    for (job, numbers) in by_job {
        let whose = whose.clone();
        let work = database.write(move |c| {
            let (numbers, whose) = (numbers.clone(), whose.clone());
            Box::pin(async move { take(c, job, &numbers, &whose, now_ms, &policy).await })
        });
        match work.await {
            Ok(numbers) => taken.extend(numbers.into_iter().map(|number| TaskId { job, number })),
            Err(error) => {
                tracing::warn!(%job, %error, "taking leases back failed; retrying with the next pass");
                missed = Some(error);
            }
        }
    }
    match missed {
        Some(error) if taken.is_empty() => Err(error),
        _ => Ok(taken),
    }
}

async fn take(
    c: &mut PgConnection,
    id: JobId,
    numbers: &[u32],
    whose: &Whose,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Vec<u32>, Fault> {
    let Some(job) = lock_job(c, id, Lock::Update).await? else { return Ok(Vec::new()) };
    let mut rows = Rows::new(job, lock_tasks(c, id, numbers).await?);
    // The list was read without locks, so each lease is checked again.
    let end = |job: &mut Job, task: &mut Task| -> Option<AttemptEnded> {
        match whose {
            Whose::Expired => transition::reap(job, task, now_ms, policy),
            Whose::Worker(worker) => transition::release(job, task, worker, now_ms, policy),
        }
    };
    let taken = take_back(&mut rows, now_ms, end);
    save_changes(c, &rows).await?;
    Ok(taken)
}
