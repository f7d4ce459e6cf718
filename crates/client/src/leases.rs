//! The lease seam over the API. Each call is one try under a time-out: who calls repeats it while its lease lasts.

use crate::blobs::RemoteBlobs;
use crate::client::{Client, ClientError};
use crate::held::{Held, HeldLease};
use crate::problem::Code;
use crate::types::{Claim, Complete, Fail, PROTOCOL, Renew};
use async_trait::async_trait;
use futures::StreamExt;
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::lease::{LeaseError, Leases, WorkOrder};
use splitreel_core::part::TaskResult;
use splitreel_core::task::{Progress, Refusal};
use splitreel_core::{Failure, JobId, LeaseId, TaskId, WorkerId};
use splitreel_telemetry::Chain;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Renewals sent at the same time after the control stream broke.
const RENEWED_AT_ONCE: usize = 16;

/// How long single calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// A claim.
    pub claim: Duration,
    /// A renewal.
    pub renew: Duration,
    /// A report of success or failure.
    pub report: Duration,
}

impl Default for SessionTimes {
    fn default() -> Self {
        SessionTimes { claim: Duration::from_secs(5), renew: Duration::from_secs(3), report: Duration::from_secs(15) }
    }
}

/// The coordinator over HTTP.
#[derive(Clone, Debug)]
pub struct RemoteLeases {
    client: Client,
    times: SessionTimes,
    held: Arc<Held>,
}

impl RemoteLeases {
    /// Leases through a client whose token has the scope `work`.
    pub fn new(client: Client, times: SessionTimes) -> Self {
        RemoteLeases { client, times, held: Arc::default() }
    }

    /// The blob store as the holder of these leases may use it.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub fn blobs(&self) -> Result<RemoteBlobs, ClientError> {
        RemoteBlobs::new(self.client.clone(), Arc::clone(&self.held))
    }

    /// Number of leases held.
    pub fn num_held(&self) -> usize {
        self.held.len()
    }

    /// Renews everything that is held, at once: for when the control stream broke and the coordinator has
    /// shortened the leases. What is refused is forgotten; its keeper hears it with its own next renewal.
    pub async fn renew_all(&self) {
        let held = self.held.all();
        let renewals = held.into_iter().map(|l| async move {
            if let Err(error) = self.renew(l.task, l.lease, l.progress).await {
                tracing::debug!(task = %l.task, %error, "lease renewal failed after the control stream broke");
                l.nudge.notify_one();
            }
        });
        futures::stream::iter(renewals).buffer_unordered(RENEWED_AT_ONCE).collect::<()>().await;
    }

    /// Wakes who waits in [`RemoteLeases::nudged`] for leases of a job.
    pub fn nudge(&self, job: JobId) {
        for lease in self.held.all().into_iter().filter(|l| l.task.job == job) {
            lease.nudge.notify_one();
        }
    }

    fn settle<T>(&self, lease: LeaseId, answer: Result<T, LeaseError>) -> Result<T, LeaseError> {
        if matches!(answer, Err(LeaseError::Refused(_))) {
            self.held.remove(lease);
        }
        answer
    }
}

/// A clear no is a refusal; everything else means that the outcome is not known.
fn refusal(error: ClientError) -> LeaseError {
    match error.problem().and_then(|p| p.known_code()) {
        Some(Code::NotClaimable) => Refusal::NotClaimable.into(),
        Some(Code::LeaseLost) => Refusal::LeaseLost.into(),
        Some(Code::Cancelled) => Refusal::Cancelled.into(),
        _ => LeaseError::Unavailable { what: Chain(&error).to_string() },
    }
}

#[async_trait]
impl Leases for RemoteLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let asked = Instant::now();
        let claim = Claim { wakeup: wakeup.clone(), worker: worker.clone(), lease, protocol: PROTOCOL };
        let claimed = self.client.claim(&claim, self.times.claim).await.map_err(refusal)?;
        let order = claimed.order;
        self.held.insert(HeldLease {
            task: order.task,
            lease: order.lease,
            attempt: order.attempt,
            ticket: claimed.ticket,
            progress: Progress::default(),
            renewed: asked,
            ttl: Duration::from_millis(u64::try_from(order.ttl_ms).unwrap_or(1)),
            nudge: Arc::new(Notify::new()),
        });
        Ok(order)
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        let sent = Instant::now();
        self.held.update(lease, |held| held.progress = progress);
        let answer = self.client.renew(task, lease, &Renew { progress }, self.times.renew).await.map_err(refusal);
        let renewed = self.settle(lease, answer)?;
        self.held.update(lease, |held| held.renewed = sent);
        Ok(renewed.remaining_ms)
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        let answer = self.client.complete(task, lease, &Complete { result }, self.times.report).await.map_err(refusal);
        self.settle(lease, answer)?;
        self.held.remove(lease);
        Ok(())
    }

    /// Its job has ended, or its renewal was refused. For ever when it is not held.
    async fn nudged(&self, lease: LeaseId) {
        match self.held.get(lease) {
            Some(held) => held.nudge.notified().await,
            None => std::future::pending().await,
        }
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        let answer = self.client.fail(task, lease, &Fail { failure }, self.times.report).await.map_err(refusal);
        self.settle(lease, answer)?;
        self.held.remove(lease);
        Ok(())
    }
}
