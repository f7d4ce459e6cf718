//! One slot: attempts one after the other, each claimed while the one before it is about to end.
//!
//! At any time a slot has at most two leases: of the attempt that it works on, and of the one after it that waits for its
//! turn or the one before it that is being reported. What is done and not told is at risk, and what waits here could be
//! worked on elsewhere.

use super::work::{Attempt, Claimed, Stage};
use super::{PAUSE, Server, pause};
use crate::doorbell::Ring;
use crate::lease::{LeaseError, WorkOrder};
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

impl Server {
    pub(super) async fn slot(self: Arc<Self>, drain: CancellationToken, stop: CancellationToken) {
        let mut rest = Duration::ZERO;
        let (mut current, mut before): (Option<Attempt>, Option<Attempt>) = (None, None);
        while !drain.is_cancelled() {
            if let Some(attempt) = &mut current {
                let stage = tokio::select! {
                    biased;
                    () = drain.cancelled() => break,
                    stage = attempt.until_nearly_over() => stage,
                };
                if let Some(reported) = before.take() {
                    reported.end().await;
                }
                rest = match stage {
                    Stage::Over { is_ours: true } => rest.saturating_mul(2).clamp(REST, LONGEST_REST),
                    _ => Duration::ZERO,
                };
                if matches!(stage, Stage::Over { .. }) {
                    before = current.take();
                }
            }
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
            let Some(claimed) = self.take(ring, &drain).instrument(span.clone()).await else { continue };
            let turn = current.as_ref().map(Attempt::stage);
            let next = Attempt::start(Arc::clone(&self), claimed, turn, drain.clone(), stop.clone(), span);
            before = current.replace(next).or(before);
        }
        for attempt in [before, current].into_iter().flatten() {
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
