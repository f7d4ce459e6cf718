//! The event log as it grows, read once per process for all who listen.

use splitreel_backend::{JobStore, StoreError};
use splitreel_core::event::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};

const PAGE: usize = 512;
/// Batches that a slow listener may be behind before it reads the log itself.
const BEHIND: usize = 256;

/// Events come in crowds: after a look the next one waits this long.
const CROWD: Duration = Duration::from_millis(20);

/// New events, in the order of the log. An empty one says that some may have been left out: read the log.
pub(crate) type Batch = Arc<Vec<Event>>;

/// Follows the log while somebody listens.
pub(crate) struct Feed {
    store: Arc<dyn JobStore>,
    every: Duration,
    sender: broadcast::Sender<Batch>,
    /// Everything up to here was in the log when it was last read.
    position: AtomicI64,
    is_following: AtomicBool,
    look: Notify,
}

impl Feed {
    pub(crate) fn new(store: Arc<dyn JobStore>, every: Duration) -> Self {
        let (sender, _) = broadcast::channel(BEHIND);
        let (position, is_following) = (AtomicI64::new(0), AtomicBool::new(false));
        Feed { store, every, sender, position, is_following, look: Notify::new() }
    }

    /// What comes from now on. Who listens must read from the log what was there before.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Batch> {
        let receiver = self.sender.subscribe();
        self.look.notify_one();
        receiver
    }

    /// Something has happened here: looks without waiting.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// The newest position of the log.
    pub(crate) async fn newest(&self) -> Result<i64, StoreError> {
        newest(self.store.as_ref(), self.position.load(Ordering::Acquire)).await
    }

    /// Follows the log for one step: waits, reads, hands on. Cancel-safe: what was not handed on is read again.
    pub(crate) async fn follow(&self) {
        if self.sender.receiver_count() == 0 {
            // Nobody listens: the log grows unread, and the next listener starts at its end.
            self.is_following.store(false, Ordering::Release);
            return self.look.notified().await;
        }
        if !self.is_following.load(Ordering::Acquire) {
            match self.newest().await {
                Ok(newest) => self.position.store(newest, Ordering::Release),
                Err(error) => return self.failed(&error).await,
            }
            self.is_following.store(true, Ordering::Release);
            // What came after a listener had read the log and before now.
            let _ = self.sender.send(Batch::default());
        }
        loop {
            let position = self.position.load(Ordering::Acquire);
            match self.store.events(None, position, PAGE).await {
                Ok(events) => {
                    let is_all = events.len() < PAGE;
                    if let Some(last) = events.last() {
                        self.position.store(last.seq, Ordering::Release);
                        let _ = self.sender.send(Arc::new(events));
                    }
                    if is_all {
                        break;
                    }
                }
                Err(error) => return self.failed(&error).await,
            }
        }
        tokio::time::sleep(CROWD.min(self.every)).await;
        tokio::select! {
            () = self.look.notified() => {}
            () = tokio::time::sleep(self.every) => {}
        }
    }

    async fn failed(&self, error: &StoreError) {
        tracing::warn!(%error, "the event log cannot be read");
        tokio::time::sleep(self.every.max(Duration::from_millis(500))).await;
    }
}

/// The position of the last event, found in a number of reads that grows with the logarithm of the log.
async fn newest(store: &dyn JobStore, from: i64) -> Result<i64, StoreError> {
    let next =
        |after: i64| async move { Ok::<_, StoreError>(store.events(None, after, 1).await?.first().map(|e| e.seq)) };
    let Some(mut known) = next(from).await? else { return Ok(from) };
    let mut step: i64 = 1024;
    // An event exists at `known`; none may exist after `end`.
    let mut end = loop {
        let probe = known.saturating_add(step);
        match next(probe).await? {
            Some(seq) => known = seq,
            None => break probe,
        }
        step = step.saturating_mul(2);
    };
    while end > known {
        let middle = known + (end - known) / 2;
        match next(middle).await? {
            Some(seq) => known = seq,
            None => end = middle,
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::memory::MemoryStore;
    use splitreel_core::JobId;
    use splitreel_core::job::JobRequest;
    use splitreel_core::profile::Profile;
    use splitreel_core::source::SourceRef;
    use uuid::Uuid;

    #[tokio::test]
    async fn the_end_of_the_log_is_found_from_anywhere() {
        let store = MemoryStore::new();
        assert_eq!(newest(&store, 0).await.unwrap(), 0);
        for n in 0..3_000u128 {
            let request = JobRequest {
                tenant: "t".into(),
                idempotency_key: n.to_string(),
                source: SourceRef { locator: "x".into(), bytes: 1, version: "v".into() },
                base: "b".into(),
                profile: Profile::built_in("passthrough").unwrap(),
                priority: Default::default(),
                deep_probe: false,
                output: None,
                trace: Default::default(),
            };
            store.submit(JobId(Uuid::from_u128(n)), request, 0).await.unwrap();
            if n == 0 || n == 1_500 || n == 2_999 {
                let last = store.events(None, 0, 10_000).await.unwrap().last().unwrap().seq;
                for from in [0, last / 2, last] {
                    assert_eq!(newest(&store, from).await.unwrap(), last);
                }
            }
        }
    }
}
