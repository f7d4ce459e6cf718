//! Use-cases about a job as a whole: submit, reject, cancel, pause, retry, forget, and the reads.

use super::error::{Fault, is_taken};
use super::locks::{Lock, lock_job};
use super::outbox::{ids, limit};
use super::rows::{self, job_columns, task_columns};
use super::save::{close_job, delete_outbox_of_job, drop_generation, insert_job, insert_tasks, log, save_job};
use futures::TryStreamExt;
use splitreel_backend::store::{JobFilter, Submitted, TaskFilter};
use splitreel_backend::{StoreError, transition};
use splitreel_core::event::EventKind;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::task::{Task, TaskState};
use splitreel_core::{Failure, JobId, TaskId};
use sqlx::{PgConnection, Postgres, QueryBuilder};

/// How often a submit looks again for the job whose key stood in its way: it may have been forgotten in between.
const TRIES: u32 = 5;

pub(super) async fn submit(
    c: &mut PgConnection,
    id: JobId,
    request: &JobRequest,
    now_ms: i64,
) -> Result<Submitted, Fault> {
    for _ in 0..TRIES {
        if let Some(known) = by_key(c, request).await? {
            return Ok(if known.request == *request {
                Submitted::Existing(known)
            } else {
                Submitted::KeyReused(known.id)
            });
        }
        let (job, spec) = Job::new(id, request.clone(), now_ms);
        match insert_job(c, &job).await {
            Ok(true) => {
                let task = Task::new(TaskId { job: id, number: spec.number }, job.generation, spec, TaskState::Ready);
                insert_tasks(c, id, &[task]).await?;
                log(c, id, &[(now_ms, EventKind::Submitted)]).await?;
                return Ok(Submitted::Created(job));
            }
            // Somebody else used the key between the two statements.
            Ok(false) => {}
            Err(Fault::Database(error)) if is_taken(&error, "jobs_pkey") => {
                return Err(StoreError::Corrupt { what: format!("job id {id} is taken") }.into());
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(StoreError::Unavailable("the key is used and freed by others all the time".into()).into())
}

async fn by_key(c: &mut PgConnection, request: &JobRequest) -> Result<Option<Job>, Fault> {
    let statement = concat!("SELECT ", job_columns!(), " FROM jobs WHERE tenant = $1 AND idempotency_key = $2");
    let row = sqlx::query(statement).bind(&request.tenant).bind(&request.idempotency_key).fetch_optional(c).await?;
    Ok(row.as_ref().map(rows::job).transpose()?)
}

pub(super) async fn list(c: &mut PgConnection, filter: JobFilter) -> Result<Vec<Job>, Fault> {
    let mut query = QueryBuilder::<Postgres>::new(concat!("SELECT ", job_columns!(), " FROM jobs WHERE true"));
    match filter.states.as_slice() {
        [] => {}
        // One word and the order of the list are an index; several are not.
        [state] => {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        states => {
            query.push(" AND state = ANY(").push_bind(states.iter().map(|s| s.as_str()).collect::<Vec<_>>()).push(")");
        }
    }
    if let Some(only) = ids(&filter.only) {
        query.push(" AND id = ANY(").push_bind(only).push(")");
    }
    if let Some(tenant) = filter.tenant {
        query.push(" AND tenant = ").push_bind(tenant);
    }
    if let Some(before) = filter.before {
        // Of an unknown job: nothing is older.
        query
            .push(" AND (created_ms, id) < (SELECT created_ms, id FROM jobs WHERE id = ")
            .push_bind(before.0)
            .push(")");
    }
    query.push(" ORDER BY created_ms DESC, id DESC LIMIT ").push_bind(limit(filter.limit));
    let found = query.build().fetch_all(c).await?;
    Ok(found.iter().map(rows::job).collect::<Result<_, _>>()?)
}

/// One statement, one moment: whether the job has ended is seen with the tasks, and nobody is kept waiting by a lock.
const TASKS: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", (SELECT ended_ms IS NOT NULL FROM jobs WHERE id = $1) AS has_ended
       FROM tasks WHERE job = $1 AND number > $2 AND ($3::text IS NULL OR kind = $3) ORDER BY number LIMIT $4"
);

pub(super) async fn tasks(c: &mut PgConnection, id: JobId, filter: TaskFilter) -> Result<Vec<Task>, Fault> {
    let mut tasks = Vec::new();
    let mut found = sqlx::query(TASKS)
        .bind(id.0)
        .bind(filter.after.map_or(-1, u32::cast_signed))
        .bind(filter.kind.map(|kind| kind.as_str()))
        .bind(filter.limit.map(limit))
        .fetch(c);
    while let Some(row) = found.try_next().await? {
        let has_ended = rows::col::<Option<bool>>(&row, "has_ended")?.unwrap_or(false);
        tasks.push(rows::shown(rows::task(&row)?, has_ended));
    }
    Ok(tasks)
}

pub(super) async fn replan(
    c: &mut PgConnection,
    id: JobId,
    generation: u32,
    failure: Failure,
    now_ms: i64,
) -> Result<bool, Fault> {
    let Some(mut job) = lock_job(c, id, Lock::Update).await? else { return Ok(false) };
    let Some((probe, event)) = transition::replan(&mut job, generation, failure, now_ms) else { return Ok(false) };
    drop_generation(c, id).await?;
    save_job(c, &job).await?;
    insert_tasks(c, id, &[probe]).await?;
    log(c, id, &[(now_ms, event)]).await?;
    Ok(true)
}

pub(super) async fn reject(
    c: &mut PgConnection,
    id: JobId,
    generation: u32,
    failure: Failure,
    now_ms: i64,
) -> Result<bool, Fault> {
    let Some(mut job) = lock_job(c, id, Lock::Update).await? else { return Ok(false) };
    let Some(event) = transition::reject(&mut job, generation, failure, now_ms) else { return Ok(false) };
    save_job(c, &job).await?;
    close_job(c, id).await?;
    log(c, id, &[(now_ms, event)]).await?;
    Ok(true)
}

pub(super) async fn cancel(c: &mut PgConnection, id: JobId, now_ms: i64) -> Result<bool, Fault> {
    let Some(mut job) = lock_job(c, id, Lock::Update).await? else { return Ok(false) };
    if !job.cancel(now_ms) {
        return Ok(false);
    }
    save_job(c, &job).await?;
    close_job(c, id).await?;
    log(c, id, &[(now_ms, EventKind::Cancelled)]).await?;
    Ok(true)
}

pub(super) async fn pause(c: &mut PgConnection, id: JobId, paused: bool, now_ms: i64) -> Result<bool, Fault> {
    let Some(mut job) = lock_job(c, id, Lock::Update).await? else { return Ok(false) };
    if !job.pause(paused) {
        return Ok(false);
    }
    save_job(c, &job).await?;
    if paused {
        delete_outbox_of_job(c, id).await?;
    }
    log(c, id, &[(now_ms, if paused { EventKind::Paused } else { EventKind::Resumed })]).await?;
    Ok(true)
}

/// `Task::reset` for all tasks of the current generation that are not done, in one statement, so that a job of a million
/// tasks is not loaded. A task that is stored as ready was cancelled with its job.
const RESET: &str = "UPDATE tasks SET state = 'ready', attempt = attempt + 1, media_failures = 0, infra_failures = 0,
         not_before_ms = $2, failed_on = NULL, elder = NULL
     WHERE job = $1 AND generation >= $3 AND state IN ('blocked', 'ready', 'failed', 'cancelled')";

pub(super) async fn retry(c: &mut PgConnection, id: JobId, now_ms: i64) -> Result<bool, Fault> {
    let Some(mut job) = lock_job(c, id, Lock::Update).await? else { return Ok(false) };
    let has_open_probe: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE job = $1 AND generation >= $2 AND kind = 'probe' AND state <> 'done')",
    )
    .bind(id.0)
    .bind(job.first_generation().cast_signed())
    .fetch_one(&mut *c)
    .await?;
    // The number of tasks that are not done is on the job's row: that is the invariant of `remaining`.
    let num_open = job.remaining;
    if !job.retry(has_open_probe, num_open) {
        return Ok(false);
    }
    save_job(c, &job).await?;
    let first = job.first_generation().cast_signed();
    sqlx::query(RESET).bind(id.0).bind(now_ms).bind(first).execute(&mut *c).await?;
    log(c, id, &[(now_ms, EventKind::Retried)]).await?;
    Ok(true)
}

pub(super) async fn forget(c: &mut PgConnection, id: JobId) -> Result<bool, Fault> {
    let Some(job) = lock_job(c, id, Lock::Update).await? else { return Ok(false) };
    if !job.state.is_ended() {
        return Ok(false);
    }
    // Arrivals before events: one that is just being numbered is waited for and then found among the events.
    for statement in [
        "DELETE FROM jobs WHERE id = $1",
        "DELETE FROM plans WHERE job = $1",
        "DELETE FROM outbox WHERE job = $1",
        "DELETE FROM tasks WHERE job = $1",
        "DELETE FROM arrivals WHERE job = $1",
        "DELETE FROM events WHERE job = $1",
    ] {
        sqlx::query(statement).bind(id.0).execute(&mut *c).await?;
    }
    Ok(true)
}
