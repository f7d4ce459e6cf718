//! The shared blob store and doorbell of a simulation: objects that appear in pieces or late, wakeups that come late.

use super::chaos::{Chaos, Write};
use super::ledger::Ledger;
use super::lock;
use async_trait::async_trait;
use bytes::Bytes;
use splitreel_backend::blob::{BlobAdmin, BlobError, BlobReader, PartWriter, Piece};
use splitreel_backend::doorbell::{Doorbell, DoorbellError, Queue, Wakeup};
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a late object stands half written.
const HALF_WRITTEN: Duration = Duration::from_millis(100);

/// Objects that survive every crash.
pub(super) struct SharedBlobs {
    inner: Arc<MemoryBlobs>,
    ledger: Arc<Ledger>,
    chaos: Arc<Chaos>,
    hidden: Mutex<BTreeMap<String, Instant>>,
    /// A planted mistake: answers before the object is written.
    is_hasty: bool,
}

impl SharedBlobs {
    pub(super) fn new(inner: Arc<MemoryBlobs>, ledger: Arc<Ledger>, chaos: Arc<Chaos>, is_hasty: bool) -> Self {
        SharedBlobs { inner, ledger, chaos, hidden: Mutex::default(), is_hasty }
    }

    fn is_visible(&self, key: &str) -> bool {
        lock(&self.hidden).get(key).is_none_or(|until| *until <= Instant::now())
    }

    fn visible(&self, key: &str) -> Result<(), BlobError> {
        if self.is_visible(key) { Ok(()) } else { Err(BlobError::NotFound { key: key.to_owned() }) }
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        let object =
            Object { key: key.to_owned(), bytes, inner: Arc::clone(&self.inner), ledger: Arc::clone(&self.ledger) };
        if self.is_hasty {
            let time = Duration::from_millis(self.chaos.choose(2_000) as u64);
            Arc::clone(&self.ledger).watch("a hasty write", async move {
                sleep(time).await;
                let _ = object.put().await;
            });
            return Ok(());
        }
        match self.chaos.write() {
            Write::Whole => {}
            Write::Torn(time) => {
                object.put_half().await?;
                sleep(time).await;
            }
            Write::Hidden(time) => {
                lock(&self.hidden).insert(key.to_owned(), Instant::now() + time);
            }
            Write::Late(time) => {
                self.chaos.note("blobs", || format!("{key} will be written in {time:?}"));
                Arc::clone(&self.ledger).watch("a late write", async move {
                    sleep(time).await;
                    // Memory takes every object whose key is well formed; a bad key was refused long ago.
                    let _ = object.put_half().await;
                    sleep(HALF_WRITTEN).await;
                    let _ = object.put().await;
                });
                let source = std::io::Error::other("no answer from the blob store");
                return Err(BlobError::Unavailable { key: key.to_owned(), source });
            }
        }
        object.put().await
    }
}

/// An object on its way.
struct Object {
    key: String,
    bytes: Bytes,
    inner: Arc<MemoryBlobs>,
    ledger: Arc<Ledger>,
}

impl Object {
    async fn put_half(&self) -> Result<(), BlobError> {
        let half = self.bytes.slice(..self.bytes.len() / 2);
        self.ledger.writing(&self.key, &half);
        self.inner.put(&self.key, half).await
    }

    async fn put(&self) -> Result<(), BlobError> {
        self.ledger.writing(&self.key, &self.bytes);
        self.inner.put(&self.key, self.bytes.clone()).await
    }
}

#[async_trait]
impl BlobReader for SharedBlobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        self.visible(key)?;
        self.inner.read(key, offset, len).await
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        self.visible(key)?;
        self.inner.size(key).await
    }

    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        self.visible(key)?;
        self.inner.export(key, target).await
    }
}

#[async_trait]
impl PartWriter for SharedBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.write(key, bytes).await
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        self.inner.put_file(key, path).await
    }
}

#[async_trait]
impl BlobAdmin for SharedBlobs {
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
        let mut whole = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => whole.extend_from_slice(bytes),
                Piece::Object { key: from, bytes } => {
                    let object = self.read(from, 0, usize::MAX).await?;
                    if object.len() as u64 != *bytes {
                        let source = std::io::Error::other("the piece has another size");
                        return Err(BlobError::Unavailable { key: from.clone(), source });
                    }
                    whole.extend_from_slice(&object);
                }
            }
        }
        let size = whole.len() as u64;
        self.write(key, whole.into()).await?;
        Ok(size)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let mut keys = self.inner.list(prefix).await?;
        keys.retain(|key| self.is_visible(key));
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.ledger.deleting(key);
        self.inner.delete(key).await
    }
}

/// A doorbell that lives outside of all processes: it delivers some wakeups late, and keeps some until it is restarted.
pub(super) struct SharedBell {
    inner: Arc<ChannelDoorbell>,
    chaos: Arc<Chaos>,
    held: Mutex<Vec<Wakeup>>,
    /// What is on its way belongs to one life of the broker's disk.
    num_wipes: Arc<AtomicU64>,
}

impl SharedBell {
    pub(super) fn new(inner: Arc<ChannelDoorbell>, chaos: Arc<Chaos>) -> Self {
        SharedBell { inner, chaos, held: Mutex::default(), num_wipes: Arc::default() }
    }

    /// Loses every wakeup: waiting, under way, and kept by the broker.
    pub(super) fn wipe(&self) {
        self.chaos.note("doorbell", || "wiped".into());
        self.num_wipes.fetch_add(1, Ordering::Relaxed);
        lock(&self.held).clear();
        self.inner.wipe();
    }

    /// Delivers what was kept, hours late, the newest first.
    pub(super) async fn let_go(&self) {
        let held = std::mem::take(&mut *lock(&self.held));
        self.chaos.note("doorbell", || format!("lets {} wakeups go", held.len()));
        for wakeup in held.into_iter().rev() {
            // An in-memory doorbell takes every wakeup.
            let _ = self.inner.notify(wakeup).await;
        }
    }
}

#[async_trait]
impl Doorbell for SharedBell {
    async fn notify(&self, wakeup: Wakeup) -> Result<(), DoorbellError> {
        if self.chaos.wakeup_is_held() {
            lock(&self.held).push(wakeup);
            return Ok(());
        }
        let Some(time) = self.chaos.wakeup_delay() else { return self.inner.notify(wakeup).await };
        let (inner, num_wipes) = (Arc::clone(&self.inner), Arc::clone(&self.num_wipes));
        let sent_in = num_wipes.load(Ordering::Relaxed);
        tokio::spawn(async move {
            sleep(time).await;
            if num_wipes.load(Ordering::Relaxed) == sent_in {
                let _ = inner.notify(wakeup).await;
            }
        });
        Ok(())
    }

    async fn next(&self, queue: Queue) -> Result<Wakeup, DoorbellError> {
        self.inner.next(queue).await
    }
}
