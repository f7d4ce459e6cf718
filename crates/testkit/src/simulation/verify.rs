//! What must hold once all is quiet: every job ended for a reason, published exactly what a run without faults
//! publishes, and nothing is left over.

use super::chaos::{FNV_START, fnv};
use super::events;
use super::ledger::{Ledger, objects};
use super::process::coordinator_config;
use crate::toolkit::MEDIA_CODE;
use splitreel_backend::blob::{BlobAdmin, BlobReader};
use splitreel_backend::invariants::Snapshot;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_core::FailureClass;
use splitreel_core::event::EventKind;
use splitreel_core::job::JobState;
use splitreel_core::part::{Presentation, TaskResult};
use splitreel_core::task::{Task, TaskKind, TaskState};
use std::collections::BTreeMap;

/// Media failures that can be the work of the fake toolkit.
const INJECTED_MEDIA: [&str; 2] = [MEDIA_CODE, "frames_differ"];

/// What a job published.
pub(super) fn presentation(rows: &Snapshot) -> Option<&Presentation> {
    rows.tasks.iter().find_map(|t| match &t.result {
        Some(TaskResult::Assemble(p)) => Some(p),
        _ => None,
    })
}

/// Checks all jobs. `expected` are presentation hashes by source locator.
pub(super) async fn jobs(ledger: &Ledger, expected: &BTreeMap<String, String>) {
    for rows in ledger.rows() {
        let id = rows.job.id;
        let state = rows.job.state;
        if !state.is_ended() {
            let open: Vec<String> = rows
                .tasks
                .iter()
                .filter(|t| !t.state.is_final())
                .map(|t| format!("{} is {}", t.id.number, t.state.as_str()))
                .collect();
            ledger.violate(format!("job {id} is {} long after the faults: {}", state.as_str(), open.join(", ")));
        }
        if rows.tasks.iter().any(|t| t.lease.is_some()) {
            ledger.violate(format!("job {id}: a lease is live at the end"));
        }
        let policy = coordinator_config().retry;
        for task in &rows.tasks {
            if task.media_failures > policy.media_attempts || task.infra_failures > policy.infra_budget + 1 {
                ledger.violate(format!(
                    "task {}: {} media and {} infrastructure failures",
                    task.id, task.media_failures, task.infra_failures
                ));
            }
        }
        match state {
            JobState::Failed => reason(ledger, &rows),
            JobState::Published => published(ledger, &rows, expected).await,
            _ => {}
        }
    }
    if let Ok(log) = ledger.store().events(None, 0, usize::MAX).await {
        events::audit(&log).into_iter().for_each(|what| ledger.violate(what));
    }
}

/// A job may fail only when a task has used up a budget.
fn reason(ledger: &Ledger, rows: &Snapshot) {
    let policy = coordinator_config().retry;
    let failed = rows.tasks.iter().filter(|t| t.state == TaskState::Failed && rows.job.owns(t));
    let is_spent = failed.into_iter().any(|t| match &t.failure {
        Some(f) if f.class == FailureClass::Media => {
            t.media_failures == policy.media_attempts && INJECTED_MEDIA.contains(&f.code.as_str())
        }
        Some(f) if f.class == FailureClass::Infra => t.infra_failures > policy.infra_budget,
        _ => false,
    });
    if !is_spent {
        ledger.violate(format!("job {}: failed with budgets left: {:?}", rows.job.id, rows.job.failure));
    }
}

async fn published(ledger: &Ledger, rows: &Snapshot, expected: &BTreeMap<String, String>) {
    let id = rows.job.id;
    let Some(presentation) = presentation(rows) else {
        return ledger.violate(format!("job {id}: published, but nothing"));
    };
    if let Some(expected) = expected.get(&rows.job.request.source.locator)
        && *expected != presentation.hash
    {
        ledger.violate(format!("job {id}: published {}, without faults it is {expected}", presentation.hash));
    }
    // Each media segment and header of each part is a file of the presentation, under one path only.
    let files = ledger.catalogue(id, &presentation.catalogue).await;
    let mut num_of_key: BTreeMap<&str, u32> = BTreeMap::new();
    let mut num_of_path: BTreeMap<&str, u32> = BTreeMap::new();
    for file in &files {
        *num_of_key.entry(&file.object.key).or_default() += 1;
        *num_of_path.entry(&file.path).or_default() += 1;
    }
    if let Some((path, num)) = num_of_path.iter().find(|(_, num)| **num > 1) {
        ledger.violate(format!("job {id}: {num} files are called {path}"));
    }
    for task in
        rows.tasks.iter().filter(|t| matches!(t.spec.kind, TaskKind::Whole | TaskKind::Segment | TaskKind::Audio))
    {
        if !rows.job.owns(task) {
            dropped_part(ledger, task, &num_of_key);
            continue;
        }
        let Some(result) = &task.result else { continue };
        let segments = objects(result).into_iter().filter(|o| o.key.ends_with(".m4s"));
        for segment in segments {
            let num = num_of_key.get(segment.key.as_str()).copied().unwrap_or(0);
            if num != 1 {
                ledger.violate(format!("job {id}: {} is listed {num} times", segment.key));
            }
        }
    }
}

/// No object of a part of an earlier generation is published.
fn dropped_part(ledger: &Ledger, task: &Task, num_of_key: &BTreeMap<&str, u32>) {
    let keys = task.result.iter().flat_map(|result| result.keys());
    for key in keys.filter(|key| num_of_key.contains_key(key)) {
        ledger.violate(format!("task {}: {key} of an earlier generation is published", task.id));
    }
}

/// After the last collection: no object without an owner. Call when garbage was collected.
pub(super) async fn objects_have_owners(ledger: &Ledger, blobs: &MemoryBlobs) {
    let named = ledger.named_keys();
    let Ok(keys) = blobs.list("").await else { return };
    for key in keys {
        if named.binary_search(&key).is_err() {
            ledger.violate(format!("{key} is left over"));
        }
    }
}

/// Fingerprint over all keys and contents.
pub(super) async fn blobs_hash(blobs: &MemoryBlobs) -> u64 {
    let mut hash = FNV_START;
    for key in blobs.list("").await.unwrap_or_default() {
        hash = fnv(hash, key.as_bytes());
        if let Ok(content) = blobs.read(&key, 0, usize::MAX).await {
            hash = fnv(hash, &content);
        }
    }
    hash
}

/// Jobs that were planned again.
pub(super) async fn num_replanned(ledger: &Ledger) -> u64 {
    let log = ledger.store().events(None, 0, usize::MAX).await.unwrap_or_default();
    log.iter().filter(|event| matches!(event.what, EventKind::Replanned { .. })).count() as u64
}

/// Second attempts that were called for.
pub(super) async fn num_second_attempts(ledger: &Ledger) -> u64 {
    let log = ledger.store().events(None, 0, usize::MAX).await.unwrap_or_default();
    log.iter().filter(|event| matches!(event.what, EventKind::Speculated { .. })).count() as u64
}

/// Fingerprint over the event log.
pub(super) async fn events_hash(ledger: &Ledger) -> u64 {
    let log = ledger.store().events(None, 0, usize::MAX).await.unwrap_or_default();
    log.iter().fold(FNV_START, |hash, event| fnv(hash, format!("{event:?}").as_bytes()))
}
