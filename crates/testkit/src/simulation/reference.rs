//! What a source becomes when nothing goes wrong: the measure of every run with faults.

use super::chaos::Mix;
use super::workload::Workload;
use super::{Scenario, SimulationError, harness, lock};
use crate::toolkit::FakeSource;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Presentation hashes of runs without faults, by source. Shared between scenarios, each is made once.
#[derive(Debug, Default)]
pub struct Reference {
    hashes: Mutex<BTreeMap<u64, String>>,
}

impl Reference {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn hash(&self, source: &FakeSource) -> Result<String, SimulationError> {
        if let Some(known) = lock(&self.hashes).get(&source.number) {
            return Ok(known.clone());
        }
        let scenario = Scenario { seed: source.number, bug: None };
        let (outcome, mut hashes) =
            harness::run_and_look(scenario, Workload::plain(source), Mix::calm(), BTreeMap::new())?;
        let failed = |violation: String| SimulationError::Reference { source_number: source.number, violation };
        if let Some(violation) = outcome.violation {
            return Err(failed(violation));
        }
        let hash = hashes.pop().ok_or_else(|| failed("it was not published".into()))?;
        lock(&self.hashes).insert(source.number, hash.clone());
        Ok(hash)
    }
}
