//! One attempt: waits for its turn, runs the handler, reports the outcome.

use super::renewer::LeaseRenewer;
use super::runner::{PAUSE, Runner, pause, queue_label};
use splitreel_backend::lease::{LeaseError, WorkOrder};
use splitreel_core::part::TaskResult;
use splitreel_core::speculate::left_ms;
use splitreel_core::task::{Progress, TaskKind};
use splitreel_core::{Failure, FailureClass, FailureCode, LeaseId, TaskId};
use splitreel_telemetry::labels::AttemptOutcome;
use splitreel_telemetry::record;
use splitreel_telemetry::trace::{self, Step};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

/// Time limit for handing an attempt back from a process that stops.
const HAND_BACK: Duration = Duration::from_secs(2);

/// Lead of the next claim over the estimated end of the work, or a tenth of the time worked where that is less: a claim
/// takes milliseconds, and a task that waits here longer might have found a free slot elsewhere.
const LEAD: Duration = Duration::from_millis(500);
/// Progress, per mille, below which an estimate of the end is too uncertain to act on.
const LEAST_DONE: u16 = 900;
/// Time that the next task waits past the estimated end before it is handed back.
const PATIENCE: Duration = Duration::from_secs(3);

/// A lease and the kind of its task.
pub(super) struct Claimed {
    pub order: WorkOrder,
    pub kind: TaskKind,
    /// When the claim was sent.
    pub asked: Instant,
}

/// Phase of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The previous attempt of the slot is still worked on.
    Waiting,
    /// The handler runs, since this instant.
    Working(Instant),
    /// The work has ended and is being or was reported; `None`: it never started.
    Ended(Option<Ending>),
}

/// How the work on an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The attempt failed for reasons of this machine.
    pub is_ours: bool,
    /// The attempt outlasted the patience of the task that waited for it.
    pub is_late: bool,
}

/// An attempt under way. Dropping it stops the attempt.
pub(super) struct Attempt {
    phase: watch::Receiver<Phase>,
    progress: watch::Receiver<Progress>,
    /// When the next task stops waiting; set once the end was predicted.
    overdue: Arc<OnceLock<Instant>>,
    /// [`Attempt::take_ending`] has answered.
    is_ending_taken: bool,
    running: Option<AbortOnDropHandle<()>>,
}

impl Attempt {
    /// Starts a claimed task. The handler runs once the attempt whose phase is `turn` has ended.
    pub(super) fn start(
        runner: Arc<Runner>,
        claimed: Claimed,
        turn: Option<watch::Receiver<Phase>>,
        drain: CancellationToken,
        stop: CancellationToken,
        span: Span,
    ) -> Attempt {
        let (phases, phase) = watch::channel(Phase::Waiting);
        let (progress_tx, progress) = watch::channel(Progress::default());
        let overdue = Arc::default();
        let execution =
            Execution { runner, claimed, overdue: Arc::clone(&overdue), cancel: stop.child_token(), drain, stop };
        let running = tokio::spawn(execution.run(turn, phases, progress_tx).instrument(span));
        let running = Some(AbortOnDropHandle::new(running));
        Attempt { phase, progress, overdue, is_ending_taken: false, running }
    }

    /// The phase, to wait for changes.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Waits until the work has ended or, if `may_be_early`, is about to end; answers the phase.
    pub(super) async fn until_nearly_over(&mut self, may_be_early: bool) -> Phase {
        loop {
            let phase = *self.phase.borrow_and_update();
            let look = match phase {
                Phase::Working(since) if self.overdue.get().is_none() => {
                    time_for_next(since.elapsed(), self.progress.borrow_and_update().done_per_mille)
                }
                Phase::Working(_) if may_be_early => return phase,
                Phase::Waiting | Phase::Working(_) => None,
                Phase::Ended(_) => return phase,
            };
            tokio::select! {
                changed = self.phase.changed() => if changed.is_err() {
                    // The handler panicked, which says nothing about this machine.
                    return Phase::Ended(None);
                },
                Ok(()) = self.progress.changed() => {}
                () = tokio::time::sleep(look.unwrap_or_default()), if look.is_some() => {
                    let _ = self.overdue.set(Instant::now() + PATIENCE);
                }
            }
        }
    }

    /// How the attempt ended; `None` while it runs, and after the first answer.
    pub(super) fn take_ending(&mut self) -> Option<Ending> {
        let Phase::Ended(ending) = *self.phase.borrow() else { return None };
        if std::mem::replace(&mut self.is_ending_taken, true) { None } else { ending }
    }

    /// Waits until the report was answered or given up.
    pub(super) async fn end(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(error) = running.await
        {
            // A panic costs one attempt, whose lease expires; the slot continues.
            tracing::error!(%error, "task handler panicked; its lease will expire");
        }
    }
}

/// Time until the next task should be claimed, given the time worked and the progress so far. `None`: too early for an
/// estimate.
fn time_for_next(worked: Duration, done_per_mille: u16) -> Option<Duration> {
    let worked_ms = u64::try_from(worked.as_millis()).unwrap_or(u64::MAX);
    let left = Duration::from_millis(left_ms(worked_ms, done_per_mille));
    (done_per_mille >= LEAST_DONE).then(|| left.saturating_sub(LEAD.min(worked / 10)))
}

