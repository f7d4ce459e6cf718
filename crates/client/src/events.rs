//! The live event stream: reconnects by itself and goes on where it stopped.

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

/// No byte for so long (the service sends a comment at least every 10 s): the connection is dead.
const SILENCE: Duration = Duration::from_secs(30);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a stream tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Something happened: a row of the event log. None is left out, none comes twice.
    Event(Event),
    /// How far the job is; only on the stream of one job, and only the newest matters.
    Progress(JobProgress),
}

/// The events of one job or of a tenant's jobs, from a position in the log on and then live, for ever.
pub struct EventStream {
    client: Client,
    job: Option<JobId>,
    after: i64,
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    parser: SseParser,
    waiting: VecDeque<Told>,
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

    /// The next thing told. Broken connections are opened again; the service saying no ends it. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`] when the service refuses, or does not answer many times in a row.
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                if let Told::Event(event) = &told {
                    self.after = event.seq;
                }
                return Ok(told);
            }
            let Some(body) = &mut self.body else {
                self.connect().await?;
                continue;
            };
            match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let events = self.parser.push(&bytes).map_err(|e| self.unreadable(&e))?;
                    for event in events {
                        let told = self.read(&event)?;
                        self.waiting.extend(told);
                    }
                    self.failed = 0;
                }
                Ok(Some(Err(_)) | None) | Err(_) => self.body = None,
            }
        }
    }

    /// As a `Stream`, ended by the first error.
    pub fn into_stream(self) -> BoxStream<'static, Result<Told, ClientError>> {
        futures::stream::unfold(Some(self), |state| async move {
            let mut stream = state?;
            match stream.next().await {
                Ok(told) => Some((Ok(told), Some(stream))),
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

    fn read(&self, event: &SseEvent) -> Result<Option<Told>, ClientError> {
        Ok(match event.event.as_str() {
            "progress" => Some(Told::Progress(serde_json::from_str(&event.data).map_err(|e| self.unreadable(&e))?)),
            "event" => {
                let event: Event = serde_json::from_str(&event.data).map_err(|e| self.unreadable(&e))?;
                let newest = self.waiting.iter().rev().find_map(|t| match t {
                    Told::Event(e) => Some(e.seq),
                    Told::Progress(_) => None,
                });
                (event.seq > newest.unwrap_or(self.after)).then_some(Told::Event(event))
            }
            // Another version may tell more.
            _ => None,
        })
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { what: "the event stream".to_owned(), why: why.to_string() }
    }
}
