//! The loops: pump (plan, dispatch, relay), reaper, sweeper, second attempts, garbage collector. Each is safe when another
//! coordinator runs it too, and when it is cut off anywhere.

use crate::Coordinator;
use splitreel_backend::StoreError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

impl Coordinator {
    /// Runs until `shutdown`. Store failures are logged and tried again with the next tick.
    pub async fn run(&self, shutdown: CancellationToken) {
        let c = &self.inner.config;
        // Rings of an earlier process are lost with it; claims make repeated ones harmless.
        self.log("sweep", self.inner.store.sweep(&c.scope, i64::MAX).await);
        let now = Instant::now();
        let mut pump = interval_at(now, c.pump_every);
        let mut reap = interval_at(now, c.reap_every);
        let mut sweep = interval_at(now + c.sweep_every, c.sweep_every);
        let mut garbage = interval_at(now + c.garbage_every, c.garbage_every);
        let mut speculate = c.speculate_every.map(|every| interval_at(now + every, every));
        for i in [&mut pump, &mut reap, &mut sweep, &mut garbage].into_iter().chain(&mut speculate) {
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
                    self.log("sweep", self.inner.store.sweep(&c.scope, lost).await);
                    self.pump().await;
                }
                () = next(&mut speculate) => self.speculate().await,
                _ = garbage.tick() => self.collect_garbage().await,
                _ = pump.tick() => self.pump().await,
            }
        }
    }

    async fn pump(&self) {
        if let Err(error) = self.plan_waiting().await {
            tracing::warn!(%error, "planning is held up");
        }
        if let Err(error) = self.dispatch().await {
            tracing::warn!(%error, "dispatch is held up");
        }
    }

    async fn dispatch(&self) -> Result<(), StoreError> {
        let (store, c) = (&self.inner.store, &self.inner.config);
        store.dispatch(&c.scope, c.window, &self.shares(), self.now()).await?;
        let sent = self.inner.doorbell.ring_all(store.unsent(&c.scope, c.window).await?).await;
        if !sent.is_empty() {
            store.mark_sent(&sent, self.now()).await?;
        }
        Ok(())
    }

    async fn reap(&self) {
        match self.inner.store.reap(self.now(), &self.inner.config.retry).await {
            Ok(tasks) if tasks.is_empty() => {}
            Ok(tasks) => {
                for task in tasks {
                    tracing::warn!(%task, "lease expired, taken back");
                }
                self.pump().await;
            }
            Err(error) => tracing::warn!(%error, "reaping is held up"),
        }
    }

    async fn speculate(&self) {
        match self.inner.store.speculate(&self.inner.config.scope, self.now()).await {
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

    fn log<T>(&self, what: &str, outcome: Result<T, StoreError>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "{what} is held up");
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
