//! Which row locks a transaction takes, and in which order: first the job's row, then rows of its tasks by number.
//! No transaction locks two jobs and waits, so that no two wait for each other.
//!
//! A transaction that writes anything of a job locks the job's row (except statements that only mark or delete rows they
//! find, and skip locked rows):
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
use std::collections::{BTreeMap, BTreeSet};

/// How the job's row is locked; later ones exclude more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    KeyShare,
    NoKeyUpdate,
    Update,
}

/// One job, locked until the transaction ends. With `KeyShare` the transaction does not wait for the disk: a claim or
/// a renewal that is lost with the server is as a lease that has expired, and nothing that was committed after it is kept
/// without it.
pub(super) async fn lock_job(c: &mut PgConnection, id: JobId, lock: Lock) -> Result<Option<Job>, Fault> {
    let statement = match lock {
        Lock::KeyShare => concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs, (SELECT set_config('synchronous_commit', 'off', true)) AS lax WHERE id = $1
              FOR KEY SHARE OF jobs"
        ),
        Lock::NoKeyUpdate => concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 FOR NO KEY UPDATE"),
        Lock::Update => concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 FOR UPDATE"),
    };
    let row = sqlx::query(statement).bind(id.0).fetch_optional(c).await?;
    Ok(row.as_ref().map(rows::job).transpose()?)
}

/// Each task is looked up by itself, in the order of the list. With `number = ANY($2)` a planner whose statistics are of
/// short jobs reads all tasks of a long one and searches the list for each.
pub(super) const LOCK_TASKS: &str = concat!(
    "SELECT t.* FROM unnest($2::int[]) AS w (num) CROSS JOIN LATERAL (SELECT ",
    task_columns!(),
    " FROM tasks WHERE job = $1 AND number = w.num FOR UPDATE) AS t"
);

/// Tasks of a locked job by number, locked until the transaction ends.
pub(super) async fn lock_tasks(
    c: &mut PgConnection,
    job: JobId,
    numbers: &[u32],
) -> Result<BTreeMap<u32, Task>, Fault> {
    let numbers: BTreeSet<_> = numbers.iter().map(|n| n.cast_signed()).collect();
    let numbers: Vec<_> = numbers.into_iter().collect();
    let found = sqlx::query(LOCK_TASKS).bind(job.0).bind(numbers).fetch_all(c).await?;
    let tasks = found.iter().map(rows::task).map(|task| task.map(|task| (task.id.number, task)));
    Ok(tasks.collect::<Result<_, _>>()?)
}
