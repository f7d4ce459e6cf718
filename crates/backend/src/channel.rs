//! An in-process doorbell: one unbounded queue per role. Loses nothing while the process lives, everything with it.

use crate::doorbell::{Doorbell, DoorbellError, Queue, Wakeup};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Wakeups that wait in this process for a listener, first in, first out.
#[derive(Debug, Default)]
pub struct ChannelDoorbell {
    work: Waiting,
    assemble: Waiting,
}

#[derive(Debug, Default)]
struct Waiting {
    wakeups: Mutex<VecDeque<Wakeup>>,
    arrived: Notify,
}

impl ChannelDoorbell {
    /// An empty doorbell.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakeups of a queue that no listener has taken yet.
    pub fn num_waiting(&self, queue: Queue) -> usize {
        self.waiting(queue).lock().len()
    }

    /// Loses every waiting wakeup, as a broker does whose disk is wiped.
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
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Wakeup>> {
        self.wakeups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Doorbell for ChannelDoorbell {
    async fn notify(&self, wakeup: Wakeup) -> Result<(), DoorbellError> {
        let waiting = self.waiting(wakeup.queue());
        waiting.lock().push_back(wakeup);
        waiting.arrived.notify_one();
        Ok(())
    }

    /// Cancel-safe: a wakeup leaves the queue only in the poll that answers it, and a wake-up that reached a
    /// dropped listener passes on to another.
    async fn next(&self, queue: Queue) -> Result<Wakeup, DoorbellError> {
        let waiting = self.waiting(queue);
        loop {
            let arrived = waiting.arrived.notified();
            if let Some(wakeup) = waiting.lock().pop_front() {
                return Ok(wakeup);
            }
            arrived.await;
        }
    }
}
