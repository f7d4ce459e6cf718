//! The simulation holds on hundreds of seeds, replays exactly, and finds every planted bug.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod bugs;
mod kinds;
mod manifests;
mod seeds;

use splitreel_testkit::simulation::{Bug, Outcome, Reference, Scenario, run};

fn simulated(seed: u64, bug: Option<Bug>, reference: &Reference) -> Outcome {
    match run(Scenario { seed, bug }, reference) {
        Ok(outcome) => outcome,
        Err(error) => panic!("seed {seed}: {error}"),
    }
}
