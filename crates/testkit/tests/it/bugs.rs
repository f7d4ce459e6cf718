//! Each planted bug is found, and by the rule that is about it.

use crate::simulated;
use splitreel_testkit::simulation::{Bug, Reference};

/// Runs seeds until the bug is found; fails when the first thing found is something else.
fn is_found(bug: Bug, by: &[&str]) {
    let reference = Reference::new();
    for seed in 0..200 {
        let outcome = simulated(seed, Some(bug), &reference);
        if let Some(violation) = outcome.violation {
            assert!(by.iter().any(|by| violation.contains(by)), "seed {seed}: {bug:?} was found as: {violation}");
            return;
        }
    }
    panic!("{bug:?} was not found in 200 seeds");
}

#[test]
fn completion_without_lease_check() {
    is_found(Bug::CompletionWithoutLeaseCheck, &["a completion by"]);
}

#[test]
fn attempt_not_raised() {
    is_found(Bug::AttemptNotRaised, &["was given to", "ended attempts"]);
}

#[test]
fn key_shared_by_attempts() {
    is_found(Bug::KeySharedByAttempts, &["was overwritten", "content differs", "was deleted"]);
}

#[test]
fn counted_in_another_transaction() {
    is_found(Bug::CountedInAnotherTransaction, &["remaining is"]);
}

#[test]
fn assembled_twice() {
    is_found(Bug::AssembledTwice, &["2 assemble tasks", "published 2 times"]);
}

#[test]
fn doorbell_trusted() {
    is_found(Bug::DoorbellTrusted, &["long after the faults"]);
}

#[test]
fn published_after_cancel() {
    is_found(Bug::PublishedAfterCancel, &["became published", "a completion by"]);
}
