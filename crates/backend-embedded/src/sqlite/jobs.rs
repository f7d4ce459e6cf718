//! Use-cases about a job as a whole: submit, plan, reject, cancel, pause, retry, forget, and the reads.

use super::error::db;
use super::rows::{
    self, close_job, insert_job, insert_task, load_job, log, next_generation, save_job, save_task, to_json,
};
use splitreel_backend::store::{JobFilter, Scope, Submitted, TaskFilter};
use splitreel_backend::{StoreError, transition};
use splitreel_core::event::{Event, EventKind};
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::plan::Plan;
use splitreel_core::task::{Task, TaskState};
use splitreel_core::{Failure, JobId, TaskId};
use sqlx::{Row, SqliteConnection};

/// A scope as the JSON array that `json_each` reads; `NULL` = all.
pub(super) fn scope_json(scope: &Scope) -> Result<Option<String>, StoreError> {
    scope.as_ref().map(to_json).transpose()
}

/// SQLite reads a negative limit as "none".
pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) async fn submit(
    c: &mut SqliteConnection,
    id: JobId,
    request: JobRequest,
    now_ms: i64,
) -> Result<Submitted, StoreError> {
    let known = sqlx::query("SELECT * FROM jobs WHERE tenant = ? AND idempotency_key = ?")
        .bind(&request.tenant)
        .bind(&request.idempotency_key)
        .fetch_optional(&mut *c)
        .await
        .map_err(db)?;
    if let Some(row) = known {
        let job = rows::job(&row)?;
        return Ok(if job.request == request { Submitted::Existing(job) } else { Submitted::KeyReused(job.id) });
    }
    if load_job(c, id).await?.is_some() {
        return Err(StoreError::Corrupt { what: format!("job id {id} is taken") });
    }
    let (job, spec) = Job::new(id, request, now_ms);
    insert_job(c, &job).await?;
    insert_task(c, &Task::new(TaskId { job: id, number: spec.number }, job.generation, spec, TaskState::Ready)).await?;
    log(c, id, now_ms, &EventKind::Submitted).await?;
    Ok(Submitted::Created(job))
}

pub(super) async fn list(c: &mut SqliteConnection, filter: JobFilter) -> Result<Vec<Job>, StoreError> {
    let states: Vec<_> = filter.states.iter().map(|s| s.as_str()).collect();
    let found = sqlx::query(
        "SELECT * FROM jobs
         WHERE (?1 IS NULL OR id IN (SELECT value FROM json_each(?1)))
           AND (?2 OR state IN (SELECT value FROM json_each(?3)))
           AND (?4 IS NULL OR tenant = ?4)
           AND (?5 IS NULL OR (created_ms, id) < (SELECT created_ms, id FROM jobs WHERE id = ?5))
         ORDER BY created_ms DESC, id DESC LIMIT ?6",
    )
    .bind(scope_json(&filter.only)?)
    .bind(states.is_empty())
    .bind(to_json(&states)?)
    .bind(filter.tenant)
    .bind(filter.before.map(|id| id.to_string()))
    .bind(limit(filter.limit))
    .fetch_all(c)
    .await
    .map_err(db)?;
    found.iter().map(rows::job).collect()
}

pub(super) async fn tasks(c: &mut SqliteConnection, job: JobId, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
    let statement = "SELECT * FROM tasks WHERE job = ?1 AND number > ?2 AND (?3 IS NULL OR kind = ?3)
                     ORDER BY number LIMIT ?4";
    let found = sqlx::query(statement)
        .bind(job.to_string())
        .bind(filter.after.map_or(-1, i64::from))
        .bind(filter.kind.map(|kind| kind.as_str()))
        .bind(filter.limit.map_or(-1, |most| i64::try_from(most).unwrap_or(-1)))
        .fetch_all(c)
        .await
        .map_err(db)?;
    found.iter().map(rows::task).collect()
}

pub(super) async fn plan(c: &mut SqliteConnection, job: JobId) -> Result<Option<Plan>, StoreError> {
    let text: Option<String> = sqlx::query_scalar("SELECT plan FROM plans WHERE job = ?")
        .bind(job.to_string())
        .fetch_optional(c)
        .await
        .map_err(db)?;
    text.map(|text| Plan::decode(text.as_bytes()).map_err(StoreError::of_plan)).transpose()
}

