//! Who is there to work, and how much work there is.

use super::Api;
use super::body::{Named, Params, invalid, mistake};
use super::problem::ApiError;
use crate::documents::{all_records, put_document};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use splitreel_backend::records::{Expect, Record, RecordKey};
use splitreel_backend::store::JobFilter;
use splitreel_client::problem::Code;
use splitreel_client::types::{Autoscale, WorkerList, WorkerView};
use splitreel_core::job::JobState;
use std::collections::BTreeMap;
use utoipa::IntoParams;

/// The kind of worker records.
pub(crate) const WORKER_KIND: &str = "worker";
/// A worker that was not seen for so long is not there.
pub(crate) const SEEN_FOR_MS: i64 = 20_000;
/// Open jobs that are counted.
const MAX_JOBS: usize = 100_000;
const JOBS_PAGE: usize = 1_000;

/// What is kept of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerDocument {
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) slots: u32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) connected_ms: i64,
    pub(crate) seen_ms: i64,
    pub(crate) is_draining: bool,
    /// Which stream wrote it.
    pub(crate) connection: String,
}

impl WorkerDocument {
    pub(crate) fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_value(record.doc.clone())
            .map_err(|e| StoreError::Corrupt { what: format!("worker {}: {e}", record.key.id) })
    }
}

pub(crate) fn worker_key(worker: &str) -> RecordKey {
    RecordKey { kind: WORKER_KIND.into(), tenant: String::new(), id: worker.to_owned() }
}

impl Api {
    async fn workers(&self) -> Result<Vec<WorkerView>, StoreError> {
        let now = self.now();
        let records = all_records(self.inner.records.as_ref(), WORKER_KIND, None).await?;
        records
            .into_iter()
            .map(|record| {
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
            })
            .collect()
    }

    /// Slots of all workers that take work.
    ///
    /// # Errors
    /// When the records do not answer, or hold something unreadable.
    pub async fn live_slots(&self) -> Result<u64, StoreError> {
        let workers = self.workers().await?;
        let remote: u64 = workers.iter().filter(|w| w.is_live && !w.is_draining).map(|w| u64::from(w.slots)).sum();
        Ok(remote.saturating_add(u64::from(self.inner.config.local_slots)))
    }
}

/// The workers and assemblers that hold a control stream.
#[utoipa::path(get, path = "/v1/workers", tag = "workers", responses((status = 200, body = WorkerList)))]
pub(crate) async fn list_workers(State(api): State<Api>) -> Result<Json<WorkerList>, ApiError> {
    Ok(Json(WorkerList { workers: api.workers().await? }))
}

/// Asks a worker to take no more work, finish what it has, and end. It hears of it within seconds.
#[utoipa::path(post, path = "/v1/workers/{worker}/drain", tag = "workers",
    params(("worker" = String, Path, description = "Its name.")),
    responses((status = 202, description = "It will be told.")))]
pub(crate) async fn drain_worker(State(api): State<Api>, Named(worker): Named<String>) -> Result<StatusCode, ApiError> {
    if worker.len() > 200 {
        return Err(ApiError::not_found("worker"));
    }
    let key = worker_key(&worker);
    for _ in 0..5 {
        let record = api.inner.records.get(&key).await?.ok_or_else(|| ApiError::not_found("worker"))?;
        let mut document = WorkerDocument::read(&record)?;
        document.is_draining = true;
        let due = document.seen_ms.saturating_add(SEEN_FOR_MS);
        if put_document(
            api.inner.records.as_ref(),
            &key,
            Expect::Version(record.version),
            &document,
            Some(due),
            api.now(),
        )
        .await?
        .is_ok()
        {
            return Ok(StatusCode::ACCEPTED);
        }
    }
    Err(ApiError::new(Code::Changed, "Try again."))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scaling {
    /// Slots of one more worker, 1 to 10000; 1 when absent.
    #[param(minimum = 1, maximum = 10000)]
    slots_per_worker: Option<u32>,
}

/// How much work there is, as numbers that an autoscaler can read.
#[utoipa::path(get, path = "/v1/autoscale", tag = "workers", params(Scaling),
    responses((status = 200, body = Autoscale)))]
pub(crate) async fn autoscale(
    State(api): State<Api>,
    Params(scaling): Params<Scaling>,
) -> Result<Json<Autoscale>, ApiError> {
    let slots_per_worker = scaling.slots_per_worker.unwrap_or(1);
    if !(1..=10_000).contains(&slots_per_worker) {
        return Err(invalid(vec![mistake("slots_per_worker", "it is out of range", "use 1 to 10000")]));
    }
    let (mut open_tasks, mut open_jobs, mut seen, mut before) = (0u64, 0u64, 0usize, None);
    while seen < MAX_JOBS {
        let states = vec![JobState::Probing, JobState::Planning, JobState::Running];
        let filter = JobFilter { states, before, limit: JOBS_PAGE, ..JobFilter::default() };
        let jobs = api.inner.store.jobs(filter).await?;
        for job in jobs.iter().filter(|j| !j.is_paused) {
            open_jobs += 1;
            // A job that is being planned will have work in a moment.
            open_tasks = open_tasks.saturating_add(u64::from(job.remaining.max(1)));
        }
        seen += jobs.len();
        before = jobs.last().map(|j| j.id);
        if jobs.len() < JOBS_PAGE {
            break;
        }
    }
    let workers = api.workers().await?;
    let live: Vec<&WorkerView> = workers.iter().filter(|w| w.is_live && !w.is_draining).collect();
    Ok(Json(Autoscale {
        open_tasks,
        open_jobs,
        slots: live.iter().map(|w| u64::from(w.slots)).sum(),
        workers: live.len() as u64,
        suggested_workers: open_tasks.div_ceil(u64::from(slots_per_worker)),
    }))
}
