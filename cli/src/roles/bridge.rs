//! Fits adapters to the seams that the coordinator declares for itself: bucket listings, the inbox of upload events,
//! the exchange of job events.

use async_trait::async_trait;
use splitreel_backend::StoreError;
use splitreel_backend_cluster::amqp::{AmqpEvents, AmqpInbox, Delivery as Received};
use splitreel_backend_cluster::s3::S3Sources;
use splitreel_coordinator::events::EventSink;
use splitreel_coordinator::triggers::{Buckets, Delivery, EventInbox, InboxError, ListError, Listed};
use splitreel_core::event::Event;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Source buckets on S3.
pub struct S3Buckets(pub S3Sources);

#[async_trait]
impl Buckets for S3Buckets {
    async fn list(&self, bucket: &str, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, ListError> {
        let after = Some(after).filter(|a| !a.is_empty());
        let found = self.0.list_objects(bucket, prefix, after, limit).await;
        let found = found.map_err(|e| ListError { bucket: bucket.to_owned(), source: Box::new(e) })?;
        let listed = found.into_iter().map(|o| Listed {
            key: o.key,
            bytes: o.bytes,
            etag: o.etag.unwrap_or_default(),
            modified_ms: o.modified_ms.unwrap_or(0),
        });
        Ok(listed.collect())
    }
}

/// A queue of upload events on the broker.
pub struct Inbox {
    queue: AmqpInbox,
    /// Messages that are neither acknowledged nor rejected, by a number of our own.
    open: Mutex<(u64, BTreeMap<u64, Received>)>,
}

impl Inbox {
    /// An inbox over a queue.
    pub fn new(queue: AmqpInbox) -> Self {
        Inbox { queue, open: Mutex::default() }
    }

    fn close(&self, tag: u64) -> Result<Received, InboxError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1.remove(&tag).ok_or_else(|| InboxError { what: format!("message {tag} is not open") })
    }
}

#[async_trait]
impl EventInbox for Inbox {
    async fn next(&self) -> Result<Delivery, InboxError> {
        let received = self.queue.next().await.map_err(|e| InboxError { what: e.to_string() })?;
        let body = received.body.clone().into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 = open.0.wrapping_add(1);
        let tag = open.0;
        open.1.insert(tag, received);
        Ok(Delivery { tag, body })
    }

    async fn ack(&self, tag: u64) -> Result<(), InboxError> {
        // False: the connection was lost meanwhile; the message comes again and makes nothing new.
        self.close(tag)?.ack().await;
        Ok(())
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Result<(), InboxError> {
        self.close(tag)?.reject(requeue).await;
        Ok(())
    }
}

/// The exchange that job events are published on.
pub struct Exchange(pub AmqpEvents);

#[async_trait]
impl EventSink for Exchange {
    async fn take(&self, events: &[Event]) -> Result<(), StoreError> {
        self.0.publish(events).await.map_err(|e| StoreError::Unavailable(Box::new(e)))
    }
}
