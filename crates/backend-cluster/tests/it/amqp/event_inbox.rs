//! The event inbox on a queue of the broker against the conformance suite.

use super::broker::{Client, Place};
use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use splitreel_backend::conformance::InboxHarness;
use splitreel_backend::inbox::EventInbox;
use splitreel_backend_cluster::amqp::{AmqpEventInbox, AmqpInbox, AmqpLink, InboxOptions};
use std::sync::{Arc, Mutex};

/// One queue, and the connections that were opened to it.
struct Queue {
    place: Place,
    client: Client,
    links: Mutex<Vec<AmqpLink>>,
}

impl Queue {
    /// Declared here: the inbox declares a missing queue only when somebody waits for a message.
    async fn declare() -> Self {
        let (place, client) = (Place::new(), Client::connect().await);
        let queue = Queue { place, client, links: Mutex::default() };
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = queue.client.channel.queue_declare(queue.name().into(), durable, FieldTable::default());
        declared.await.unwrap();
        queue
    }

    fn name(&self) -> String {
        format!("{}.inbox", self.place.prefix)
    }
}

#[async_trait]
impl InboxHarness for Queue {
    async fn open(&self) -> Arc<dyn EventInbox> {
        let link = AmqpLink::open(self.place.options()).unwrap();
        self.links.lock().unwrap().push(link.clone());
        let options = InboxOptions { queue: self.name(), bind: None, prefetch: 4 };
        Arc::new(AmqpEventInbox::new(AmqpInbox::new(link, options)))
    }
    async fn send(&self, body: &[u8]) {
        self.client.publish("", &self.name(), &Bytes::copy_from_slice(body)).await;
    }
    async fn disconnect(&self) {
        let links = std::mem::take(&mut *self.links.lock().unwrap());
        for link in links {
            link.close().await;
        }
    }
}

splitreel_backend::inbox_conformance!(Queue::declare().await);
