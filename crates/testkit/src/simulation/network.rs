//! The way from workers, assemblers and users to a coordinator: any one that lives, a time-out, no promise that an
//! unanswered call had no effect.

use super::chaos::Chaos;
use super::ledger::Ledger;
use super::lock;
use async_trait::async_trait;
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_backend::{JobStore, StoreError, Wakeup, World};
use splitreel_coordinator::Coordinator;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A call is given up after this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it takes to find out that a coordinator cannot be reached.
const NO_ROUTE: Duration = Duration::from_secs(1);
/// What is left of the leases of a worker whose control stream broke.
const SHORTENED_MS: i64 = 2_000;
/// Stands for users and operators, whom no partition cuts off.
pub(super) const OUTSIDE: usize = usize::MAX;

/// Which coordinators can be reached.
pub(super) struct Network {
    chaos: Arc<Chaos>,
    ledger: Arc<Ledger>,
    served: Mutex<BTreeMap<usize, Served>>,
    /// Who cannot reach which coordinator, and until when.
    cuts: Mutex<BTreeMap<(usize, usize), Instant>>,
}

#[derive(Clone)]
struct Served {
    reached: Reached,
    killed: CancellationToken,
}

/// A coordinator that was reached, with its view of the store and its clock.
#[derive(Clone)]
pub(super) struct Reached {
    pub coordinator: Coordinator,
    pub store: Arc<dyn JobStore>,
    pub world: World,
}

impl Reached {
    pub(super) async fn pause(&self, job: JobId, paused: bool) -> Result<bool, StoreError> {
        let changed = self.store.pause(job, paused, self.world.clock.now_ms()).await?;
        self.coordinator.wake();
        Ok(changed)
    }

    /// Its control stream to a worker broke.
    pub(super) async fn stream_broke(&self, worker: &WorkerId) -> Result<usize, StoreError> {
        self.store.shorten_leases(worker, self.world.clock.now_ms() + SHORTENED_MS).await
    }
}

/// No answer came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered;

impl Network {
    pub(super) fn new(chaos: Arc<Chaos>, ledger: Arc<Ledger>) -> Self {
        Network { chaos, ledger, served: Mutex::default(), cuts: Mutex::default() }
    }

    pub(super) fn join(&self, slot: usize, reached: Reached, killed: CancellationToken) {
        lock(&self.served).insert(slot, Served { reached, killed });
    }

    pub(super) fn leave(&self, slot: usize) {
        lock(&self.served).remove(&slot);
    }

    /// The process in one slot cannot reach the coordinator in another for a while; all others can.
    pub(super) fn cut(&self, from: usize, to: usize, time: Duration) {
        self.chaos.note("network", || format!("process {from} does not reach coordinator {to} for {time:?}"));
        lock(&self.cuts).insert((from, to), Instant::now() + time);
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        lock(&self.cuts).get(&(from, to)).is_some_and(|until| *until > Instant::now()) && !self.chaos.is_calm()
    }

    /// Calls a coordinator. The call goes on there when the caller goes away, and dies with the coordinator.
    pub(super) async fn call<T, F>(&self, from: usize, call: impl FnOnce(Reached) -> F + Send) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let all: Vec<(usize, Served)> = lock(&self.served).iter().map(|(slot, s)| (*slot, s.clone())).collect();
        let Some((to, served)) = all.get(self.chaos.choose(all.len())).cloned() else { return Err(Unanswered) };
        if self.is_cut(from, to) {
            tokio::time::sleep(NO_ROUTE).await;
            return Err(Unanswered);
        }
        let answer = call(served.reached);
        let handled = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = served.killed.cancelled() => None,
                answer = answer => Some(answer),
            }
        });
        match timeout(CALL_TIMEOUT, handled).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Err(error)) if error.is_panic() => {
                self.ledger.violate(format!("a call panicked: {error}"));
                Err(Unanswered)
            }
            _ => Err(Unanswered),
        }
    }

    /// Repeats a call until it is answered well, as a patient user does.
    pub(super) async fn insist<T, F>(&self, call: impl Fn(Reached) -> F + Send + Sync) -> T
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        loop {
            if let Ok(Ok(answer)) = self.call(OUTSIDE, &call).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The coordinators as the worker or assembler in a slot sees them.
pub(super) struct RemoteLeases {
    pub network: Arc<Network>,
    pub from: usize,
}

impl RemoteLeases {
    async fn ask<T, F>(&self, ask: impl FnOnce(Coordinator) -> F + Send) -> Result<T, LeaseError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LeaseError>> + Send + 'static,
    {
        self.network.call(self.from, move |reached| ask(reached.coordinator)).await.map_err(unanswered)?
    }
}

fn unanswered(_: Unanswered) -> LeaseError {
    LeaseError::Unavailable { what: "no answer".into() }
}

#[async_trait]
impl Leases for RemoteLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let (wakeup, worker) = (wakeup.clone(), worker.clone());
        self.ask(move |c| async move { c.claim(&wakeup, &worker, lease).await }).await
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.ask(move |c| async move { c.renew(task, lease, progress).await }).await
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.ask(move |c| async move { c.complete(task, lease, result).await }).await
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.ask(move |c| async move { c.fail(task, lease, failure).await }).await
    }
}
