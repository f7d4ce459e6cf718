//! Which row locks a transaction takes, and in which order: first the job's row, then rows of its tasks by number.
//! Nobody locks two jobs and waits, so that nobody waits in a circle.
//!
//! The job's row is locked by whoever writes anything of the job (but for statements that only mark or delete rows they
//! find, and skip those that are locked):
//! - `FOR KEY SHARE` to claim, renew and dispatch: any number of them go on side by side, and beside completions;
//! - `FOR NO KEY UPDATE` to count a completion: excludes other completions;
//! - `FOR UPDATE` for what changes whether tasks may be claimed (plan, fail, cancel, pause, retry, forget): excludes
//!   all others. Hence no claim after a cancel has committed.

use super::error::Fault;
use super::rows::{self, job_columns, task_columns};
use splitreel_core::JobId;
use splitreel_core::job::Job;
use splitreel_core::task::Task;
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// How the job's row is locked; later ones exclude more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    KeyShare,
    NoKeyUpdate,
    Update,
}

/// One job, locked until the transaction ends.
pub(super) async fn lock_job(c: &mut PgConnection, id: JobId, lock: Lock) -> Result<Option<Job>, Fault> {
    let statement = match lock {
        Lock::KeyShare => concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 FOR KEY SHARE"),
        Lock::NoKeyUpdate => concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 FOR NO KEY UPDATE"),
        Lock::Update => concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 FOR UPDATE"),
    };
    let row = sqlx::query(statement).bind(id.0).fetch_optional(c).await?;
    Ok(row.as_ref().map(rows::job).transpose()?)
}

/// An index is walked through for a list in the order of its key. Asking for the order makes Postgres 15 read all tasks
/// of the job instead, because it does not rely on that; should it ever be otherwise, a deadlock is tried again.
pub(super) const LOCK_TASKS: &str =
    concat!("SELECT ", task_columns!(), " FROM tasks WHERE job = $1 AND number = ANY($2) FOR UPDATE");

/// Tasks of a locked job by number, locked until the transaction ends.
pub(super) async fn lock_tasks(
    c: &mut PgConnection,
    job: JobId,
    numbers: &[u32],
) -> Result<BTreeMap<u32, Task>, Fault> {
    let numbers: Vec<_> = numbers.iter().map(|n| n.cast_signed()).collect();
    let found = sqlx::query(LOCK_TASKS).bind(job.0).bind(numbers).fetch_all(c).await?;
    let tasks = found.iter().map(rows::task).map(|task| task.map(|task| (task.id.number, task)));
    Ok(tasks.collect::<Result<_, _>>()?)
}
