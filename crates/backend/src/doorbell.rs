//! The doorbell seam: a lossy hint that a task may be claimed. Wakeups may be lost, repeated and reordered.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_core::task::TaskKind;
use splitreel_core::{TaskId, Trace};

/// A notification that a task may be claimed: ids only, never state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Wakeup {
    /// The task.
    pub task: TaskId,
    /// The attempt to claim.
    pub attempt: u32,
    /// Routes to the role: `assemble` to assemblers, all other kinds to workers.
    pub kind: TaskKind,
    /// Trace that the attempt continues. The sender sets it; stores do not keep it.
    #[serde(default, skip_serializing_if = "Trace::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub trace: Trace,
}

/// A queue of wakeups, one per role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Probe, whole, segment, audio.
    Work,
    /// Assemble.
    Assemble,
}

impl Queue {
    /// Both queues.
    pub const ALL: [Queue; 2] = [Queue::Assemble, Queue::Work];

    /// Queue for wakeups of a kind of task.
    pub fn of(kind: TaskKind) -> Queue {
        if kind == TaskKind::Assemble { Queue::Assemble } else { Queue::Work }
    }
}

impl Wakeup {
    /// Queue of this wakeup.
    pub fn queue(&self) -> Queue {
        Queue::of(self.kind)
    }
}

/// The doorbell failed to accept or deliver a wakeup.
#[derive(Debug, thiserror::Error)]
#[error("the doorbell is unavailable: {what}")]
pub struct DoorbellError {
    /// What failed.
    pub what: String,
}

/// Carries wakeups from the outbox relay to workers and assemblers.
#[async_trait]
pub trait Doorbell: Send + Sync {
    /// Sends a wakeup. `Ok` means accepted, never delivered.
    async fn notify(&self, wakeup: Wakeup) -> Result<(), DoorbellError>;
    /// Sends wakeups in order until one is not accepted; answers the accepted ones.
    async fn notify_all(&self, wakeups: Vec<Wakeup>) -> Vec<Wakeup> {
        let mut accepted = Vec::with_capacity(wakeups.len());
        for wakeup in wakeups {
            if let Err(error) = self.notify(wakeup.clone()).await {
                tracing::warn!(%error, "doorbell send failed; the outbox keeps the rest");
                break;
            }
            accepted.push(wakeup);
        }
        accepted
    }
    /// Waits for the next wakeup of a queue. Each wakeup goes to one listener. Cancel-safe.
    async fn next(&self, queue: Queue) -> Result<Wakeup, DoorbellError>;
    /// Acknowledges a wakeup: its claim was granted or refused, so it need not be delivered again.
    async fn answered(&self, _wakeup: &Wakeup) {}
    /// Returns a wakeup whose claim stayed unanswered: another listener may receive it at once.
    async fn unanswered(&self, _wakeup: &Wakeup) {}
}
