//! One attempt: it waits for its turn, is worked on, and is reported.

use super::renewer::Keeper;
use super::{PAUSE, Server, pause};
use splitreel_backend::lease::{LeaseError, WorkOrder};
use splitreel_core::part::TaskResult;
use splitreel_core::speculate::left_ms;
use splitreel_core::task::{Progress, TaskKind};
use splitreel_core::{Failure, FailureClass, LeaseId, TaskId};
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

/// How long a stopped process tries to hand an attempt back.
const HAND_BACK: Duration = Duration::from_secs(2);

/// The next task is claimed so long before the work on this one ends, or a tenth of its time where that is less: a claim
/// takes milliseconds, and a task that waits here for longer might have found a free slot elsewhere.
const LEAD: Duration = Duration::from_millis(500);
/// Before so much is done, an estimate of the end is worth little.
const LEAST_DONE: u16 = 900;
/// So long the next task waits for the end that was estimated, and is then handed back.
const PATIENCE: Duration = Duration::from_secs(3);

/// A lease, and what it is for.
pub(super) struct Claimed {
    pub order: WorkOrder,
    pub kind: TaskKind,
    /// When it was asked for.
    pub asked: Instant,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The one before it is still worked on.
    Waiting,
    /// Since when.
    Working(Instant),
    /// It is being reported, or was; `None`: it was not begun.
    Over(Option<Over>),
}

/// How the work on an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// It failed for reasons of this machine.
    pub is_ours: bool,
    /// It took longer than what waits for it waits.
    pub is_late: bool,
}

/// An attempt under way. Dropped, it stops.
pub(super) struct Attempt {
    stage: watch::Receiver<Stage>,
    progress: watch::Receiver<Progress>,
    /// Until when it is waited for; set when the end is seen coming.
    overdue: Arc<OnceLock<Instant>>,
    /// How it ended was taken notice of.
    is_known: bool,
    told: Option<AbortOnDropHandle<()>>,
}

impl Attempt {
    /// Starts what was claimed when it is its `turn`: when the attempt of that stage is over.
    pub(super) fn start(
        server: Arc<Server>,
        claimed: Claimed,
        turn: Option<watch::Receiver<Stage>>,
        drain: CancellationToken,
        stop: CancellationToken,
        span: Span,
    ) -> Attempt {
        let (stages, stage) = watch::channel(Stage::Waiting);
        let (progress_tx, progress) = watch::channel(Progress::default());
        let overdue = Arc::default();
        let running =
            Running { server, claimed, overdue: Arc::clone(&overdue), cancel: stop.child_token(), drain, stop };
        let told = tokio::spawn(running.run(turn, stages, progress_tx).instrument(span));
        Attempt { stage, progress, overdue, is_known: false, told: Some(AbortOnDropHandle::new(told)) }
    }

    /// To wait for.
    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Waits until the work is over or, if it `may_be_early`, about to be, and tells which.
    pub(super) async fn until_nearly_over(&mut self, may_be_early: bool) -> Stage {
        loop {
            let stage = *self.stage.borrow_and_update();
            let look = match stage {
                Stage::Working(since) if self.overdue.get().is_none() => {
                    time_for_next(since.elapsed(), self.progress.borrow_and_update().done_per_mille)
                }
                Stage::Working(_) if may_be_early => return stage,
                Stage::Waiting | Stage::Working(_) => None,
                Stage::Over(_) => return stage,
            };
            tokio::select! {
                changed = self.stage.changed() => if changed.is_err() {
                    // It broke down: that says nothing of this machine.
                    return Stage::Over(None);
                },
                Ok(()) = self.progress.changed() => {}
                () = tokio::time::sleep(look.unwrap_or_default()), if look.is_some() => {
                    let _ = self.overdue.set(Instant::now() + PATIENCE);
                }
            }
        }
    }

    /// How it ended, once: when it has and that was not asked before.
    pub(super) fn news(&mut self) -> Option<Over> {
        let Stage::Over(over) = *self.stage.borrow() else { return None };
        if std::mem::replace(&mut self.is_known, true) { None } else { over }
    }

    /// Waits until it was reported.
    pub(super) async fn end(&mut self) {
        if let Some(told) = self.told.take()
            && let Err(error) = told.await
        {
            // A panic costs one attempt, whose lease runs out; the slot goes on.
            tracing::error!(%error, "an attempt broke down");
        }
    }
}

