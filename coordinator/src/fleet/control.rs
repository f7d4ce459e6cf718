//! Control streams: while one stands, its worker counts as present. When one breaks, the worker's leases end soon unless
//! the worker renews them, and its tasks start elsewhere.

use super::Fleet;
use crate::events::live::{Batch, LiveFeed};
use splitreel_backend::StoreError;
use splitreel_client::problem::Mistake;
use splitreel_client::types::{Control, Presence};
use splitreel_core::event::EventKind;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Interval at which a worker's heartbeat is saved, and its request to drain is looked up.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Longest time to save a heartbeat: saving must not delay pings.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connected worker: dropped with its stream, whatever ends the stream.
struct Connected {
    fleet: Fleet,
    feed: LiveFeed,
    worker: String,
    number: u64,
    connection: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let is_newest = self.fleet.inner.connections.remove(&self.worker, self.number);
        // A coordinator that ends says nothing about its workers.
        if !is_newest || self.feed.is_closed() {
            return;
        }
        let (fleet, worker, connection) = (self.fleet.clone(), self.worker.clone(), self.connection.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = fleet.release(&worker, &connection).await {
                    tracing::warn!(worker, %error, "could not shorten leases of a lost worker; they will expire");
                }
            });
        }
    }
}

/// The coordinator's end of a control stream.
pub struct ControlStream {
    connected: Connected,
    hello: Presence,
    since_ms: i64,
    batches: Receiver<Batch>,
    ping: Interval,
    saved: Instant,
    waiting: VecDeque<Control>,
    is_draining: bool,
}

impl ControlStream {
    /// Registers a worker. The worker counts as present until the stream is dropped.
    ///
    /// # Errors
    /// When the records fail.
    pub async fn open(fleet: &Fleet, feed: &LiveFeed, hello: Presence) -> Result<Self, StoreError> {
        let since_ms = fleet.now();
        let connection = fleet.inner.coordinator.world().ids.fresh().to_string();
        let is_draining = fleet.save_heartbeat(&hello, since_ms, &connection).await?;
        let waiting = is_draining.then(|| drain(fleet, &hello)).into_iter().collect();
        let number = fleet.inner.connections.add(&hello.worker);
        let connected =
            Connected { fleet: fleet.clone(), feed: feed.clone(), worker: hello.worker.clone(), number, connection };
        let mut ping = tokio::time::interval(fleet.inner.config.ping_every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(ControlStream {
            batches: feed.listen(),
            connected,
            hello,
            since_ms,
            ping,
            saved: Instant::now(),
            waiting,
            is_draining,
        })
    }

    /// The next message; `None` when the coordinator ends.
    pub async fn next(&mut self) -> Option<Control> {
        let feed = self.connected.feed.clone();
        loop {
            if let Some(control) = self.waiting.pop_front() {
                return Some(control);
            }
            tokio::select! {
                biased;
                () = feed.closed() => return None,
                batch = self.batches.recv() => match batch {
                    Ok(batch) => self.waiting.extend(batch.iter().filter(|e| stops_attempts(&e.what)).map(|e| {
                        Control::JobEnded { job: e.job }
                    })),
                    // Renewals say the same a little later.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                _ = self.ping.tick() => {
                    if self.saved.elapsed() >= HEARTBEAT_EVERY {
                        self.save_heartbeat().await;
                    }
                    self.waiting.push_back(Control::Ping);
                }
            }
        }
    }

    async fn save_heartbeat(&mut self) {
        self.saved = Instant::now();
        let fleet = &self.connected.fleet;
        let saving = fleet.save_heartbeat(&self.hello, self.since_ms, &self.connected.connection);
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, saving).await {
            Ok(Ok(true)) if !self.is_draining => {
                self.is_draining = true;
                self.waiting.push_back(drain(fleet, &self.hello));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(worker = self.hello.worker, %error, "worker heartbeat not saved"),
            Err(_) => tracing::warn!(worker = self.hello.worker, "worker heartbeat not saved: timed out"),
        }
    }
}

/// Whether an event stops the running attempts of its job. (A published job has none.)
fn stops_attempts(what: &EventKind) -> bool {
    matches!(what, EventKind::Cancelled | EventKind::Failed { .. })
}

fn drain(fleet: &Fleet, hello: &Presence) -> Control {
    let is_outdated = fleet.is_outdated(hello.protocol);
    if is_outdated {
        tracing::warn!(
            worker = hello.worker,
            version = hello.version,
            "worker protocol is too old; asking it to drain"
        );
    }
    Control::Drain { is_outdated }
}

/// Every mistake in a worker's announcement.
pub(crate) fn check(hello: &Presence) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let is_word = |text: &str, max| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
    if !is_word(&hello.worker, super::MAX_NAME_BYTES) {
        mistakes.push(Mistake::new("/worker", "invalid worker name", "use 1 to 200 characters"));
    }
    if !hello.version.is_empty() && !is_word(&hello.version, 100) {
        mistakes.push(Mistake::new("/version", "invalid version", "use at most 100 characters"));
    }
    if hello.slots > 100_000 {
        mistakes.push(Mistake::new("/slots", "out of range", "use 0 to 100000"));
    }
    if hello.labels.len() > 64 || hello.labels.iter().any(|(k, v)| !is_word(k, 100) || v.len() > 200) {
        let hint = "use at most 64, names up to 100, values up to 200";
        mistakes.push(Mistake::new("/labels", "invalid labels", hint));
    }
    if hello.capabilities.len() > 256 || hello.capabilities.iter().any(|c| !is_word(c, 100)) {
        let hint = "use at most 256, up to 100 characters";
        mistakes.push(Mistake::new("/capabilities", "invalid capabilities", hint));
    }
    mistakes
}
