//! The leases that this process holds: what acts under a lease finds its ticket here.

use splitreel_core::key::{AttemptPrefix, job_prefix};
use splitreel_core::task::Progress;
use splitreel_core::{LeaseId, TaskId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Number of lease lengths after which an unrenewed lease is dropped.
const FORGOTTEN_AFTER: u32 = 4;

/// A lease as its holder keeps it.
#[derive(Clone, Debug)]
pub(crate) struct HeldLease {
    pub(crate) task: TaskId,
    pub(crate) lease: LeaseId,
    pub(crate) attempt: u32,
    pub(crate) ticket: String,
    pub(crate) progress: Progress,
    /// When the last answered claim or renewal was sent.
    pub(crate) renewed: Instant,
    pub(crate) ttl: Duration,
    pub(crate) nudge: Arc<Notify>,
}

/// All leases of the process, by id.
#[derive(Debug, Default)]
pub(crate) struct Held {
    leases: Mutex<BTreeMap<LeaseId, HeldLease>>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, HeldLease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a lease, and drops leases without a recent renewal.
    pub(crate) fn insert(&self, lease: HeldLease) {
        let mut leases = self.lock();
        leases.retain(|_, l| l.renewed.elapsed() < l.ttl.saturating_mul(FORGOTTEN_AFTER));
        leases.insert(lease.lease, lease);
    }

    pub(crate) fn remove(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    pub(crate) fn get(&self, lease: LeaseId) -> Option<HeldLease> {
        self.lock().get(&lease).cloned()
    }

    pub(crate) fn all(&self) -> Vec<HeldLease> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Changes a lease, if it is held.
    pub(crate) fn update(&self, lease: LeaseId, change: impl FnOnce(&mut HeldLease)) {
        if let Some(held) = self.lock().get_mut(&lease) {
            change(held);
        }
    }

    /// The lease whose attempt may store under a key.
    pub(crate) fn of_attempt(&self, key: &str) -> Option<HeldLease> {
        let (prefix, _) = AttemptPrefix::split(key)?;
        self.get(prefix.lease).filter(|held| (held.task, held.attempt) == (prefix.task, prefix.attempt))
    }

    /// Any lease of the job that an object belongs to: each may read all of it.
    pub(crate) fn of_job(&self, key: &str) -> Option<HeldLease> {
        self.lock().values().find(|held| key.starts_with(&job_prefix(held.task.job))).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::JobId;
    use uuid::Uuid;

    fn held(job: u128, attempt: u32, lease: u128) -> HeldLease {
        HeldLease {
            task: TaskId { job: JobId(Uuid::from_u128(job)), number: 1 },
            lease: LeaseId(Uuid::from_u128(lease)),
            attempt,
            ticket: format!("{job} {attempt} {lease}"),
            progress: Progress::default(),
            renewed: Instant::now(),
            ttl: Duration::from_secs(1),
            nudge: Arc::new(Notify::new()),
        }
    }

    #[tokio::test]
    async fn a_key_is_stored_under_the_lease_of_its_own_attempt_only() {
        let all = Held::default();
        let (first, other) = (held(1, 1, 7), held(2, 1, 8));
        all.insert(first.clone());
        all.insert(other.clone());
        let key = |of: &HeldLease, attempt| {
            let prefix = AttemptPrefix { task: of.task, attempt, lease: of.lease };
            format!("{prefix}seg-00001.m4s")
        };
        assert_eq!(all.of_attempt(&key(&first, 1)).unwrap().ticket, first.ticket);
        assert_eq!(all.of_attempt(&key(&other, 1)).unwrap().ticket, other.ticket);
        assert!(all.of_attempt(&key(&first, 2)).is_none(), "another attempt");
        assert!(all.of_attempt(&key(&held(1, 1, 9), 1)).is_none(), "another lease");
        assert!(all.of_attempt(&key(&HeldLease { task: other.task, ..first.clone() }, 1)).is_none(), "another task");
        assert_eq!(all.of_job(&key(&held(1, 4, 9), 4)).unwrap().ticket, first.ticket);
        assert!(all.of_job("jobs/x/1/1-y/seg").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn leases_that_are_not_renewed_are_dropped() {
        let all = Held::default();
        all.insert(held(1, 1, 7));
        tokio::time::advance(Duration::from_secs(3)).await;
        all.insert(held(2, 1, 8));
        assert_eq!(all.len(), 2);
        tokio::time::advance(Duration::from_secs(2)).await;
        all.insert(held(3, 1, 9));
        assert_eq!(all.len(), 2, "the first was silent for five lease lengths");
    }
}
