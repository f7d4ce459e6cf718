//! Task states and their transitions: pure decisions that every job store applies inside its transaction.

use crate::deadline;
use crate::failure::{Failure, FailureClass};
use crate::id::{LeaseId, TaskId, WorkerId};
use crate::part::TaskResult;
use serde::{Deserialize, Serialize};

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Find tracks, timing and frames of the source.
    Probe,
    /// Encode the whole video track in one piece.
    Whole,
    /// Encode one segment into all renditions.
    Segment,
    /// Encode one audio track, whole.
    Audio,
    /// Package, verify and publish.
    Assemble,
}

impl TaskKind {
    /// The word used in SQL, API and UI.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskKind::Probe => "probe",
            TaskKind::Whole => "whole",
            TaskKind::Segment => "segment",
            TaskKind::Audio => "audio",
            TaskKind::Assemble => "assemble",
        }
    }

    /// Inverse of [`TaskKind::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Probe, Self::Whole, Self::Segment, Self::Audio, Self::Assemble].into_iter().find(|s| s.as_str() == word)
    }
}

/// States of a task, drawn in `docs/jobs.md`: `ready → leased → done`; side exits `failed`, `cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for others.
    Blocked,
    /// May be claimed once `not_before` has passed.
    Ready,
    /// One live lease.
    Leased,
    /// Final: the result never changes.
    Done,
    /// Failed for good.
    Failed,
    /// Its job was cancelled, failed or planned again.
    Cancelled,
}

impl TaskState {
    /// The word used in SQL, API and UI.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskState::Blocked => "blocked",
            TaskState::Ready => "ready",
            TaskState::Leased => "leased",
            TaskState::Done => "done",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }

    /// Inverse of [`TaskState::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Blocked, Self::Ready, Self::Leased, Self::Done, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == word)
    }

    /// No transition leaves it (but a user's `retry` of the job).
    pub const fn is_final(self) -> bool {
        matches!(self, TaskState::Done | TaskState::Failed | TaskState::Cancelled)
    }
}

/// A task as planned: what to insert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Dense number in the job.
    pub number: u32,
    /// Kind.
    pub kind: TaskKind,
    /// Index into the plan's list for this kind (segment number, audio index); 0 otherwise.
    pub index: u32,
    /// Expected cost in arbitrary but comparable units (longest-first dispatch, progress weights).
    pub expected_cost: u64,
}

/// The right to finish one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Random identity: the fence.
    pub id: LeaseId,
    /// Who holds it.
    pub worker: WorkerId,
    /// Milliseconds since the epoch after which it may be reaped.
    pub expires_ms: i64,
    /// Milliseconds since the epoch of the claim.
    pub claimed_ms: i64,
    /// Last reported progress.
    pub progress: Progress,
    /// When `progress.done` last grew, milliseconds since the epoch.
    pub progressed_ms: i64,
}

/// An attempt that still runs although the next one was called for: it takes too long. The first to complete wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupersededAttempt {
    /// Its attempt number, lower than the task's.
    pub attempt: u32,
    /// Its lease.
    pub lease: Lease,
}

/// What a worker reports with each renewal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Fraction done, 0..=1000 per mille.
    pub done_per_mille: u16,
    /// Speed as media seconds per wall second × 1000, 0 when unknown.
    pub speed_milli: u32,
    /// Frames (or audio packets) so far.
    pub frames: u64,
}

/// The task row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Identity.
    pub id: TaskId,
    /// Generation of the plan it belongs to.
    pub generation: u32,
    /// What it does.
    pub spec: TaskSpec,
    /// State.
    pub state: TaskState,
    /// Number of the current (or next) attempt, from 1; only grows.
    pub attempt: u32,
    /// Media failures so far.
    pub media_failures: u32,
    /// Infrastructure failures so far.
    pub infra_failures: u32,
    /// Not claimable before, milliseconds since the epoch.
    pub not_before_ms: i64,
    /// Live lease, exactly when `state` is leased.
    pub lease: Option<Lease>,
    /// Earlier attempt that runs beside the current one; only while `state` is ready or leased.
    #[serde(default)]
    pub superseded: Option<SupersededAttempt>,
    /// Lease that completed it: makes completion idempotent.
    pub done_by: Option<LeaseId>,
    /// Result, exactly when `state` is done.
    pub result: Option<TaskResult>,
    /// Last failure.
    pub failure: Option<Failure>,
    /// Workers on which a media failure happened (the next attempt prefers another).
    #[serde(default)]
    pub failed_on: Vec<WorkerId>,
}

