//! The fleet: which workers and assemblers hold a control stream, what they can do, and how many slots they have.

mod connections;
mod control;

pub use control::ControlStream;
pub(crate) use control::check;

use connections::Connections;

use crate::Coordinator;
use crate::directory::DirectoryError;
use crate::documents::{all_records, delete_due, put_document};
use serde::{Deserialize, Serialize};
use splitreel_backend::records::{Expect, Record, RecordKey};
use splitreel_backend::{Records, StoreError};
use splitreel_client::types::{Autoscale, FILTER_WORD, Presence, WorkerView};
use splitreel_core::WorkerId;
use splitreel_core::planner::Capabilities;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Kind of the records of workers.
const WORKER_KIND: &str = "worker";
/// A worker not seen for this long counts as gone, in milliseconds.
const SEEN_FOR_MS: i64 = 20_000;
/// Longest name of a worker, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 200;

/// Settings of the fleet.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Slots of workers in this process, which hold no control stream.
    pub local_slots: u32,
    /// Workers of an older protocol are asked to drain and get no leases.
    pub oldest_protocol: u32,
    /// A worker whose control stream broke keeps its leases for this long unless it renews them, in milliseconds.
    pub takeover_ms: i64,
    /// Interval of pings on control streams.
    pub ping_every: Duration,
}

impl Default for FleetConfig {
    fn default() -> Self {
        FleetConfig {
            local_slots: 0,
            oldest_protocol: splitreel_client::types::PROTOCOL,
            takeover_ms: 2_000,
            ping_every: Duration::from_secs(2),
        }
    }
}

/// A worker as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WorkerDocument {
    #[serde(default)]
    version: String,
    slots: u32,
    labels: BTreeMap<String, String>,
    capabilities: Vec<String>,
    connected_ms: i64,
    seen_ms: i64,
    is_draining: bool,
    /// The control stream that wrote the record.
    connection: String,
}

impl WorkerDocument {
    fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_value(record.doc.clone())
            .map_err(|e| StoreError::Corrupt { what: format!("worker {}: {e}", record.key.id) })
    }
}

/// Capabilities in the words of a control stream: names of encoders, and of filters behind [`FILTER_WORD`].
fn read(words: &[String]) -> Capabilities {
    let filters = words.iter().filter_map(|word| word.strip_prefix(FILTER_WORD)).map(str::to_owned).collect();
    let encoders = words.iter().filter(|word| !word.contains(':')).cloned().collect();
    Capabilities { encoders, filters }
}

fn key(worker: &str) -> RecordKey {
    RecordKey { kind: WORKER_KIND.into(), tenant: String::new(), id: worker.to_owned() }
}

/// The workers and assemblers; cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    config: FleetConfig,
    coordinator: Coordinator,
    records: Arc<dyn Records>,
    connections: Connections,
}

impl Fleet {
    /// A fleet over the given services.
    pub fn new(config: FleetConfig, coordinator: Coordinator, records: Arc<dyn Records>) -> Self {
        Fleet { inner: Arc::new(Inner { config, coordinator, records, connections: Connections::default() }) }
    }

