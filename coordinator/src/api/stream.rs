//! Live events over server-sent events and WebSockets: first the log, then new events, each exactly once and in order.

use super::Api;
use super::body::{PathParams, QueryParams};
use super::caller::Authenticated;
use super::problem::ApiError;
use crate::directory::Caller;
use crate::events::live::Batch;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use splitreel_backend::cache::Cache;
use splitreel_client::problem::Code;
use splitreel_client::routes as paths;
use splitreel_client::types::JobProgress;
use splitreel_core::JobId;
use splitreel_core::event::Event;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use utoipa::IntoParams;

const PAGE: usize = 256;
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A stream ends after this time; clients reconnect, and their token is checked again.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Number of jobs whose tenant a stream remembers; the least recently used makes room.
const MAX_KNOWN_JOBS: usize = 4_096;
/// Largest message from a listener; its content is ignored.
const MAX_INCOMING: usize = 4 << 10;
const SUBPROTOCOL: &str = "splitreel";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    /// Only events after this position. The header Last-Event-ID goes before it. When both are absent, the stream of
    /// one job starts at the beginning, that of all jobs with what happens next.
    after: Option<i64>,
}

impl From {
    fn position(&self, headers: &HeaderMap) -> Option<i64> {
        let header = headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
        header.or(self.after).map(|p: i64| p.max(0))
    }
}

/// The jobs whose events a caller sees.
pub(crate) struct TenantFilter {
    tenant: Option<String>,
    known: Cache<JobId, bool>,
}

impl TenantFilter {
    pub(crate) fn new(caller: &Caller) -> Self {
        TenantFilter { tenant: (!caller.is_admin).then(|| caller.tenant.clone()), known: Cache::new(MAX_KNOWN_JOBS) }
    }

    pub(crate) async fn sees(&mut self, api: &Api, job: JobId) -> Result<bool, StoreError> {
        let Some(tenant) = &self.tenant else { return Ok(true) };
        let now = api.now();
        if let Some(known) = self.known.get(&job, now) {
            return Ok(known);
        }
        let sees = api.store().job(job).await?.is_some_and(|j| j.request.tenant == *tenant);
        self.known.put(job, sees, now);
        Ok(sees)
    }
}

/// A message of a stream.
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum EventMessage {
    Event(Event),
    Progress(JobProgress),
}

/// One listener.
struct Listener {
    api: Api,
    job: Option<JobId>,
    filter: TenantFilter,
    batches: Receiver<Batch>,
    /// Events up to here were read, sent or not.
    read_to: i64,
    waiting: VecDeque<Event>,
    reads_log: bool,
    progress: Interval,
    last_progress: Option<JobProgress>,
    ends: Instant,
}

impl Listener {
    fn new(api: &Api, caller: &Caller, job: Option<JobId>, position: i64) -> Self {
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Listener {
            batches: api.inner.feed.listen(),
            api: api.clone(),
            job,
            filter: TenantFilter::new(caller),
            read_to: position,
            waiting: VecDeque::new(),
            reads_log: true,
            progress,
            last_progress: None,
            ends: Instant::now() + LIFETIME,
        }
    }

