//! The sink that turns events of the job log into deliveries, one per endpoint that takes them.

use super::ledger::{Ledger, WebhookAttempt};
use super::payload::{event_type, is_wanted, payload};
use async_trait::async_trait;
use splitreel_backend::events::EventSink;
use splitreel_backend::records::Expect;
use splitreel_backend::{JobStore, Records, StoreError, World};
use splitreel_core::JobId;
use splitreel_core::event::Event;
use splitreel_core::job::Job;
use std::collections::BTreeMap;
use std::sync::Arc;

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
                let delivery = WebhookAttempt::new(format!("evt_{}", event.seq), kind, body.clone(), now);
                let _ = self.ledger.put(&key, Expect::Absent, &delivery, Some(now), now).await?;
            }
        }
        Ok(())
    }
}
