//! The ledger: what every effect did, compared with what must hold of all jobs at every moment. Sees the rows and
//! objects as they are, without faults; changes nothing.

use super::chaos::Chaos;
use super::lock;
use sha2::{Digest, Sha256};
use splitreel_backend::Queue;
use splitreel_backend::blob::BlobReader;
use splitreel_backend::invariants::{Snapshot, audit_step};
use splitreel_backend::memory::{MemoryBlobs, MemoryStore};
use splitreel_backend::store::JobStore;
use splitreel_core::deadline;
use splitreel_core::fair::Shares;
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::{PresentationFile, StoredObject, TaskResult};
use splitreel_core::plan::hex;
use splitreel_core::task::{LONGEST_BACKOFF_MS, Lease, Task, TaskKind, TaskState};
use splitreel_core::{JobId, LeaseId, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A job store whose rows can be looked at.
pub(super) trait Inspected: JobStore {
    /// All rows, by job.
    fn snapshots(&self) -> Vec<Snapshot>;
}

impl Inspected for MemoryStore {
    fn snapshots(&self) -> Vec<Snapshot> {
        MemoryStore::snapshots(self)
    }
}

pub(super) struct Ledger {
    chaos: Arc<Chaos>,
    store: Arc<dyn Inspected>,
    blobs: Arc<MemoryBlobs>,
    books: Mutex<Books>,
    /// Notified after each step.
    pub changed: Notify,
}

#[derive(Default)]
struct Books {
    violation: Option<String>,
    last: BTreeMap<JobId, Snapshot>,
    accepted: BTreeMap<(String, String), JobId>,
    attempt_of: BTreeMap<LeaseId, (TaskId, u32)>,
    lease_of: BTreeMap<(TaskId, u32), LeaseId>,
    num_published: BTreeMap<JobId, u32>,
    /// Objects that a row names: job and content hash.
    named: BTreeMap<String, (JobId, String)>,
}

impl Ledger {
    pub(super) fn new(chaos: Arc<Chaos>, store: Arc<dyn Inspected>, blobs: Arc<MemoryBlobs>) -> Self {
        Ledger { chaos, store, blobs, books: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn store(&self) -> &Arc<dyn Inspected> {
        &self.store
    }

    /// Something that must not happen did. Only the first is kept.
    pub(super) fn violate(&self, what: String) {
        self.chaos.note("ledger", || format!("VIOLATION: {what}"));
        lock(&self.books).violation.get_or_insert(what);
        self.changed.notify_one();
    }

    pub(super) fn violation(&self) -> Option<String> {
        lock(&self.books).violation.clone()
    }

    /// Spawns a task that must not panic.
    pub(super) fn watch(self: Arc<Self>, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = tokio::spawn(task);
        tokio::spawn(async move {
            if let Err(error) = running.await {
                self.violate(format!("{what} panicked: {error}"));
            }
        });
    }

    /// The rows as they were after the last step.
    pub(super) fn rows(&self) -> Vec<Snapshot> {
        lock(&self.books).last.values().cloned().collect()
    }

    pub(super) fn has_open_job(&self) -> bool {
        lock(&self.books).last.values().any(|s| !s.job.state.is_ended())
    }

    /// The assemble task of the job is leased.
    pub(super) fn is_assembling(&self, job: JobId) -> bool {
        let books = lock(&self.books);
        let is_leased = |t: &Task| t.spec.kind == TaskKind::Assemble && t.state == TaskState::Leased;
        books.last.get(&job).is_some_and(|s| s.tasks.iter().any(is_leased))
    }

    /// Compares all rows with the rows before.
    pub(super) fn step(&self) {
        let now: BTreeMap<JobId, Snapshot> = self.store.snapshots().into_iter().map(|s| (s.job.id, s)).collect();
        let mut found = Vec::new();
        let mut books = lock(&self.books);
        let mut replanned = BTreeSet::new();
        for (id, before) in &books.last {
            match now.get(id) {
                Some(after) if after != before => {
                    if after.job.generation > before.job.generation {
                        replanned.insert(*id);
                    }
                    found.extend(audit_step(before, after));
                    found.extend(after.audit());
                    let was = before.job.state;
                    if after.job.state == JobState::Published && was != JobState::Published && was.is_ended() {
                        found.push(format!("job {id}: {} became published", was.as_str()));
                    }
                }
                Some(_) => {}
                None => found.push(format!("job {id} disappeared")),
            }
        }
        for (id, after) in &now {
            if !books.last.contains_key(id) {
                found.extend(after.audit());
            }
        }
        // Parts of earlier generations are garbage; a first plan has none.
        replanned.retain(|id| now.get(id).is_some_and(|rows| rows.job.generation > 1));
        books.named.retain(|_, (job, _)| !replanned.contains(job));
        books.last = now;
        drop(books);
        for what in found {
            self.violate(what);
        }
        self.changed.notify_one();
    }

    /// A submit was answered.
    pub(super) fn accepted(&self, job: &Job) {
        let key = (job.request.tenant.clone(), job.request.idempotency_key.clone());
        let known = *lock(&self.books).accepted.entry(key).or_insert(job.id);
        if known != job.id {
            self.violate(format!("one idempotency key, two jobs: {known} and {}", job.id));
        }
    }

    /// A claim was granted, by a coordinator whose clock said `now_ms`.
    pub(super) fn claimed(&self, task: &Task, now_ms: i64) {
        let mut found = Vec::new();
        {
            let mut books = lock(&self.books);
            let Some(lease) = task.lease.as_ref().map(|l| l.id) else {
                found.push(format!("task {}: claimed without a lease", task.id));
                return;
            };
            if let Some(before) = books.last.get(&task.id.job) {
                if before.job.state.is_ended() {
                    found.push(format!("task {}: claimed after its job had ended", task.id));
                }
                // The repeat of a claim whose answer was lost gives nothing new.
                let is_held = |t: &Task| t.id == task.id && t.lease.as_ref().is_some_and(|l| l.id == lease);
                if before.job.is_paused && !before.tasks.iter().any(is_held) {
                    found.push(format!("task {}: claimed while its job is paused", task.id));
                }
                let was_due = |t: &Task| t.state != TaskState::Ready || t.is_due(now_ms);
                if !before.tasks.iter().filter(|t| t.id == task.id).all(was_due) {
                    found.push(format!("task {}: claimed before its time", task.id));
                }
            }
            let first = *books.lease_of.entry((task.id, task.attempt)).or_insert(lease);
            if first != lease {
                found.push(format!("task {}: attempt {} was given to {first} and to {lease}", task.id, task.attempt));
            }
            let attempt = *books.attempt_of.entry(lease).or_insert((task.id, task.attempt));
            if attempt != (task.id, task.attempt) {
                found.push(format!(
                    "lease {lease} was given twice: {attempt:?}, then attempt {} of {}",
                    task.attempt, task.id
                ));
            }
        }
        found.into_iter().for_each(|what| self.violate(what));
    }

    /// A lease was given a new end; an earlier one where the clock that says so is behind the one that gave the lease.
    pub(super) fn renewed(&self, id: TaskId, lease: LeaseId, expires_ms: i64) {
        let mut books = lock(&self.books);
        let task = books.last.get_mut(&id.job).and_then(|s| s.tasks.iter_mut().find(|t| t.id == id));
        let Some(task) = task else { return };
        let leases =
            task.lease.as_mut().into_iter().chain(task.superseded.as_mut().map(|superseded| &mut superseded.lease));
        for held in leases.filter(|held| held.id == lease) {
            held.expires_ms = expires_ms;
        }
    }

    /// Expired leases were taken back, by a coordinator whose clock said `now_ms`.
    pub(super) fn reaped(&self, tasks: &[TaskId], now_ms: i64) {
        let early: Vec<TaskId> = {
            let books = lock(&self.books);
            let lasts = |id: &&TaskId| {
                let row = books.last.get(&id.job).and_then(|s| s.tasks.iter().find(|t| t.id == **id));
                // A lease that ends much later was given before the clocks were set back, and shortened since.
                let latest = deadline::latest(now_ms, LONGEST_BACKOFF_MS);
                let lasts = |lease: &Lease| (now_ms + 1..=latest).contains(&lease.expires_ms);
                row.is_some_and(|t| t.live().count() > 0 && t.live().all(|(_, lease)| lasts(lease)))
            };
            tasks.iter().filter(lasts).copied().collect()
        };
        for id in early {
            self.violate(format!("task {id}: its lease was taken back before its time"));
        }
    }

    /// Wakeups were written: to no tenant more than it may have in flight on a queue.
    pub(super) fn dispatched(&self, shares: &Shares) {
        let now = self.store.snapshots();
        let count = |rows: &mut dyn Iterator<Item = &Snapshot>, tenant: &str, queue: Queue| {
            let of = |s: &&Snapshot| s.job.request.tenant == tenant;
            rows.filter(of).fold((0, 0), |(num_notified, num_flying), s| {
                let notified = s.outbox.iter().filter(|wakeup| wakeup.queue() == queue).count();
                let tasks = s.tasks.iter().filter(|t| Queue::of(t.spec.kind) == queue);
                let leased: usize = tasks.map(|t| t.live().count()).sum();
                (num_notified + notified, num_flying + leased + notified)
            })
        };
        let tenants: BTreeSet<&str> = now.iter().map(|s| s.job.request.tenant.as_str()).collect();
        for (tenant, queue) in tenants.into_iter().flat_map(|tenant| Queue::ALL.map(|queue| (tenant, queue))) {
            let Some(most) = shares.of(tenant).max_in_flight else { continue };
            let (rung_before, _) = count(&mut lock(&self.books).last.values(), tenant, queue);
            let (notified, in_flight) = count(&mut now.iter(), tenant, queue);
            if notified > rung_before && in_flight > most as usize {
                self.violate(format!("{tenant} has {in_flight} tasks in flight ({queue:?}), its quota is {most}"));
            }
        }
    }

    /// The leases that may complete a task, by the rows.
    pub(super) fn live_leases(&self, task: TaskId) -> Vec<LeaseId> {
        let books = lock(&self.books);
        let row = books.last.get(&task.job).and_then(|rows| rows.tasks.iter().find(|t| t.id == task));
        row.map(|t| t.live().map(|(_, lease)| lease.id).collect()).unwrap_or_default()
    }

    /// A completion was accepted that was none before. `live` are the leases that were live.
    pub(super) async fn completed(&self, task: TaskId, lease: LeaseId, live: &[LeaseId], result: &TaskResult) {
        if !live.contains(&lease) {
            self.violate(format!("task {task}: a completion by {lease} was accepted, live were {live:?}"));
        }
        let objects = match result {
            TaskResult::Assemble(p) => {
                let num = {
                    let mut books = lock(&self.books);
                    books.named.retain(|_, (job, _)| *job != task.job);
                    let num = books.num_published.entry(task.job).or_default();
                    *num += 1;
                    *num
                };
                if num > 1 {
                    self.violate(format!("job {}: published {num} times", task.job));
                }
                let mut objects: Vec<StoredObject> =
                    self.catalogue(task.job, &p.catalogue).await.into_iter().map(|f| f.object).collect();
                objects.push(p.catalogue.clone());
                objects
            }
            other => objects(other),
        };
        for object in objects {
            self.named(task.job, object).await;
        }
    }

    /// The files of a catalogue.
    pub(super) async fn catalogue(&self, job: JobId, object: &StoredObject) -> Vec<PresentationFile> {
        let len = usize::try_from(object.bytes).unwrap_or(usize::MAX);
        let files = match self.blobs.read(&object.key, 0, len).await {
            Ok(json) => serde_json::from_slice(&json).ok(),
            Err(_) => None,
        };
        files.unwrap_or_else(|| {
            self.violate(format!("job {job}: its catalogue {} cannot be read", object.key));
            Vec::new()
        })
    }

    async fn named(&self, job: JobId, object: StoredObject) {
        match self.blobs.read(&object.key, 0, usize::MAX).await {
            Ok(content) => {
                let sha256 = hex(&Sha256::digest(&content));
                if content.len() as u64 != object.bytes || sha256 != object.sha256 {
                    self.violate(format!("job {job}: a row names {}, whose content differs", object.key));
                }
            }
            Err(_) => self.violate(format!("job {job}: a row names {}, which does not exist", object.key)),
        }
        lock(&self.books).named.insert(object.key, (job, object.sha256));
    }

    /// An object is about to be written.
    pub(super) fn writing(&self, key: &str, content: &[u8]) {
        let named = lock(&self.books).named.get(key).cloned();
        if let Some((job, sha256)) = named
            && hex(&Sha256::digest(content)) != sha256
        {
            self.violate(format!("job {job}: {key} is named by a row and was overwritten with something else"));
        }
    }

    /// An object is about to be deleted.
    pub(super) fn deleting(&self, key: &str) {
        let named = lock(&self.books).named.get(key).cloned();
        if let Some((job, _)) = named {
            self.violate(format!("job {job}: {key} is named by a row and was deleted"));
        }
    }

    /// Keys that rows name.
    pub(super) fn named_keys(&self) -> Vec<String> {
        lock(&self.books).named.keys().cloned().collect()
    }
}

/// Every object that a result names.
pub(super) fn objects(result: &TaskResult) -> Vec<StoredObject> {
    match result {
        TaskResult::Probe(p) => vec![p.info.clone()],
        TaskResult::Video(v) => v.renditions.iter().flat_map(|r| r.stored.objects()).cloned().collect(),
        TaskResult::Audio(a) => a.stored.objects().cloned().collect(),
        TaskResult::Assemble(p) => vec![p.catalogue.clone()],
    }
}
