//! Use-cases about one attempt: claim, renew, complete, fail, and taking leases back. Each touches the task's
//! row and the job's row, never the other tasks, unless the job ends.

use super::error::db;
use super::jobs::scope_json;
use super::rows::{
    self, close_job, insert_task, load_both, load_job, load_leased, load_task, log, next_generation, save_job,
    save_task,
};
use splitreel_backend::StoreError;
use splitreel_backend::lease::LeaseError;
use splitreel_backend::store::{ClaimRequest, Scope};
use splitreel_backend::transition::{self, AttemptEnded};
use splitreel_core::event::EventKind;
use splitreel_core::job::Job;
use splitreel_core::part::TaskResult;
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, Task};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use sqlx::SqliteConnection;

pub(super) async fn claim(c: &mut SqliteConnection, request: ClaimRequest) -> Result<Task, LeaseError> {
    let id = request.wakeup.task;
    let (job, mut task) = load_both(c, id).await?.ok_or(Refusal::NotClaimable)?;
    if let Some(event) = transition::claim(&job, &mut task, &request)? {
        save_task(c, &task).await?;
        delete_outbox(c, id).await?;
        log(c, id.job, request.now_ms, &event).await?;
    }
    Ok(task)
}

async fn delete_outbox(c: &mut SqliteConnection, id: TaskId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM outbox WHERE job = ? AND number = ?").bind(id.job.to_string()).bind(id.number);
    query.execute(c).await.map_err(db)?;
    Ok(())
}

