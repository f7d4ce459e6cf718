//! The feed: reads the job log once, from a durable place on, and hands events to a sink at least once and in order.

use crate::documents::put_document;
use serde::{Deserialize, Serialize};
use splitreel_backend::events::EventSink;
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::{JobStore, Records, StoreError, World};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Kind of the records that hold how far a feed is.
pub const CURSOR_KIND: &str = "cursor";
const BATCH: usize = 500;

/// Hands the job log to one sink.
pub struct Feed {
    name: String,
    store: Arc<dyn JobStore>,
    records: Arc<dyn Records>,
    world: World,
    sink: Arc<dyn EventSink>,
}

#[derive(Default, Serialize, Deserialize)]
struct Cursor {
    after_seq: i64,
}

impl Feed {
    /// A feed whose place in the log is kept under `name`.
    pub fn new(
        name: &str,
        store: Arc<dyn JobStore>,
        records: Arc<dyn Records>,
        world: World,
        sink: Arc<dyn EventSink>,
    ) -> Self {
        Feed { name: name.to_owned(), store, records, world, sink }
    }

    /// Hands on until `stop`; looks every `every` when there was nothing.
    pub async fn run(&self, every: Duration, stop: &CancellationToken) {
        loop {
            let is_more = match self.pump().await {
                Ok(handed) => handed == BATCH,
                Err(error) => {
                    tracing::warn!(%error, feed = %self.name, "handing events to a sink failed; retrying");
                    false
                }
            };
            let pause = if is_more { Duration::ZERO } else { every };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Hands one batch on. Answers how many events it had.
    ///
    /// # Errors
    /// When a store or the sink fails; the same events come again.
    pub async fn pump(&self) -> Result<usize, StoreError> {
        let key = RecordKey { kind: CURSOR_KIND.to_owned(), tenant: String::new(), id: self.name.clone() };
        let record = self.records.get(&key).await?;
        let expect = record.as_ref().map_or(Expect::Absent, |record| Expect::Version(record.version));
        let cursor: Cursor = match record {
            None => Cursor::default(),
            Some(record) => serde_json::from_value(record.doc)
                .map_err(|e| StoreError::Corrupt { what: format!("{CURSOR_KIND} {}: {e}", self.name) })?,
        };
        let after = cursor.after_seq;
        let events = self.store.events(None, after, BATCH).await?;
        let Some(last) = events.last() else { return Ok(0) };
        self.sink.take(&events).await?;
        let next = Cursor { after_seq: last.seq };
        // A conflict: another coordinator handed the same events on.
        let now = self.world.clock.now_ms();
        let _ = put_document(self.records.as_ref(), &key, expect, &next, None, now).await?;
        Ok(events.len())
    }
}
