//! Job events for other systems: each is published to a durable topic exchange after it is in the event log.

use super::link::AmqpLink;
use super::message::Message;
use super::publisher::Publisher;
use super::topology::{Topology, events_name};
use super::{AmqpError, AmqpOptions};
use async_trait::async_trait;
use splitreel_backend::StoreError;
use splitreel_backend::events::EventSink;
use splitreel_core::event::Event;
use std::sync::Arc;

/// Publishes events to the exchange `<prefix>.v1.events` with the routing key `job.<event>`, such as
/// `job.published`: the JSON of [`Event`], persistent, confirmed. The broker drops events without a bound queue.
pub struct AmqpEvents {
    publisher: Arc<Publisher>,
    link: AmqpLink,
}

/// Not all events were confirmed.
#[derive(Debug, thiserror::Error)]
#[error("only the first {accepted} events were confirmed")]
pub struct Unpublished {
    /// Number of confirmed events from the first one on; later events may have been published, too.
    pub accepted: usize,
    /// Why the next one was not.
    #[source]
    pub source: AmqpError,
}

impl AmqpEvents {
    /// Events over this connection.
    pub fn new(link: AmqpLink) -> Self {
        let topology = Topology::Events { prefix: link.shared.options.prefix.clone() };
        AmqpEvents { publisher: Publisher::new(Arc::clone(&link.shared), topology), link }
    }

    /// Publishes in order.
    ///
    /// # Errors
    /// [`Unpublished`]; repeating from the first unconfirmed event on publishes each event at least once.
    pub async fn publish(&self, events: &[Event]) -> Result<(), Unpublished> {
        let messages = events.iter().map(|event| message(&self.link.shared.options, event)).collect();
        for (accepted, outcome) in self.publisher.publish(messages).await.into_iter().enumerate() {
            outcome.map_err(|source| Unpublished { accepted, source })?;
        }
        Ok(())
    }
}

fn message(options: &AmqpOptions, event: &Event) -> Message {
    // A map of plain values with text keys cannot fail to be written.
    let value = serde_json::to_value(event).unwrap_or_default();
    let name = value.get("event").and_then(|name| name.as_str()).unwrap_or("unknown");
    Message {
        exchange: events_name(&options.prefix),
        routing_key: format!("job.{name}"),
        body: value.to_string().into_bytes(),
        headers: Vec::new(),
        is_mandatory: false,
    }
}

#[async_trait]
impl EventSink for AmqpEvents {
    async fn take(&self, events: &[Event]) -> Result<(), StoreError> {
        self.publish(events).await.map_err(|error| StoreError::Unavailable(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

    use super::*;
    use splitreel_backend::conformance::fixture::job_id;
    use splitreel_core::event::EventKind;

    #[test]
    fn the_routing_key_names_the_event() {
        let event = |what| Event { seq: 7, job: job_id(1), at_ms: 5, what };
        let planned = event(EventKind::Planned { num_tasks: 3 });
        let sent = message(&AmqpOptions::new(""), &planned);
        assert_eq!((sent.exchange.as_str(), sent.routing_key.as_str()), ("splitreel.v1.events", "job.planned"));
        assert_eq!(serde_json::from_slice::<Event>(&sent.body).unwrap(), planned);
        assert_eq!(message(&AmqpOptions::new(""), &event(EventKind::Published)).routing_key, "job.published");
    }
}