/// In how long the next task should be claimed, after so long and with so much done. `None`: that cannot be told yet.
fn time_for_next(worked: Duration, done_per_mille: u16) -> Option<Duration> {
    let worked_ms = u64::try_from(worked.as_millis()).unwrap_or(u64::MAX);
    let left = Duration::from_millis(left_ms(worked_ms, done_per_mille));
    (done_per_mille >= LEAST_DONE).then(|| left.saturating_sub(LEAD.min(worked / 10)))
}

/// What an attempt works with.
struct Running {
    server: Arc<Server>,
    claimed: Claimed,
    overdue: Arc<OnceLock<Instant>>,
    /// Fires when the lease is lost or the process stops.
    cancel: CancellationToken,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Running {
    async fn run(
        self,
        turn: Option<watch::Receiver<Stage>>,
        stage: watch::Sender<Stage>,
        progress: watch::Sender<Progress>,
    ) {
        let Claimed { order, kind, asked } = &self.claimed;
        let keeper = Keeper {
            leases: Arc::clone(&self.server.leases),
            order: order.clone(),
            progress: progress.subscribe(),
            cancel: self.cancel.clone(),
            renewed: *asked,
        };
        let _keeper = AbortOnDropHandle::new(tokio::spawn(keeper.run().in_current_span()));
        let is_turn = match turn {
            Some(turn) => self.wait(turn).await,
            None => !self.drain.is_cancelled(),
        };
        let begun = Instant::now();
        let (outcome, over) = if is_turn {
            stage.send_replace(Stage::Working(begun));
            let (outcome, is_ours) = self.work(progress).await;
            let is_late = self.overdue.get().is_some_and(|at| *at < Instant::now());
            (outcome, Some(Over { is_ours, is_late }))
        } else {
            (Err(self.handed_back()), None)
        };
        stage.send_replace(Stage::Over(over));
        let ended = self.report(&outcome, over.is_some_and(|over| over.is_ours)).await;
        record::attempt_ended(*kind, ended, begun.elapsed());
        if ended != AttemptOutcome::Completed {
            trace::failed(&Span::current(), ended.as_str());
        }
    }

    /// Waits until the attempt before is over. False: this one is not to begin.
    async fn wait(&self, mut turn: watch::Receiver<Stage>) -> bool {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = self.drain.cancelled() => false,
            // An error: the one before broke down.
            _ = turn.wait_for(|stage| matches!(stage, Stage::Over(_))) => true,
            () = tokio::time::sleep(PATIENCE) => false,
        }
    }

    /// Works the order off. True: it failed for reasons of this machine.
    async fn work(&self, progress: watch::Sender<Progress>) -> (Result<TaskResult, Failure>, bool) {
        let _busy = record::busy_slot(self.server.queue.label());
        let order = &self.claimed.order;
        tracing::debug!(task = %order.task, attempt = order.attempt, "attempt started");
        let outcome = self.server.role.perform(order, progress, &self.cancel).await;
        // What was cancelled says nothing of this machine.
        let is_infra = outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Infra);
        (outcome, is_infra && !self.cancel.is_cancelled())
    }

    /// Brings an attempt to its end. Nothing of it is left when the lease is lost: no process, no report. What failed
    /// for reasons of this machine is told so even when the report is refused.
    async fn report(&self, outcome: &Result<TaskResult, Failure>, is_ours: bool) -> AttemptOutcome {
        let (task, lease) = self.lease();
        let leases = &self.server.leases;
        // The lease is kept alive while the report is repeated; a refusal ends it.
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
                    tracing::info!(%task, %refusal, "report refused");
                    return if is_ours { AttemptOutcome::Infra } else { AttemptOutcome::Refused };
                }
                Err(error) => tracing::warn!(%task, %error, "report unanswered"),
            }
            pause(&self.cancel, PAUSE).await;
        }
        tracing::info!(%task, "attempt dropped");
        if self.stop.is_cancelled() {
            // One try: an unanswered one costs what a killed process costs.
            let _ = tokio::time::timeout(HAND_BACK, leases.fail(task, lease, self.handed_back())).await;
        }
        AttemptOutcome::Dropped
    }

    fn lease(&self) -> (TaskId, LeaseId) {
        (self.claimed.order.task, self.claimed.order.lease)
    }

    fn handed_back(&self) -> Failure {
        let why = if self.drain.is_cancelled() || self.stop.is_cancelled() { "was stopped" } else { "is not free" };
        Failure::infra("handed_back", format!("worker {} {why}", self.server.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_task_is_claimed_shortly_before_the_end_and_not_on_a_guess() {
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
