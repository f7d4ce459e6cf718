//! Clock and identifiers of a simulated machine: virtual time and counters.

use splitreel_backend::world::{Clock, Ids, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Milliseconds since the epoch at which every simulation starts.
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

struct VirtualClock {
    started: Instant,
    skew_ms: i64,
    step: ClockStep,
}

/// All clocks are set at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockStep {
    /// When, after the start of the simulation.
    pub(super) after: Duration,
    /// By how much, in milliseconds; negative: back.
    pub(super) by_ms: i64,
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        let elapsed = self.started.elapsed();
        let set_ms = if elapsed < self.step.after { 0 } else { self.step.by_ms };
        let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS.saturating_add(elapsed_ms).saturating_add(self.skew_ms).saturating_add(set_ms)
    }
}

/// Counts, so that later identifiers sort behind earlier ones; shared by all machines of a simulation.
#[derive(Debug)]
pub(super) struct CountedIds {
    seed: u64,
    next: AtomicU64,
}

impl CountedIds {
    pub(super) fn new(seed: u64) -> Self {
        CountedIds { seed, next: AtomicU64::new(1) }
    }
}

impl Ids for CountedIds {
    fn fresh(&self) -> Uuid {
        Uuid::from_u64_pair(self.next.fetch_add(1, Ordering::Relaxed), self.seed)
    }
}

/// The world as one machine sees it, its clock off by `skew_ms`.
pub(super) fn machine(started: Instant, skew_ms: i64, step: ClockStep, ids: Arc<CountedIds>) -> World {
    World { clock: Arc::new(VirtualClock { started, skew_ms, step }), ids }
}
