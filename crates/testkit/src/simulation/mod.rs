//! The real coordinator, worker and assembler on in-memory seams, under virtual time, in one thread, with a seeded
//! mix of faults; after each effect everything that must always hold is checked. The same seed replays exactly.
//!
//! Faults come for a while, then stop; from then on every job has to come to its end in bounded time. Nothing here
//! may read a real clock, spawn a thread or depend on the order of a hash map.

mod audit;
mod blobs;
mod bug;
mod chaos;
mod events;
mod gate;
mod harness;
mod ledger;
mod network;
mod process;
mod reference;
mod verify;
mod workload;
mod world;

pub use bug::Bug;
pub use reference::Reference;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// A mistake planted into the system, to see that it is found.
    pub bug: Option<Bug>,
}

/// How a run went. Equal for two runs of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was broken first, in words. `None`: everything held.
    pub violation: Option<String>,
    /// The last effects before the end, oldest first.
    pub trace: Vec<String>,
    /// Fingerprint over every effect and fault.
    pub trace_hash: u64,
    /// Fingerprint over the event log.
    pub events_hash: u64,
    /// Fingerprint over all objects at the end.
    pub blobs_hash: u64,
    /// Virtual milliseconds until all was quiet.
    pub virtual_ms: u64,
    /// Calls through faulty seams.
    pub num_effects: u64,
    /// Faults that were injected.
    pub num_faults: u64,
    /// Crashes among them.
    pub num_crashes: u64,
    /// Second attempts that were called for beside slow ones.
    pub num_second_attempts: u64,
    /// Jobs that were planned again.
    pub num_replanned: u64,
    /// Jobs that were published.
    pub num_published: u64,
    /// Jobs that ended otherwise.
    pub num_unpublished: u64,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The runtime did not start.
    #[error("the runtime did not start")]
    Runtime(#[from] std::io::Error),
    /// The run without faults, that others are compared with, broke a rule.
    #[error("source {source_number} without faults: {violation}")]
    Reference {
        /// Number of the fake source.
        source_number: u64,
        /// What was broken.
        violation: String,
    },
}

/// Runs a scenario to its end.
///
/// # Errors
/// [`SimulationError`] when it could not be run; what it found is in the [`Outcome`].
pub fn run(scenario: Scenario, reference: &Reference) -> Result<Outcome, SimulationError> {
    let workload = workload::Workload::drawn(scenario.seed);
    let expected =
        workload.sources().map(|s| Ok((s.number, reference.hash(s)?))).collect::<Result<_, SimulationError>>()?;
    harness::run(scenario, workload, chaos::Mix::drawn(scenario.seed), expected)
}

/// Nothing panics under these locks; a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
