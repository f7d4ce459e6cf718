//! Names and declarations of queues and exchanges. Policies (delivery limit, dead letters, lengths) belong to the
//! operator; a queue's only argument is its type, because other arguments differ between versions of RabbitMQ.

use super::{AmqpError, within};
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use splitreel_backend::doorbell::Queue;
use std::time::Duration;

/// Queues and exchanges that have to exist before publishing or consuming.
#[derive(Clone, Debug)]
pub(super) enum Topology {
    /// The queues of the doorbell.
    Wakeups { prefix: String },
    /// The exchange of job events.
    Events { prefix: String },
}

/// Name of a queue. The version changes with the format of messages or the arguments of queues.
pub(super) fn queue_name(prefix: &str, queue: Queue) -> String {
    match queue {
        Queue::Work => format!("{prefix}.v1.work"),
        Queue::Assemble => format!("{prefix}.v1.assemble"),
    }
}

/// Name of the exchange of job events.
pub(super) fn events_name(prefix: &str) -> String {
    format!("{prefix}.v1.events")
}

impl Topology {
    /// Declares everything; existing queues and exchanges stay as they are.
    pub(super) async fn declare(&self, channel: &Channel, limit: Duration) -> Result<(), AmqpError> {
        match self {
            Topology::Wakeups { prefix } => {
                for queue in [Queue::Work, Queue::Assemble] {
                    declare_queue(channel, &queue_name(prefix, queue), limit).await?;
                }
                Ok(())
            }
            Topology::Events { prefix } => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                let name = events_name(prefix);
                let declared =
                    channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
                within(limit, "declare an exchange", declared).await
            }
        }
    }
}

/// Declares a durable quorum queue.
pub(super) async fn declare_queue(channel: &Channel, name: &str, limit: Duration) -> Result<(), AmqpError> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    within(limit, "declare a queue", channel.queue_declare(name.into(), options, arguments)).await.map(drop)
}

/// The answer of a passive declaration; `None` = not found, and the broker has closed the channel, not the connection.
pub(super) fn found<T>(asked: Result<T, AmqpError>) -> Result<Option<T>, AmqpError> {
    const NOT_FOUND: u16 = 404;
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match &error {
            AmqpError::Broker { source, .. } => match source.kind() {
                lapin::ErrorKind::ProtocolError(answer) if answer.get_id() == NOT_FOUND => Ok(None),
                _ => Err(error),
            },
            _ => Err(error),
        },
    }
}
