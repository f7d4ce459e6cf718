//! The control stream of a worker: it announces the worker to the coordinator and carries the coordinator's commands. When
//! the stream breaks, the coordinator shortens the worker's leases, so a live worker renews them.

use crate::client::{Client, ClientError, chance};
use crate::leases::RemoteLeases;
use crate::retry::{Outcome, pause};
use crate::routes;
use crate::sse::SseParser;
use crate::types::{Control, Presence};
use futures::StreamExt;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Silence after which the stream counts as broken: the coordinator pings every 2 s.
const SILENCE: Duration = Duration::from_secs(8);

/// Why a control stream is held no more.
#[derive(Debug)]
pub enum PresenceEnd {
    /// As asked.
    Shutdown,
    /// As asked, after the coordinator has said that this program is too old for it.
    Outdated,
    /// The coordinator does not take this worker: trying again would not help.
    Refused(ClientError),
}

impl Client {
    /// Holds the control stream until `shutdown`, connecting again whenever it breaks. After each break all leases
    /// are renewed at once. `drain` is cancelled when the coordinator asks to drain.
    pub async fn hold_presence(
        &self,
        hello: &Presence,
        leases: &RemoteLeases,
        drain: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> PresenceEnd {
        let mut is_outdated = false;
        let end = self.hold_until(hello, leases, drain, shutdown, &mut is_outdated).await;
        if is_outdated { PresenceEnd::Outdated } else { end }
    }

    async fn hold_until(
        &self,
        hello: &Presence,
        leases: &RemoteLeases,
        drain: &CancellationToken,
        shutdown: &CancellationToken,
        is_outdated: &mut bool,
    ) -> PresenceEnd {
        let mut failed = 0u32;
        loop {
            let stream = tokio::select! {
                biased;
                () = shutdown.cancelled() => return PresenceEnd::Shutdown,
                stream = self.connect_presence(hello) => stream,
            };
            let outcome = match stream {
                Ok(response) => {
                    failed = 0;
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return PresenceEnd::Shutdown,
                        () = listen(response, leases, drain, is_outdated) => {}
                    }
                    tracing::debug!(worker = hello.worker, "control stream broken; reconnecting");
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return PresenceEnd::Shutdown,
                        () = leases.renew_all() => {}
                    }
                    Outcome::NoAnswer
                }
                Err(error) => match &error {
                    ClientError::Problem(p) if p.status >= 500 || p.status == 429 => {
                        Outcome::Status(503, p.retry_after_seconds.map(Duration::from_secs))
                    }
                    ClientError::NoAnswer { .. } => Outcome::NoAnswer,
                    // Something in between, while services start.
                    ClientError::Unreadable { .. } => Outcome::NoAnswer,
                    ClientError::Problem(_) | ClientError::Config { .. } => return PresenceEnd::Refused(error),
                },
            };
            failed = failed.saturating_add(1);
            let rest = pause(outcome, failed.min(5), u32::MAX, chance()).unwrap_or(Duration::from_secs(5));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return PresenceEnd::Shutdown,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn connect_presence(&self, hello: &Presence) -> Result<Response, ClientError> {
        let call = self.call(Method::POST, routes::WORK_PRESENCE, &[])?;
        self.open(call.json(hello)?.header(ACCEPT, "text/event-stream")?).await
    }
}

/// Listens until the stream breaks.
async fn listen(response: Response, leases: &RemoteLeases, drain: &CancellationToken, outdated: &mut bool) {
    let mut body = response.bytes_stream();
    let mut parser = SseParser::new();
    while let Ok(Some(Ok(bytes))) = tokio::time::timeout(SILENCE, body.next()).await {
        let Ok(events) = parser.push(&bytes) else { return };
        for event in events {
            // What another version says besides is not for this one.
            match serde_json::from_str::<Control>(&event.data) {
                Ok(Control::JobEnded { job }) => leases.nudge(job),
                Ok(Control::Drain { is_outdated }) => {
                    *outdated |= is_outdated;
                    drain.cancel();
                }
                Ok(Control::Ping) | Err(_) => {}
            }
        }
    }
}
