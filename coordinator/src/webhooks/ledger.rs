//! Endpoints and deliveries as they are kept: their documents, and the few ways they are written.

use super::key::WebhookKey;
use crate::documents::put_document;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use splitreel_backend::records::{Conflict, Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, StoreError};
use std::sync::Arc;
use utoipa::ToSchema;

/// Kind of the records of endpoints.
pub const WEBHOOK_KIND: &str = "webhook";
/// Kind of the records of deliveries.
pub const DELIVERY_KIND: &str = "delivery";
const PAGE: usize = 500;

/// Where a tenant wants events sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The URL.
    pub url: String,
    /// What to sign with.
    pub secret: WebhookKey,
    /// Types of events; empty = the usual ones.
    pub events: Vec<String>,
    /// Nothing is sent while it is not.
    pub enabled: bool,
    /// Why it was disabled, when that was not the tenant's doing.
    #[serde(default)]
    pub disabled_because: Option<String>,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It will be tried (again).
    Pending,
    /// The endpoint took it.
    Delivered,
    /// Given up; it can be replayed.
    Dead,
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookAttempt {
    /// The same for each try and each endpoint: what a receiver knows repetitions by.
    pub message: String,
    /// Type of the event.
    pub event: String,
    /// The document as it is signed and sent.
    pub body: String,
    /// How far it is.
    pub state: DeliveryState,
    /// Tries so far.
    pub tries: u32,
    /// When its time began: queued or replayed, milliseconds since the epoch.
    pub queued_ms: i64,
    /// When it was tried last.
    pub tried_ms: Option<i64>,
    /// HTTP status of the last try.
    pub status: Option<u16>,
    /// Why the last try failed.
    pub error: Option<String>,
}

impl WebhookAttempt {
    /// A delivery that was not tried yet.
    pub fn new(message: String, event: &str, body: String, now_ms: i64) -> Self {
        WebhookAttempt {
            message,
            event: event.to_owned(),
            body,
            state: DeliveryState::Pending,
            tries: 0,
            queued_ms: now_ms,
            tried_ms: None,
            status: None,
            error: None,
        }
    }
}

/// A document with the record that holds it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// Its name.
    pub key: RecordKey,
    /// Its version.
    pub version: i64,
    /// When it is due.
    pub due_ms: Option<i64>,
    /// The document.
    pub doc: T,
}

/// Reads and writes endpoints and deliveries.
#[derive(Clone)]
pub struct Ledger {
    records: Arc<dyn Records>,
}

impl Ledger {
    /// A ledger in the given records.
    pub fn new(records: Arc<dyn Records>) -> Self {
        Ledger { records }
    }

    /// Name of an endpoint's record.
    pub fn endpoint_key(tenant: &str, webhook: &str) -> RecordKey {
        RecordKey { kind: WEBHOOK_KIND.to_owned(), tenant: tenant.to_owned(), id: webhook.to_owned() }
    }

    /// Name of a delivery's record. `part` sorts like the events do.
    pub fn delivery_key(tenant: &str, webhook: &str, part: &str) -> RecordKey {
        RecordKey { kind: DELIVERY_KIND.to_owned(), tenant: tenant.to_owned(), id: format!("{webhook}/{part}") }
    }

    /// One document.
    ///
    /// # Errors
    /// When the store fails, or holds something unreadable.
    pub async fn get<T: DeserializeOwned>(&self, key: &RecordKey) -> Result<Option<Stored<T>>, StoreError> {
        self.records.get(key).await?.map(kept).transpose()
    }

    /// Writes a document if what is there is as expected.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put<T: Serialize>(
        &self,
        key: &RecordKey,
        expect: Expect,
        doc: &T,
        due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Result<i64, Conflict>, StoreError> {
        put_document(self.records.as_ref(), key, expect, doc, due_ms, now_ms).await
    }

    /// Deletes a record, whatever its version.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.records.delete(key, Expect::Any).await.map(|_| ())
    }

    /// A page of documents.
    ///
    /// # Errors
    /// When the store fails, or holds something unreadable.
    pub async fn list<T: DeserializeOwned>(&self, filter: RecordFilter) -> Result<Vec<Stored<T>>, StoreError> {
        self.records.list(filter).await?.into_iter().map(kept).collect()
    }

    /// All endpoints of all tenants.
    ///
    /// # Errors
    /// When the store fails. What cannot be read is left out and reported.
    pub async fn endpoints(&self) -> Result<Vec<Stored<Endpoint>>, StoreError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let filter = RecordFilter { kind: WEBHOOK_KIND.to_owned(), after, limit: PAGE, ..RecordFilter::default() };
            let page = self.records.list(filter).await?;
            after = page.last().map(|record| (record.key.tenant.clone(), record.key.id.clone()));
            let is_last = page.len() < PAGE;
            all.extend(page.into_iter().filter_map(|record| kept(record).inspect_err(report).ok()));
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Deliveries that are due. An unreadable record is logged and deleted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<Stored<WebhookAttempt>>, StoreError> {
        let mut due = Vec::new();
        for record in self.records.due(DELIVERY_KIND, now_ms, limit).await? {
            let key = record.key.clone();
            match kept(record) {
                Ok(delivery) => due.push(delivery),
                Err(error) => {
                    report(&error);
                    self.delete(&key).await?;
                }
            }
        }
        Ok(due)
    }
}

fn kept<T: DeserializeOwned>(record: Record) -> Result<Stored<T>, StoreError> {
    let Record { key, version, doc, due_ms, .. } = record;
    match serde_json::from_value(doc) {
        Ok(doc) => Ok(Stored { key, version, due_ms, doc }),
        Err(error) => Err(StoreError::Corrupt { what: format!("{} {}: {error}", key.kind, key.id) }),
    }
}

fn report(error: &StoreError) {
    tracing::error!(%error, "webhook record is corrupt; skipped");
}
