//! The system as it is, under every mix of faults.

use crate::simulated;
use splitreel_testkit::simulation::{Outcome, Reference};
use std::ops::Range;

fn holds(seeds: Range<u64>) -> Vec<Outcome> {
    let reference = Reference::new();
    seeds
        .map(|seed| {
            let outcome = simulated(seed, None, &reference);
            if let Some(violation) = &outcome.violation {
                panic!("seed {seed}: {violation}\n{}", outcome.trace.join("\n"));
            }
            outcome
        })
        .collect()
}

/// The seeds of a test do something: jobs come to both ends, processes crash.
fn assert_eventful(outcomes: &[Outcome]) {
    if outcomes.len() < 100 {
        return;
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let num = outcomes.len() as u64;
    assert!(sum(|o| o.num_published) > num, "{} published", sum(|o| o.num_published));
    assert!(sum(|o| o.num_unpublished) > num / 20, "{} ended otherwise", sum(|o| o.num_unpublished));
    assert!(sum(|o| o.num_crashes) > num / 2, "{} crashes", sum(|o| o.num_crashes));
    assert!(sum(|o| o.num_second_attempts) > num / 50, "{} second attempts", sum(|o| o.num_second_attempts));
    assert!(sum(|o| o.num_replanned) > num / 50, "{} planned again", sum(|o| o.num_replanned));
    assert!(sum(|o| o.num_faults) > num * 10, "{} faults", sum(|o| o.num_faults));
}

/// How many seeds are run: `SPLITREEL_SIM_SEEDS`, else 500.
fn num_seeds() -> u64 {
    match std::env::var("SPLITREEL_SIM_SEEDS") {
        Ok(num) => num.parse().expect("SPLITREEL_SIM_SEEDS is a number"),
        Err(_) => 500,
    }
}

#[test]
fn the_first_half_of_the_seeds_holds() {
    assert_eventful(&holds(0..num_seeds() / 2));
}

#[test]
fn the_second_half_of_the_seeds_holds() {
    assert_eventful(&holds(num_seeds() / 2..num_seeds()));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 7, 99, 1234] {
        let [a, b] = [(); 2].map(|()| simulated(seed, None, &Reference::new()));
        assert_eq!(a, b);
        assert!(a.num_effects > 100);
    }
}

#[test]
fn other_seeds_go_otherwise() {
    let outcomes = holds(500..510);
    let mut hashes: Vec<u64> = outcomes.iter().map(|o| o.trace_hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), outcomes.len());
}
