//! One slot: attempts one after the other, each claimed while the one before it is about to end.
//!
//! At any time a slot has at most two leases: of the attempt that it works on, and of the one after it that waits for its
//! turn or the one before it that is being reported. What is done and not told is at risk, and what waits here could be
//! worked on elsewhere.

use super::attempt::{Attempt, Claimed, Over, Stage};
use super::{PAUSE, Server, pause};
use splitreel_backend::doorbell::Ring;
use splitreel_backend::lease::{LeaseError, WorkOrder};
use splitreel_core::LeaseId;
use splitreel_telemetry::trace::{self, Parent, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How often a claim is asked before the ring is given up: an answer that was lost must not cost a lease's time.
const CLAIM_TRIES: u32 = 3;

/// How long a slot rests after an attempt that failed for reasons of this machine; it doubles while they last. A
/// worker that fails at once is always free, and would get most of the work.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// What a slot learned of the attempts that are over.
struct Habits {
    /// How long it rests before it takes another.
    rest: Duration,
    /// Attempts end when they seem to.
    claims_ahead: bool,
}

impl Habits {
    fn learn(&mut self, news: Option<Over>) {
        let Some(over) = news else { return };
        self.rest = if over.is_ours { self.rest.saturating_mul(2).clamp(REST, LONGEST_REST) } else { Duration::ZERO };
        self.claims_ahead = !over.is_late;
    }
}

/// Comes to an end when the attempt fails for reasons of this machine.
async fn failed_here(attempt: &Option<Attempt>) {
    let Some(attempt) = attempt else { return std::future::pending().await };
    if attempt.stage().wait_for(|stage| matches!(stage, Stage::Over(Some(over)) if over.is_ours)).await.is_err() {
        std::future::pending().await
    }
}

impl Server {
    pub(super) async fn slot(self: Arc<Self>, drain: CancellationToken, stop: CancellationToken) {
        let mut habits = Habits { rest: Duration::ZERO, claims_ahead: true };
        let (mut current, mut before): (Option<Attempt>, Option<Attempt>) = (None, None);
        while !drain.is_cancelled() {
            if let Some(attempt) = &mut current {
                let stage = tokio::select! {
                    biased;
                    () = drain.cancelled() => break,
                    stage = attempt.until_nearly_over(habits.claims_ahead) => stage,
                };
                if let Some(mut reported) = before.take() {
                    reported.end().await;
                    habits.learn(reported.news());
                }
                habits.learn(attempt.news());
                if matches!(stage, Stage::Over(_)) {
                    before = current.take();
                }
            }
            pause(&drain, habits.rest).await;
            let ring = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                () = stop.cancelled() => break,
                // It rests first.
                () = failed_here(&current) => continue,
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
            let Some(claimed) = self.take(ring, &drain).instrument(span.clone()).await else { continue };
            let turn = current.as_ref().map(Attempt::stage);
            let next = Attempt::start(Arc::clone(&self), claimed, turn, drain.clone(), stop.clone(), span);
            before = current.replace(next).or(before);
        }
        for mut attempt in [before, current].into_iter().flatten() {
            attempt.end().await;
        }
    }

    /// Follows a ring to its lease; `None`: there was none.
    async fn take(&self, ring: Ring, drain: &CancellationToken) -> Option<Claimed> {
        let asked = Instant::now();
        // Right after the claim, not after the work: how long an encode takes is nothing to the broker.
        match self.claim(&ring, drain).instrument(trace::step(Step::Claim)).await {
            Ok(order) => {
                self.doorbell.answered(&ring).await;
                Some(Claimed { order, kind: ring.kind, asked })
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
}