/// Longest back-off in milliseconds, whatever the policy says.
pub const LONGEST_BACKOFF_MS: i64 = 300_000;

/// Budgets and delays. Defaults are those of the requirements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Attempts that may fail for media reasons before the task fails for good.
    pub media_attempts: u32,
    /// First media back-off in milliseconds; grows by itself each time (30 s, 60 s, 90 s).
    pub media_backoff_ms: i64,
    /// Infrastructure failures allowed.
    pub infra_budget: u32,
    /// First infrastructure back-off in milliseconds; doubles.
    pub infra_backoff_ms: i64,
    /// Longest infrastructure back-off in milliseconds.
    pub infra_backoff_max_ms: i64,
    /// Lease length in milliseconds.
    pub lease_ttl_ms: i64,
    /// A lease whose progress has not moved for this long is not renewed.
    pub stall_ms: i64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            media_attempts: 3,
            media_backoff_ms: 30_000,
            infra_budget: 50,
            infra_backoff_ms: 1_000,
            infra_backoff_max_ms: 60_000,
            lease_ttl_ms: 15_000,
            stall_ms: 120_000,
        }
    }
}

/// Why a request about a lease or a claim was refused. Refusals change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The task is not ready, is of another attempt, or its time has not come: forget the message.
    #[error("nothing to claim")]
    NotClaimable,
    /// The lease was reaped or never existed: drop everything.
    #[error("the lease is lost")]
    LeaseLost,
    /// The job was cancelled or has ended: kill the process, drop everything.
    #[error("the job is cancelled")]
    Cancelled,
}

/// Outcome of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterFailure {
    /// Another attempt will start no earlier than this.
    Retry {
        /// Milliseconds since the epoch.
        not_before_ms: i64,
    },
    /// The task, and with it the job, has failed for good.
    GiveUp,
    /// The task has failed for good; its job gets a new plan.
    Replan,
}

impl Task {
    /// A new task of a plan.
    pub fn new(id: TaskId, generation: u32, spec: TaskSpec, state: TaskState) -> Self {
        Task {
            id,
            generation,
            spec,
            state,
            attempt: 1,
            media_failures: 0,
            infra_failures: 0,
            not_before_ms: 0,
            lease: None,
            superseded: None,
            done_by: None,
            result: None,
            failure: None,
            failed_on: Vec::new(),
        }
    }

    /// Gives the lease to a worker, if this attempt can still be claimed.
    ///
    /// # Errors
    /// [`Refusal::NotClaimable`] when the attempt number is not the current one, the task is not ready or
    /// its back-off has not passed. A back-off that ends later than any can was set before the clock was set back: it has
    /// passed.
    pub fn claim(
        &mut self,
        attempt: u32,
        lease: LeaseId,
        worker: WorkerId,
        now_ms: i64,
        ttl_ms: i64,
    ) -> Result<(), Refusal> {
        if self.state != TaskState::Ready || self.attempt != attempt || !self.is_due(now_ms) {
            return Err(Refusal::NotClaimable);
        }
        self.state = TaskState::Leased;
        self.lease = Some(Lease {
            id: lease,
            worker,
            expires_ms: now_ms.saturating_add(ttl_ms),
            claimed_ms: now_ms,
            progress: Progress::default(),
            progressed_ms: now_ms,
        });
        Ok(())
    }

    /// Whether the back-off before the next attempt has passed.
    pub const fn is_due(&self, now_ms: i64) -> bool {
        deadline::is_due(self.not_before_ms, now_ms, LONGEST_BACKOFF_MS)
    }

