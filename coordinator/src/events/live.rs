//! The event log as it grows: read once per process for all listeners.

use splitreel_backend::{JobStore, StoreError};
use splitreel_core::event::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

const PAGE: usize = 512;
/// Number of batches a slow listener may be behind before it has to read the log itself.
const MAX_BEHIND: usize = 256;
/// Pause after a read: events come in bursts.
const BURST: Duration = Duration::from_millis(20);

/// New events, in the order of the log. An empty batch says that some may be missing: read the log.
pub type Batch = Arc<Vec<Event>>;

/// Follows the log while there are listeners; cheap to clone.
#[derive(Clone)]
pub struct LiveFeed {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn JobStore>,
    every: Duration,
    sender: broadcast::Sender<Batch>,
    /// Everything up to this position was in the log at the last read.
    position: AtomicI64,
    is_following: AtomicBool,
    look: Notify,
    closing: CancellationToken,
}

impl LiveFeed {
    /// A feed of the log that looks for new events every `every` while there are listeners.
    pub fn new(store: Arc<dyn JobStore>, every: Duration) -> Self {
        let (sender, _) = broadcast::channel(MAX_BEHIND);
        let inner = Inner {
            store,
            every,
            sender,
            position: AtomicI64::new(0),
            is_following: AtomicBool::new(false),
            look: Notify::new(),
            closing: CancellationToken::new(),
        };
        LiveFeed { inner: Arc::new(inner) }
    }

    /// Events from now on. A listener must read earlier events from the log.
    pub fn listen(&self) -> broadcast::Receiver<Batch> {
        let receiver = self.inner.sender.subscribe();
        self.inner.look.notify_one();
        receiver
    }

    /// Reads the log without waiting for the next tick: this process has just written to it.
    pub fn look(&self) {
        self.inner.look.notify_one();
    }

    /// Ends all streams of this feed, so that a server can come to an end.
    pub fn close(&self) {
        self.inner.closing.cancel();
    }

    /// Whether the feed was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closing.is_cancelled()
    }

    /// Waits until the feed is closed.
    pub async fn closed(&self) {
        self.inner.closing.cancelled().await;
    }

    /// The newest position of the log.
    ///
    /// # Errors
    /// When the job store fails.
    pub async fn newest(&self) -> Result<i64, StoreError> {
        newest(self.inner.store.as_ref(), self.inner.position.load(Ordering::Acquire)).await
    }

    /// Follows the log for one step: waits, reads, hands on. Cancel-safe: unsent events are read again.
    pub(crate) async fn follow(&self) {
        let inner = &self.inner;
        if inner.sender.receiver_count() == 0 {
            // Without listeners the log grows unread, and the next listener starts at its end.
            inner.is_following.store(false, Ordering::Release);
            return inner.look.notified().await;
        }
        if !inner.is_following.load(Ordering::Acquire) {
            match self.newest().await {
                Ok(newest) => inner.position.store(newest, Ordering::Release),
                Err(error) => return self.failed(&error).await,
            }
            inner.is_following.store(true, Ordering::Release);
            // Covers events between a listener's read of the log and now.
            let _ = inner.sender.send(Batch::default());
        }
        if let Err(error) = self.send_new().await {
            return self.failed(&error).await;
        }
        tokio::time::sleep(BURST.min(inner.every)).await;
        tokio::select! {
            () = inner.look.notified() => {}
            () = tokio::time::sleep(inner.every) => {}
        }
    }

    /// Reads the log to its end, page by page, and sends each page.
    async fn send_new(&self) -> Result<(), StoreError> {
        loop {
            let position = self.inner.position.load(Ordering::Acquire);
            let events = self.inner.store.events(None, position, PAGE).await?;
            let is_last = events.len() < PAGE;
            if let Some(last) = events.last() {
                self.inner.position.store(last.seq, Ordering::Release);
                let _ = self.inner.sender.send(Arc::new(events));
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn failed(&self, error: &StoreError) {
        tracing::warn!(%error, "reading the event log failed; retrying");
        tokio::time::sleep(self.inner.every.max(Duration::from_millis(500))).await;
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
    use splitreel_backend::Submissions;
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
