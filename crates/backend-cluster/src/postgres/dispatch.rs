//! Dispatch: which ready tasks get an outbox row. What is read grows with what is in flight, with the free places and
//! with the number of jobs that wait (bounded per tenant and class), never with the tasks of a job.
//!
//! Two coordinators do not exceed the limit together: an advisory lock lets one at a time dispatch. Apart from it, dispatch
//! waits for nobody: jobs and tasks that others are changing are left for the next time.

use super::error::{Fault, unreadable};
use super::outbox::{ids, limit};
use super::rows::{self, col};
use splitreel_backend::store::{InFlightLimit, Scope};
use splitreel_backend::{Queue, StoreError, Wakeup};
use splitreel_core::JobId;
use splitreel_core::deadline;
use splitreel_core::fair::{Demand, Priority, Shares, allot};
use splitreel_core::task::LONGEST_BACKOFF_MS;
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use uuid::Uuid;

/// Advisory lock of the dispatching coordinator.
const DISPATCH: i64 = 0x7370_6c69_7472_0002;
/// Takes the lock. What dispatch writes may be lost with the server, as wakeups may be: it is written again. So nobody
/// waits for the disk.
const BEGIN: &str = "SELECT pg_advisory_xact_lock($1), set_config('synchronous_commit', 'off', true)";
/// Jobs with waiting tasks that are looked at, per tenant and class: the oldest.
const JOBS: usize = 1_000;
/// How often places are shared out again because fewer tasks of a job are due than its counters say.
const ROUNDS: u32 = 32;

/// What is in flight of each job, by queue.
pub(super) const BUSY: &str = "SELECT b.job, j.tenant, b.is_assembly, b.leased, b.notified, b.beside
     FROM (SELECT job, kind = 'assemble' AS is_assembly,
                  sum(leased)::bigint AS leased, sum(notified)::bigint AS notified, sum(beside)::bigint AS beside
           FROM (SELECT job, kind, 1 AS leased, 0 AS notified, 0 AS beside FROM tasks WHERE state = 'leased'
                 UNION ALL SELECT job, kind, 0, 1, 0 FROM outbox
                 UNION ALL SELECT job, kind, 0, 0, 1 FROM tasks WHERE elder IS NOT NULL) AS each
           GROUP BY 1, 2) AS b
     JOIN jobs AS j ON j.id = b.job";

/// The oldest open jobs of each tenant and class that have tasks for one queue. Tenants are found one after the other
/// in the index, however many jobs they have.
pub(super) const OPEN: &str = "WITH RECURSIVE tenants (tenant) AS (
         (SELECT tenant FROM jobs WHERE ended_ms IS NULL AND NOT is_paused AND is_assembling = $2
          ORDER BY tenant LIMIT 1)
         UNION ALL
         SELECT (SELECT j.tenant FROM jobs AS j
                 WHERE j.ended_ms IS NULL AND NOT j.is_paused AND j.is_assembling = $2 AND j.tenant > t.tenant
                 ORDER BY j.tenant LIMIT 1)
         FROM tenants AS t WHERE t.tenant IS NOT NULL)
     SELECT j.id, j.tenant, j.priority, j.created_ms, j.remaining
     FROM tenants AS t
     CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS p (priority)
     CROSS JOIN LATERAL (
         SELECT id, tenant, priority, created_ms, remaining FROM jobs
         WHERE ended_ms IS NULL AND NOT is_paused AND is_assembling = $2 AND tenant = t.tenant
           AND priority = p.priority AND remaining > 0
         ORDER BY created_ms, id LIMIT $1) AS j
     WHERE t.tenant IS NOT NULL";

const OPEN_OF: &str = "SELECT id, tenant, priority, created_ms, remaining FROM jobs
     WHERE id = ANY($1) AND ended_ms IS NULL AND NOT is_paused AND is_assembling = $2 AND remaining > 0";

/// The first due tasks of jobs without an outbox row, by number, at most `$2` of each job. The order is written as
/// the index `tasks_ready` has it, and no other.
pub(super) const DUE: &str = "SELECT t.job, t.number, t.attempt, t.kind
     FROM unnest($1::uuid[], $2::bigint[]) AS w (job, num)
     CROSS JOIN LATERAL (
         SELECT t.job, t.number, t.attempt, t.kind FROM tasks AS t
         WHERE t.job = w.job AND t.state = 'ready' AND (t.not_before_ms <= $3 OR t.not_before_ms > $4)
           AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.job = t.job AND o.number = t.number)
         ORDER BY t.number::bigint LIMIT w.num) AS t";