    /// Extends the lease and records progress. A lease that is already past its expiry but not yet reaped
    /// is still its holder's.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`] when another or no lease is live, or no progress was made for `stall_ms`.
    pub fn renew(
        &mut self,
        lease: LeaseId,
        progress: Progress,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<i64, Refusal> {
        let held = self.held_mut(lease)?;
        if progress.done_per_mille > held.progress.done_per_mille || progress.frames > held.progress.frames {
            held.progressed_ms = now_ms;
        }
        // Progress from before the clock was set back must not let a stall last longer.
        held.progressed_ms = held.progressed_ms.min(now_ms);
        if now_ms.saturating_sub(held.progressed_ms) > policy.stall_ms {
            return Err(Refusal::LeaseLost);
        }
        held.progress = progress;
        held.expires_ms = now_ms.saturating_add(policy.lease_ttl_ms);
        Ok(held.expires_ms)
    }

    /// Makes the task done. `Ok(false)`: this lease had completed it before, nothing changes.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`] when the lease is not the live one.
    pub fn complete(&mut self, lease: LeaseId, result: TaskResult) -> Result<bool, Refusal> {
        if self.state == TaskState::Done && self.done_by == Some(lease) {
            return Ok(false);
        }
        self.held_mut(lease)?;
        self.state = TaskState::Done;
        self.lease = None;
        self.superseded = None;
        self.done_by = Some(lease);
        self.result = Some(result);
        self.failure = None;
        Ok(true)
    }

    /// Ends the attempt of a live lease with a failure.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`] when the lease is not the live one.
    pub fn fail(
        &mut self,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, Refusal> {
        let worker = self.held_mut(lease)?.worker.clone();
        if failure.class == FailureClass::Media && !self.failed_on.contains(&worker) {
            self.failed_on.push(worker);
        }
        let is_superseded = self.superseded.as_ref().is_some_and(|e| e.lease.id == lease);
        let delay = self.count(failure.class, policy);
        self.failure = Some(failure);
        Ok(match delay {
            None => {
                // Also ends an attempt that runs beside it: the budget is the same whichever of the two fails last.
                self.state = TaskState::Failed;
                self.lease = None;
                self.superseded = None;
                AfterFailure::GiveUp
            }
            Some(_) if is_superseded => {
                // The next attempt was called for already: no further delay.
                self.superseded = None;
                AfterFailure::Retry { not_before_ms: self.not_before_ms }
            }
            Some(delay) => {
                self.state = TaskState::Ready;
                self.lease = None;
                self.attempt = self.attempt.saturating_add(1);
                self.not_before_ms = now_ms.saturating_add(delay);
                AfterFailure::Retry { not_before_ms: self.not_before_ms }
            }
        })
    }

    /// Ends the attempt of a lease whose worker was lost; the first time, the next one is due at once.
    ///
    /// # Errors
    /// As [`Task::fail`].
    pub fn lose(
        &mut self,
        lease: LeaseId,
        failure: Failure,
        now_ms: i64,
        policy: &RetryPolicy,
    ) -> Result<AfterFailure, Refusal> {
        let is_first = self.infra_failures == 0 && self.lease.as_ref().is_some_and(|l| l.id == lease);
        let mut after = self.fail(lease, failure, now_ms, policy)?;
        // A worker's end says nothing about the task, unless it happens again.
        if is_first && let AfterFailure::Retry { not_before_ms } = &mut after {
            *not_before_ms = now_ms;
            self.not_before_ms = now_ms;
        }
        Ok(after)
    }

    /// Calls for another attempt beside the one that runs. False unless exactly one runs.
    pub fn speculate(&mut self, now_ms: i64) -> bool {
        if self.superseded.is_some() {
            return false;
        }
        let Some(lease) = self.lease.take() else { return false };
        self.superseded = Some(SupersededAttempt { attempt: self.attempt, lease });
        self.state = TaskState::Ready;
        self.attempt = self.attempt.saturating_add(1);
        self.not_before_ms = now_ms;
        true
    }

    /// The leases that are live, with their attempts, the older first.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Lease)> {
        let superseded = self.superseded.as_ref().map(|e| (e.attempt, &e.lease));
        superseded.into_iter().chain(self.lease.as_ref().map(|l| (self.attempt, l)))
    }

    /// Like [`Task::live`], to change them.
    pub fn live_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.superseded.as_mut().map(|e| &mut e.lease).into_iter().chain(self.lease.as_mut())
    }

    /// Ends leases no later than a lease from now on: one that ends later was given before the clock was set back. Its
    /// holder keeps it by its next renewal.
    pub fn bound_leases(&mut self, now_ms: i64, policy: &RetryPolicy) {
        for lease in self.live_mut() {
            lease.expires_ms = deadline::bounded(lease.expires_ms, now_ms, policy.lease_ttl_ms);
        }
    }

