//! An in-process doorbell: one unbounded queue per role. Loses nothing while the process lives, everything with it.

use crate::doorbell::{Doorbell, DoorbellError, Queue, Ring};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Rings that wait in this process for a listener, first in, first out.
#[derive(Debug, Default)]
pub struct ChannelDoorbell {
    work: Waiting,
    assemble: Waiting,
}

#[derive(Debug, Default)]
struct Waiting {
    rings: Mutex<VecDeque<Ring>>,
    arrived: Notify,
}

impl ChannelDoorbell {
    /// An empty doorbell.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rings of a queue that no listener has taken yet.
    pub fn num_waiting(&self, queue: Queue) -> usize {
        self.waiting(queue).lock().len()
    }

    /// Loses every waiting ring, as a broker does whose disk is wiped.
    pub fn wipe(&self) {
        self.work.lock().clear();
        self.assemble.lock().clear();
    }

    fn waiting(&self, queue: Queue) -> &Waiting {
        match queue {
            Queue::Work => &self.work,
            Queue::Assemble => &self.assemble,
        }
    }
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Ring>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Doorbell for ChannelDoorbell {
    async fn ring(&self, ring: Ring) -> Result<(), DoorbellError> {
        let waiting = self.waiting(ring.queue());
        waiting.lock().push_back(ring);
        waiting.arrived.notify_one();
        Ok(())
    }

    /// Cancel-safe: a ring leaves the queue only in the poll that answers it, and a wake-up that reached a
    /// dropped listener passes on to another.
    async fn next(&self, queue: Queue) -> Result<Ring, DoorbellError> {
        let waiting = self.waiting(queue);
        loop {
            let arrived = waiting.arrived.notified();
            if let Some(ring) = waiting.lock().pop_front() {
                return Ok(ring);
            }
            arrived.await;
        }
    }
}
