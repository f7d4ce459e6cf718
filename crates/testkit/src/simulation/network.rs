//! The way from workers, assemblers and users to a coordinator: any one that lives, a time-out, no promise that an
//! unanswered call had no effect.

use super::chaos::Chaos;
use super::ledger::Ledger;
use super::lock;
use async_trait::async_trait;
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_backend::{Ring, StoreError};
use splitreel_coordinator::Coordinator;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A call is given up after this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Which coordinators can be reached.
pub(super) struct Network {
    chaos: Arc<Chaos>,
    ledger: Arc<Ledger>,
    served: Mutex<BTreeMap<usize, Served>>,
}

#[derive(Clone)]
struct Served {
    coordinator: Coordinator,
    killed: CancellationToken,
}

/// No answer came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered;

impl Network {
    pub(super) fn new(chaos: Arc<Chaos>, ledger: Arc<Ledger>) -> Self {
        Network { chaos, ledger, served: Mutex::default() }
    }

    pub(super) fn join(&self, slot: usize, coordinator: Coordinator, killed: CancellationToken) {
        lock(&self.served).insert(slot, Served { coordinator, killed });
    }

    pub(super) fn leave(&self, slot: usize) {
        lock(&self.served).remove(&slot);
    }

    /// Calls a coordinator. The call goes on there when the caller goes away, and dies with the coordinator.
    pub(super) async fn call<T, F>(&self, call: impl FnOnce(Coordinator) -> F + Send) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let all: Vec<Served> = lock(&self.served).values().cloned().collect();
        let Some(served) = all.get(self.chaos.choose(all.len())).cloned() else { return Err(Unanswered) };
        let answer = call(served.coordinator);
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
    pub(super) async fn insist<T, F>(&self, call: impl Fn(Coordinator) -> F + Send + Sync) -> T
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        loop {
            if let Ok(Ok(answer)) = self.call(&call).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The coordinators as one worker or assembler sees them.
pub(super) struct RemoteLeases(pub Arc<Network>);

fn unanswered(_: Unanswered) -> LeaseError {
    LeaseError::Unavailable { what: "no answer".into() }
}

#[async_trait]
impl Leases for RemoteLeases {
    async fn claim(&self, ring: &Ring, worker: &WorkerId) -> Result<WorkOrder, LeaseError> {
        let (ring, worker) = (ring.clone(), worker.clone());
        self.0.call(move |c| async move { c.claim(&ring, &worker).await }).await.map_err(unanswered)?
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.0.call(move |c| async move { c.renew(task, lease, progress).await }).await.map_err(unanswered)?
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.0.call(move |c| async move { c.complete(task, lease, result).await }).await.map_err(unanswered)?
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.0.call(move |c| async move { c.fail(task, lease, failure).await }).await.map_err(unanswered)?
    }
}
