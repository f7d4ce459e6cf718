//! The loops: pump (dispatch, relay), planner, reaper, sweeper, straggler scan, garbage collector. Each is safe when
//! another coordinator runs it too, and when it is cancelled anywhere.

use crate::Coordinator;
use splitreel_backend::{Queue, StoreError};
use splitreel_telemetry::labels::Pass;
use splitreel_telemetry::record;
use splitreel_telemetry::trace::{self, Parent};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

/// A pass of a loop that fails and is retried.
#[derive(Clone, Debug)]
pub struct StalledPass {
    /// When it failed for the first time, in milliseconds since the epoch.
    pub since_ms: i64,
    /// The last error.
    pub error: Arc<StoreError>,
}

/// More claims per second than a coordinator answers.
const FASTEST_CLAIMS_PER_S: u64 = 10_000;
const LONGEST_REST: Duration = Duration::from_millis(20);

impl Coordinator {
    /// Runs until `shutdown`. Store failures are logged and tried again with the next tick.
    pub async fn run(&self, shutdown: CancellationToken) {
        // Beside the rest: they ask storage for objects of many jobs, and a worker may be lost meanwhile.
        tokio::join!(self.keep_going(&shutdown), self.keep_planning(&shutdown), self.keep_clean(&shutdown));
    }

    async fn keep_planning(&self, shutdown: &CancellationToken) {
        while shutdown.run_until_cancelled(self.inner.to_plan.notified()).await.is_some() {
            let planning = record::pass(Pass::Plan, self.plan_waiting());
            match shutdown.run_until_cancelled(planning).await {
                Some(planned) => {
                    if planned.as_ref().is_ok_and(|has_planned| *has_planned) {
                        self.wake();
                    }
                    self.note("planning", planned.map(drop));
                }
                None => return,
            }
        }
    }

    async fn keep_going(&self, shutdown: &CancellationToken) {
        let c = &self.inner.config;
        // Wakeups of an earlier process are lost with it; claims make repeated ones harmless.
        self.sweep(i64::MAX).await;
        let mut swept_ms = self.now();
        let now = Instant::now();
        let mut pump = interval_at(now, c.pump_every);
        let mut reap = interval_at(now, c.reap_every);
        let mut sweep = interval_at(now + c.sweep_every, c.sweep_every);
        let mut speculate = c.speculate_every.map(|every| interval_at(now + every, every));
        for i in [&mut pump, &mut reap, &mut sweep].into_iter().chain(&mut speculate) {
            i.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.inner.wake.notified() => {
                    self.pump().await;
                    tokio::time::sleep(rest_of(self.in_flight_limit().prefetch)).await;
                }
                _ = reap.tick() => self.reap().await,
                _ = sweep.tick() => {
                    let earlier = std::mem::replace(&mut swept_ms, self.now());
                    // After the clock was set back, the age of a wakeup says nothing.
                    let lost = if swept_ms < earlier { i64::MAX } else { swept_ms.saturating_sub(c.wakeup_lost_after_ms) };
                    self.sweep(lost).await;
                    self.pump().await;
                }
                () = next(&mut speculate) => self.speculate().await,
                _ = pump.tick() => self.pump().await,
            }
        }
    }

    async fn pump(&self) {
        self.inner.to_plan.notify_one();
        let (store, c) = (&self.inner.store, &self.inner.config);
        let shares = self.shares();
        let dispatched =
            record::pass(Pass::Dispatch, store.dispatch(&c.scope, self.in_flight_limit(), &shares, self.now())).await;
        let relayed = match dispatched {
            Ok(_) => record::pass(Pass::Relay, self.relay()).await,
            Err(error) => Err(error),
        };
        self.note("dispatch", relayed);
    }

    /// Records since when a pass fails.
    fn note(&self, what: &'static str, outcome: Result<(), StoreError>) {
        let mut stalled = self.inner.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => drop(stalled.remove(what)),
            Err(error) => {
                tracing::warn!(%error, pass = what, "engine pass failed; retrying");
                let since_ms = stalled.get(what).map_or_else(|| self.now(), |earlier| earlier.since_ms);
                stalled.insert(what, StalledPass { since_ms, error: Arc::new(error) });
            }
        }
    }

    /// The pass that has been failing for longest, for callers that wait for a job.
    pub fn stalled(&self) -> Option<StalledPass> {
        let stalled = self.inner.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        stalled.values().min_by_key(|h| h.since_ms).cloned()
    }

    /// Sends the wakeups that were dispatched, each in the trace of its job.
    async fn relay(&self) -> Result<(), StoreError> {
        let mut wakeups = self.inner.store.unsent(&self.inner.config.scope, self.in_flight_limit().most()).await?;
        // The spans end when the bell has answered.
        let mut spans = Vec::with_capacity(wakeups.len());
        for wakeup in &mut wakeups {
            let span = trace::task(&self.trace_of(wakeup.task.job).await, wakeup.task, wakeup.kind, wakeup.attempt);
            wakeup.trace = Parent::of(&span).kept();
            spans.push(span);
        }
        // Publish per queue so that one full queue does not block the other.
        let (assemble, work) = wakeups.into_iter().partition(|wakeup| wakeup.queue() == Queue::Assemble);
        let mut sent = self.inner.doorbell.notify_all(assemble).await;
        sent.extend(self.inner.doorbell.notify_all(work).await);
        drop(spans);
        if !sent.is_empty() {
            self.inner.store.mark_sent(&sent, self.now()).await?;
        }
        Ok(())
    }

    async fn sweep(&self, sent_before_ms: i64) {
        self.inner.job_cache.evict_idle(self.now());
        match record::pass(Pass::Sweep, self.inner.store.sweep(&self.inner.config.scope, sent_before_ms)).await {
            Ok(swept) => record::wakeups_swept(swept as u64),
            Err(error) => tracing::warn!(%error, "outbox sweep failed; retrying"),
        }
    }

    async fn reap(&self) {
        let reaped = record::pass(Pass::Reap, self.take_back()).await;
        let has_reaped = reaped.as_ref().is_ok_and(|num| *num > 0);
        self.note("reaping", reaped.map(drop));
        if has_reaped {
            self.pump().await;
        }
    }

    async fn speculate(&self) {
        let called = self.inner.store.speculate(&self.inner.config.scope, self.now());
        match record::pass(Pass::Speculate, called).await {
            Ok(tasks) if tasks.is_empty() => {}
            Ok(tasks) => {
                for task in tasks {
                    tracing::info!(%task, "straggler: speculative attempt scheduled");
                }
                self.pump().await;
            }
            Err(error) => tracing::warn!(%error, "straggler scan failed; retrying"),
        }
    }

    async fn keep_clean(&self, shutdown: &CancellationToken) {
        let every = self.inner.config.garbage_every;
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let pass = record::pass(Pass::Garbage, self.collect_garbage());
            if let Some(Err(error)) = shutdown.run_until_cancelled(pass).await {
                tracing::warn!(%error, "garbage collection failed; retrying");
            }
        }
    }
}

/// Pause of dispatch between two passes that were triggered by a wake: the time that the prefetched wakeups last at the
/// fastest. No slot waits because of the pause, and a large fleet, which wakes dispatch with every completion, is served in
/// batches.
fn rest_of(prefetch: usize) -> Duration {
    let micros = u64::try_from(prefetch).unwrap_or(u64::MAX).saturating_mul(1_000_000) / FASTEST_CLAIMS_PER_S;
    Duration::from_micros(micros).min(LONGEST_REST)
}

/// For ever without an interval.
async fn next(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
