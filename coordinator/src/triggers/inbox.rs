//! Events by queue: takes documents from an inbox and acknowledges them when what they say is in the job store.

use super::event::{ParseError, parse};
use super::intake::{Intake, IntakeError, Outcome, counted};
use splitreel_backend::inbox::{Delivery, EventInbox};
use splitreel_telemetry::labels::{TriggerOutcome, TriggerSource};
use splitreel_telemetry::record;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Why a document was not done with.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// An event of it could not be followed.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

impl DocumentError {
    /// The same document may be followed later, without anybody's doing.
    pub fn is_temporary(&self) -> bool {
        matches!(self, DocumentError::Intake(error) if error.is_temporary())
    }
}

/// Pause after a failure: first and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Takes messages until `stop`. Acknowledges after the job store has committed; rejects what cannot be read or
/// followed for good, without requeue (a dead-letter policy of the queue keeps it); gives back what storage or the
/// job store did not answer about, and pauses before the next.
pub async fn listen(inbox: &dyn EventInbox, intake: &Intake, stop: &CancellationToken) {
    let mut pause = PAUSE.0;
    loop {
        let delivery = tokio::select! {
            () = stop.cancelled() => return,
            next = inbox.next() => next,
        };
        let has_failed = match delivery {
            Ok(delivery) => handle(inbox, intake, &delivery).await,
            Err(error) => {
                tracing::warn!(%error, "event queue unavailable; retrying");
                true
            }
        };
        if !has_failed {
            pause = PAUSE.0;
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(PAUSE.1),
        }
    }
}

/// Answers whether to pause.
async fn handle(inbox: &dyn EventInbox, intake: &Intake, delivery: &Delivery) -> bool {
    let done = follow(intake, &delivery.body).await;
    let answered = match &done {
        Ok(_) => inbox.ack(delivery.tag).await,
        Err(error) => {
            let requeue = error.is_temporary();
            tracing::warn!(%error, requeue, "event message rejected");
            inbox.reject(delivery.tag, requeue).await
        }
    };
    if let Err(error) = &answered {
        // The message comes again and finds its jobs.
        tracing::warn!(%error, "event queue unavailable; retrying");
    }
    answered.is_err() || done.is_err_and(|error| error.is_temporary())
}

/// Follows all events of a document. The first that fails ends it: those before it are found again.
async fn follow(intake: &Intake, body: &[u8]) -> Result<Vec<Outcome>, DocumentError> {
    let parsed = parse(body).inspect_err(|_| record::trigger_event(TriggerSource::Amqp, TriggerOutcome::Rejected))?;
    for confirm in &parsed.confirm {
        tracing::warn!(topic = %confirm.topic, "topic subscription cannot be confirmed through a queue; message ignored");
    }
    if parsed.events.is_empty() {
        return Ok(Vec::new());
    }
    let rules = intake.rules().await?;
    let mut outcomes = Vec::with_capacity(parsed.events.len());
    let mut failed = None;
    for event in &parsed.events {
        match counted(TriggerSource::Amqp, intake.offer_by(&rules, event, None).await) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) if error.is_temporary() => return Err(error.into()),
            // One bad record must not keep the others of its document from being followed.
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(outcomes), |error| Err(error.into()))
}
