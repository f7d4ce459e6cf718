//! The inbox seam on a queue of the broker.

use super::inbox::{AmqpInbox, Delivery as Received};
use async_trait::async_trait;
use splitreel_backend::inbox::{Delivery, EventInbox, InboxError};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A queue of upload events on the broker.
pub struct AmqpEventInbox {
    queue: AmqpInbox,
    /// Last tag, and the messages that are neither acknowledged nor rejected by tag.
    open: Mutex<(u64, BTreeMap<u64, Received>)>,
}

impl AmqpEventInbox {
    /// An inbox over a queue.
    pub fn new(queue: AmqpInbox) -> Self {
        AmqpEventInbox { queue, open: Mutex::default() }
    }

    fn close(&self, tag: u64) -> Result<Received, InboxError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1.remove(&tag).ok_or_else(|| InboxError { what: format!("message {tag} is not open") })
    }
}

#[async_trait]
impl EventInbox for AmqpEventInbox {
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
        // False: the connection was lost meanwhile, and the message is delivered again, which is harmless.
        self.close(tag)?.ack().await;
        Ok(())
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Result<(), InboxError> {
        self.close(tag)?.reject(requeue).await;
        Ok(())
    }
}
