//! The inbox seam: a queue of event documents from others, such as an object store's notifications.

use async_trait::async_trait;
use bytes::Bytes;

/// A message of the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Identifies the message to the inbox.
    pub tag: u64,
    /// The document.
    pub body: Bytes,
}

/// The inbox failed.
#[derive(Debug, thiserror::Error)]
#[error("event queue unavailable: {what}")]
pub struct InboxError {
    /// What failed.
    pub what: String,
}

/// A queue of event documents. Messages that are neither acknowledged nor rejected are delivered again.
#[async_trait]
pub trait EventInbox: Send + Sync {
    /// Waits for the next message. Cancel-safe: a message that was not handed over is delivered again.
    async fn next(&self) -> Result<Delivery, InboxError>;
    /// Acknowledges a message: it is not delivered again.
    async fn ack(&self, tag: u64) -> Result<(), InboxError>;
    /// Rejects a message. With `requeue` it is delivered again, otherwise dropped (or dead-lettered by the queue's
    /// policy).
    async fn reject(&self, tag: u64, requeue: bool) -> Result<(), InboxError>;
}
