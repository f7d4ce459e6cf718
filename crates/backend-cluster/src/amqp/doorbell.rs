//! The doorbell seam over RabbitMQ.

use super::consumer::Tap;
use super::ledger::Answer;
use super::link::AmqpLink;
use super::message::{MAX_WAKEUP_BYTES, Message, trace_headers};
use super::publisher::Publisher;
use super::topology::{Topology, declare_queue, found, queue_name};
use super::{AmqpError, one_line, within};
use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use splitreel_backend::Doorbell;
use splitreel_backend::doorbell::{DoorbellError, Queue, Wakeup};
use splitreel_telemetry::labels::PublishOutcome;
use splitreel_telemetry::record;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Depth of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Wakeups not delivered to any listener.
    pub ready: u32,
    /// Consumers: the free slots of all listeners, and slots that were free a short while ago.
    pub consumers: u32,
}

/// Wakeups over two durable quorum queues, `<prefix>.v1.work` and `<prefix>.v1.assemble`.
///
/// `next` waits through outages and fails only after closing. A wakeup is acknowledged after [`Doorbell::answered`], at
/// the latest after [`keep_answered`](super::AmqpOptions::keep_answered). An unanswered wakeup goes to another listener
/// when the connection ends, or at once after [`Doorbell::unanswered`].
pub struct AmqpDoorbell {
    link: AmqpLink,
    publisher: Arc<Publisher>,
    work: OnceLock<Arc<Tap>>,
    assemble: OnceLock<Arc<Tap>>,
    prefetch: usize,
    closing: CancellationToken,
    _close_when_dropped: DropGuard,
}

impl AmqpDoorbell {
    /// A doorbell that holds at most `prefetch` unacknowledged wakeups of each queue (at least 1). A number below the
    /// number of slots would leave slots idle; a number above has no effect, since each waiting listener fetches one.
    pub fn new(link: AmqpLink, prefetch: u16) -> Self {
        let topology = Topology::Wakeups { prefix: link.shared.options.prefix.clone() };
        let closing = link.shared.closing.child_token();
        AmqpDoorbell {
            publisher: Publisher::new(Arc::clone(&link.shared), topology),
            link,
            work: OnceLock::new(),
            assemble: OnceLock::new(),
            prefetch: usize::from(prefetch.max(1)),
            closing: closing.clone(),
            _close_when_dropped: closing.drop_guard(),
        }
    }

    /// The connection, for its health.
    pub fn link(&self) -> &AmqpLink {
        &self.link
    }

    /// Stops listening and closes the link, for everything that uses it: see [`AmqpLink::close`].
    pub async fn close(&self) {
        self.closing.cancel();
        self.link.close().await;
    }

    /// Depth of a queue; a missing queue is declared.
    ///
    /// # Errors
    /// [`AmqpError`].
    pub async fn depth(&self, queue: Queue) -> Result<QueueDepth, AmqpError> {
        let shared = &self.link.shared;
        let limit = shared.options.answer_timeout;
        let live = shared.live_within(limit).await?;
        // A separate channel: the broker closes a channel that asks for a missing queue.
        let channel = live.channel().await?;
        let name = queue_name(&shared.options.prefix, queue);
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = channel.queue_declare(name.as_str().into(), passive, FieldTable::default());
        let Some(seen) = found(within(limit, "look at a queue", asked).await)? else {
            declare_queue(&live.channel().await?, &name, limit).await?;
            return Ok(QueueDepth { ready: 0, consumers: 0 });
        };
        within(limit, "close a channel", channel.close(200, "OK".into())).await?;
        Ok(QueueDepth { ready: seen.message_count(), consumers: seen.consumer_count() })
    }

    fn tap(&self, queue: Queue) -> &Arc<Tap> {
        let tap = match queue {
            Queue::Work => &self.work,
            Queue::Assemble => &self.assemble,
        };
        tap.get_or_init(|| Tap::open(&self.link.shared, queue, self.prefetch, self.closing.clone()))
    }

    fn message(&self, wakeup: &Wakeup) -> Result<Message, DoorbellError> {
        let body = serde_json::to_vec(wakeup).map_err(|error| DoorbellError { what: error.to_string() })?;
        if body.len() > MAX_WAKEUP_BYTES {
            return Err(DoorbellError { what: format!("a wakeup of {} bytes", body.len()) });
        }
        let options = &self.link.shared.options;
        Ok(Message {
            exchange: String::new(),
            routing_key: queue_name(&options.prefix, wakeup.queue()),
            headers: trace_headers(&wakeup.trace),
            body,
            is_mandatory: true,
        })
    }
}

/// Counts the outcomes of wakeups and returns them.
fn counted(outcomes: Vec<Result<(), AmqpError>>) -> Vec<Result<(), AmqpError>> {
    for outcome in &outcomes {
        let outcome = match outcome {
            Ok(()) => PublishOutcome::Confirmed,
            Err(AmqpError::Returned) => PublishOutcome::Returned,
            Err(AmqpError::Nacked) => PublishOutcome::Nacked,
            Err(AmqpError::Timeout { .. }) => PublishOutcome::TimedOut,
            Err(_) => PublishOutcome::Failed,
        };
        record::wakeups_published(outcome, 1);
    }
    outcomes
}

fn failed(error: &AmqpError) -> DoorbellError {
    DoorbellError { what: one_line(error) }
}

#[async_trait]
impl Doorbell for AmqpDoorbell {
    async fn notify(&self, wakeup: Wakeup) -> Result<(), DoorbellError> {
        let outcomes = counted(self.publisher.publish(vec![self.message(&wakeup)?]).await);
        outcomes.into_iter().collect::<Result<(), _>>().map_err(|error| failed(&error))
    }

    async fn notify_all(&self, wakeups: Vec<Wakeup>) -> Vec<Wakeup> {
        let messages: Result<Vec<Message>, _> = wakeups.iter().map(|wakeup| self.message(wakeup)).collect();
        let outcomes = match messages {
            Ok(messages) => counted(self.publisher.publish(messages).await),
            Err(error) => {
                tracing::error!(%error, "wakeups could not be encoded; the outbox keeps them");
                return Vec::new();
            }
        };
        if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
            tracing::warn!(error = %one_line(error), "doorbell send failed; the outbox keeps the rest");
        }
        wakeups.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(wakeup, _)| wakeup).collect()
    }

    async fn next(&self, queue: Queue) -> Result<Wakeup, DoorbellError> {
        self.tap(queue).next().await.map_err(|error| failed(&error))
    }

    async fn answered(&self, wakeup: &Wakeup) {
        self.tap(wakeup.queue()).answer(wakeup, Answer::Done);
    }

    async fn unanswered(&self, wakeup: &Wakeup) {
        self.tap(wakeup.queue()).answer(wakeup, Answer::Again);
    }
}
