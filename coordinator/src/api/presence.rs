//! Control streams of workers: while one stands, its worker is there; when it breaks, the worker's leases end soon
//! unless it renews them, and what it left behind starts elsewhere.

use super::Api;
use super::body::{Body, invalid, mistake};
use super::caller::Authenticated;
use super::problem::ApiError;
use super::workers::{SEEN_FOR_MS, WorkerDocument, worker_key};
use crate::documents::put_document;
use crate::events::live::Batch;
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use splitreel_backend::StoreError;
use splitreel_backend::records::Expect;
use splitreel_client::types::{Control, Presence};
use splitreel_core::WorkerId;
use splitreel_core::event::EventKind;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often it is written down that a worker is there, and looked whether it is to drain.
const NOTED_EVERY: Duration = Duration::from_secs(5);
/// Writing that down must not hold up pings.
const NOTING_LIMIT: Duration = Duration::from_secs(1);

/// The control streams that end in this process: the number of the newest of each worker.
#[derive(Default)]
pub(crate) struct Connections {
    newest: Mutex<(u64, BTreeMap<String, u64>)>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<String, u64>)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, worker: &str) -> u64 {
        let mut all = self.lock();
        all.0 += 1;
        let number = all.0;
        all.1.insert(worker.to_owned(), number);
        number
    }

    /// Takes a connection out; false when a newer one of the worker has taken its place.
    fn remove(&self, worker: &str, number: u64) -> bool {
        let mut all = self.lock();
        let is_newest = all.1.get(worker) == Some(&number);
        if is_newest {
            all.1.remove(worker);
        }
        is_newest
    }
}

/// Ends with the stream, however that comes about.
struct Standing {
    api: Api,
    worker: String,
    number: u64,
    connection: String,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let is_newest = self.api.inner.connections.remove(&self.worker, self.number);
        // A coordinator that ends says nothing about its workers.
        if !is_newest || self.api.inner.closing.is_cancelled() {
            return;
        }
        let (api, worker, connection) = (self.api.clone(), self.worker.clone(), self.connection.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = api.worker_gone(&worker, &connection).await {
                    tracing::warn!(worker, %error, "a broken control stream has no effect: its leases run out");
                }
            });
        }
    }
}

impl Api {
    async fn worker_gone(&self, worker: &str, connection: &str) -> Result<(), StoreError> {
        let takeover_ms = self.inner.config.takeover_ms;
        let until_ms = self.now().saturating_add(takeover_ms);
        let shortened = self.inner.store.shorten_leases(&WorkerId(worker.to_owned()), until_ms).await?;
        splitreel_telemetry::record::leases_shortened(shortened as u64);
        tracing::info!(worker, leases = shortened, "control stream broken");
        let key = worker_key(worker);
        if let Some(record) = self.inner.records.get(&key).await?
            && WorkerDocument::read(&record)?.connection == connection
        {
            let _ = self.inner.records.delete(&key, Expect::Version(record.version)).await?;
        }
        if shortened > 0 {
            let wait = Duration::from_millis(u64::try_from(takeover_ms).unwrap_or(0) + 50);
            tokio::time::sleep(wait).await;
            self.inner.coordinator.take_back().await?;
        }
        Ok(())
    }
}

/// The coordinator's end of a control stream.
struct ControlStream {
    standing: Standing,
    hello: Presence,
    since_ms: i64,
    batches: Receiver<Batch>,
    ping: Interval,
    noted: Instant,
    waiting: VecDeque<Control>,
    is_draining: bool,
}

impl ControlStream {
    async fn next(&mut self) -> Option<Control> {
        let api = self.standing.api.clone();
        loop {
            if let Some(control) = self.waiting.pop_front() {
                return Some(control);
            }
            tokio::select! {
                biased;
                () = api.inner.closing.cancelled() => return None,
                batch = self.batches.recv() => match batch {
                    Ok(batch) => self.waiting.extend(batch.iter().filter(|e| ends_job(&e.what)).map(|e| {
                        Control::JobEnded { job: e.job }
                    })),
                    // Renewals say the same a little later.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                _ = self.ping.tick() => {
                    if self.noted.elapsed() >= NOTED_EVERY {
                        self.note().await;
                    }
                    self.waiting.push_back(Control::Ping);
                }
            }
        }
    }

    async fn note(&mut self) {
        self.noted = Instant::now();
        let noting = self.standing.api.note_worker(&self.hello, self.since_ms, &self.standing.connection);
        match tokio::time::timeout(NOTING_LIMIT, noting).await {
            Ok(Ok(true)) if !self.is_draining => {
                self.is_draining = true;
                self.waiting.push_back(self.standing.api.drain(&self.hello));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(worker = self.hello.worker, %error, "presence is not written down"),
            Err(_) => tracing::warn!(worker = self.hello.worker, "presence is not written down in time"),
        }
    }
}

/// Its attempts are to be stopped. (A published job has none.)
fn ends_job(what: &EventKind) -> bool {
    matches!(what, EventKind::Cancelled | EventKind::Failed { .. })
}

impl Api {
    /// A worker of this protocol gets no work here.
    pub(crate) fn is_outdated(&self, protocol: u32) -> bool {
        protocol < self.inner.config.oldest_protocol
    }

