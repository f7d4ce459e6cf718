//! Requests and plans of running jobs, read through memory: they never change, and every claim needs them.

use splitreel_backend::cache::Cache;
use splitreel_backend::{JobStore, StoreError};
use splitreel_core::JobId;
use splitreel_core::job::JobRequest;
use splitreel_core::plan::Plan;
use std::sync::Arc;

/// Number of jobs whose request is held.
const MAX_ACCEPTED: usize = 4_096;
/// Number of segments of all held plans, some hundred bytes each. A claim whose plan is not held reads and parses all of
/// it, which for a long film takes longer than everything else about the claim.
const MAX_SEGMENTS: usize = 1_000_000;
/// Weight of a plan beside its segments, in segments.
const PLAN_WEIGHT: usize = 64;
/// A value not used for this long is dropped, in milliseconds.
const MAX_IDLE_MS: i64 = 300_000;

/// A job as it was accepted.
pub(crate) struct AcceptedJob {
    pub(crate) created_ms: i64,
    pub(crate) request: JobRequest,
}

/// A plan and the generation of its job that the plan belongs to.
#[derive(Clone)]
struct GenerationPlan {
    generation: u32,
    plan: Arc<Plan>,
}

/// Requests and plans of the jobs in a store.
pub(crate) struct JobCache {
    store: Arc<dyn JobStore>,
    accepted: Cache<JobId, Arc<AcceptedJob>>,
    plans: Cache<JobId, GenerationPlan>,
    reading_plan: tokio::sync::Mutex<()>,
}

impl JobCache {
    pub(crate) fn new(store: Arc<dyn JobStore>) -> Self {
        JobCache {
            store,
            accepted: Cache::new(MAX_ACCEPTED).max_idle_ms(MAX_IDLE_MS),
            plans: Cache::new(MAX_SEGMENTS).weighed(weight_of).max_idle_ms(MAX_IDLE_MS),
            reading_plan: tokio::sync::Mutex::default(),
        }
    }

    /// Drops entries that were not used for a while, ended jobs included. Callers run it periodically.
    pub(crate) fn evict_idle(&self, now_ms: i64) {
        self.accepted.evict_idle(now_ms);
        self.plans.evict_idle(now_ms);
    }

    /// A job as it was accepted; `None` when it does not exist.
    pub(crate) async fn accepted(&self, job: JobId, now_ms: i64) -> Result<Option<Arc<AcceptedJob>>, StoreError> {
        if let Some(accepted) = self.accepted.get(&job, now_ms) {
            return Ok(Some(accepted));
        }
        let Some(found) = self.store.job(job).await? else { return Ok(None) };
        let accepted = Arc::new(AcceptedJob { created_ms: found.created_ms, request: found.request });
        self.accepted.put(job, Arc::clone(&accepted), now_ms);
        Ok(Some(accepted))
    }

    /// The plan of a job's generation; `None` when the generation is not the current one or has no plan yet.
    pub(crate) async fn plan(&self, job: JobId, generation: u32, now_ms: i64) -> Result<Option<Arc<Plan>>, StoreError> {
        let held = || {
            let held = self.plans.get(&job, now_ms).filter(|held| held.generation == generation);
            held.map(|held| held.plan)
        };
        if let Some(plan) = held() {
            return Ok(Some(plan));
        }
        // All slots of a cluster request the plan of a new job at the same time: one reads it, the others wait.
        let _alone = self.reading_plan.lock().await;
        if let Some(plan) = held() {
            return Ok(Some(plan));
        }
        let Some(plan) = self.store.plan(job).await? else { return Ok(None) };
        // The store holds the plan of the current generation only, and generations grow: a job that is in this generation
        // after its plan was read has read the plan of this generation.
        if self.store.job(job).await?.is_none_or(|job| job.generation != generation) {
            return Ok(None);
        }
        let plan = Arc::new(plan);
        self.plans.put(job, GenerationPlan { generation, plan: Arc::clone(&plan) }, now_ms);
        Ok(Some(plan))
    }

    /// The plan of the job's current generation; `None` while there is none.
    pub(crate) async fn newest_plan(&self, job: JobId, now_ms: i64) -> Result<Option<Arc<Plan>>, StoreError> {
        match self.store.job(job).await? {
            Some(found) => self.plan(job, found.generation, now_ms).await,
            None => Ok(None),
        }
    }

    /// A plan of the job that is in memory, of any generation: for facts that all plans of a job share.
    pub(crate) fn cached_plan(&self, job: JobId, now_ms: i64) -> Option<Arc<Plan>> {
        self.plans.get(&job, now_ms).map(|held| held.plan)
    }
}

fn weight_of(held: &GenerationPlan) -> usize {
    PLAN_WEIGHT + held.plan.num_segments() * held.plan.grids.len().max(1)
}
