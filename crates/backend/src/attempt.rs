//! How a role serves a queue: wait for a ring, claim, hold the lease while working, report. Shared by workers
//! and assemblers, so that fencing and reporting exist once.

use crate::doorbell::{Doorbell, Queue, Ring};
use crate::lease::{LeaseError, Leases, WorkOrder};
use crate::world::Ids;
use async_trait::async_trait;
use splitreel_core::part::TaskResult;
use splitreel_core::task::{Progress, TaskKind};
use splitreel_core::{Failure, FailureClass, LeaseId, TaskId, WorkerId};
use splitreel_telemetry::labels::{self, AttemptOutcome};
use splitreel_telemetry::record;
use splitreel_telemetry::trace::{self, Parent, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

/// A renewal is sent this often per lease length.
const RENEWALS_PER_TTL: u32 = 4;
/// How long a stopped process tries to hand an attempt back.
const HAND_BACK: Duration = Duration::from_secs(2);
/// Pause after the coordinator or the doorbell did not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a claim is asked before the ring is given up: an answer that was lost must not cost a lease's time.
const CLAIM_TRIES: u32 = 3;

/// How long a slot rests after an attempt that failed for reasons of this machine; it doubles while they last. A
/// worker that fails at once is always free, and would get most of the work.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// Does the work of one attempt. When `cancel` fires it must stop soon and leave nothing running; its outcome
/// is then dropped.
#[async_trait]
pub trait Perform: Send + Sync {
    /// Works off an order.
    async fn perform(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure>;
}

/// Serves one queue with a number of slots.
pub struct Server {
    /// Name of this process incarnation.
    pub id: WorkerId,
    /// Attempts at the same time.
    pub slots: usize,
    /// What is served.
    pub queue: Queue,
    /// The coordinator.
    pub leases: Arc<dyn Leases>,
    /// Where rings come from.
    pub doorbell: Arc<dyn Doorbell>,
    /// Who does the work.
    pub role: Arc<dyn Perform>,
    /// Names leases.
    pub ids: Arc<dyn Ids>,
}

impl Server {
    /// Takes rings until `drain`, and ends when what runs then has ended. With `stop` running attempts are stopped
    /// and handed back, so that others need not wait for their leases to run out.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        let slots = self.slots.max(1);
        record::set_slots(self.queue.label(), slots as u64);
        let server = Arc::new(self);
        let mut running = JoinSet::new();
        let slot = || {
            let (server, drain, stop) = (Arc::clone(&server), drain.clone(), stop.clone());
            async move { server.slot(drain, stop).await }
        };
        for _ in 0..slots {
            running.spawn(slot());
        }
        while let Some(ended) = running.join_next().await {
            // A panic costs one attempt, whose lease runs out; the slot itself must not be lost.
            if let Err(error) = ended
                && !drain.is_cancelled()
                && !stop.is_cancelled()
            {
                tracing::error!(%error, "a slot broke down and is replaced");
                running.spawn(slot());
            }
        }
    }

    async fn slot(self: Arc<Self>, drain: CancellationToken, stop: CancellationToken) {
        let mut rest = Duration::ZERO;
        // One attempt is reported beside the work on the next one, never more: what is done and not told is at risk.
        let mut report: Option<JoinHandle<()>> = None;
        while !drain.is_cancelled() {
            pause(&drain, rest).await;
            let ring = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                () = stop.cancelled() => break,
                ring = self.doorbell.next(self.queue) => ring,
            };
            let ring = match ring {
                Ok(ring) => ring,
                Err(error) => {
                    tracing::warn!(%error, "no rings");
                    pause(&drain, PAUSE).await;
                    continue;
                }
            };
            let span = trace::attempt(&Parent::resumed(&ring.trace), ring.task, ring.kind, ring.attempt, &self.id);
            let Some(worked) = self.take(ring, &drain, &stop).instrument(span.clone()).await else { continue };
            rest = if worked.is_ours { rest.saturating_mul(2).clamp(REST, LONGEST_REST) } else { Duration::ZERO };
            if let Some(before) = report.take() {
                let _ = before.await;
            }
            report = Some(tokio::spawn(Arc::clone(&self).tell(worked, stop.clone()).instrument(span)));
        }
        if let Some(last) = report {
            let _ = last.await;
        }
    }

    /// Follows a ring to the end of its work; `None`: there was none.
    async fn take(&self, ring: Ring, drain: &CancellationToken, stop: &CancellationToken) -> Option<Worked> {
        let asked = Instant::now();
        // Right after the claim, not after the work: how long an encode takes is nothing to the broker.
        match self.claim(&ring, drain).instrument(trace::step(Step::Claim)).await {
            Ok(order) => {
                self.doorbell.answered(&ring).await;
                let _busy = record::busy_slot(self.queue.label());
                Some(self.work(order, ring.kind, asked, stop).await)
            }
            Err(LeaseError::Refused(refusal)) => {
                self.doorbell.answered(&ring).await;
                tracing::debug!(task = %ring.task, %refusal, "ring forgotten");
                None
            }
            Err(error) => {
                tracing::warn!(task = %ring.task, %error, "claim unanswered, the ring will come again");
                pause(drain, PAUSE).await;
                self.doorbell.unanswered(&ring).await;
                None
            }
        }
    }

    async fn claim(&self, ring: &Ring, drain: &CancellationToken) -> Result<WorkOrder, LeaseError> {
        let lease = LeaseId(self.ids.fresh());
        for _ in 1..CLAIM_TRIES {
            match self.leases.claim(ring, &self.id, lease).await {
                Err(error @ LeaseError::Unavailable { .. }) => {
                    tracing::debug!(task = %ring.task, %error, "claim unanswered");
                    pause(drain, PAUSE).await;
                }
                answered => return answered,
            }
        }
        self.leases.claim(ring, &self.id, lease).await
    }

    /// Works an order off, while its lease is kept alive.
    async fn work(&self, order: WorkOrder, kind: TaskKind, asked: Instant, stop: &CancellationToken) -> Worked {
        let (task, lease, attempt) = (order.task, order.lease, order.attempt);
        let cancel = stop.child_token();
        let (progress_tx, progress) = watch::channel(Progress::default());
        let keeper = Keeper {
            leases: Arc::clone(&self.leases),
            order: order.clone(),
            progress,
            cancel: cancel.clone(),
            renewed: asked,
        };
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.run().in_current_span()));
        tracing::debug!(%task, attempt, "attempt started");
        let outcome = self.role.perform(&order, progress_tx, &cancel).await;
        // What was cancelled says nothing of this machine.
        let is_infra = outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Infra);
        let is_ours = is_infra && !cancel.is_cancelled();
        Worked { task, lease, kind, asked, outcome, is_ours, cancel, _keeper: keeper }
    }

    /// Reports an attempt and notes how it ended.
    async fn tell(self: Arc<Self>, worked: Worked, stop: CancellationToken) {
        let outcome = self.report(&worked, &stop).await;
        record::attempt_ended(worked.kind, outcome, worked.asked.elapsed());
        if outcome != AttemptOutcome::Completed {
            trace::failed(&tracing::Span::current(), outcome.as_str());
        }
    }

    /// Brings an attempt to its end. Nothing of it is left when the lease is lost: no process, no report. What failed
    /// for reasons of this machine is told so even when the report is refused.
    async fn report(&self, worked: &Worked, stop: &CancellationToken) -> AttemptOutcome {
        let Worked { task, lease, outcome, cancel, .. } = worked;
        let (task, lease) = (*task, *lease);
        // The lease is kept alive while the report is repeated; a refusal ends it.
        while !cancel.is_cancelled() {
            let report = async {
                match outcome {
                    Ok(result) => self.leases.complete(task, lease, result.clone()).await,
                    Err(failure) => self.leases.fail(task, lease, failure.clone()).await,
                }
            };
            match report.instrument(trace::step(Step::Report)).await {
                Ok(()) => {
                    return outcome.as_ref().map_or_else(|f| f.class.into(), |_| AttemptOutcome::Completed);
                }
                Err(LeaseError::Refused(refusal)) => {
                    tracing::info!(%task, %refusal, "report refused");
                    return if worked.is_ours { AttemptOutcome::Infra } else { AttemptOutcome::Refused };
                }
                Err(error) => tracing::warn!(%task, %error, "report unanswered"),
            }
            pause(cancel, PAUSE).await;
        }
        tracing::info!(%task, "attempt dropped");
        if stop.is_cancelled() {
            let failure = Failure::infra("handed_back", format!("worker {} was stopped", self.id));
            // One try: an unanswered one costs what a killed process costs.
            let _ = tokio::time::timeout(HAND_BACK, self.leases.fail(task, lease, failure)).await;
        }
        AttemptOutcome::Dropped
    }
}

