//! Groups use-cases about attempts of one job: the use-cases that arrive while a transaction on the job is running share
//! the next transaction. Completions update the job's row one after the other, so with one transaction each, a job would
//! complete no more tasks per second than the disk syncs.
//!
//! A use-case that arrives alone is served at once. Jobs do not wait for each other. Claims and renewals, which share the
//! job's row and are not synced, do not wait for completions and failures, which change the row and are.

use super::connection::Database;
use super::decide::{Rows, State, UseCase};
use super::error::{CutOff, Fault, repeated};
use super::locks::{Lock, lock_job, lock_tasks};
use super::save::{
    close_job, delete_outbox, drop_generation, insert_tasks, log, save_job, save_tasks, turn_to_assembly,
};
use splitreel_backend::lease::LeaseError;
use splitreel_backend::{Queue, StoreError};
use splitreel_core::task::{Refusal, Task};
use splitreel_core::{JobId, TaskId};
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Maximum number of use-cases in one transaction: enough to make the cost of a transaction small for each, and few enough
/// that callers who arrive in a crowd are not all answered at the end.
const MOST: usize = 64;

/// Answers a caller. Runs once the transaction has committed.
type Delivery = Box<dyn FnOnce() + Send>;

/// A use-case that waits for a transaction on its job.
trait Request: Send + Sync {
    fn use_case(&self) -> UseCase;
    /// Number of the task.
    fn number(&self) -> u32;
    /// Decides on the rows, `None` when the job or the task does not exist. A transaction that was rolled back is
    /// repeated and decides again.
    fn decide(&self, state: Option<State<'_>>) -> Delivery;
    /// Answers the caller with an error: the transaction did not commit.
    fn fail(&self, error: StoreError);
}

/// The caller of one use-case, who is answered at most once.
struct Caller<T>(Mutex<Option<oneshot::Sender<Result<T, LeaseError>>>>);

impl<T> Caller<T> {
    fn answer(&self, answer: Result<T, LeaseError>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The caller may be gone.
            let _ = sender.send(answer);
        }
    }
}

struct Pending<T, F> {
    use_case: UseCase,
    number: u32,
    decide: F,
    caller: Arc<Caller<T>>,
}

impl<T, F> Request for Pending<T, F>
where
    T: Send + 'static,
    F: Fn(&mut State<'_>) -> Result<T, Refusal> + Send + Sync,
{
    fn use_case(&self) -> UseCase {
        self.use_case
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn decide(&self, state: Option<State<'_>>) -> Delivery {
        let answer = match state {
            Some(mut state) => (self.decide)(&mut state),
            None => Err(self.use_case.refusal_of_nothing()),
        };
        let caller = Arc::clone(&self.caller);
        Box::new(move || caller.answer(answer.map_err(LeaseError::Refused)))
    }

    fn fail(&self, error: StoreError) {
        self.caller.answer(Err(LeaseError::Store(error)));
    }
}

/// Serves use-cases about attempts.
#[derive(Clone)]
pub(super) struct Attempts {
    database: Database,
    queues: Arc<Queues>,
}

/// A sequence of transactions on one job, which either all change the job's row or all only share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lane {
    job: JobId,
    is_shared: bool,
}

type Batch = Vec<Arc<dyn Request>>;

/// Waiting requests. A lane has an entry as long as a task serves it.
#[derive(Default)]
struct Queues(Mutex<HashMap<Lane, Batch>>);

impl Queues {
    fn lock(&self) -> MutexGuard<'_, HashMap<Lane, Batch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the lane is not served yet.
    fn push(&self, lane: Lane, request: Arc<dyn Request>) -> bool {
        match self.lock().entry(lane) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().push(request);
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(vec![request]);
                true
            }
        }
    }

    /// The next requests of a lane; empty when there are none, and then its entry is gone.
    fn take(&self, lane: Lane) -> Batch {
        let mut lanes = self.lock();
        match lanes.entry(lane) {
            Entry::Vacant(_) => Vec::new(),
            Entry::Occupied(entry) if entry.get().is_empty() => entry.remove(),
            Entry::Occupied(mut entry) => {
                let waiting = entry.get_mut();
                // A slot idles behind each claim. The sort is stable, and concurrent requests have no order.
                waiting.sort_by_key(|request| request.use_case() != UseCase::Claim);
                let rest = waiting.split_off(waiting.len().min(MOST));
                std::mem::replace(waiting, rest)
            }
        }
    }
}