    fn drain(&self, hello: &Presence) -> Control {
        let is_outdated = self.is_outdated(hello.protocol);
        if is_outdated {
            tracing::warn!(worker = hello.worker, version = hello.version, "too old for this coordinator: it drains");
        }
        Control::Drain { is_outdated }
    }

    /// Writes down that a worker is there; answers whether it is to drain.
    async fn note_worker(&self, hello: &Presence, since_ms: i64, connection: &str) -> Result<bool, StoreError> {
        let key = worker_key(&hello.worker);
        // Two writers at once are this stream and somebody who asks to drain: the second look settles it.
        for _ in 0..3 {
            let record = self.inner.records.get(&key).await?;
            let is_asked = record.as_ref().map(WorkerDocument::read).transpose()?.is_some_and(|d| d.is_draining);
            let is_draining = is_asked || self.is_outdated(hello.protocol);
            let now = self.now();
            let document = WorkerDocument {
                version: hello.version.clone(),
                slots: hello.slots,
                labels: hello.labels.clone(),
                capabilities: hello.capabilities.clone(),
                connected_ms: since_ms,
                seen_ms: now,
                is_draining,
                connection: connection.to_owned(),
            };
            let expect = record.map_or(Expect::Absent, |r| Expect::Version(r.version));
            let due = now.saturating_add(SEEN_FOR_MS);
            if put_document(self.inner.records.as_ref(), &key, expect, &document, Some(due), self.now()).await?.is_ok()
            {
                return Ok(is_draining);
            }
        }
        Ok(false)
    }
}

fn check(hello: &Presence) -> Result<(), ApiError> {
    let mut mistakes = Vec::new();
    let is_word = |text: &str, most| (1..=most).contains(&text.len()) && !text.chars().any(char::is_control);
    if !is_word(&hello.worker, 200) {
        mistakes.push(mistake("/worker", "this is no name of a worker", "use 1 to 200 characters"));
    }
    if !hello.version.is_empty() && !is_word(&hello.version, 100) {
        mistakes.push(mistake("/version", "this is no version", "use at most 100 characters"));
    }
    if hello.slots > 100_000 {
        mistakes.push(mistake("/slots", "it is out of range", "use 0 to 100000"));
    }
    if hello.labels.len() > 64 || hello.labels.iter().any(|(k, v)| !is_word(k, 100) || v.len() > 200) {
        mistakes.push(mistake("/labels", "these are no labels", "use at most 64, names up to 100, values up to 200"));
    }
    if hello.capabilities.len() > 256 || hello.capabilities.iter().any(|c| !is_word(c, 100)) {
        mistakes.push(mistake("/capabilities", "these are no capabilities", "use at most 256, up to 100 characters"));
    }
    if mistakes.is_empty() { Ok(()) } else { Err(invalid(mistakes)) }
}

/// Announces a worker. The answer is its control stream: it stands as long as the worker is there, and tells it what
/// it should know at once: a worker whose protocol is too old that it drain. When it breaks, the worker's leases are shortened to 2 seconds.
#[utoipa::path(post, path = "/v1/work/presence", tag = "work", request_body = Presence,
    responses((status = 200, description = "A stream of control messages without end.",
               content_type = "text/event-stream", body = Control)))]
pub(crate) async fn hold_presence(
    State(api): State<Api>,
    _caller: Authenticated,
    Body(hello): Body<Presence>,
) -> Result<Response, ApiError> {
    check(&hello)?;
    let since_ms = api.now();
    let connection = api.inner.world.ids.fresh().to_string();
    let is_draining = api.note_worker(&hello, since_ms, &connection).await?;
    let waiting = is_draining.then(|| api.drain(&hello)).into_iter().collect();
    let number = api.inner.connections.add(&hello.worker);
    let standing = Standing { api: api.clone(), worker: hello.worker.clone(), number, connection };
    let mut ping = tokio::time::interval(api.inner.config.ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = ControlStream {
        batches: api.inner.feed.listen(),
        standing,
        hello,
        since_ms,
        ping,
        noted: Instant::now(),
        waiting,
        is_draining,
    };
    let events = futures::stream::unfold(stream, |mut stream| async move {
        let control = stream.next().await?;
        let event = SseEvent::default().event("control").json_data(&control).unwrap_or_default();
        Some((Ok::<_, Infallible>(event), stream))
    });
    Ok(([("x-accel-buffering", "no")], Sse::new(events)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_connection_of_a_worker_counts() {
        let all = Connections::default();
        let (old, new) = (all.add("w"), all.add("w"));
        assert!(!all.remove("w", old));
        assert!(all.remove("w", new));
        assert!(!all.remove("w", new));
    }
}