    /// Cancels the task unless it is final. Returns whether it changed.
    pub fn cancel(&mut self) -> bool {
        if self.state.is_final() {
            return false;
        }
        self.state = TaskState::Cancelled;
        self.lease = None;
        self.superseded = None;
        true
    }

    /// A user's retry: a failed or cancelled task becomes ready with fresh budgets and a new attempt.
    pub fn reset(&mut self, now_ms: i64) -> bool {
        if !matches!(self.state, TaskState::Failed | TaskState::Cancelled) {
            return false;
        }
        self.state = TaskState::Ready;
        self.attempt = self.attempt.saturating_add(1);
        self.media_failures = 0;
        self.infra_failures = 0;
        self.not_before_ms = now_ms;
        self.failed_on.clear();
        true
    }

    fn held_mut(&mut self, lease: LeaseId) -> Result<&mut Lease, Refusal> {
        match self.state {
            TaskState::Cancelled => Err(Refusal::Cancelled),
            TaskState::Leased | TaskState::Ready => self.live_mut().find(|l| l.id == lease).ok_or(Refusal::LeaseLost),
            _ => Err(Refusal::LeaseLost),
        }
    }

    /// Counts a failure against its budget. Returns the back-off in milliseconds before the next attempt, `None` when
    /// the budget is spent or the class allows no other attempt.
    fn count(&mut self, class: FailureClass, policy: &RetryPolicy) -> Option<i64> {
        let backoff = match class {
            FailureClass::Permanent | FailureClass::Source => None,
            FailureClass::Media => {
                self.media_failures = self.media_failures.saturating_add(1);
                (self.media_failures < policy.media_attempts)
                    .then(|| policy.media_backoff_ms.saturating_mul(i64::from(self.media_failures)))
            }
            FailureClass::Infra => {
                self.infra_failures = self.infra_failures.saturating_add(1);
                let doublings = (self.infra_failures - 1).min(20);
                (self.infra_failures <= policy.infra_budget)
                    .then(|| policy.infra_backoff_ms.saturating_mul(1 << doublings).min(policy.infra_backoff_max_ms))
            }
        };
        backoff.map(|ms| ms.min(LONGEST_BACKOFF_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureCode;
    use crate::id::JobId;
    use crate::part::{Cost, ProbeResult, StoredObject};
    use uuid::Uuid;

    fn task() -> Task {
        let id = TaskId { job: JobId(Uuid::nil()), number: 0 };
        Task::new(id, 1, TaskSpec { number: 0, kind: TaskKind::Probe, index: 0, expected_cost: 1 }, TaskState::Ready)
    }
    fn lease(n: u128) -> LeaseId {
        LeaseId(Uuid::from_u128(n))
    }

    #[test]
    fn a_clock_set_back_neither_stretches_a_back_off_nor_a_lease_nor_a_stall() {
        let (hour, policy) = (3_600_000, RetryPolicy::default());
        let mut t = task();
        t.claim(1, lease(1), worker(), hour, policy.lease_ttl_ms).unwrap();
        t.fail(lease(1), Failure::of(FailureCode::FfmpegFailed, "x"), hour, &policy).unwrap();
        assert!(!t.is_due(hour + policy.media_backoff_ms - 1) && t.is_due(hour + policy.media_backoff_ms));
        t.claim(2, lease(2), worker(), 0, policy.lease_ttl_ms).unwrap();
        t.bound_leases(-hour, &policy);
        assert_eq!(t.lease.as_ref().unwrap().expires_ms, policy.lease_ttl_ms - hour);
        t.renew(lease(2), Progress::default(), -hour, &policy).unwrap();
        let stalled = t.renew(lease(2), Progress::default(), policy.stall_ms + 1 - hour, &policy);
        assert_eq!(stalled, Err(Refusal::LeaseLost));
    }
    fn worker() -> WorkerId {
        WorkerId("w1".into())
    }
    fn result() -> TaskResult {
        let info = StoredObject { key: "k".into(), bytes: 1, sha256: String::new() };
        TaskResult::Probe(ProbeResult { info, ffmpeg_build: String::new(), cost: Cost::default() })
    }

    #[test]
    fn a_second_claim_of_the_same_attempt_is_refused() {
        let mut t = task();
        t.claim(1, lease(1), worker(), 0, 10).unwrap();
        assert_eq!(t.claim(1, lease(2), worker(), 0, 10), Err(Refusal::NotClaimable));
    }

    #[test]
    fn completion_is_idempotent_on_its_lease_and_refused_to_any_other() {
        let mut t = task();
        t.claim(1, lease(1), worker(), 0, 10).unwrap();
        assert_eq!(t.complete(lease(2), result()), Err(Refusal::LeaseLost));
        assert_eq!(t.complete(lease(1), result()), Ok(true));
        assert_eq!(t.complete(lease(1), result()), Ok(false));
        assert_eq!(t.complete(lease(2), result()), Err(Refusal::LeaseLost));
    }

    #[test]
    fn a_reaped_lease_raises_the_attempt_and_shuts_the_zombie_out() {
        let (mut t, p) = (task(), RetryPolicy::default());
        t.claim(1, lease(1), worker(), 0, p.lease_ttl_ms).unwrap();
        let lost = || Failure::of(FailureCode::LeaseExpired, "gone");
        let after = t.lose(lease(1), lost(), p.lease_ttl_ms, &p);
        assert_eq!(after, Ok(AfterFailure::Retry { not_before_ms: p.lease_ttl_ms }));
        assert_eq!(t.attempt, 2);
        assert_eq!(t.complete(lease(1), result()), Err(Refusal::LeaseLost));
        assert_eq!(t.claim(1, lease(2), worker(), 1 << 40, 1), Err(Refusal::NotClaimable));
        t.claim(2, lease(3), worker(), p.lease_ttl_ms, 10).unwrap();
        let now = p.lease_ttl_ms + 10;
        assert_eq!(t.lose(lease(3), lost(), now, &p), Ok(AfterFailure::Retry { not_before_ms: now + 2_000 }));
    }

    #[test]
    fn media_failures_back_off_30_60_and_then_fail_for_good() {
        let (mut t, p) = (task(), RetryPolicy::default());
        let mut now = 0;
        for (n, expected) in [(1, Some(30_000)), (2, Some(60_000)), (3, None)] {
            t.claim(n, lease(u128::from(n)), worker(), now, 10).unwrap();
            let after = t.fail(lease(u128::from(n)), Failure::of(FailureCode::FfmpegFailed, "y"), now, &p).unwrap();
            match expected {
                Some(d) => {
                    assert_eq!(after, AfterFailure::Retry { not_before_ms: now + d });
                    now += d;
                }
                None => assert_eq!(after, AfterFailure::GiveUp),
            }
        }
        assert_eq!(t.state, TaskState::Failed);
        assert!(t.reset(now));
        assert_eq!((t.state, t.attempt), (TaskState::Ready, 4));
    }

    #[test]
    fn infra_failures_have_their_own_budget_and_never_use_up_media_attempts() {
        let (mut t, p) = (task(), RetryPolicy::default());
        let mut now = 0;
        for n in 1..=50 {
            t.claim(n, lease(u128::from(n)), worker(), now, 10).unwrap();
            let AfterFailure::Retry { not_before_ms } =
                t.fail(lease(u128::from(n)), Failure::of(FailureCode::Storage, "y"), now, &p).unwrap()
            else {
                panic!("gave up at {n}")
            };
            assert!(not_before_ms - now <= p.infra_backoff_max_ms);
            now = not_before_ms;
        }
        assert_eq!(t.media_failures, 0);
        t.claim(51, lease(51), worker(), now, 10).unwrap();
        assert_eq!(t.fail(lease(51), Failure::of(FailureCode::Storage, "y"), now, &p), Ok(AfterFailure::GiveUp));
    }

    #[test]
    fn a_lease_without_progress_is_not_renewed() {
        let (mut t, p) = (task(), RetryPolicy::default());
        t.claim(1, lease(1), worker(), 0, 10).unwrap();
        let moving = Progress { frames: 1, ..Progress::default() };
        assert!(t.renew(lease(1), moving, 100, &p).is_ok());
        assert!(t.renew(lease(1), moving, 100 + p.stall_ms, &p).is_ok());
        assert_eq!(t.renew(lease(1), moving, 101 + p.stall_ms, &p), Err(Refusal::LeaseLost));
    }

    /// Attempt 1 with lease 1 beside attempt 2, which nobody has claimed.
    fn called_again() -> Task {
        let mut t = task();
        t.claim(1, lease(1), worker(), 0, 10).unwrap();
        assert!(t.speculate(5));
        assert!(!t.speculate(6), "one at a time");
        t
    }

    #[test]
    fn of_two_attempts_beside_each_other_the_first_to_complete_wins() {
        let p = RetryPolicy::default();
        let mut waiting = called_again();
        assert_eq!((waiting.state, waiting.attempt, waiting.lease.is_some()), (TaskState::Ready, 2, false));
        assert!(waiting.renew(lease(1), Progress::default(), 6, &p).is_ok());
        assert_eq!(waiting.complete(lease(1), result()), Ok(true));
        assert_eq!(waiting.claim(2, lease(2), worker(), 7, 10), Err(Refusal::NotClaimable));

        for (winner, loser) in [(1, 2), (2, 1)] {
            let mut t = called_again();
            t.claim(2, lease(2), worker(), 5, 10).unwrap();
            assert_eq!(
                t.live().map(|(attempt, l)| (attempt, l.id)).collect::<Vec<_>>(),
                [(1, lease(1)), (2, lease(2))]
            );
            assert_eq!(t.complete(lease(winner), result()), Ok(true));
            assert_eq!(t.renew(lease(loser), Progress::default(), 6, &p), Err(Refusal::LeaseLost));
            assert_eq!(t.complete(lease(loser), result()), Err(Refusal::LeaseLost));
            assert_eq!((t.done_by, t.live().count()), (Some(lease(winner)), 0));
        }
    }

    #[test]
    fn when_one_of_two_attempts_fails_the_other_goes_on() {
        let p = RetryPolicy::default();
        let mut t = called_again();
        t.claim(2, lease(2), worker(), 5, 10).unwrap();
        let mut earlier_failed = t.clone();
        let after = earlier_failed.fail(lease(1), Failure::of(FailureCode::FfmpegFailed, "y"), 9, &p);
        assert_eq!(after, Ok(AfterFailure::Retry { not_before_ms: 5 }));
        assert_eq!((earlier_failed.state, earlier_failed.media_failures), (TaskState::Leased, 1));
        assert_eq!(earlier_failed.complete(lease(2), result()), Ok(true));

        t.fail(lease(2), Failure::of(FailureCode::Storage, "y"), 9, &p).unwrap();
        assert_eq!((t.state, t.attempt, t.infra_failures), (TaskState::Ready, 3, 1));
        assert_eq!(t.complete(lease(1), result()), Ok(true));

        let mut hopeless = called_again();
        assert_eq!(hopeless.fail(lease(1), Failure::of(FailureCode::Plan, "y"), 9, &p), Ok(AfterFailure::GiveUp));
        assert_eq!((hopeless.state, hopeless.live().count()), (TaskState::Failed, 0));
    }

    #[test]
    fn attempts_beside_each_other_share_one_budget() {
        let p = RetryPolicy { media_attempts: 1, ..RetryPolicy::default() };
        let undecodable = || Failure::of(FailureCode::FfmpegFailed, "y");
        // The second attempt waits, runs, or is itself the one that fails: the budget ends the task each time.
        for (is_claimed, failing) in [(false, 1), (true, 1), (true, 2)] {
            let mut t = called_again();
            if is_claimed {
                t.claim(2, lease(2), worker(), 5, 10).unwrap();
            }
            assert_eq!(t.fail(lease(failing), undecodable(), 9, &p), Ok(AfterFailure::GiveUp));
            assert_eq!((t.state, t.media_failures, t.live().count()), (TaskState::Failed, 1, 0));
            assert_eq!(t.claim(2, lease(3), worker(), 10, 10), Err(Refusal::NotClaimable));
            assert_eq!(t.complete(lease(3 - failing), result()), Err(Refusal::LeaseLost));
        }
    }

    #[test]
    fn a_cancelled_task_tells_its_holder_so() {
        let (mut t, p) = (task(), RetryPolicy::default());
        t.claim(1, lease(1), worker(), 0, 10).unwrap();
        assert!(t.cancel());
        assert_eq!(t.renew(lease(1), Progress::default(), 1, &p), Err(Refusal::Cancelled));
        assert_eq!(t.complete(lease(1), result()), Err(Refusal::Cancelled));
    }
}
