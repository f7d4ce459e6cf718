//! The feed: reads the job log once, from a durable place on, and hands events to a sink at least once and in order.

use super::ledger::{Delivery, Ledger};
use super::payload::{event_type, is_wanted, payload};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::{JobStore, Records, StoreError, World};
use splitreel_core::JobId;
use splitreel_core::event::Event;
use splitreel_core::job::Job;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Kind of the records that hold how far a feed is.
pub const CURSOR_KIND: &str = "cursor";
const BATCH: usize = 500;

/// Takes events. It may get the same ones again: after a crash, or from two coordinators at once.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Takes a batch, oldest first. When it returns well, the events are safe with the sink.
    async fn take(&self, events: &[Event]) -> Result<(), StoreError>;
}

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
                    tracing::warn!(%error, feed = %self.name, "events are held up");
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
        let ledger = Ledger::new(self.records.clone());
        let cursor = ledger.get::<Cursor>(&key).await?;
        let expect = cursor.as_ref().map_or(Expect::Absent, |cursor| Expect::Version(cursor.version));
        let after = cursor.map_or(0, |cursor| cursor.doc.after_seq);
        let events = self.store.events(None, after, BATCH).await?;
        let Some(last) = events.last() else { return Ok(0) };
        self.sink.take(&events).await?;
        let next = Cursor { after_seq: last.seq };
        // A conflict: another coordinator handed the same events on.
        let _ = ledger.put(&key, expect, &next, None, self.world.clock.now_ms()).await?;
        Ok(events.len())
    }
}

/// The sink that queues deliveries to webhooks, each once however often its event comes.
pub struct WebhookQueue {
    store: Arc<dyn JobStore>,
    ledger: Ledger,
    world: World,
}

impl WebhookQueue {
    /// A queue in the given records.
    pub fn new(store: Arc<dyn JobStore>, records: Arc<dyn Records>, world: World) -> Self {
        WebhookQueue { store, ledger: Ledger::new(records), world }
    }
}

#[async_trait]
impl EventSink for WebhookQueue {
    async fn take(&self, events: &[Event]) -> Result<(), StoreError> {
        if !events.iter().any(|event| event_type(&event.what).is_some()) {
            return Ok(());
        }
        let endpoints = self.ledger.endpoints().await?;
        if !endpoints.iter().any(|endpoint| endpoint.doc.enabled) {
            return Ok(());
        }
        let now = self.world.clock.now_ms();
        let mut jobs: BTreeMap<JobId, Option<Job>> = BTreeMap::new();
        for event in events.iter().filter(|event| event_type(&event.what).is_some()) {
            let job = match jobs.entry(event.job) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(self.store.job(event.job).await?),
            };
            let Some((kind, body)) = job.as_ref().and_then(|job| payload(event, job)) else { continue };
            let tenant = job.as_ref().map(|job| job.request.tenant.as_str());
            let takers = endpoints.iter().filter(|endpoint| {
                endpoint.doc.enabled
                    && Some(endpoint.key.tenant.as_str()) == tenant
                    && is_wanted(&endpoint.doc.events, kind)
            });
            for endpoint in takers {
                let part = format!("{:020}", event.seq);
                let key = Ledger::delivery_key(&endpoint.key.tenant, &endpoint.key.id, &part);
                let delivery = Delivery::new(format!("evt_{}", event.seq), kind, body.clone(), now);
                let _ = self.ledger.put(&key, Expect::Absent, &delivery, Some(now), now).await?;
            }
        }
        Ok(())
    }
}