/// Removes the lane's entry however serving ends, so that waiting callers get an error instead of waiting for ever.
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

    /// Decides one use-case about a task in a transaction on its job, and waits for the answer. The use-case is carried
    /// out even when the caller goes away.
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        task: TaskId,
        use_case: UseCase,
        decide: impl Fn(&mut State<'_>) -> Result<T, Refusal> + Send + Sync + 'static,
    ) -> Result<T, LeaseError> {
        let (reply, answer) = oneshot::channel();
        let lane = Lane { job: task.job, is_shared: use_case.lock() == Lock::KeyShare };
        let caller = Arc::new(Caller(Mutex::new(Some(reply))));
        let request = Arc::new(Pending { use_case, number: task.number, decide, caller });
        if self.queues.push(lane, request) {
            tokio::spawn(serve(self.database.clone(), self.queues.clone(), lane));
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable(Box::new(CutOff)).into()))
    }
}

async fn serve(database: Database, queues: Arc<Queues>, lane: Lane) {
    let job = lane.job;
    let mut serving = Serving { queues, lane, is_over: false };
    loop {
        let batch = serving.queues.take(lane);
        if batch.is_empty() {
            serving.is_over = true;
            return;
        }
        match carry_out(&database, job, batch.clone()).await {
            Ok(()) => {}
            // A request that cannot be stored must not spoil the others.
            Err(StoreError::Corrupt { .. }) if batch.len() > 1 => {
                for request in batch {
                    if let Err(error) = carry_out(&database, job, vec![Arc::clone(&request)]).await {
                        request.fail(error);
                    }
                }
            }
            Err(error) => batch.iter().zip(repeated(error)).for_each(|(request, error)| request.fail(error)),
        }
    }
}

/// Carries a batch out in one transaction and answers its callers once the transaction has committed.
async fn carry_out(database: &Database, job: JobId, batch: Batch) -> Result<(), StoreError> {
    let deliveries = database
        .write(move |c| {
            let batch = batch.clone();
            Box::pin(async move { decide_all(c, job, &batch).await })
        })
        .await?;
    deliveries.into_iter().for_each(|deliver| deliver());
    Ok(())
}

async fn decide_all(c: &mut PgConnection, id: JobId, batch: &Batch) -> Result<Vec<Delivery>, Fault> {
    let lock = batch.iter().map(|request| request.use_case().lock()).max().unwrap_or(Lock::KeyShare);
    let Some(job) = lock_job(c, id, lock).await? else {
        return Ok(batch.iter().map(|request| request.decide(None)).collect());
    };
    let numbers: Vec<_> = batch.iter().map(|request| request.number()).collect();
    let mut rows = Rows::new(job, lock_tasks(c, id, &numbers).await?);
    let deliveries = batch.iter().map(|request| request.decide(rows.state(request.number()))).collect();
    save_changes(c, &rows).await?;
    Ok(deliveries)
}

/// Writes what was decided about a locked job and its tasks.
pub(super) async fn save_changes(c: &mut PgConnection, rows: &Rows) -> Result<(), Fault> {
    let Rows { job, tasks, changes } = rows;
    let changed: Vec<&Task> = changes.tasks.iter().filter_map(|number| tasks.get(number)).collect();
    save_tasks(c, job.id, &changed).await?;
    delete_outbox(c, job.id, &changes.claimed).await?;
    if changes.is_replanned {
        drop_generation(c, job.id).await?;
    }
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
