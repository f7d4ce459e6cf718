//! The doorbell seam: a lossy hint that a task may be claimed. It may lose, repeat and reorder.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_core::task::TaskKind;
use splitreel_core::{TaskId, Trace};

/// A message: ids only, never state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ring {
    /// The task.
    pub task: TaskId,
    /// The attempt that is to be claimed.
    pub attempt: u32,
    /// Routes to the role: `assemble` to assemblers, all else to workers.
    pub kind: TaskKind,
    /// The trace that the attempt goes on with. Whoever rings sets it: stores do not keep it.
    #[serde(default, skip_serializing_if = "Trace::is_none")]
    pub trace: Trace,
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Probe, whole, segment, audio.
    Work,
    /// Assemble.
    Assemble,
}

impl Queue {
    /// Both.
    pub const ALL: [Queue; 2] = [Queue::Assemble, Queue::Work];

    /// Where tasks of a kind are rung for.
    pub fn of(kind: TaskKind) -> Queue {
        if kind == TaskKind::Assemble { Queue::Assemble } else { Queue::Work }
    }
}

impl Ring {
    /// The queue it belongs on.
    pub fn queue(&self) -> Queue {
        Queue::of(self.kind)
    }
}

/// The bell did not take or give a message.
#[derive(Debug, thiserror::Error)]
#[error("the doorbell is out of order: {what}")]
pub struct DoorbellError {
    /// What failed.
    pub what: String,
}

/// Carries rings from the outbox relay to workers.
#[async_trait]
pub trait Doorbell: Send + Sync {
    /// Hands a ring over. Ok means "accepted", never "will be delivered".
    async fn ring(&self, ring: Ring) -> Result<(), DoorbellError>;
    /// Hands many over, in order, as far as that goes; answers those that were accepted.
    async fn ring_all(&self, rings: Vec<Ring>) -> Vec<Ring> {
        let mut accepted = Vec::with_capacity(rings.len());
        for ring in rings {
            if let Err(error) = self.ring(ring.clone()).await {
                tracing::warn!(%error, "the doorbell is held up");
                break;
            }
            accepted.push(ring);
        }
        accepted
    }
    /// Waits for the next ring of a queue. Each ring goes to one listener. Cancel-safe.
    async fn next(&self, queue: Queue) -> Result<Ring, DoorbellError>;
    /// The listener had an answer to its ring, a lease or a clear no: the ring need not come again. A bell that
    /// keeps rings for a listener that dies before this may forget it now.
    async fn answered(&self, _ring: &Ring) {}
    /// The listener had no answer: the ring may be given to another at once.
    async fn unanswered(&self, _ring: &Ring) {}
}
