//! Rows of jobs, tasks and events: how they are decoded, encoded, loaded and saved.

use super::error::{db, unreadable, unwritable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use splitreel_backend::StoreError;
use splitreel_core::event::{Event, EventKind};
use splitreel_core::fair::Priority;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::speculate::Pace;
use splitreel_core::task::{Lease, Progress, Task, TaskKind, TaskSpec, TaskState};
use splitreel_core::{JobId, LeaseId, TaskId, WorkerId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;
use std::str::FromStr;

fn col<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(db)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(row: &SqliteRow, name: &'static str) -> Result<T, StoreError> {
    col::<&str>(row, name)?.parse().map_err(|e| unreadable(name, e))
}

fn optional<T: FromStr<Err: std::fmt::Display>>(row: &SqliteRow, name: &'static str) -> Result<Option<T>, StoreError> {
    col::<Option<&str>>(row, name)?.map(|text| text.parse().map_err(|e| unreadable(name, e))).transpose()
}

fn json<T: DeserializeOwned>(row: &SqliteRow, name: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(col(row, name)?).map_err(|e| unreadable(name, e))
}

fn optional_json<T: DeserializeOwned>(row: &SqliteRow, name: &'static str) -> Result<Option<T>, StoreError> {
    col::<Option<&str>>(row, name)?.map(|text| serde_json::from_str(text).map_err(|e| unreadable(name, e))).transpose()
}

/// JSON text of a value.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(unwritable)
}

fn optional_to_json(value: Option<&impl Serialize>) -> Result<Option<String>, StoreError> {
    value.map(to_json).transpose()
}

pub(super) fn job(row: &SqliteRow) -> Result<Job, StoreError> {
    let state: &str = col(row, "state")?;
    let request: JobRequest = json(row, "request")?;
    Ok(Job {
        id: parsed(row, "id")?,
        // The request says so, too: programs from before the column leave false in it.
        deep_probe: request.deep_probe || col::<bool>(row, "deep_probe")?,
        request,
        state: JobState::parse(state).ok_or_else(|| unreadable("jobs.state", state))?,
        is_paused: col(row, "is_paused")?,
        remaining: col(row, "remaining")?,
        generation: col(row, "generation")?,
        replanned: optional_json(row, "replanned")?,
        next_task: col(row, "next_task")?,
        pace: Pace {
            cost: col::<i64>(row, "pace_cost")?.cast_unsigned(),
            wall_ms: col::<i64>(row, "pace_wall_ms")?.cast_unsigned(),
        },
        plan_hash: col(row, "plan_hash")?,
        failure: optional_json(row, "failure")?,
        created_ms: col(row, "created_ms")?,
        ended_ms: col(row, "ended_ms")?,
    })
}

/// The id of a job row.
pub(super) fn job_id(row: &SqliteRow) -> Result<JobId, StoreError> {
    parsed(row, "id")
}

/// A `count(*)`.
pub(super) fn count(row: &SqliteRow, name: &'static str) -> Result<usize, StoreError> {
    usize::try_from(col::<i64>(row, name)?).map_err(|e| unreadable(name, e))
}

/// The kind of a task or outbox row.
pub(super) fn kind(row: &SqliteRow) -> Result<TaskKind, StoreError> {
    let word: &str = col(row, "kind")?;
    TaskKind::parse(word).ok_or_else(|| unreadable("kind", word))
}

/// The class of a job row.
pub(super) fn priority(row: &SqliteRow) -> Result<Priority, StoreError> {
    let word: &str = col(row, "priority")?;
    Priority::parse(word).ok_or_else(|| unreadable("jobs.priority", word))
}

/// The task id of a task or outbox row.
pub(super) fn task_id(row: &SqliteRow) -> Result<TaskId, StoreError> {
    Ok(TaskId { job: parsed(row, "job")?, number: col(row, "number")? })
}

pub(super) fn attempt(row: &SqliteRow) -> Result<u32, StoreError> {
    col(row, "attempt")
}

pub(super) fn task(row: &SqliteRow) -> Result<Task, StoreError> {
    let state: &str = col(row, "state")?;
    let id = task_id(row)?;
    Ok(Task {
        id,
        generation: col(row, "generation")?,
        spec: TaskSpec {
            number: id.number,
            kind: kind(row)?,
            index: col(row, "idx")?,
            expected_cost: col::<i64>(row, "cost")?.cast_unsigned(),
        },
        state: TaskState::parse(state).ok_or_else(|| unreadable("tasks.state", state))?,
        attempt: attempt(row)?,
        media_failures: col(row, "media_failures")?,
        infra_failures: col(row, "infra_failures")?,
        not_before_ms: col(row, "not_before_ms")?,
        lease: lease(row)?,
        superseded: optional_json(row, "elder")?,
        done_by: optional::<LeaseId>(row, "done_by")?,
        result: optional_json(row, "result")?,
        failure: optional_json(row, "failure")?,
        failed_on: json(row, "failed_on")?,
    })
}

fn lease(row: &SqliteRow) -> Result<Option<Lease>, StoreError> {
    let Some(id) = optional::<LeaseId>(row, "lease_id")? else { return Ok(None) };
    Ok(Some(Lease {
        id,
        worker: WorkerId(col(row, "lease_worker")?),
        expires_ms: col(row, "lease_expires_ms")?,
        claimed_ms: col(row, "lease_claimed_ms")?,
        progress: Progress {
            done_per_mille: col(row, "progress_per_mille")?,
            speed_milli: col(row, "progress_speed")?,
            frames: col::<i64>(row, "progress_frames")?.cast_unsigned(),
        },
        progressed_ms: col(row, "lease_progressed_ms")?,
    }))
}

pub(super) fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    Ok(Event { seq: col(row, "seq")?, job: parsed(row, "job")?, at_ms: col(row, "at_ms")?, what: json(row, "what")? })
}

