//! Use-cases about one attempt: claim, renew, complete, fail, and taking leases back. Each touches the task's
//! row and the job's row, never the other tasks, unless the job ends.

use super::error::db;
use super::rows::{self, close_job, insert_task, load_both, load_task, log, save_job, save_task};
use splitreel_backend::StoreError;
use splitreel_backend::store::ClaimRequest;
use splitreel_backend::transition::{self, AttemptEnded};
use splitreel_core::job::Job;
use splitreel_core::part::TaskResult;
use splitreel_core::task::{AfterFailure, Progress, Refusal, RetryPolicy, Task};
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use sqlx::SqliteConnection;

pub(super) async fn claim(
    c: &mut SqliteConnection,
    request: ClaimRequest,
) -> Result<Result<Task, Refusal>, StoreError> {
    let id = request.ring.task;
    let Some((job, mut task)) = load_both(c, id).await? else { return Ok(Err(Refusal::NotClaimable)) };
    match transition::claim(&job, &mut task, &request) {
        Ok(Some(event)) => {
            save_task(c, &task).await?;
            sqlx::query("DELETE FROM outbox WHERE job = ? AND number = ?")
                .bind(id.job.to_string())
                .bind(id.number)
                .execute(&mut *c)
                .await
                .map_err(db)?;
            log(c, id.job, request.now_ms, &event).await?;
            Ok(Ok(task))
        }
        Ok(None) => Ok(Ok(task)),
        Err(refusal) => Ok(Err(refusal)),
    }
}

pub(super) async fn renew(
    c: &mut SqliteConnection,
    id: TaskId,
    lease: LeaseId,
    progress: Progress,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Result<i64, Refusal>, StoreError> {
    let Some(mut task) = load_task(c, id).await? else { return Ok(Err(Refusal::LeaseLost)) };
    let renewed = task.renew(lease, progress, now_ms, policy);
    if renewed.is_ok() {
        save_task(c, &task).await?;
    }
    Ok(renewed)
}

pub(super) async fn complete(
    c: &mut SqliteConnection,
    id: TaskId,
    lease: LeaseId,
    result: TaskResult,
    now_ms: i64,
) -> Result<Result<bool, Refusal>, StoreError> {
    let Some((mut job, mut task)) = load_both(c, id).await? else { return Ok(Err(Refusal::LeaseLost)) };
    let done = match transition::complete(&mut job, &mut task, lease, result, now_ms) {
        Ok(Some(done)) => done,
        Ok(None) => return Ok(Ok(false)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    save_task(c, &task).await?;
    save_job(c, &job).await?;
    if let Some(insert) = &done.insert {
        insert_task(c, insert).await?;
    }
    for event in &done.events {
        log(c, id.job, now_ms, event).await?;
    }
    Ok(Ok(true))
}

pub(super) async fn fail(
    c: &mut SqliteConnection,
    id: TaskId,
    lease: LeaseId,
    failure: Failure,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Result<AfterFailure, Refusal>, StoreError> {
    let Some((mut job, mut task)) = load_both(c, id).await? else { return Ok(Err(Refusal::LeaseLost)) };
    match transition::fail(&mut job, &mut task, lease, failure, now_ms, policy) {
        Ok(ended) => {
            save_ended(c, &job, &task, &ended, now_ms).await?;
            Ok(Ok(ended.after))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Tasks with an expired lease, by job and number.
pub(super) async fn expired(c: &mut SqliteConnection, now_ms: i64) -> Result<Vec<TaskId>, StoreError> {
    let found = sqlx::query(EXPIRED).bind(now_ms).fetch_all(c).await.map_err(db)?;
    found.iter().map(rows::task_id).collect()
}

/// The index is given: the planner would rather read all tasks in order than sort the few leased ones.
pub(super) const EXPIRED: &str = "SELECT job, number FROM tasks INDEXED BY tasks_leased WHERE state = 'leased' AND lease_expires_ms <= ? ORDER BY job, number";

pub(super) async fn reap(
    c: &mut SqliteConnection,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let found = expired(c, now_ms).await?;
    take_back(c, found, now_ms, |job, task| transition::reap(job, task, now_ms, policy)).await
}

/// Tasks that a worker holds, by job and number.
pub(super) async fn held_by(c: &mut SqliteConnection, worker: &WorkerId) -> Result<Vec<TaskId>, StoreError> {
    let found = sqlx::query(HELD_BY).bind(&worker.0).fetch_all(c).await.map_err(db)?;
    found.iter().map(rows::task_id).collect()
}

pub(super) const HELD_BY: &str = "SELECT job, number FROM tasks INDEXED BY tasks_leased WHERE state = 'leased' AND lease_worker = ? ORDER BY job, number";

pub(super) async fn release(
    c: &mut SqliteConnection,
    worker: &WorkerId,
    now_ms: i64,
    policy: &RetryPolicy,
) -> Result<Vec<TaskId>, StoreError> {
    let found = held_by(c, worker).await?;
    take_back(c, found, now_ms, |job, task| transition::release(job, task, now_ms, policy)).await
}

pub(super) const SHORTEN: &str = "UPDATE tasks INDEXED BY tasks_leased SET lease_expires_ms = ?2
    WHERE state = 'leased' AND lease_expires_ms > ?2 AND lease_worker = ?1";

pub(super) async fn shorten(c: &mut SqliteConnection, worker: &WorkerId, until_ms: i64) -> Result<usize, StoreError> {
    let shortened = sqlx::query(SHORTEN).bind(&worker.0).bind(until_ms).execute(c).await.map_err(db)?;
    Ok(usize::try_from(shortened.rows_affected()).unwrap_or(usize::MAX))
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
        if let Some(ended) = end(&mut job, &mut task) {
            save_ended(c, &job, &task, &ended, now_ms).await?;
            taken.push(id);
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
    if ended.after == AfterFailure::GiveUp {
        save_job(c, job).await?;
        close_job(c, job.id).await?;
    }
    log(c, job.id, now_ms, &ended.event).await
}
