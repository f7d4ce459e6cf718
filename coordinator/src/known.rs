//! What never changes about a job, kept in memory: a job in progress is asked about often.

use crate::Coordinator;
use splitreel_backend::StoreError;
use splitreel_core::JobId;
use splitreel_core::job::JobRequest;
use splitreel_core::plan::Plan;
use splitreel_telemetry::trace::Parent;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Jobs whose request is kept.
const MOST_ACCEPTED: usize = 1024;
/// Jobs whose plan is kept.
const MOST_PLANS: usize = 64;

/// A bounded number of values by job; the oldest job makes room.
pub(crate) struct Known<V> {
    most: usize,
    values: Mutex<BTreeMap<JobId, Arc<V>>>,
}

impl<V> Known<V> {
    fn new(most: usize) -> Self {
        Known { most, values: Mutex::default() }
    }

    fn get(&self, job: JobId) -> Option<Arc<V>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    fn put(&self, job: JobId, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() >= self.most {
            values.pop_first();
        }
        values.insert(job, Arc::clone(&value));
        value
    }
}

/// A job as it was accepted.
pub(crate) struct Accepted {
    pub(crate) created_ms: i64,
    pub(crate) request: JobRequest,
}

/// What is known about jobs.
pub(crate) struct KnownJobs {
    accepted: Known<Accepted>,
    plans: Known<Plan>,
    reading_plan: tokio::sync::Mutex<()>,
}

impl Default for KnownJobs {
    fn default() -> Self {
        KnownJobs {
            accepted: Known::new(MOST_ACCEPTED),
            plans: Known::new(MOST_PLANS),
            reading_plan: tokio::sync::Mutex::default(),
        }
    }
}

impl Coordinator {
    /// A job as it was accepted; `None` when there is none.
    pub(crate) async fn accepted(&self, job: JobId) -> Result<Option<Arc<Accepted>>, StoreError> {
        let known = &self.inner.known.accepted;
        if let Some(accepted) = known.get(job) {
            return Ok(Some(accepted));
        }
        let found = self.inner.store.job(job).await?;
        Ok(found.map(|found| known.put(job, Accepted { created_ms: found.created_ms, request: found.request })))
    }

    /// The trace of a job's submit, as far as it is to be had: nothing waits for it.
    pub(crate) async fn trace_of(&self, job: JobId) -> Parent {
        match self.accepted(job).await {
            Ok(Some(accepted)) => Parent::resumed(&accepted.request.trace),
            _ => Parent::default(),
        }
    }

    /// The plan of a job; `None` while there is none.
    pub(crate) async fn plan_of(&self, job: JobId) -> Result<Option<Arc<Plan>>, StoreError> {
        let known = &self.inner.known;
        if let Some(plan) = known.plans.get(job) {
            return Ok(Some(plan));
        }
        // All slots of a cluster want the plan of a new job at the same time: one reads it, the others wait.
        let _alone = known.reading_plan.lock().await;
        if let Some(plan) = known.plans.get(job) {
            return Ok(Some(plan));
        }
        Ok(self.inner.store.plan(job).await?.map(|plan| known.plans.put(job, plan)))
    }
}