pub(super) async fn load_job(c: &mut SqliteConnection, id: JobId) -> Result<Option<Job>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM jobs WHERE id = ?").bind(id.to_string()).fetch_optional(c).await.map_err(db)?;
    row.as_ref().map(job).transpose()
}

pub(super) async fn load_task(c: &mut SqliteConnection, id: TaskId) -> Result<Option<Task>, StoreError> {
    let query =
        sqlx::query("SELECT * FROM tasks WHERE job = ? AND number = ?").bind(id.job.to_string()).bind(id.number);
    let row = query.fetch_optional(c).await.map_err(db)?;
    row.as_ref().map(task).transpose()
}

/// The leased tasks of one job, by number.
pub(super) async fn load_leased(c: &mut SqliteConnection, job: JobId) -> Result<BTreeMap<u32, Task>, StoreError> {
    let query = sqlx::query("SELECT * FROM tasks INDEXED BY tasks_leased WHERE state = 'leased' AND job = ?");
    let found = query.bind(job.to_string()).fetch_all(c).await.map_err(db)?;
    found.iter().map(|row| task(row).map(|task| (task.id.number, task))).collect()
}

/// The two rows that a use-case about one task works on.
pub(super) async fn load_both(c: &mut SqliteConnection, id: TaskId) -> Result<Option<(Job, Task)>, StoreError> {
    let Some(task) = load_task(c, id).await? else { return Ok(None) };
    let Some(job) = load_job(c, id.job).await? else { return Ok(None) };
    Ok(Some((job, task)))
}

pub(super) async fn insert_job(c: &mut SqliteConnection, job: &Job) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO jobs (id, tenant, idempotency_key, priority, state, request, remaining, generation, deep_probe, next_task,
                           created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(job.id.to_string())
    .bind(&job.request.tenant)
    .bind(&job.request.idempotency_key)
    .bind(job.request.priority.as_str())
    .bind(job.state.as_str())
    .bind(to_json(&job.request)?)
    .bind(job.remaining)
    .bind(job.generation)
    .bind(job.deep_probe)
    .bind(job.next_task)
    .bind(job.created_ms)
    .execute(c)
    .await
    .map_err(db)?;
    Ok(())
}

/// Writes what can change of a job.
pub(super) async fn save_job(c: &mut SqliteConnection, job: &Job) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET state = ?, is_paused = ?, remaining = ?, generation = ?, deep_probe = ?, replanned = ?, next_task = ?,
         pace_cost = ?, pace_wall_ms = ?, plan_hash = ?, failure = ?, ended_ms = ? WHERE id = ?",
    )
    .bind(job.state.as_str())
    .bind(job.is_paused)
    .bind(job.remaining)
    .bind(job.generation)
    .bind(job.deep_probe)
    .bind(optional_to_json(job.replanned.as_ref())?)
    .bind(job.next_task)
    .bind(job.pace.cost.cast_signed())
    .bind(job.pace.wall_ms.cast_signed())
    .bind(&job.plan_hash)
    .bind(optional_to_json(job.failure.as_ref())?)
    .bind(job.ended_ms)
    .bind(job.id.to_string())
    .execute(c)
    .await
    .map_err(db)?;
    Ok(())
}