pub(super) async fn record_plan(
    c: &mut SqliteConnection,
    id: JobId,
    generation: u32,
    plan: Plan,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some(mut job) = load_job(c, id).await? else { return Ok(false) };
    let Some((tasks, event)) = transition::plan(&mut job, generation, &plan) else { return Ok(false) };
    save_job(c, &job).await?;
    sqlx::query("INSERT INTO plans (job, plan) VALUES (?, ?)")
        .bind(id.to_string())
        .bind(to_json(&plan)?)
        .execute(&mut *c)
        .await
        .map_err(db)?;
    for task in &tasks {
        insert_task(c, task).await?;
    }
    log(c, id, now_ms, &event).await?;
    Ok(true)
}

pub(super) async fn replan(
    c: &mut SqliteConnection,
    id: JobId,
    generation: u32,
    failure: Failure,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some(mut job) = load_job(c, id).await? else { return Ok(false) };
    let Some((probe, event)) = transition::replan(&mut job, generation, failure, now_ms) else { return Ok(false) };
    next_generation(c, &job, &probe).await?;
    log(c, id, now_ms, &event).await?;
    Ok(true)
}

pub(super) async fn reject(
    c: &mut SqliteConnection,
    id: JobId,
    generation: u32,
    failure: Failure,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some(mut job) = load_job(c, id).await? else { return Ok(false) };
    let Some(event) = transition::reject(&mut job, generation, failure, now_ms) else { return Ok(false) };
    save_job(c, &job).await?;
    close_job(c, id).await?;
    log(c, id, now_ms, &event).await?;
    Ok(true)
}

pub(super) async fn cancel(c: &mut SqliteConnection, id: JobId, now_ms: i64) -> Result<bool, StoreError> {
    let Some(mut job) = load_job(c, id).await? else { return Ok(false) };
    if !job.cancel(now_ms) {
        return Ok(false);
    }
    save_job(c, &job).await?;
    close_job(c, id).await?;
    log(c, id, now_ms, &EventKind::Cancelled).await?;
    Ok(true)
}

pub(super) async fn pause(c: &mut SqliteConnection, id: JobId, paused: bool, now_ms: i64) -> Result<bool, StoreError> {
    let Some(mut job) = load_job(c, id).await? else { return Ok(false) };
    if !job.pause(paused) {
        return Ok(false);
    }
    save_job(c, &job).await?;
    if paused {
        sqlx::query("DELETE FROM outbox WHERE job = ?").bind(id.to_string()).execute(&mut *c).await.map_err(db)?;
    }
    log(c, id, now_ms, if paused { &EventKind::Paused } else { &EventKind::Resumed }).await?;
    Ok(true)
}

pub(super) async fn retry(c: &mut SqliteConnection, id: JobId, now_ms: i64) -> Result<bool, StoreError> {
    let Some(mut job) = load_job(c, id).await? else { return Ok(false) };
    let counts = sqlx::query(
        "SELECT count(*) AS open, count(*) FILTER (WHERE kind = 'probe') AS probes FROM tasks
         WHERE job = ? AND generation >= ? AND state <> 'done'",
    )
    .bind(id.to_string())
    .bind(job.first_generation())
    .fetch_one(&mut *c)
    .await
    .map_err(db)?;
    let num_open: u32 = counts.try_get("open").map_err(db)?;
    let num_probes: u32 = counts.try_get("probes").map_err(db)?;
    if !job.retry(num_probes > 0, num_open) {
        return Ok(false);
    }
    save_job(c, &job).await?;
    let found =
        sqlx::query("SELECT * FROM tasks WHERE job = ? AND generation >= ? AND state IN ('failed', 'cancelled')")
            .bind(id.to_string())
            .bind(job.first_generation())
            .fetch_all(&mut *c)
            .await
            .map_err(db)?;
    for row in &found {
        let mut task = rows::task(row)?;
        if task.reset(now_ms) {
            save_task(c, &task).await?;
        }
    }
    log(c, id, now_ms, &EventKind::Retried).await?;
    Ok(true)
}

pub(super) async fn events(
    c: &mut SqliteConnection,
    job: Option<JobId>,
    after_seq: i64,
    max: usize,
) -> Result<Vec<Event>, StoreError> {
    let query = match job {
        Some(job) => {
            sqlx::query("SELECT * FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?").bind(job.to_string())
        }
        None => sqlx::query("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?"),
    };
    let found = query.bind(after_seq).bind(limit(max)).fetch_all(c).await.map_err(db)?;
    found.iter().map(rows::event).collect()
}

pub(super) async fn forget(c: &mut SqliteConnection, id: JobId) -> Result<bool, StoreError> {
    // Plan, tasks, outbox rows and events go with it (ON DELETE CASCADE).
    let deleted = sqlx::query("DELETE FROM jobs WHERE id = ? AND ended_ms IS NOT NULL")
        .bind(id.to_string())
        .execute(c)
        .await
        .map_err(db)?;
    Ok(deleted.rows_affected() > 0)
}