    /// The next message; `None` at the end. Not cancel-safe.
    async fn next(&mut self) -> Option<EventMessage> {
        let (feed, ends) = (self.api.inner.feed.clone(), self.ends);
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(EventMessage::Event(event));
            }
            let step = async {
                if self.reads_log {
                    return self.read_log().await.map(|()| None);
                }
                tokio::select! {
                    batch = self.batches.recv() => match batch {
                        Ok(batch) if batch.is_empty() => self.reads_log = true,
                        Ok(batch) => return self.take(&batch).await.map(|()| None),
                        Err(RecvError::Lagged(_)) => self.reads_log = true,
                        // The feed lives as long as the API.
                        Err(RecvError::Closed) => std::future::pending().await,
                    },
                    _ = self.progress.tick(), if self.job.is_some() => return self.progress().await,
                }
                Ok(None)
            };
            let stepped = tokio::select! {
                biased;
                () = feed.closed() => return None,
                () = tokio::time::sleep_until(ends) => return None,
                stepped = step => stepped,
            };
            match stepped {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "reading events for a live stream failed; retrying");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    self.reads_log = true;
                }
            }
        }
    }

    async fn read_log(&mut self) -> Result<(), StoreError> {
        let events = self.api.store().events(self.job, self.read_to, PAGE).await?;
        self.reads_log = events.len() == PAGE;
        self.take(&events).await
    }

    async fn take(&mut self, events: &[Event]) -> Result<(), StoreError> {
        for event in events.iter().filter(|e| e.seq > self.read_to) {
            let is_wanted = match self.job {
                Some(job) => event.job == job,
                None => self.filter.sees(&self.api, event.job).await?,
            };
            if is_wanted {
                self.waiting.push_back(event.clone());
            }
        }
        self.read_to = events.last().map_or(self.read_to, |e| e.seq.max(self.read_to));
        Ok(())
    }

    async fn progress(&mut self) -> Result<Option<EventMessage>, StoreError> {
        let Some(job) = self.job else { return Ok(None) };
        let Some(job) = self.api.store().job(job).await? else { return Ok(None) };
        if job.state.is_ended() && self.last_progress.is_some_and(|p| p.eta_seconds.is_none()) {
            return Ok(None);
        }
        let progress = self.api.detailed(job).await?.progress;
        if self.last_progress == Some(progress) {
            return Ok(None);
        }
        self.last_progress = Some(progress);
        Ok(Some(EventMessage::Progress(progress)))
    }

    fn into_sse(self) -> Response {
        let events = futures::stream::unfold(self, |mut listener| async move {
            let message = listener.next().await?;
            let event = match &message {
                EventMessage::Event(event) => {
                    SseEvent::default().id(event.seq.to_string()).event("event").json_data(event)
                }
                EventMessage::Progress(progress) => SseEvent::default().event("progress").json_data(progress),
            };
            // All of these types have a JSON form.
            Some((Ok::<_, Infallible>(event.unwrap_or_default()), listener))
        });
        let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        ([("x-accel-buffering", "no")], sse).into_response()
    }

    async fn into_socket(mut self, socket: WebSocket) {
        let (mut out, mut incoming) = socket.split();
        // Listeners send only pongs and their end.
        let mut gone = tokio::spawn(async move { while let Some(Ok(_)) = incoming.next().await {} });
        let mut alive = tokio::time::interval(KEEP_ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (sender, mut messages) = tokio::sync::mpsc::channel(16);
        let sending = tokio::spawn(async move {
            while let Some(message) = self.next().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        loop {
            let message = tokio::select! {
                _ = &mut gone => break,
                _ = alive.tick() => Message::Ping(Default::default()),
                message = messages.recv() => match message.map(|m| serde_json::to_string(&m)) {
                    Some(Ok(text)) => Message::Text(text.into()),
                    Some(Err(_)) => continue,
                    None => {
                        let _ = out.send(Message::Close(None)).await;
                        break;
                    }
                },
            };
            match tokio::time::timeout(KEEP_ALIVE, out.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sending.abort();
        gone.abort();
    }
}

fn upgrade(ws: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Result<WebSocketUpgrade, ApiError> {
    let ws = ws.map_err(|e| ApiError::new(Code::BadRequest, e.body_text()))?;
    Ok(ws.protocols([SUBPROTOCOL]).max_message_size(MAX_INCOMING).max_frame_size(MAX_INCOMING))
}

async fn start(api: &Api, from: &From, headers: &HeaderMap) -> Result<i64, StoreError> {
    match from.position(headers) {
        Some(position) => Ok(position),
        None => api.inner.feed.newest().await,
    }
}

/// The events of a job, live: `event` (with its position as id) and, while it runs, `progress`.
#[utoipa::path(get, path = paths::JOB_EVENTS_STREAM, tag = "events",
    params(("id" = uuid::Uuid, Path, description = "The job."), From,
           ("Last-Event-ID" = Option<i64>, Header, description = "Where an earlier stream stopped.")),
    responses((status = 200, description = "A stream without end.",
               content_type = "text/event-stream", body = String)))]
pub(crate) async fn stream_job_events(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
    QueryParams(from): QueryParams<From>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    api.visible_job(&caller, id).await?;
    Ok(Listener::new(&api, &caller, Some(id), from.position(&headers).unwrap_or(0)).into_sse())
}

/// The same over a WebSocket: text messages `{"type": "event" | "progress", "data": …}`. Browsers hand their token
/// over as the subprotocol `bearer.TOKEN` beside `splitreel`.
#[utoipa::path(get, path = paths::JOB_EVENTS_SOCKET, tag = "events",
    params(("id" = uuid::Uuid, Path, description = "The job."), From),
    responses((status = 101, description = "A WebSocket.")))]
pub(crate) async fn socket_job_events(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    PathParams(id): PathParams<JobId>,
    QueryParams(from): QueryParams<From>,
    headers: HeaderMap,
    ws: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    api.visible_job(&caller, id).await?;
    let ws = upgrade(ws)?;
    let listener = Listener::new(&api, &caller, Some(id), from.position(&headers).unwrap_or(0));
    Ok(ws.on_upgrade(|socket| listener.into_socket(socket)))
}

/// The events of all jobs of the tenant, live; administrators see every tenant's.
#[utoipa::path(get, path = paths::EVENTS_STREAM, tag = "events",
    params(From, ("Last-Event-ID" = Option<i64>, Header, description = "Where an earlier stream stopped.")),
    responses((status = 200, description = "A stream without end.",
               content_type = "text/event-stream", body = String)))]
pub(crate) async fn stream_events(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    QueryParams(from): QueryParams<From>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let position = start(&api, &from, &headers).await?;
    Ok(Listener::new(&api, &caller, None, position).into_sse())
}

/// The same over a WebSocket.
#[utoipa::path(get, path = paths::EVENTS_SOCKET, tag = "events", params(From),
    responses((status = 101, description = "A WebSocket.")))]
pub(crate) async fn socket_events(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    QueryParams(from): QueryParams<From>,
    headers: HeaderMap,
    ws: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let ws = upgrade(ws)?;
    let position = start(&api, &from, &headers).await?;
    let listener = Listener::new(&api, &caller, None, position);
    Ok(ws.on_upgrade(|socket| listener.into_socket(socket)))
}