/// Inserts a task that was never claimed.
pub(super) async fn insert_task(c: &mut SqliteConnection, task: &Task) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tasks (job, number, generation, kind, idx, cost, state, attempt, media_failures, infra_failures, not_before_ms, failed_on)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(task.id.job.to_string())
    .bind(task.id.number)
    .bind(task.generation)
    .bind(task.spec.kind.as_str())
    .bind(task.spec.index)
    .bind(task.spec.expected_cost.cast_signed())
    .bind(task.state.as_str())
    .bind(task.attempt)
    .bind(task.media_failures)
    .bind(task.infra_failures)
    .bind(task.not_before_ms)
    .bind(to_json(&task.failed_on)?)
    .execute(c)
    .await
    .map_err(db)?;
    Ok(())
}

/// Writes what can change of a task.
pub(super) async fn save_task(c: &mut SqliteConnection, task: &Task) -> Result<(), StoreError> {
    let lease = task.lease.as_ref();
    sqlx::query(
        "UPDATE tasks SET state = ?, attempt = ?, media_failures = ?, infra_failures = ?, not_before_ms = ?,
             lease_id = ?, lease_worker = ?, lease_expires_ms = ?, lease_claimed_ms = ?, lease_progressed_ms = ?,
             progress_per_mille = ?, progress_speed = ?, progress_frames = ?, elder = ?,
             done_by = ?, result = ?, failure = ?, failed_on = ?
         WHERE job = ? AND number = ?",
    )
    .bind(task.state.as_str())
    .bind(task.attempt)
    .bind(task.media_failures)
    .bind(task.infra_failures)
    .bind(task.not_before_ms)
    .bind(lease.map(|l| l.id.to_string()))
    .bind(lease.map(|l| &l.worker.0))
    .bind(lease.map(|l| l.expires_ms))
    .bind(lease.map(|l| l.claimed_ms))
    .bind(lease.map(|l| l.progressed_ms))
    .bind(lease.map(|l| l.progress.done_per_mille))
    .bind(lease.map(|l| l.progress.speed_milli))
    .bind(lease.map(|l| l.progress.frames.cast_signed()))
    .bind(optional_to_json(task.superseded.as_ref())?)
    .bind(task.done_by.map(|id| id.to_string()))
    .bind(optional_to_json(task.result.as_ref())?)
    .bind(optional_to_json(task.failure.as_ref())?)
    .bind(to_json(&task.failed_on)?)
    .bind(task.id.job.to_string())
    .bind(task.id.number)
    .execute(c)
    .await
    .map_err(db)?;
    Ok(())
}

/// After a job got an ended state: no task of it can be claimed any more, and its outbox rows are gone.
pub(super) async fn close_job(c: &mut SqliteConnection, job: JobId) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE tasks SET state = 'cancelled', lease_id = NULL, lease_worker = NULL, lease_expires_ms = NULL, lease_claimed_ms = NULL,
             lease_progressed_ms = NULL, progress_per_mille = NULL, progress_speed = NULL, progress_frames = NULL,
             elder = NULL
         WHERE job = ? AND state IN ('blocked', 'ready', 'leased')",
    )
    .bind(job.to_string())
    .execute(&mut *c)
    .await
    .map_err(db)?;
    sqlx::query("DELETE FROM outbox WHERE job = ?").bind(job.to_string()).execute(c).await.map_err(db)?;
    Ok(())
}

/// Starts the next generation: drops the old plan with its open tasks and outbox rows, and inserts the new probe task.
pub(super) async fn next_generation(c: &mut SqliteConnection, job: &Job, probe: &Task) -> Result<(), StoreError> {
    save_job(c, job).await?;
    close_job(c, job.id).await?;
    sqlx::query("DELETE FROM plans WHERE job = ?").bind(job.id.to_string()).execute(&mut *c).await.map_err(db)?;
    insert_task(c, probe).await
}

pub(super) async fn log(c: &mut SqliteConnection, job: JobId, at_ms: i64, what: &EventKind) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO events (job, at_ms, what) VALUES (?, ?, ?)")
        .bind(job.to_string())
        .bind(at_ms)
        .bind(to_json(what)?)
        .execute(c)
        .await
        .map_err(db)?;
    Ok(())
}
