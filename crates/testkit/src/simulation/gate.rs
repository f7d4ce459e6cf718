//! The gate through which every call of one process incarnation passes: there it fails, waits, stands still or dies.

use super::chaos::{Chaos, Stroke};
use super::lock;
use async_trait::async_trait;
use splitreel_backend::Wakeup;
use splitreel_backend::fault::{FaultPlan, Verdict, WakeupVerdict};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until};

/// One incarnation of a process, as the seams see it.
pub(super) struct Gate {
    name: String,
    slot: usize,
    chaos: Arc<Chaos>,
    crashed: UnboundedSender<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_dead: bool,
    stands_still_until: Option<Instant>,
    /// By seam.
    cuts: BTreeMap<&'static str, Cut>,
}

/// A seam that the process cannot use for a while, though its peers can.
#[derive(Clone, Copy, Debug)]
struct Cut {
    lost: Lost,
    until: Instant,
}

/// What a broken connection loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing arrives.
    Requests,
    /// What is asked for is done, but nobody hears of it.
    Answers,
}

/// How long a caller waits for an answer that does not come.
const NO_ANSWER: Duration = Duration::from_secs(1);

impl Gate {
    /// `crashed` receives the slot of the process when it crashes.
    pub(super) fn new(name: String, slot: usize, chaos: Arc<Chaos>, crashed: UnboundedSender<usize>) -> Self {
        Gate { name, slot, chaos, crashed, state: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// No call gets through any more, not even a call that waits inside.
    pub(super) fn close(&self) {
        lock(&self.state).is_dead = true;
    }

    /// Cuts the process off from a seam.
    pub(super) fn cut(&self, seam: &'static str, lost: Lost, time: Duration) {
        self.chaos.note(&self.name, || format!("{seam}: {lost:?} are lost for {time:?}"));
        lock(&self.state).cuts.insert(seam, Cut { lost, until: Instant::now() + time });
    }

    fn is_cut(&self, op: &str, is_after: bool) -> bool {
        let lost = if is_after { Lost::Answers } else { Lost::Requests };
        let seam = op.split_once('.').map_or(op, |(seam, _)| seam);
        let is_cut = lock(&self.state).cuts.get(seam).is_some_and(|cut| cut.lost == lost && cut.until > Instant::now());
        is_cut && !self.chaos.is_calm()
    }

    fn is_dead(&self) -> bool {
        lock(&self.state).is_dead
    }

    async fn pass(&self, op: &'static str, is_after: bool) -> Verdict {
        self.alive().await;
        if self.is_cut(op, is_after) {
            sleep(NO_ANSWER).await;
            self.alive().await;
            return Verdict::Fail;
        }
        let verdict = match self.chaos.stroke(&self.name, op, is_after) {
            Stroke::Nothing => return Verdict::Proceed,
            Stroke::Fail => Verdict::Fail,
            Stroke::Delay(time) => {
                sleep(time).await;
                Verdict::Proceed
            }
            Stroke::Pause(time) => {
                self.stand_still(time);
                Verdict::Proceed
            }
            Stroke::Crash => {
                self.close();
                // Nobody listens when the run has ended.
                let _ = self.crashed.send(self.slot);
                Verdict::Proceed
            }
        };
        self.alive().await;
        verdict
    }

    fn stand_still(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = lock(&self.state);
        state.stands_still_until = Some(state.stands_still_until.map_or(until, |u| u.max(until)));
    }

    /// Returns when the process runs; never, once it is dead.
    async fn alive(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = lock(&self.state).stands_still_until;
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }
}

#[async_trait]
impl FaultPlan for Gate {
    async fn before(&self, op: &'static str) -> Verdict {
        self.pass(op, false).await
    }

    async fn after(&self, op: &'static str) -> Verdict {
        self.pass(op, true).await
    }

    async fn on_wakeup(&self, wakeup: &Wakeup) -> WakeupVerdict {
        let verdict = self.chaos.wakeup_verdict();
        self.chaos.note(&self.name, || format!("wakeup {} {}: {verdict:?}", wakeup.task.number, wakeup.attempt));
        verdict
    }
}
