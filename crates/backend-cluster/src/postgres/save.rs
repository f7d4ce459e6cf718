//! How rows of jobs, tasks and events are written. Sets of rows go in one statement. Decides nothing.

use super::error::Fault;
use super::rows::{optional_to_json, to_json};
use splitreel_backend::StoreError;
use splitreel_core::JobId;
use splitreel_core::event::EventKind;
use splitreel_core::job::Job;
use splitreel_core::task::Task;
use sqlx::PgConnection;

/// Rows per statement: a job of a million tasks does not become one message.
const CHUNK: usize = 20_000;

/// False when the tenant has used the key before; then nothing was written.
pub(super) async fn insert_job(c: &mut PgConnection, job: &Job) -> Result<bool, Fault> {
    let inserted = sqlx::query(
        "INSERT INTO jobs (id, tenant, idempotency_key, priority, state, is_paused, request,
                           remaining, generation, next_task, created_ms, deep_probe)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (tenant, idempotency_key) DO NOTHING",
    )
    .bind(job.id.0)
    .bind(&job.request.tenant)
    .bind(&job.request.idempotency_key)
    .bind(job.request.priority as i16)
    .bind(job.state.as_str())
    .bind(job.is_paused)
    .bind(to_json(&job.request)?)
    .bind(job.remaining.cast_signed())
    .bind(job.generation.cast_signed())
    .bind(job.next_task.cast_signed())
    .bind(job.created_ms)
    .bind(job.deep_probe)
    .execute(c)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Writes what can change of a job.
pub(super) async fn save_job(c: &mut PgConnection, job: &Job) -> Result<(), Fault> {
    sqlx::query(
        "UPDATE jobs SET state = $2, is_paused = $3, remaining = $4, generation = $5, next_task = $6,
             plan_hash = $7, failure = $8, ended_ms = $9, pace_cost = $10, pace_wall_ms = $11,
             deep_probe = $12, replanned = $13
         WHERE id = $1",
    )
    .bind(job.id.0)
    .bind(job.state.as_str())
    .bind(job.is_paused)
    .bind(job.remaining.cast_signed())
    .bind(job.generation.cast_signed())
    .bind(job.next_task.cast_signed())
    .bind(&job.plan_hash)
    .bind(optional_to_json(job.failure.as_ref())?)
    .bind(job.ended_ms)
    .bind(job.pace.cost.cast_signed())
    .bind(job.pace.wall_ms.cast_signed())
    .bind(job.deep_probe)
    .bind(optional_to_json(job.replanned.as_ref())?)
    .execute(c)
    .await?;
    Ok(())
}

/// From now on the job waits for an assembler: all its other tasks are done, for good.
pub(super) async fn turn_to_assembly(c: &mut PgConnection, job: JobId) -> Result<(), Fault> {
    sqlx::query("UPDATE jobs SET is_assembling = true WHERE id = $1").bind(job.0).execute(c).await?;
    Ok(())
}

/// Inserts tasks of one job that were never claimed.
pub(super) async fn insert_tasks(c: &mut PgConnection, job: JobId, tasks: &[Task]) -> Result<(), Fault> {
    for chunk in tasks.chunks(CHUNK) {
        sqlx::query(
            "INSERT INTO tasks (job, number, generation, kind, idx, cost, state, attempt, not_before_ms,
                                media_failures, infra_failures)
             SELECT $1, u.*, 0, 0
             FROM unnest($2::int[], $3::int[], $4::text[], $5::int[], $6::bigint[], $7::text[], $8::int[],
                         $9::bigint[]) AS u",
        )
        .bind(job.0)
        .bind(chunk.iter().map(|t| t.id.number.cast_signed()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.generation.cast_signed()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.spec.kind.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.spec.index.cast_signed()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.spec.expected_cost.cast_signed()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.state.as_str()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.attempt.cast_signed()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|t| t.not_before_ms).collect::<Vec<_>>())
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}