/// Jobs that still take outbox rows, held so until the transaction ends.
const STILL_OPEN: &str =
    "SELECT id FROM jobs WHERE id = ANY($1) AND ended_ms IS NULL AND NOT is_paused FOR KEY SHARE SKIP LOCKED";

const INSERT: &str = "INSERT INTO outbox (job, number, attempt, kind, created_ms)
     SELECT t.job, t.number, t.attempt, t.kind, $4
     FROM unnest($1::uuid[], $2::int[], $3::int[]) WITH ORDINALITY AS p (job, number, attempt, place)
     JOIN tasks AS t ON t.job = p.job AND t.number = p.number
     WHERE t.state = 'ready' AND t.attempt = p.attempt
     ORDER BY p.place FOR UPDATE OF t SKIP LOCKED";

/// What is in flight on a queue, counted.
#[derive(Clone, Default)]
struct Busy {
    /// Leases and notified tasks, by tenant.
    of_tenant: BTreeMap<String, usize>,
    /// Leased and notified, by job.
    of_job: BTreeMap<JobId, usize>,
    /// Leased tasks of the scope.
    num_leased: usize,
    /// Outbox rows of the scope.
    num_notified: usize,
}

pub(super) async fn dispatch(
    c: &mut PgConnection,
    scope: &Scope,
    max_in_flight: InFlightLimit,
    shares: &Shares,
    now_ms: i64,
) -> Result<usize, Fault> {
    sqlx::query(BEGIN).bind(DISPATCH).execute(&mut *c).await?;
    let busy = busy(c, scope).await?;
    let mut due = Vec::new();
    for queue in Queue::ALL {
        let busy = busy.get(&queue).cloned().unwrap_or_default();
        let free = max_in_flight.of(queue).room(busy.num_leased, busy.num_notified);
        if free > 0 {
            let demands = demands(c, queue, scope, free, &busy).await?;
            due.extend(choose(c, free, demands, &busy.of_tenant, shares, now_ms).await?);
        }
    }
    write(c, due, now_ms).await
}

async fn busy(c: &mut PgConnection, scope: &Scope) -> Result<BTreeMap<Queue, Busy>, Fault> {
    let in_scope: Option<HashSet<JobId>> = scope.as_ref().map(|only| only.iter().copied().collect());
    let mut queues: BTreeMap<Queue, Busy> = BTreeMap::new();
    for row in sqlx::query(BUSY).fetch_all(c).await? {
        let job = JobId(col(&row, "job")?);
        let busy = queues.entry(if col(&row, "is_assembly")? { Queue::Assemble } else { Queue::Work }).or_default();
        let count = |name| -> Result<usize, StoreError> { Ok(usize::try_from(col::<i64>(&row, name)?).unwrap_or(0)) };
        let (leased, notified) = (count("leased")?, count("notified")?);
        *busy.of_tenant.entry(col(&row, "tenant")?).or_default() += leased + notified + count("beside")?;
        busy.of_job.insert(job, leased + notified);
        if in_scope.as_ref().is_none_or(|only| only.contains(&job)) {
            busy.num_leased += leased;
            busy.num_notified += notified;
        }
    }
    Ok(queues)
}

/// Jobs whose counters say that tasks wait. They count those in back-off too: `choose` finds out.
async fn demands(
    c: &mut PgConnection,
    queue: Queue,
    scope: &Scope,
    free: usize,
    busy: &Busy,
) -> Result<Vec<Demand>, Fault> {
    let open = match ids(scope) {
        Some(only) => sqlx::query(OPEN_OF).bind(only),
        // Jobs with all their tasks in flight may stand before jobs that wait.
        None => sqlx::query(OPEN).bind(limit(free.min(JOBS).saturating_add(busy.of_job.len()))),
    };
    let found = open.bind(queue == Queue::Assemble).fetch_all(c).await?;
    let mut demands = Vec::with_capacity(found.len());
    for row in &found {
        let job = JobId(col(row, "id")?);
        let remaining = usize::try_from(col::<i32>(row, "remaining")?.cast_unsigned()).unwrap_or(usize::MAX);
        // Tasks of an open job are ready, leased or done, and `remaining` counts the tasks not done.
        let waiting = remaining.saturating_sub(busy.of_job.get(&job).copied().unwrap_or(0)).min(free);
        if waiting > 0 {
            let class: i16 = col(row, "priority")?;
            demands.push(Demand {
                job,
                tenant: col(row, "tenant")?,
                priority: [Priority::Low, Priority::Normal, Priority::High]
                    .into_iter()
                    .find(|p| *p as i16 == class)
                    .ok_or_else(|| unreadable("jobs.priority", class))?,
                created_ms: col(row, "created_ms")?,
                waiting,
            });
        }
    }
    Ok(demands)
}

