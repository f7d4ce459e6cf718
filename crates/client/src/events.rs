//! The live event stream: reconnects by itself and resumes where it stopped.

use crate::client::{Client, ClientError, chance};
use crate::retry::{Outcome, pause};
use crate::routes;
use crate::sse::{SseEvent, SseParser};
use crate::types::JobProgress;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderName};
use splitreel_core::JobId;
use splitreel_core::event::Event;
use std::collections::VecDeque;
use std::time::Duration;

/// Time without a byte after which the connection counts as dead: the service sends a comment at least every 10 s.
const SILENCE: Duration = Duration::from_secs(30);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum EventMessage {
    /// A row of the event log. Each row arrives exactly once, in order.
    Event(Event),
    /// Progress of the job; only on the stream of one job, and only the newest matters.
    Progress(JobProgress),
}

/// The events of one job or of a tenant's jobs, from a position in the log on and then live, for ever.
pub struct EventStream {
    client: Client,
    job: Option<JobId>,
    after: i64,
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    parser: SseParser,
    waiting: VecDeque<EventMessage>,
    failed: u32,
}

impl Client {
    /// Opens the event stream of one job, or of all jobs of the tenant, after a position (0: from the beginning).
    pub fn events(&self, job: Option<JobId>, after: i64) -> EventStream {
        EventStream {
            client: self.clone(),
            job,
            after,
            body: None,
            parser: SseParser::new(),
            waiting: VecDeque::new(),
            failed: 0,
        }
    }
}

impl EventStream {
    /// Where the stream is in the log.
    pub fn position(&self) -> i64 {
        self.after
    }

    /// The next message. Reconnects after a broken connection; a refusal of the service ends the stream. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`] when the service refuses, or does not answer many times in a row.
    pub async fn next(&mut self) -> Result<EventMessage, ClientError> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                if let EventMessage::Event(event) = &message {
                    self.after = event.seq;
                }
                return Ok(message);
            }
            let Some(body) = &mut self.body else {
                self.connect().await?;
                continue;
            };
            match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let events = self.parser.push(&bytes).map_err(|e| self.unreadable(&e))?;
                    for event in events {
                        let message = self.read(&event)?;
                        self.waiting.extend(message);
                    }
                    self.failed = 0;
                }
                Ok(Some(Err(_)) | None) | Err(_) => self.body = None,
            }
        }
    }

    /// As a `Stream`, ended by the first error.
    pub fn into_stream(self) -> BoxStream<'static, Result<EventMessage, ClientError>> {
        futures::stream::unfold(Some(self), |state| async move {
            let mut stream = state?;
            match stream.next().await {
                Ok(message) => Some((Ok(message), Some(stream))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let id = self.job.map(|id| id.to_string());
        let (route, values) = match &id {
            Some(id) => (routes::JOB_EVENTS_STREAM, vec![id.as_str()]),
            None => (routes::EVENTS_STREAM, Vec::new()),
        };
        let call = self
            .client
            .call(Method::GET, route, &values)?
            .header(ACCEPT, "text/event-stream")?
            .header(LAST_EVENT_ID, &self.after.to_string())?;
        match self.client.open(call).await {
            Ok(response) => {
                self.parser = SseParser::new();
                self.body = Some(response.bytes_stream().boxed());
                Ok(())
            }
            Err(error) => {
                self.failed += 1;
                let outcome = match &error {
                    ClientError::Problem(p) => {
                        Outcome::Status(p.status, p.retry_after_seconds.map(Duration::from_secs))
                    }
                    ClientError::NoAnswer { .. } => Outcome::NoAnswer,
                    _ => return Err(error),
                };
                match pause(outcome, self.failed, 20, chance()) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                }
                Ok(())
            }
        }
    }

    fn read(&self, event: &SseEvent) -> Result<Option<EventMessage>, ClientError> {
        Ok(match event.event.as_str() {
            "progress" => {
                Some(EventMessage::Progress(serde_json::from_str(&event.data).map_err(|e| self.unreadable(&e))?))
            }
            "event" => {
                let event: Event = serde_json::from_str(&event.data).map_err(|e| self.unreadable(&e))?;
                let newest = self.waiting.iter().rev().find_map(|t| match t {
                    EventMessage::Event(e) => Some(e.seq),
                    EventMessage::Progress(_) => None,
                });
                (event.seq > newest.unwrap_or(self.after)).then_some(EventMessage::Event(event))
            }
            // Another version may send more kinds.
            _ => None,
        })
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { what: "the event stream".to_owned(), why: why.to_string() }
    }
}
