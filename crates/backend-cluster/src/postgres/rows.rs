//! Rows of jobs, tasks and events: which columns are read and how they are decoded. Writes nothing.

use super::error::{Fault, db, unreadable, unwritable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use splitreel_backend::{StoreError, Wakeup};
use splitreel_core::event::Event;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::speculate::Pace;
use splitreel_core::task::{Lease, Progress, Task, TaskKind, TaskSpec, TaskState};
use splitreel_core::{JobId, LeaseId, TaskId, WorkerId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

// Columns are named: a statement that is prepared on `*` breaks when a newer program adds one.
macro_rules! job_columns {
    () => {
        "id, state, is_paused, request, remaining, generation, deep_probe, replanned, next_task, pace_cost, \
         pace_wall_ms, plan_hash, failure, created_ms, ended_ms"
    };
}
macro_rules! task_columns {
    () => {
        "job, number, generation, kind, idx, cost, state, attempt, media_failures, infra_failures, not_before_ms, \
         lease_id, lease_worker, lease_expires_ms, lease_claimed_ms, lease_progressed_ms, \
         progress_per_mille, progress_speed, progress_frames, elder, done_by, result, failure, failed_on"
    };
}
pub(super) use {job_columns, task_columns};

pub(super) fn col<'r, T>(row: &'r PgRow, name: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name).map_err(db)
}

/// A u32 that is kept bit for bit in an `integer`.
fn whole(row: &PgRow, name: &'static str) -> Result<u32, StoreError> {
    Ok(col::<i32>(row, name)?.cast_unsigned())
}

pub(super) fn json<T: DeserializeOwned>(row: &PgRow, name: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(col(row, name)?).map_err(|e| unreadable(name, e))
}

fn optional_json<T: DeserializeOwned>(row: &PgRow, name: &'static str) -> Result<Option<T>, StoreError> {
    col::<Option<&str>>(row, name)?.map(|text| serde_json::from_str(text).map_err(|e| unreadable(name, e))).transpose()
}

/// JSON text of a value.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(unwritable)
}

pub(super) fn optional_to_json(value: Option<&impl Serialize>) -> Result<Option<String>, StoreError> {
    value.map(to_json).transpose()
}

pub(super) fn job(row: &PgRow) -> Result<Job, StoreError> {
    let state: &str = col(row, "state")?;
    let request: JobRequest = json(row, "request")?;
    Ok(Job {
        id: JobId(col(row, "id")?),
        // The request says so, too: programs from before the column leave false in it.
        deep_probe: request.deep_probe || col::<bool>(row, "deep_probe")?,
        request,
        state: JobState::parse(state).ok_or_else(|| unreadable("jobs.state", state))?,
        is_paused: col(row, "is_paused")?,
        remaining: whole(row, "remaining")?,
        generation: whole(row, "generation")?,
        replanned: optional_json(row, "replanned")?,
        next_task: whole(row, "next_task")?,
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

fn kind(row: &PgRow) -> Result<TaskKind, StoreError> {
    let word: &str = col(row, "kind")?;
    TaskKind::parse(word).ok_or_else(|| unreadable("kind", word))
}

/// The task id of a task or outbox row.
pub(super) fn task_id(row: &PgRow) -> Result<TaskId, StoreError> {
    Ok(TaskId { job: JobId(col(row, "job")?), number: whole(row, "number")? })
}

/// The wakeup of a task or outbox row.
pub(super) fn wakeup(row: &PgRow) -> Result<Wakeup, StoreError> {
    Ok(Wakeup { task: task_id(row)?, attempt: whole(row, "attempt")?, kind: kind(row)?, trace: Default::default() })
}

/// A task as stored. When its job has ended without success, a task that was not under way still has to be read as
/// cancelled: see [`shown`].
pub(super) fn task(row: &PgRow) -> Result<Task, StoreError> {
    let state: &str = col(row, "state")?;
    let id = task_id(row)?;
    Ok(Task {
        id,
        generation: whole(row, "generation")?,
        spec: TaskSpec {
            number: id.number,
            kind: kind(row)?,
            index: whole(row, "idx")?,
            expected_cost: col::<i64>(row, "cost")?.cast_unsigned(),
        },
        state: TaskState::parse(state).ok_or_else(|| unreadable("tasks.state", state))?,
        attempt: whole(row, "attempt")?,
        media_failures: whole(row, "media_failures")?,
        infra_failures: whole(row, "infra_failures")?,
        not_before_ms: col(row, "not_before_ms")?,
        lease: lease(row)?,
        superseded: optional_json(row, "elder")?,
        done_by: col::<Option<Uuid>>(row, "done_by")?.map(LeaseId),
        result: optional_json(row, "result")?,
        failure: optional_json(row, "failure")?,
        failed_on: optional_json(row, "failed_on")?.unwrap_or_default(),
    })
}

/// The task as everybody sees it.
pub(super) fn shown(mut task: Task, has_job_ended: bool) -> Task {
    if has_job_ended {
        task.cancel();
    }
    task
}

fn lease(row: &PgRow) -> Result<Option<Lease>, StoreError> {
    let Some(id) = col::<Option<Uuid>>(row, "lease_id")? else { return Ok(None) };
    Ok(Some(Lease {
        id: LeaseId(id),
        worker: WorkerId(col(row, "lease_worker")?),
        expires_ms: col(row, "lease_expires_ms")?,
        claimed_ms: col(row, "lease_claimed_ms")?,
        progress: Progress {
            done_per_mille: u16::try_from(col::<i32>(row, "progress_per_mille")?)
                .map_err(|e| unreadable("tasks.progress_per_mille", e))?,
            speed_milli: whole(row, "progress_speed")?,
            frames: col::<i64>(row, "progress_frames")?.cast_unsigned(),
        },
        progressed_ms: col(row, "lease_progressed_ms")?,
    }))
}

pub(super) fn event(row: &PgRow) -> Result<Event, StoreError> {
    Ok(Event {
        seq: col(row, "seq")?,
        job: JobId(col(row, "job")?),
        at_ms: col(row, "at_ms")?,
        what: json(row, "what")?,
    })
}

/// One job, without a lock.
pub(super) async fn load_job(c: &mut PgConnection, id: JobId) -> Result<Option<Job>, Fault> {
    let row = sqlx::query(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1"))
        .bind(id.0)
        .fetch_optional(c)
        .await?;
    Ok(row.as_ref().map(job).transpose()?)
}