/// Shares the places out and looks the tasks up. Where a job has fewer due tasks than thought, its demand is put right
/// and the places are shared out again: the outcome is that of knowing all demands exactly, without counting them.
async fn choose(
    c: &mut PgConnection,
    free: usize,
    mut demands: Vec<Demand>,
    in_flight: &BTreeMap<String, usize>,
    shares: &Shares,
    now_ms: i64,
) -> Result<Vec<Wakeup>, Fault> {
    let mut known: BTreeMap<JobId, VecDeque<Wakeup>> = BTreeMap::new();
    let mut picks = Vec::new();
    for _ in 0..ROUNDS {
        picks = allot(free, &demands, in_flight, shares, now_ms);
        let mut wanted: BTreeMap<JobId, usize> = BTreeMap::new();
        for job in &picks {
            *wanted.entry(*job).or_default() += 1;
        }
        wanted.retain(|job, num| known.get(job).is_none_or(|wakeups| wakeups.len() < *num));
        if wanted.is_empty() {
            break;
        }
        let found = due(c, &wanted, now_ms).await?;
        for job in wanted.keys() {
            known.insert(*job, VecDeque::new());
        }
        for wakeup in found {
            known.entry(wakeup.task.job).or_default().push_back(wakeup);
        }
        let mut is_right = true;
        for demand in &mut demands {
            let num_found = known.get(&demand.job).map_or(0, VecDeque::len);
            if wanted.get(&demand.job).is_some_and(|num| num_found < *num) {
                demand.waiting = num_found;
                is_right = false;
            }
        }
        if is_right {
            break;
        }
    }
    Ok(picks.iter().filter_map(|job| known.get_mut(job)?.pop_front()).collect())
}

async fn due(c: &mut PgConnection, wanted: &BTreeMap<JobId, usize>, now_ms: i64) -> Result<Vec<Wakeup>, Fault> {
    let found = sqlx::query(DUE)
        .bind(wanted.keys().map(|job| job.0).collect::<Vec<_>>())
        .bind(wanted.values().map(|num| limit(*num)).collect::<Vec<_>>())
        .bind(now_ms)
        // Later ends of back-offs are from before the clock was set back.
        .bind(deadline::latest(now_ms, LONGEST_BACKOFF_MS))
        .fetch_all(c)
        .await?;
    let mut wakeups: Vec<Wakeup> = found.iter().map(rows::wakeup).collect::<Result<_, _>>()?;
    wakeups.sort_by_key(|wakeup| wakeup.task);
    Ok(wakeups)
}

async fn write(c: &mut PgConnection, due: Vec<Wakeup>, now_ms: i64) -> Result<usize, Fault> {
    if due.is_empty() {
        return Ok(0);
    }
    let jobs: BTreeSet<Uuid> = due.iter().map(|wakeup| wakeup.task.job.0).collect();
    let jobs: Vec<_> = jobs.into_iter().collect();
    let open: HashSet<Uuid> = sqlx::query(STILL_OPEN)
        .bind(jobs)
        .fetch_all(&mut *c)
        .await?
        .iter()
        .map(|row| row.try_get("id"))
        .collect::<Result<_, _>>()?;
    let due: Vec<_> = due.into_iter().filter(|wakeup| open.contains(&wakeup.task.job.0)).collect();
    let written = sqlx::query(INSERT)
        .bind(due.iter().map(|r| r.task.job.0).collect::<Vec<_>>())
        .bind(due.iter().map(|r| r.task.number.cast_signed()).collect::<Vec<_>>())
        .bind(due.iter().map(|r| r.attempt.cast_signed()).collect::<Vec<_>>())
        .bind(now_ms)
        .execute(c)
        .await?;
    Ok(usize::try_from(written.rows_affected()).unwrap_or(usize::MAX))
}