    /// The workers with a record, gone ones included until they are forgotten.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, StoreError> {
        let now = self.now();
        let view = |record: Record| {
            let d = WorkerDocument::read(&record)?;
            Ok(WorkerView {
                worker: record.key.id,
                version: d.version,
                slots: d.slots,
                labels: d.labels,
                capabilities: d.capabilities,
                connected_ms: d.connected_ms,
                is_live: now.saturating_sub(d.seen_ms) < SEEN_FOR_MS,
                seen_ms: d.seen_ms,
                is_draining: d.is_draining,
            })
        };
        all_records(self.inner.records.as_ref(), WORKER_KIND, None).await?.into_iter().map(view).collect()
    }

    /// Slots of all workers that take work.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn live_slots(&self) -> Result<u64, StoreError> {
        let remote: u64 = self.working().await?.iter().map(|w| u64::from(w.slots)).sum();
        Ok(remote.saturating_add(u64::from(self.inner.config.local_slots)))
    }

    /// What every worker that takes work can do; `None` while there is none.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn capabilities(&self) -> Result<Option<Capabilities>, StoreError> {
        let working = self.working().await?;
        // Assemblers state nothing.
        let stated: Vec<Capabilities> =
            working.iter().map(|w| read(&w.capabilities)).filter(|c| !c.encoders.is_empty()).collect();
        Ok((!stated.is_empty()).then(|| Capabilities::common(&stated)))
    }

    async fn working(&self) -> Result<Vec<WorkerView>, StoreError> {
        let mut workers = self.workers().await?;
        workers.retain(|w| w.is_live && !w.is_draining);
        Ok(workers)
    }

    /// The backlog against the fleet, for an autoscaler whose workers have `slots_per_worker` ≥ 1 slots.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn autoscale(&self, slots_per_worker: u32) -> Result<Autoscale, StoreError> {
        let (open_jobs, open_tasks) = self.inner.coordinator.backlog().await?;
        let workers = self.working().await?;
        Ok(Autoscale {
            open_tasks,
            open_jobs,
            slots: workers.iter().map(|w| u64::from(w.slots)).sum(),
            workers: workers.len() as u64,
            suggested_workers: open_tasks.div_ceil(u64::from(slots_per_worker.max(1))),
        })
    }

    /// Asks a worker to take no more work, finish what it has, and end.
    ///
    /// # Errors
    /// [`DirectoryError::NotFound`]; [`DirectoryError::Changed`] after five conflicts; when the records fail.
    pub async fn drain(&self, worker: &str) -> Result<(), DirectoryError> {
        let missing = || DirectoryError::NotFound { what: "worker" };
        if worker.len() > MAX_NAME_BYTES {
            return Err(missing());
        }
        let (key, records) = (key(worker), self.inner.records.as_ref());
        for _ in 0..5 {
            let record = records.get(&key).await?.ok_or_else(missing)?;
            let mut document = WorkerDocument::read(&record)?;
            document.is_draining = true;
            let due = document.seen_ms.saturating_add(SEEN_FOR_MS);
            let expect = Expect::Version(record.version);
            if put_document(records, &key, expect, &document, Some(due), self.now()).await?.is_ok() {
                return Ok(());
            }
        }
        Err(DirectoryError::Changed)
    }

    /// Whether workers of a protocol get no work here.
    pub fn is_outdated(&self, protocol: u32) -> bool {
        protocol < self.inner.config.oldest_protocol
    }

    /// Deletes the records of workers that are gone.
    ///
    /// # Errors
    /// When the records fail.
    pub async fn forget_gone(&self) -> Result<usize, StoreError> {
        delete_due(self.inner.records.as_ref(), WORKER_KIND, self.now()).await
    }

    /// Saves a worker's heartbeat. Returns whether the worker is to drain.
    async fn save_heartbeat(&self, hello: &Presence, since_ms: i64, connection: &str) -> Result<bool, StoreError> {
        let (key, records) = (key(&hello.worker), self.inner.records.as_ref());
        // Two writers at once are this stream and a request to drain: the second look settles it.
        for _ in 0..3 {
            let record = records.get(&key).await?;
            let is_asked = record.as_ref().map(WorkerDocument::read).transpose()?.is_some_and(|d| d.is_draining);
            let is_draining = is_asked || self.is_outdated(hello.protocol);
            let now = self.now();
            let document = WorkerDocument {
                version: hello.version.clone(),
                slots: hello.slots,
                labels: hello.labels.clone(),
                capabilities: hello.capabilities.clone(),
                connected_ms: since_ms,
                seen_ms: now,
                is_draining,
                connection: connection.to_owned(),
            };
            let expect = record.map_or(Expect::Absent, |r| Expect::Version(r.version));
            let due = now.saturating_add(SEEN_FOR_MS);
            if put_document(records, &key, expect, &document, Some(due), now).await?.is_ok() {
                return Ok(is_draining);
            }
        }
        Ok(false)
    }

    /// Shortens the leases of a worker whose control stream broke, forgets the worker, and requeues what it does not
    /// renew.
    async fn release(&self, worker: &str, connection: &str) -> Result<(), StoreError> {
        let takeover_ms = self.inner.config.takeover_ms;
        let until_ms = self.now().saturating_add(takeover_ms);
        let store = self.inner.coordinator.store();
        let shortened = store.shorten_leases(&WorkerId(worker.to_owned()), until_ms).await?;
        splitreel_telemetry::record::leases_shortened(shortened as u64);
        tracing::info!(worker, leases = shortened, "control stream broke; leases shortened");
        let (key, records) = (key(worker), self.inner.records.as_ref());
        if let Some(record) = records.get(&key).await?
            && WorkerDocument::read(&record)?.connection == connection
        {
            let _ = records.delete(&key, Expect::Version(record.version)).await?;
        }
        if shortened > 0 {
            let wait = Duration::from_millis(u64::try_from(takeover_ms).unwrap_or(0) + 50);
            tokio::time::sleep(wait).await;
            self.inner.coordinator.take_back().await?;
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        self.inner.coordinator.now()
    }
}