/// Each row is looked up by itself and updated where it was found, whatever the planner thinks of how many tasks a job
/// has. The transaction has locked the rows, so that they stay where they are.
pub(super) const SAVE_TASKS: &str = "UPDATE tasks AS t SET state = u.state, attempt = u.attempt,
         media_failures = u.media_failures, infra_failures = u.infra_failures, not_before_ms = u.not_before_ms,
         lease_id = u.lease_id, lease_worker = u.lease_worker, lease_expires_ms = u.lease_expires_ms,
         lease_claimed_ms = u.lease_claimed_ms, lease_progressed_ms = u.lease_progressed_ms,
         progress_per_mille = u.progress_per_mille, progress_speed = u.progress_speed,
         progress_frames = u.progress_frames, elder = u.elder,
         done_by = u.done_by, result = u.result, failure = u.failure, failed_on = u.failed_on
     FROM unnest($2::int[], $3::text[], $4::int[], $5::int[], $6::int[], $7::bigint[],
                 $8::uuid[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
                 $13::int[], $14::int[], $15::bigint[], $16::uuid[], $17::text[], $18::text[], $19::text[], $20::text[])
         AS u (number, state, attempt, media_failures, infra_failures, not_before_ms,
               lease_id, lease_worker, lease_expires_ms, lease_claimed_ms, lease_progressed_ms,
               progress_per_mille, progress_speed, progress_frames, done_by, result, failure, failed_on, elder)
     CROSS JOIN LATERAL (SELECT ctid AS place FROM tasks WHERE job = $1 AND number = u.number OFFSET 0) AS f
     WHERE t.ctid = f.place";

/// Writes what can change of tasks of one job.
pub(super) async fn save_tasks(c: &mut PgConnection, job: JobId, tasks: &[&Task]) -> Result<(), Fault> {
    if tasks.is_empty() {
        return Ok(());
    }
    fn all<'t, T>(tasks: &[&'t Task], of: impl Fn(&'t Task) -> T) -> Vec<T> {
        tasks.iter().map(|task| of(task)).collect()
    }
    fn texts<'t>(
        tasks: &[&'t Task],
        of: impl Fn(&'t Task) -> Result<Option<String>, StoreError>,
    ) -> Result<Vec<Option<String>>, StoreError> {
        tasks.iter().map(|task| of(task)).collect()
    }
    sqlx::query(SAVE_TASKS)
        .bind(job.0)
        .bind(all(tasks, |t| t.id.number.cast_signed()))
        .bind(all(tasks, |t| t.state.as_str()))
        .bind(all(tasks, |t| t.attempt.cast_signed()))
        .bind(all(tasks, |t| t.media_failures.cast_signed()))
        .bind(all(tasks, |t| t.infra_failures.cast_signed()))
        .bind(all(tasks, |t| t.not_before_ms))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.id.0)))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.worker.0.as_str())))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.expires_ms)))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.claimed_ms)))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.progressed_ms)))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| i32::from(l.progress.done_per_mille))))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.progress.speed_milli.cast_signed())))
        .bind(all(tasks, |t| t.lease.as_ref().map(|l| l.progress.frames.cast_signed())))
        .bind(all(tasks, |t| t.done_by.map(|id| id.0)))
        .bind(texts(tasks, |t| optional_to_json(t.result.as_ref()))?)
        .bind(texts(tasks, |t| optional_to_json(t.failure.as_ref()))?)
        .bind(texts(tasks, |t| optional_to_json((!t.failed_on.is_empty()).then_some(&t.failed_on)))?)
        .bind(texts(tasks, |t| optional_to_json(t.superseded.as_ref()))?)
        .execute(c)
        .await?;
    Ok(())
}

pub(super) const CANCEL_LEASED: &str = "UPDATE tasks SET state = 'cancelled', lease_id = NULL, lease_worker = NULL,
         lease_expires_ms = NULL, lease_claimed_ms = NULL, lease_progressed_ms = NULL,
         progress_per_mille = NULL, progress_speed = NULL, progress_frames = NULL, elder = NULL
     WHERE job = $1 AND state = 'leased'";

/// Those whose current attempt waits beside one that runs.
pub(super) const CANCEL_BESIDE: &str =
    "UPDATE tasks SET state = 'cancelled', elder = NULL WHERE job = $1 AND elder IS NOT NULL";

/// After a job got an ended state: ends the attempts that are under way and forgets what was to be notified. The other
/// open tasks are read as cancelled from now on.
pub(super) async fn close_job(c: &mut PgConnection, job: JobId) -> Result<(), Fault> {
    sqlx::query(CANCEL_LEASED).bind(job.0).execute(&mut *c).await?;
    sqlx::query(CANCEL_BESIDE).bind(job.0).execute(&mut *c).await?;
    delete_outbox_of_job(c, job).await
}

/// Unlike those of an ended job, these rows stay beside rows that are open: dispatch must not find them.
const CANCEL_OPEN: &str = "UPDATE tasks SET state = 'cancelled', lease_id = NULL, lease_worker = NULL,
         lease_expires_ms = NULL, lease_claimed_ms = NULL, lease_progressed_ms = NULL,
         progress_per_mille = NULL, progress_speed = NULL, progress_frames = NULL, elder = NULL
     WHERE job = $1 AND state IN ('blocked', 'ready', 'leased')";

/// Drops the old plan of a job with its open tasks and outbox rows.
pub(super) async fn drop_generation(c: &mut PgConnection, job: JobId) -> Result<(), Fault> {
    sqlx::query(CANCEL_OPEN).bind(job.0).execute(&mut *c).await?;
    sqlx::query("DELETE FROM plans WHERE job = $1").bind(job.0).execute(&mut *c).await?;
    sqlx::query("UPDATE jobs SET is_assembling = false WHERE id = $1").bind(job.0).execute(&mut *c).await?;
    delete_outbox_of_job(c, job).await
}

pub(super) async fn delete_outbox_of_job(c: &mut PgConnection, job: JobId) -> Result<(), Fault> {
    sqlx::query("DELETE FROM outbox WHERE job = $1").bind(job.0).execute(c).await?;
    Ok(())
}

/// Deletes the outbox rows of tasks that were claimed.
pub(super) async fn delete_outbox(c: &mut PgConnection, job: JobId, numbers: &[u32]) -> Result<(), Fault> {
    if numbers.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM outbox WHERE job = $1 AND number = ANY($2)")
        .bind(job.0)
        .bind(numbers.iter().map(|n| n.cast_signed()).collect::<Vec<_>>())
        .execute(c)
        .await?;
    Ok(())
}

/// Writes events of one job, in order. They are read once they are numbered (`events`).
pub(super) async fn log(c: &mut PgConnection, job: JobId, events: &[(i64, EventKind)]) -> Result<(), Fault> {
    if events.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = events.iter().map(|(_, what)| to_json(what)).collect::<Result<_, _>>()?;
    sqlx::query(
        "INSERT INTO arrivals (job, at_ms, what)
         SELECT $1, u.at_ms, u.what
         FROM unnest($2::bigint[], $3::text[]) WITH ORDINALITY AS u (at_ms, what, place) ORDER BY u.place",
    )
    .bind(job.0)
    .bind(events.iter().map(|(at_ms, _)| *at_ms).collect::<Vec<_>>())
    .bind(what)
    .execute(c)
    .await?;
    Ok(())
}