/// An attempt whose work has ended and is still to be reported.
struct Worked {
    task: TaskId,
    lease: LeaseId,
    kind: TaskKind,
    /// When its claim was asked for.
    asked: Instant,
    outcome: Result<TaskResult, Failure>,
    /// It failed for reasons of this machine.
    is_ours: bool,
    /// Fires when the lease is lost or the process stops.
    cancel: CancellationToken,
    /// Keeps the lease alive.
    _keeper: AbortOnDropHandle<()>,
}

impl Queue {
    fn label(self) -> labels::Queue {
        match self {
            Queue::Work => labels::Queue::Work,
            Queue::Assemble => labels::Queue::Assemble,
        }
    }
}

async fn pause(cancel: &CancellationToken, length: Duration) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}

/// Keeps one lease alive, and cancels the attempt when that fails.
struct Keeper {
    leases: Arc<dyn Leases>,
    order: WorkOrder,
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    renewed: Instant,
}

impl Keeper {
    async fn run(mut self) {
        let ttl = Duration::from_millis(u64::try_from(self.order.ttl_ms).unwrap_or(1));
        let every = ttl / RENEWALS_PER_TTL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.leases.nudged(self.order.lease) => {}
            }
            let sent = Instant::now();
            let progress = *self.progress.borrow();
            // An answer that comes later than the lease lasts is worth nothing.
            let left = (self.renewed + ttl).saturating_duration_since(sent);
            match tokio::time::timeout(left, self.leases.renew(self.order.task, self.order.lease, progress)).await {
                Ok(Ok(_)) => self.renewed = sent,
                Ok(Err(LeaseError::Refused(refusal))) => {
                    tracing::info!(task = %self.order.task, %refusal, "lease gone");
                    return self.cancel.cancel();
                }
                Ok(Err(error)) => tracing::warn!(task = %self.order.task, %error, "renewal unanswered"),
                Err(_) => {}
            }
            // The fence: past the deadline somebody else may hold the task.
            if self.renewed.elapsed() >= ttl {
                tracing::warn!(task = %self.order.task, "lease ran out unanswered");
                return self.cancel.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Work;
    use crate::memory::ChannelDoorbell;
    use crate::world::Machine;
    use splitreel_core::JobId;
    use splitreel_core::source::SourceRef;
    use splitreel_core::task::Refusal;
    use tokio::sync::{Semaphore, mpsc};
    use uuid::Uuid;

    /// Answers claims, or none; knows no lease.
    struct Forgetful {
        asked: mpsc::UnboundedSender<LeaseId>,
        answers: bool,
        /// Each report waits for one of these and uses it up.
        reports: Option<Arc<Semaphore>>,
    }

    #[async_trait]
    impl Leases for Forgetful {
        async fn claim(&self, ring: &Ring, _worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
            self.asked.send(lease).unwrap();
            if !self.answers {
                return Err(LeaseError::Unavailable { what: "no answer".into() });
            }
            Ok(WorkOrder {
                task: ring.task,
                attempt: ring.attempt,
                lease,
                ttl_ms: 15_000,
                media_failures: 0,
                source: SourceRef { locator: String::new(), bytes: 0, version: String::new() },
                grant: None,
                key_prefix: String::new(),
                work: Work::Probe { deep: false },
            })
        }
        async fn renew(&self, _: TaskId, _: LeaseId, _: Progress) -> Result<i64, LeaseError> {
            Err(Refusal::LeaseLost.into())
        }
        async fn complete(&self, _: TaskId, _: LeaseId, _: TaskResult) -> Result<(), LeaseError> {
            Err(Refusal::LeaseLost.into())
        }
        async fn fail(&self, _: TaskId, _: LeaseId, _: Failure) -> Result<(), LeaseError> {
            if let Some(reports) = &self.reports {
                reports.acquire().await.unwrap().forget();
            }
            Err(Refusal::LeaseLost.into())
        }
    }

    struct Idle;

    #[async_trait]
    impl Perform for Idle {
        async fn perform(
            &self,
            _: &WorkOrder,
            _: watch::Sender<Progress>,
            _: &CancellationToken,
        ) -> Result<TaskResult, Failure> {
            Err(Failure::infra("idle", "does nothing"))
        }
    }

    fn ring(number: u32) -> Ring {
        Ring {
            task: TaskId { job: JobId(Uuid::nil()), number },
            attempt: 1,
            kind: TaskKind::Segment,
            trace: Default::default(),
        }
    }

    fn server(bell: &Arc<ChannelDoorbell>, leases: Forgetful) -> Server {
        Server {
            id: WorkerId("w".into()),
            slots: 1,
            queue: Queue::Work,
            leases: Arc::new(leases),
            doorbell: Arc::clone(bell) as Arc<_>,
            role: Arc::new(Idle),
            ids: Arc::new(Machine),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_whose_attempts_fail_at_once_leaves_the_work_to_others() {
        let (asked, mut seen) = mpsc::unbounded_channel();
        let bell = Arc::new(ChannelDoorbell::new());
        bell.ring_all((0..100).map(ring).collect()).await;
        let drain = CancellationToken::new();
        let server = server(&bell, Forgetful { asked, answers: true, reports: None });
        let running = tokio::spawn(server.run(drain.clone(), CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        drain.cancel();
        running.await.unwrap();
        let mut num_claims = 0;
        while seen.try_recv().is_ok() {
            num_claims += 1;
        }
        // At 0, 1, 3, 7, 15, 31 and 47 s.
        assert_eq!(num_claims, 7);
    }

    /// Fails for reasons of the media.
    struct Spoilt;

    #[async_trait]
    impl Perform for Spoilt {
        async fn perform(
            &self,
            _: &WorkOrder,
            _: watch::Sender<Progress>,
            _: &CancellationToken,
        ) -> Result<TaskResult, Failure> {
            Err(Failure::media("spoilt", "cannot be decoded"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_starts_while_one_is_reported_and_no_more_than_one() {
        let (asked, _seen) = mpsc::unbounded_channel();
        let bell = Arc::new(ChannelDoorbell::new());
        bell.ring_all((0..5).map(ring).collect()).await;
        let reports = Arc::new(Semaphore::new(0));
        let leases = Forgetful { asked, answers: true, reports: Some(Arc::clone(&reports)) };
        let drain = CancellationToken::new();
        let server = Server { role: Arc::new(Spoilt), ..server(&bell, leases) };
        let running = tokio::spawn(server.run(drain.clone(), CancellationToken::new()));
        // The first is being reported, the second worked off and kept back.
        for expected in [2, 3, 5] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(bell.num_waiting(Queue::Work), 5 - expected);
            reports.add_permits(if expected == 3 { 2 } else { 1 });
        }
        drain.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!running.is_finished(), "what was worked off is reported before the end");
        reports.add_permits(1);
        running.await.unwrap();
        assert_eq!(reports.available_permits(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_claim_is_repeated_with_its_lease_and_the_next_ring_has_another() {
        let (asked, mut seen) = mpsc::unbounded_channel();
        let bell = Arc::new(ChannelDoorbell::new());
        bell.ring(ring(1)).await.unwrap();
        let server = server(&bell, Forgetful { asked, answers: false, reports: None });
        let drain = CancellationToken::new();
        let running = tokio::spawn(server.run(drain.clone(), CancellationToken::new()));
        let first = seen.recv().await.unwrap();
        for _ in 1..CLAIM_TRIES {
            assert_eq!(seen.recv().await, Some(first));
        }
        bell.ring(ring(1)).await.unwrap();
        assert_ne!(seen.recv().await.unwrap(), first);
        drain.cancel();
        running.await.unwrap();
    }
}