/// The background task of an attempt.
struct Execution {
    runner: Arc<Runner>,
    claimed: Claimed,
    overdue: Arc<OnceLock<Instant>>,
    /// Fires when the lease is lost or the process stops.
    cancel: CancellationToken,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Execution {
    async fn run(
        self,
        turn: Option<watch::Receiver<Phase>>,
        phase: watch::Sender<Phase>,
        progress: watch::Sender<Progress>,
    ) {
        let Claimed { order, kind, asked } = &self.claimed;
        let renewer = LeaseRenewer {
            leases: Arc::clone(&self.runner.leases),
            order: order.clone(),
            progress: progress.subscribe(),
            cancel: self.cancel.clone(),
            renewed: *asked,
        };
        let _renewer = AbortOnDropHandle::new(tokio::spawn(renewer.run().in_current_span()));
        let is_turn = match turn {
            Some(turn) => self.wait(turn).await,
            None => !self.drain.is_cancelled(),
        };
        let started = Instant::now();
        let (outcome, ending) = if is_turn {
            phase.send_replace(Phase::Working(started));
            let (outcome, is_ours) = self.work(progress).await;
            let is_late = self.overdue.get().is_some_and(|at| *at < Instant::now());
            (outcome, Some(Ending { is_ours, is_late }))
        } else {
            (Err(self.handed_back()), None)
        };
        phase.send_replace(Phase::Ended(ending));
        let ended = self.report(&outcome, ending.is_some_and(|ending| ending.is_ours)).await;
        record::attempt_ended(*kind, ended, started.elapsed());
        if ended != AttemptOutcome::Completed {
            trace::failed(&Span::current(), ended.as_str());
        }
    }

    /// Waits until the previous attempt has ended. False: this attempt must not start.
    async fn wait(&self, mut turn: watch::Receiver<Phase>) -> bool {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = self.drain.cancelled() => false,
            // An error means that the previous attempt panicked.
            _ = turn.wait_for(|phase| matches!(phase, Phase::Ended(_))) => true,
            () = tokio::time::sleep(PATIENCE) => false,
        }
    }

    /// Runs the handler. True: the attempt failed for reasons of this machine.
    async fn work(&self, progress: watch::Sender<Progress>) -> (Result<TaskResult, Failure>, bool) {
        let _busy = record::busy_slot(queue_label(self.runner.queue));
        let order = &self.claimed.order;
        tracing::debug!(task = %order.task, attempt = order.attempt, "attempt started");
        let outcome = self.runner.handler.handle(order, progress, &self.cancel).await;
        // A cancelled attempt says nothing about this machine.
        let is_infra = outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Infra);
        (outcome, is_infra && !self.cancel.is_cancelled())
    }

    /// Reports the outcome until it is answered, refused or the lease is lost; nothing of the attempt is left then. A
    /// failure of this machine (`is_ours`) is counted as such even when the report is refused.
    async fn report(&self, outcome: &Result<TaskResult, Failure>, is_ours: bool) -> AttemptOutcome {
        let (task, lease) = self.lease();
        let leases = &self.runner.leases;
        // The renewer keeps the lease alive meanwhile; a refusal ends it.
        while !self.cancel.is_cancelled() {
            let report = async {
                match outcome {
                    Ok(result) => leases.complete(task, lease, result.clone()).await,
                    Err(failure) => leases.fail(task, lease, failure.clone()).await,
                }
            };
            match report.instrument(trace::step(Step::Report)).await {
                Ok(()) => {
                    return outcome.as_ref().map_or_else(|f| f.class.into(), |_| AttemptOutcome::Completed);
                }
                Err(LeaseError::Refused(refusal)) => {
                    tracing::info!(%task, %refusal, "report refused; attempt abandoned");
                    return if is_ours { AttemptOutcome::Infra } else { AttemptOutcome::Refused };
                }
                Err(error) => tracing::warn!(%task, %error, "completion report timed out; retrying"),
            }
            pause(&self.cancel, PAUSE).await;
        }
        tracing::info!(%task, "attempt abandoned: lease lost or process stopping");
        if self.stop.is_cancelled() {
            // One try: without an answer the lease has to expire, as after a kill.
            let _ = tokio::time::timeout(HAND_BACK, leases.fail(task, lease, self.handed_back())).await;
        }
        AttemptOutcome::Dropped
    }

    fn lease(&self) -> (TaskId, LeaseId) {
        (self.claimed.order.task, self.claimed.order.lease)
    }

    fn handed_back(&self) -> Failure {
        let why = if self.drain.is_cancelled() || self.stop.is_cancelled() { "was stopped" } else { "is not free" };
        Failure::of(FailureCode::HandedBack, format!("worker {} {why}", self.runner.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_task_is_claimed_shortly_before_the_estimated_end() {
        let at = |worked_ms, done| time_for_next(Duration::from_millis(worked_ms), done).map(|d| d.as_millis());
        assert_eq!(at(1_800, 900), Some(20), "a tenth of its time ahead");
        assert_eq!(at(36_000, 900), Some(3_500), "half a second ahead");
        assert_eq!(at(1_900, 950), Some(0));
        assert_eq!(at(60_000, 1_000), Some(0));
        assert_eq!(at(60_000, 899), None);
        assert_eq!(at(0, 900), Some(0));
        assert_eq!(at(0, 0), None);
    }
}
