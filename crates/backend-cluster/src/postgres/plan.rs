//! Plans: recording one with all its tasks, and reading it back. The work on a large plan (hash, text, list of
//! tasks) is done before the transaction begins, on a thread that may be busy for a second.

use super::connection::Database;
use super::error::{CutOff, Fault};
use super::locks::{Lock, lock_job};
use super::rows::{load_job, to_json};
use super::save::{insert_tasks, log, save_job};
use splitreel_backend::{StoreError, transition};
use splitreel_core::JobId;
use splitreel_core::event::EventKind;
use splitreel_core::job::{Job, JobState};
use splitreel_core::plan::Plan;
use splitreel_core::task::Task;
use sqlx::PgConnection;
use std::sync::Arc;

/// How often the work is done again because the job's row changed meanwhile (somebody paused it).
const TRIES: u32 = 5;

/// What recording writes, made from the job's row as it was before.
struct Prepared {
    before: Job,
    after: Job,
    tasks: Vec<Task>,
    event: EventKind,
    text: String,
}

enum Recorded {
    Yes,
    No,
    /// The job's row is another one by now.
    Changed,
}

pub(super) async fn record(
    database: &Database,
    id: JobId,
    generation: u32,
    plan: Plan,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let plan = Arc::new(plan);
    for _ in 0..TRIES {
        let Some(job) = database.plain(move |c| Box::pin(load_job(c, id))).await? else { return Ok(false) };
        if job.state != JobState::Planning {
            return Ok(false);
        }
        let preparing = tokio::task::spawn_blocking({
            let plan = plan.clone();
            move || prepare(job, generation, &plan)
        });
        let prepared = preparing.await.unwrap_or_else(|stopped| Err(StoreError::Unavailable(Box::new(stopped))))?;
        let Some(prepared) = prepared.map(Arc::new) else { return Ok(false) };
        let recorded = database
            .bulk(move |c| {
                let prepared = prepared.clone();
                Box::pin(async move { write(c, &prepared, now_ms).await })
            })
            .await?;
        match recorded {
            Recorded::Yes => return Ok(true),
            Recorded::No => return Ok(false),
            Recorded::Changed => {}
        }
    }
    Err(StoreError::Unavailable(Box::new(CutOff)))
}

fn prepare(before: Job, generation: u32, plan: &Plan) -> Result<Option<Prepared>, StoreError> {
    let mut after = before.clone();
    let Some((tasks, event)) = transition::plan(&mut after, generation, plan) else { return Ok(None) };
    let text = to_json(plan)?;
    Ok(Some(Prepared { before, after, tasks, event, text }))
}

async fn write(c: &mut PgConnection, prepared: &Prepared, now_ms: i64) -> Result<Recorded, Fault> {
    let id = prepared.before.id;
    match lock_job(c, id, Lock::Update).await? {
        Some(job) if job == prepared.before => {}
        Some(job) if job.state == JobState::Planning => return Ok(Recorded::Changed),
        _ => return Ok(Recorded::No),
    }
    save_job(c, &prepared.after).await?;
    sqlx::query("INSERT INTO plans (job, plan) VALUES ($1, $2)")
        .bind(id.0)
        .bind(&prepared.text)
        .execute(&mut *c)
        .await?;
    insert_tasks(c, id, &prepared.tasks).await?;
    log(c, id, &[(now_ms, prepared.event.clone())]).await?;
    Ok(Recorded::Yes)
}

pub(super) async fn read(database: &Database, id: JobId) -> Result<Option<Plan>, StoreError> {
    let Some(text) = database.bulk(move |c| Box::pin(select(c, id))).await? else { return Ok(None) };
    let parsing = tokio::task::spawn_blocking(move || Plan::decode(text.as_bytes()));
    match parsing.await {
        Ok(parsed) => parsed.map(Some).map_err(StoreError::of_plan),
        Err(stopped) => Err(StoreError::Unavailable(Box::new(stopped))),
    }
}

async fn select(c: &mut PgConnection, id: JobId) -> Result<Option<String>, Fault> {
    Ok(sqlx::query_scalar("SELECT plan FROM plans WHERE job = $1").bind(id.0).fetch_optional(c).await?)
}
