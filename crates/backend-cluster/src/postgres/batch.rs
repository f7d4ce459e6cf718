//! What is asked about attempts of one job while a transaction about that job is running goes, together, into the
//! next one. Completions count down the job's row one after the other: with one transaction each, a job would get
//! no more of them per second than the disk syncs.
//!
//! Alone, an ask is served at once. Jobs do not wait for each other, nor do claims and renewals, which share the job's
//! row and are not synced, wait for what changes it and is.

use super::connection::Database;
use super::decide::Changes;
use super::decide::{Answer, Ask, decide};
use super::error::{CutOff, Fault, repeated};
use super::locks::{Lock, lock_job, lock_tasks};
use super::save::{close_job, delete_outbox, insert_tasks, log, save_job, save_tasks, turn_to_assembly};
use splitreel_backend::{Queue, StoreError};
use splitreel_core::JobId;
use splitreel_core::job::Job;
use splitreel_core::task::Task;
use sqlx::PgConnection;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Asks in one transaction, at most: enough that what a transaction costs is little for each, and few enough that those
/// who come in a crowd are not all answered at the end.
const MOST: usize = 64;

struct Waiting {
    ask: Ask,
    reply: oneshot::Sender<Result<Answer, StoreError>>,
}

/// Serves asks about attempts.
#[derive(Clone)]
pub(super) struct Attempts {
    database: Database,
    queues: Arc<Queues>,
}

/// What is served one transaction after the other: asks about one job that change its row, or that only share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lane {
    job: JobId,
    is_shared: bool,
}

/// What waits. A lane has an entry as long as a task serves it.
#[derive(Default)]
struct Queues(Mutex<HashMap<Lane, Vec<Waiting>>>);

impl Queues {
    fn lock(&self) -> MutexGuard<'_, HashMap<Lane, Vec<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when nobody serves the lane yet.
    fn push(&self, lane: Lane, waiting: Waiting) -> bool {
        match self.lock().entry(lane) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().push(waiting);
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(vec![waiting]);
                true
            }
        }
    }

    /// The next asks of a lane; empty when there are none, and then its entry is gone.
    fn take(&self, lane: Lane) -> Vec<Waiting> {
        let mut lanes = self.lock();
        match lanes.entry(lane) {
            Entry::Vacant(_) => Vec::new(),
            Entry::Occupied(entry) if entry.get().is_empty() => entry.remove(),
            Entry::Occupied(mut entry) => {
                let waiting = entry.get_mut();
                // Behind a claim a slot stands idle. The sort is stable, and what is asked at one time has no order.
                waiting.sort_by_key(|w| !matches!(w.ask, Ask::Claim(_)));
                let rest = waiting.split_off(waiting.len().min(MOST));
                std::mem::replace(waiting, rest)
            }
        }
    }
}

/// Removes the lane's entry however serving ends: those who wait get an error instead of waiting for ever.
struct Serving {
    queues: Arc<Queues>,
    lane: Lane,
    is_over: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.is_over {
            self.queues.lock().remove(&self.lane);
        }
    }
}

impl Attempts {
    pub(super) fn new(database: Database) -> Self {
        Attempts { database, queues: Arc::default() }
    }

    /// Asks, and waits for the answer. What was asked is carried out even when the caller goes away.
    pub(super) async fn ask(&self, job: JobId, ask: Ask) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let lane = Lane { job, is_shared: ask.lock() == Lock::KeyShare };
        if self.queues.push(lane, Waiting { ask, reply }) {
            tokio::spawn(serve(self.database.clone(), self.queues.clone(), lane));
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable(Box::new(CutOff))))
    }
}

async fn serve(database: Database, queues: Arc<Queues>, lane: Lane) {
    let job = lane.job;
    let mut serving = Serving { queues, lane, is_over: false };
    loop {
        let waiting = serving.queues.take(lane);
        if waiting.is_empty() {
            serving.is_over = true;
            return;
        }
        let (asks, replies): (Vec<_>, Vec<_>) = waiting.into_iter().map(|w| (w.ask, w.reply)).unzip();
        let asks = Arc::new(asks);
        match carry_out(&database, job, asks.clone()).await {
            Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| tell(reply, Ok(answer))),
            // One ask that cannot be stored does not spoil the others.
            Err(StoreError::Corrupt { .. }) if asks.len() > 1 => {
                for (ask, reply) in asks.iter().zip(replies) {
                    let alone = carry_out(&database, job, Arc::new(vec![ask.clone()])).await;
                    let answer = alone
                        .and_then(|mut answers| answers.pop().ok_or_else(|| StoreError::Unavailable(Box::new(CutOff))));
                    tell(reply, answer);
                }
            }
            Err(error) => replies.into_iter().zip(repeated(error)).for_each(|(reply, error)| tell(reply, Err(error))),
        }
    }
}

fn tell(reply: oneshot::Sender<Result<Answer, StoreError>>, answer: Result<Answer, StoreError>) {
    // Whoever asked may have gone.
    let _ = reply.send(answer);
}

async fn carry_out(database: &Database, job: JobId, asks: Arc<Vec<Ask>>) -> Result<Vec<Answer>, StoreError> {
    database
        .write(move |c| {
            let asks = asks.clone();
            Box::pin(async move { transact(c, job, &asks).await })
        })
        .await
}

async fn transact(c: &mut PgConnection, id: JobId, asks: &[Ask]) -> Result<Vec<Answer>, Fault> {
    let lock = asks.iter().map(Ask::lock).max().unwrap_or(Lock::KeyShare);
    let Some(mut job) = lock_job(c, id, lock).await? else {
        return Ok(asks.iter().map(Ask::about_nothing).collect());
    };
    let numbers: Vec<_> = asks.iter().map(Ask::number).collect();
    let mut tasks = lock_tasks(c, id, &numbers).await?;
    let (answers, changes) = decide(&mut job, &mut tasks, asks);
    save_changes(c, &job, &tasks, &changes).await?;
    Ok(answers)
}

/// Writes what was decided about tasks of a locked job.
pub(super) async fn save_changes(
    c: &mut PgConnection,
    job: &Job,
    tasks: &BTreeMap<u32, Task>,
    changes: &Changes,
) -> Result<(), Fault> {
    let changed: Vec<_> = changes.tasks.iter().filter_map(|number| tasks.get(number)).collect();
    save_tasks(c, job.id, &changed).await?;
    delete_outbox(c, job.id, &changes.unrung).await?;
    insert_tasks(c, job.id, &changes.inserts).await?;
    if changes.is_job_changed {
        save_job(c, job).await?;
    }
    if changes.inserts.iter().any(|task| Queue::of(task.spec.kind) == Queue::Assemble) {
        turn_to_assembly(c, job.id).await?;
    }
    if changes.is_closed {
        close_job(c, job.id).await?;
    }
    log(c, job.id, &changes.events).await
}