pub(super) async fn renew(
    c: &mut SqliteConnection,
    id: TaskId,
    lease: LeaseId,
    progress: Progress,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<i64, LeaseError> {
    let mut task = load_task(c, id).await?.ok_or(Refusal::LeaseLost)?;
    let expires_ms = task.renew(lease, progress, now_ms, policy)?;
    save_task(c, &task).await?;
    Ok(expires_ms)
}

pub(super) async fn complete(
    c: &mut SqliteConnection,
    id: TaskId,
    lease: LeaseId,
    result: TaskResult,
    now_ms: i64,
) -> Result<bool, LeaseError> {
    let (mut job, mut task) = load_both(c, id).await?.ok_or(Refusal::LeaseLost)?;
    let Some(done) = transition::complete(&mut job, &mut task, lease, result, now_ms)? else { return Ok(false) };
    save_task(c, &task).await?;
    save_job(c, &job).await?;
    if done.is_notified {
        delete_outbox(c, id).await?;
    }
    if let Some(insert) = &done.insert {
        insert_task(c, insert).await?;
    }
    for event in &done.events {
        log(c, id.job, now_ms, event).await?;
    }
    Ok(true)
}

pub(super) async fn fail(
    c: &mut SqliteConnection,
    id: TaskId,
    lease: LeaseId,
    failure: Failure,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<AfterFailure, LeaseError> {
    let (mut job, mut task) = load_both(c, id).await?.ok_or(Refusal::LeaseLost)?;
    let ended = transition::fail(&mut job, &mut task, lease, failure, now_ms, policy)?;
    save_ended(c, &job, &task, &ended, now_ms).await?;
    Ok(ended.after)
}

/// Tasks with a lease that has expired, or expires later than any can, by job and number.
pub(super) async fn expired(
    c: &mut SqliteConnection,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let latest = transition::latest_expiry(now_ms, policy);
    let found = sqlx::query(EXPIRED).bind(now_ms).bind(latest).fetch_all(c).await.map_err(db)?;
    found.iter().map(rows::task_id).collect()
}

/// The indexes are given: the planner would rather read all tasks in order than sort the few leased ones.
pub(super) const EXPIRED: &str = "SELECT job, number FROM tasks INDEXED BY tasks_leased
        WHERE state = 'leased' AND lease_expires_ms <= ?1
    UNION SELECT job, number FROM tasks INDEXED BY tasks_leased
        WHERE state = 'leased' AND lease_expires_ms > ?2
    UNION SELECT job, number FROM tasks INDEXED BY tasks_beside
        WHERE elder IS NOT NULL
          AND (elder ->> '$.lease.expires_ms' <= ?1 OR elder ->> '$.lease.expires_ms' > ?2)
    ORDER BY job, number";

pub(super) async fn reap(
    c: &mut SqliteConnection,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let found = expired(c, now_ms, policy).await?;
    take_back(c, found, now_ms, |job, task| transition::reap(job, task, now_ms, policy)).await
}

/// Tasks that a worker holds, by job and number.
pub(super) async fn held_by(c: &mut SqliteConnection, worker: &WorkerId) -> Result<Vec<TaskId>, StoreError> {
    let found = sqlx::query(HELD_BY).bind(&worker.0).fetch_all(c).await.map_err(db)?;
    found.iter().map(rows::task_id).collect()
}

pub(super) const HELD_BY: &str = "SELECT job, number FROM tasks INDEXED BY tasks_leased
        WHERE state = 'leased' AND lease_worker = ?1
    UNION SELECT job, number FROM tasks INDEXED BY tasks_beside
        WHERE elder IS NOT NULL AND elder ->> '$.lease.worker' = ?1
    ORDER BY job, number";

pub(super) async fn release(
    c: &mut SqliteConnection,
    worker: &WorkerId,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let found = held_by(c, worker).await?;
    take_back(c, found, now_ms, |job, task| transition::release(job, task, worker, now_ms, policy)).await
}

pub(super) const SHORTEN: &str = "UPDATE tasks INDEXED BY tasks_leased SET lease_expires_ms = ?2
    WHERE state = 'leased' AND lease_expires_ms > ?2 AND lease_worker = ?1";

pub(super) const SHORTEN_BESIDE: &str = "UPDATE tasks INDEXED BY tasks_beside
    SET elder = json_set(elder, '$.lease.expires_ms', ?2)
    WHERE elder IS NOT NULL AND elder ->> '$.lease.expires_ms' > ?2 AND elder ->> '$.lease.worker' = ?1";

pub(super) async fn shorten(c: &mut SqliteConnection, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
    let mut num_shortened = 0;
    for statement in [SHORTEN, SHORTEN_BESIDE] {
        let shortened = sqlx::query(statement).bind(&worker.0).bind(until_ms).execute(&mut *c).await.map_err(db)?;
        num_shortened += shortened.rows_affected();
    }
    Ok(usize::try_from(num_shortened).unwrap_or(usize::MAX))
}

/// Running jobs of the scope all of whose open tasks are leased, provided that no worker's outbox row of the scope exists.
pub(super) const NOTHING_WAITS: &str = "SELECT j.id FROM
        (SELECT job, count(*) AS n FROM tasks INDEXED BY tasks_leased WHERE state = 'leased' GROUP BY job) AS b
    CROSS JOIN jobs AS j
    WHERE j.id = b.job AND j.state = 'running' AND j.is_paused = 0 AND j.remaining = b.n
      AND (?1 IS NULL OR j.id IN (SELECT value FROM json_each(?1)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE kind <> 'assemble'
                      AND (?1 IS NULL OR job IN (SELECT value FROM json_each(?1))))
    ORDER BY j.id";

pub(super) async fn nothing_waits(c: &mut SqliteConnection, scope: &Scope) -> Result<Vec<JobId>, StoreError> {
    let found = sqlx::query(NOTHING_WAITS).bind(scope_json(scope)?).fetch_all(c).await.map_err(db)?;
    found.iter().map(rows::job_id).collect()
}

pub(super) async fn speculate(c: &mut SqliteConnection, scope: &Scope, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
    let mut called = Vec::new();
    for id in nothing_waits(c, scope).await? {
        let Some(job) = load_job(c, id).await? else { continue };
        let mut tasks = load_leased(c, id).await?;
        for event in transition::speculate(&job, &mut tasks, now_ms) {
            if let EventKind::Speculated { task: number, .. } = event
                && let Some(task) = tasks.get(&number)
            {
                save_task(c, task).await?;
                called.push(task.id);
            }
            log(c, id, now_ms, &event).await?;
        }
    }
    Ok(called)
}

/// Ends the attempts that `end` ends. A job that fails on the way takes its other leases with it: rows are
/// loaded one by one.
async fn take_back(
    c: &mut SqliteConnection,
    found: Vec<TaskId>,
    now_ms: i64,
    end: impl Fn(&mut Job, &mut Task) -> Option<AttemptEnded>,
) -> Result<Vec<TaskId>, StoreError> {
    let mut taken = Vec::with_capacity(found.len());
    for id in found {
        let Some((mut job, mut task)) = load_both(c, id).await? else { continue };
        let before = task.clone();
        let mut is_taken = false;
        // A task may have two leases.
        while let Some(ended) = end(&mut job, &mut task) {
            save_ended(c, &job, &task, &ended, now_ms).await?;
            is_taken = true;
        }
        if is_taken {
            taken.push(id);
        } else if task != before {
            save_task(c, &task).await?;
        }
    }
    Ok(taken)
}

async fn save_ended(
    c: &mut SqliteConnection,
    job: &Job,
    task: &Task,
    ended: &AttemptEnded,
    now_ms: i64,
) -> Result<(), StoreError> {
    save_task(c, task).await?;
    if let Some(probe) = &ended.insert {
        next_generation(c, job, probe).await?;
    } else if ended.after == AfterFailure::GiveUp {
        save_job(c, job).await?;
        close_job(c, job.id).await?;
    }
    log(c, job.id, now_ms, &ended.event).await
}
