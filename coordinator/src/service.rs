//! The loops: pump (plan, dispatch, relay), reaper, sweeper, second attempts, garbage collector. Each is safe when another
//! coordinator runs it too, and when it is cut off anywhere.

use crate::Coordinator;
use splitreel_backend::StoreError;
use splitreel_telemetry::labels::Pass;
use splitreel_telemetry::record;
use splitreel_telemetry::trace::{self, Parent};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

impl Coordinator {
    /// Runs until `shutdown`. Store failures are logged and tried again with the next tick.
    pub async fn run(&self, shutdown: CancellationToken) {
        // Beside the rest: it asks storage for the objects of many jobs, and a worker may be lost meanwhile.
        tokio::join!(self.keep_going(&shutdown), self.keep_clean(&shutdown));
    }

    async fn keep_going(&self, shutdown: &CancellationToken) {
        let c = &self.inner.config;
        // Rings of an earlier process are lost with it; claims make repeated ones harmless.
        self.sweep(i64::MAX).await;
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
                () = self.inner.wake.notified() => self.pump().await,
                _ = reap.tick() => self.reap().await,
                _ = sweep.tick() => {
                    let lost = self.now().saturating_sub(c.ring_lost_after_ms);
                    self.sweep(lost).await;
                    self.pump().await;
                }
                () = next(&mut speculate) => self.speculate().await,
                _ = pump.tick() => self.pump().await,
            }
        }
    }

    async fn pump(&self) {
        if let Err(error) = record::pass(Pass::Plan, self.plan_waiting()).await {
            tracing::warn!(%error, "planning is held up");
        }
        let (store, c) = (&self.inner.store, &self.inner.config);
        let shares = self.shares();
        let dispatched =
            record::pass(Pass::Dispatch, store.dispatch(&c.scope, self.window(), &shares, self.now())).await;
        let relayed = match dispatched {
            Ok(_) => record::pass(Pass::Relay, self.relay()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = relayed {
            tracing::warn!(%error, "dispatch is held up");
        }
    }

    /// Rings for what was dispatched, each ring in the trace of its job.
    async fn relay(&self) -> Result<(), StoreError> {
        let mut rings = self.inner.store.unsent(&self.inner.config.scope, self.window()).await?;
        // The spans end when the bell has answered.
        let mut spans = Vec::with_capacity(rings.len());
        for ring in &mut rings {
            let span = trace::task(&self.trace_of(ring.task.job).await, ring.task, ring.kind, ring.attempt);
            ring.trace = Parent::of(&span).kept();
            spans.push(span);
        }
        let sent = self.inner.doorbell.ring_all(rings).await;
        drop(spans);
        if !sent.is_empty() {
            self.inner.store.mark_sent(&sent, self.now()).await?;
        }
        Ok(())
    }

    async fn sweep(&self, sent_before_ms: i64) {
        match record::pass(Pass::Sweep, self.inner.store.sweep(&self.inner.config.scope, sent_before_ms)).await {
            Ok(swept) => record::rings_swept(swept as u64),
            Err(error) => tracing::warn!(%error, "sweeping is held up"),
        }
    }

    async fn reap(&self) {
        match record::pass(Pass::Reap, self.take_back()).await {
            Ok(0) => {}
            Ok(_) => self.pump().await,
            Err(error) => tracing::warn!(%error, "reaping is held up"),
        }
    }

    async fn speculate(&self) {
        let called = self.inner.store.speculate(&self.inner.config.scope, self.now());
        match record::pass(Pass::Speculate, called).await {
            Ok(tasks) if tasks.is_empty() => {}
            Ok(tasks) => {
                for task in tasks {
                    tracing::info!(%task, "takes too long, a second attempt was called for");
                }
                self.pump().await;
            }
            Err(error) => tracing::warn!(%error, "second attempts are held up"),
        }
    }

    async fn keep_clean(&self, shutdown: &CancellationToken) {
        let every = self.inner.config.garbage_every;
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let pass = record::pass(Pass::Garbage, self.collect_garbage());
            if let Some(Err(error)) = shutdown.run_until_cancelled(pass).await {
                tracing::warn!(%error, "garbage collection is held up");
            }
        }
    }
}

/// For ever without an interval.
async fn next(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
