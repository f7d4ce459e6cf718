//! What never changes about a job, held in memory: a running job is read often.

use crate::Coordinator;
use splitreel_backend::StoreError;
use splitreel_backend::cache::Cache;
use splitreel_core::JobId;
use splitreel_core::job::JobRequest;
use splitreel_core::plan::Plan;
use splitreel_telemetry::trace::Parent;
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

/// Requests and plans of jobs.
pub(crate) struct JobCache {
    accepted: Cache<JobId, Arc<AcceptedJob>>,
    plans: Cache<JobId, GenerationPlan>,
    reading_plan: tokio::sync::Mutex<()>,
}

impl Default for JobCache {
    fn default() -> Self {
        JobCache {
            accepted: Cache::new(MAX_ACCEPTED).max_idle_ms(MAX_IDLE_MS),
            plans: Cache::new(MAX_SEGMENTS).weighed(weight_of).max_idle_ms(MAX_IDLE_MS),
            reading_plan: tokio::sync::Mutex::default(),
        }
    }
}

impl JobCache {
    /// Drops what was not used for a while, jobs that have ended among it. To be called from time to time.
    pub(crate) fn evict_idle(&self, now_ms: i64) {
        self.accepted.evict_idle(now_ms);
        self.plans.evict_idle(now_ms);
    }
}

fn weight_of(held: &GenerationPlan) -> usize {
    let plan = &held.plan;
    PLAN_WEIGHT + plan.num_segments() * plan.grids.len().max(1)
}

impl Coordinator {
    /// A job as it was accepted; `None` when there is none.
    pub(crate) async fn accepted(&self, job: JobId) -> Result<Option<Arc<AcceptedJob>>, StoreError> {
        let cache = &self.inner.job_cache.accepted;
        if let Some(accepted) = cache.get(&job, self.now()) {
            return Ok(Some(accepted));
        }
        let Some(found) = self.inner.store.job(job).await? else { return Ok(None) };
        let accepted = Arc::new(AcceptedJob { created_ms: found.created_ms, request: found.request });
        cache.put(job, Arc::clone(&accepted), self.now());
        Ok(Some(accepted))
    }

    /// The trace of a job's submit; none when the job cannot be read, since no work depends on it.
    pub(crate) async fn trace_of(&self, job: JobId) -> Parent {
        match self.accepted(job).await {
            Ok(Some(accepted)) => Parent::resumed(&accepted.request.trace),
            _ => Parent::default(),
        }
    }

    /// The plan of a job's generation; `None` when the generation is not the current one or has no plan yet.
    pub(crate) async fn plan_of(&self, job: JobId, generation: u32) -> Result<Option<Arc<Plan>>, StoreError> {
        let cache = &self.inner.job_cache;
        let held = || {
            let held = cache.plans.get(&job, self.now()).filter(|held| held.generation == generation);
            held.map(|held| held.plan)
        };
        if let Some(plan) = held() {
            return Ok(Some(plan));
        }
        // All slots of a cluster want the plan of a new job at the same time: one reads it, the others wait.
        let _alone = cache.reading_plan.lock().await;
        if let Some(plan) = held() {
            return Ok(Some(plan));
        }
        let Some(plan) = self.inner.store.plan(job).await? else { return Ok(None) };
        // The store holds the plan of the current generation only, and generations grow: a job that is in this generation
        // after its plan was read has read the plan of this generation.
        if self.inner.store.job(job).await?.is_none_or(|job| job.generation != generation) {
            return Ok(None);
        }
        let plan = Arc::new(plan);
        cache.plans.put(job, GenerationPlan { generation, plan: Arc::clone(&plan) }, self.now());
        Ok(Some(plan))
    }

    /// The plan of the job's current generation; `None` while there is none.
    pub(crate) async fn newest_plan(&self, job: JobId) -> Result<Option<Arc<Plan>>, StoreError> {
        match self.inner.store.job(job).await? {
            Some(found) => self.plan_of(job, found.generation).await,
            None => Ok(None),
        }
    }

    /// A plan of the job that is in memory, of any generation: for facts that all plans of a job share.
    pub(crate) fn cached_plan(&self, job: JobId) -> Option<Arc<Plan>> {
        self.inner.job_cache.plans.get(&job, self.now()).map(|held| held.plan)
    }
}
