//! What never changes about a job, kept in memory: a job in progress is asked about often.

use crate::Coordinator;
use lru::LruCache;
use splitreel_backend::StoreError;
use splitreel_core::JobId;
use splitreel_core::job::JobRequest;
use splitreel_core::plan::Plan;
use splitreel_telemetry::trace::Parent;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Jobs whose request is kept.
const MOST_ACCEPTED: usize = 4_096;
/// Segments of all plans that are kept, some hundred bytes each. A claim whose plan is not there reads and parses all of
/// it, which for a long film takes longer than everything else about the claim.
const MOST_SEGMENTS: usize = 1_000_000;
/// A plan counts for so many segments more: what else is in it.
const PLAN_ITSELF: usize = 64;
/// What nobody asked for in so many rounds is dropped.
const ROUNDS: u64 = 15;

/// Values by job, of a bounded weight together; those that were not asked for the longest make room.
pub(crate) struct Known<V> {
    most: usize,
    weigh: fn(&V) -> usize,
    held: Mutex<Held<V>>,
}

struct Held<V> {
    /// With the round in which they were last asked for.
    values: LruCache<JobId, (u64, Arc<V>)>,
    weight: usize,
    round: u64,
}

impl<V> Known<V> {
    fn new(most: usize, weigh: fn(&V) -> usize) -> Self {
        Known { most, weigh, held: Mutex::new(Held { values: LruCache::unbounded(), weight: 0, round: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Held<V>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, job: JobId) -> Option<Arc<V>> {
        let mut held = self.lock();
        let round = held.round;
        held.values.get_mut(&job).map(|(asked, value)| {
            *asked = round;
            Arc::clone(value)
        })
    }

    /// Begins the next round, and drops what was not asked for in so many.
    fn next_round(&self) {
        let mut held = self.lock();
        held.round += 1;
        let round = held.round;
        while held.values.peek_lru().is_some_and(|(_, (asked, _))| asked + ROUNDS < round) {
            let Some((_, (_, oldest))) = held.values.pop_lru() else { break };
            held.weight -= (self.weigh)(&oldest);
        }
    }

    /// One that weighs more than all together may is kept too, alone.
    fn put(&self, job: JobId, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let mut held = self.lock();
        let round = held.round;
        held.weight += (self.weigh)(&value);
        if let Some((_, before)) = held.values.put(job, (round, Arc::clone(&value))) {
            held.weight -= (self.weigh)(&before);
        }
        while held.weight > self.most && held.values.len() > 1 {
            let Some((_, (_, oldest))) = held.values.pop_lru() else { break };
            held.weight -= (self.weigh)(&oldest);
        }
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
            accepted: Known::new(MOST_ACCEPTED, |_| 1),
            plans: Known::new(MOST_SEGMENTS, weight_of),
            reading_plan: tokio::sync::Mutex::default(),
        }
    }
}

impl KnownJobs {
    /// To be called from time to time: forgets what nobody asked for since long, jobs that have ended among it.
    pub(crate) fn age(&self) {
        self.accepted.next_round();
        self.plans.next_round();
    }
}

fn weight_of(plan: &Plan) -> usize {
    PLAN_ITSELF + plan.num_segments() * plan.grids.len().max(1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    /// Which of the first jobs are known; asking makes them the last that were asked for, in order.
    fn known(values: &Known<usize>) -> Vec<u128> {
        (1..=9).filter(|n| values.get(job(*n)).is_some()).collect()
    }

    #[test]
    fn what_was_not_asked_for_the_longest_makes_room_by_weight() {
        let values = Known::new(10, |weight: &usize| *weight);
        for (n, weight) in [(1, 4), (2, 3), (3, 3)] {
            assert_eq!(*values.put(job(n), weight), weight);
        }
        assert_eq!(known(&values), [1, 2, 3]);
        values.get(job(1));
        values.put(job(4), 3);
        assert_eq!(known(&values), [1, 3, 4], "two was not asked for since");
        values.put(job(3), 1);
        values.put(job(5), 2);
        assert_eq!(known(&values), [1, 3, 4, 5], "another value of a job takes the place of the first");
        values.put(job(6), 99);
        assert_eq!(known(&values), [6], "too heavy for all, and kept");
        values.put(job(7), 1);
        assert_eq!(known(&values), [7]);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let values = Known::new(10, |weight: &usize| *weight);
        values.put(job(1), 5);
        values.put(job(2), 5);
        for _ in 0..=ROUNDS {
            assert_eq!(values.get(job(2)).as_deref(), Some(&5));
            values.next_round();
        }
        assert_eq!(known(&values), [2]);
        values.put(job(3), 5);
        assert_eq!(known(&values), [2, 3], "there is room again");
    }
}
