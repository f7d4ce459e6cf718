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

#[test]
fn claim_not_atomic() {
    is_found(Bug::ClaimNotAtomic, &["was given to"]);
}

#[test]
fn claim_while_paused() {
    is_found(Bug::ClaimWhilePaused, &["claimed while its job is paused"]);
}

#[test]
fn back_off_ignored() {
    is_found(Bug::BackOffIgnored, &["claimed before its time"]);
}

#[test]
fn reaped_too_early() {
    is_found(Bug::ReapedTooEarly, &["taken back before its time"]);
}

#[test]
fn cancel_leaves_tasks_open() {
    is_found(Bug::CancelLeavesTasksOpen, &["cancelled with"]);
}

#[test]
fn key_not_unique() {
    is_found(Bug::KeyNotUnique, &["one idempotency key, two jobs"]);
}

#[test]
fn quota_ignored() {
    is_found(Bug::QuotaIgnored, &["its quota is"]);
}

#[test]
fn upload_not_awaited() {
    is_found(Bug::UploadNotAwaited, &["which does not exist"]);
}

#[test]
fn plan_of_another_generation() {
    is_found(Bug::PlanOfAnotherGeneration, &["failed with budgets left"]);
}

#[test]
fn planned_again_twice() {
    is_found(Bug::PlannedAgainTwice, &["planned again twice for the list of frames"]);
}

#[test]
fn stored_frame_shifted() {
    is_found(Bug::StoredFrameShifted, &["stored presentation times differ from the encoder's"]);
}

#[test]
fn stored_frames_swapped() {
    is_found(Bug::StoredFramesSwapped, &["is stored with samples in another order"]);
}

#[test]
fn neighbour_stored() {
    is_found(Bug::NeighbourStored, &["is stored with another place than planned", "is stored with decode time"]);
}
