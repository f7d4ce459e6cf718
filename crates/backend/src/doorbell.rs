//! The doorbell seam: a lossy hint that a task may be claimed. It may lose, repeat and reorder.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_core::TaskId;
use splitreel_core::task::TaskKind;

/// A message: ids only, never state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ring {
    /// The task.
    pub task: TaskId,
    /// The attempt that is to be claimed.
    pub attempt: u32,
    /// Routes to the role: `assemble` to assemblers, all else to workers.
    pub kind: TaskKind,
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Probe, whole, segment, audio.
    Work,
    /// Assemble.
    Assemble,
}

impl Ring {
    /// The queue it belongs on.
    pub fn queue(&self) -> Queue {
        if self.kind == TaskKind::Assemble { Queue::Assemble } else { Queue::Work }
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
    /// Waits for the next ring of a queue. Each ring goes to one listener. Cancel-safe.
    async fn next(&self, queue: Queue) -> Result<Ring, DoorbellError>;
}
