//! One slot: runs attempts one after the other and claims each while the previous one is about to end.
//!
//! A slot holds at most two leases: that of the attempt it works on, and either that of the next attempt, which waits for
//! its turn, or that of the previous attempt, which is being reported. A larger number would put more unreported work at
//! risk and keep tasks waiting here that another worker could run.

use super::attempt::{Attempt, Claimed, Ending, Phase};
use super::runner::{PAUSE, Runner, pause};
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::lease::{LeaseError, WorkOrder};
use splitreel_core::LeaseId;
use splitreel_telemetry::trace::{self, Parent, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Number of times a claim is sent before its wakeup is returned: a lost answer must not cost the length of a lease.
const CLAIM_TRIES: u32 = 3;

/// Rest after an attempt that failed for reasons of this machine; each further such failure doubles the rest. Without it
/// a worker whose attempts fail at once would always be free and receive most of the work.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// What earlier attempts say about the next one.
struct Experience {
    /// Rest before the next wakeup is taken.
    rest: Duration,
    /// Progress predicts the end of an attempt well enough to claim the next task early.
    claims_early: bool,
}

impl Experience {
    fn add(&mut self, ending: Option<Ending>) {
        let Some(ending) = ending else { return };
        self.rest = if ending.is_ours { self.rest.saturating_mul(2).clamp(REST, LONGEST_REST) } else { Duration::ZERO };
        self.claims_early = !ending.is_late;
    }
}

/// Resolves when the attempt fails for reasons of this machine; never without an attempt.
async fn failed_here(attempt: &Option<Attempt>) {
    let Some(attempt) = attempt else { return std::future::pending().await };
    if attempt.phase().wait_for(|phase| matches!(phase, Phase::Ended(Some(ending)) if ending.is_ours)).await.is_err() {
        std::future::pending().await
    }
}

/// Room for one attempt at a time.
pub(super) struct Slot {
    runner: Arc<Runner>,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Slot {
    pub(super) fn new(runner: Arc<Runner>, drain: CancellationToken, stop: CancellationToken) -> Slot {
        Slot { runner, drain, stop }
    }

    pub(super) async fn run(self) {
        let mut experience = Experience { rest: Duration::ZERO, claims_early: true };
        let (mut current, mut previous): (Option<Attempt>, Option<Attempt>) = (None, None);
        while !self.drain.is_cancelled() {
            if let Some(attempt) = &mut current {
                let phase = tokio::select! {
                    biased;
                    () = self.drain.cancelled() => break,
                    phase = attempt.until_nearly_over(experience.claims_early) => phase,
                };
                if let Some(mut reported) = previous.take() {
                    reported.end().await;
                    experience.add(reported.take_ending());
                }
                experience.add(attempt.take_ending());
                if matches!(phase, Phase::Ended(_)) {
                    previous = current.take();
                }
            }
            pause(&self.drain, experience.rest).await;
            let wakeup = tokio::select! {
                biased;
                () = self.drain.cancelled() => break,
                () = self.stop.cancelled() => break,
                // The rest comes first.
                () = failed_here(&current) => continue,
                wakeup = self.runner.doorbell.next(self.runner.queue) => wakeup,
            };
            let wakeup = match wakeup {
                Ok(wakeup) => wakeup,
                Err(error) => {
                    tracing::warn!(%error, "doorbell receive failed; retrying");
                    pause(&self.drain, PAUSE).await;
                    continue;
                }
            };
            if let Some(next) = self.start(wakeup, current.as_ref()).await {
                previous = current.replace(next).or(previous);
            }
        }
        for mut attempt in [previous, current].into_iter().flatten() {
            attempt.end().await;
        }
    }

    /// Claims the task of a wakeup and starts the attempt, which waits for the end of `current`.
    async fn start(&self, wakeup: Wakeup, current: Option<&Attempt>) -> Option<Attempt> {
        let parent = Parent::resumed(&wakeup.trace);
        let span = trace::attempt(&parent, wakeup.task, wakeup.kind, wakeup.attempt, &self.runner.id);
        let claimed = self.take(wakeup).instrument(span.clone()).await?;
        let turn = current.map(Attempt::phase);
        Some(Attempt::start(Arc::clone(&self.runner), claimed, turn, self.drain.clone(), self.stop.clone(), span))
    }

    /// Turns a wakeup into a lease; `None` when the claim was refused or stayed unanswered.
    async fn take(&self, wakeup: Wakeup) -> Option<Claimed> {
        let asked = Instant::now();
        let doorbell = &self.runner.doorbell;
        // Acknowledged after the claim, not after the work: the length of an encode must not matter to the broker.
        match self.claim(&wakeup).instrument(trace::step(Step::Claim)).await {
            Ok(order) => {
                doorbell.answered(&wakeup).await;
                Some(Claimed { order, kind: wakeup.kind, asked })
            }
            Err(LeaseError::Refused(refusal)) => {
                doorbell.answered(&wakeup).await;
                tracing::debug!(task = %wakeup.task, %refusal, "claim refused; wakeup discarded");
                None
            }
            Err(error) => {
                tracing::warn!(task = %wakeup.task, %error, "claim timed out; message returned to the queue");
                pause(&self.drain, PAUSE).await;
                doorbell.unanswered(&wakeup).await;
                None
            }
        }
    }

    async fn claim(&self, wakeup: &Wakeup) -> Result<WorkOrder, LeaseError> {
        let lease = LeaseId(self.runner.ids.fresh());
        for _ in 1..CLAIM_TRIES {
            match self.runner.leases.claim(wakeup, &self.runner.id, lease).await {
                Err(error) if !matches!(error, LeaseError::Refused(_)) => {
                    tracing::debug!(task = %wakeup.task, %error, "claim timed out; retrying");
                    pause(&self.drain, PAUSE).await;
                }
                answered => return answered,
            }
        }
        self.runner.leases.claim(wakeup, &self.runner.id, lease).await
    }
}
