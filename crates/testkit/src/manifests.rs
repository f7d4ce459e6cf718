//! One job with the real services over any job store. While it runs and after it is published, every manifest rendered
//! from the rows of a reopened store has to be, byte for byte, what the preview writes and what the assembler publishes.

#![allow(clippy::panic, reason = "a test that several crates run: a broken behaviour panics")]

use crate::toolkit::{FakeSource, FakeToolkit, Fate, Turn};
use splitreel_assembler::Assembler;
use splitreel_assembler::output::OutputLock;
use splitreel_assembler::preview::PreviewDir;
use splitreel_backend::conformance::StoreHarness;
use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs};
use splitreel_backend::store::Submitted;
use splitreel_backend::world::{Machine, World};
use splitreel_backend::{BlobReader, BlobStore, JobStore, Leases};
use splitreel_coordinator::Coordinator;
use splitreel_core::job::JobState;
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::{JobId, MediaKind, WorkerId};
use splitreel_presentation::{Catalogue, Form, ManifestError, ManifestName, Preview, Rows, manifest};
use splitreel_worker::Worker;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest time for one job; a second is usual.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often rows are read while a job runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Encodes in no time.
struct Immediate;

impl Fate for Immediate {
    fn turn(&self) -> Turn {
        Turn { slowness_percent: 0, ..Turn::default() }
    }
}

/// Services of one process incarnation.
struct Incarnation {
    stop: CancellationToken,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Incarnation {
    /// Starts the services on an opened store; an assembler only if asked for.
    fn start(site: &Site, store: Arc<dyn JobStore>, with_assembler: bool) -> (Self, Coordinator) {
        let stop = CancellationToken::new();
        let blobs: Arc<dyn BlobStore> = Arc::clone(&site.blobs) as Arc<_>;
        let bell = Arc::new(ChannelDoorbell::new());
        let config = splitreel_coordinator::Config {
            pump_every: Duration::from_millis(50),
            ..splitreel_coordinator::Config::default()
        };
        let coordinator =
            Coordinator::new(store, Arc::clone(&blobs), Arc::clone(&bell) as Arc<_>, World::machine(), config);
        let leases: Arc<dyn Leases> = Arc::new(coordinator.clone());
        let toolkit = Arc::clone(&site.toolkit);
        let worker = Worker::new(
            splitreel_worker::Config { id: WorkerId("worker".into()), slots: 2 },
            Arc::clone(&leases),
            Arc::clone(&bell) as Arc<_>,
            Arc::clone(&blobs) as _,
            Arc::clone(&toolkit) as Arc<_>,
            toolkit,
            Arc::new(Machine),
        );
        let config = splitreel_assembler::Config { id: WorkerId("assembler".into()), slots: 1 };
        let assembler = Assembler::new(config, leases, bell, blobs, Arc::new(Machine));
        let (a, b, c) = (stop.clone(), stop.clone(), stop.clone());
        let service = coordinator.clone();
        let mut running = vec![
            tokio::spawn(async move { service.run(a).await }),
            tokio::spawn(async move { worker.run(b.clone(), b).await }),
        ];
        if with_assembler {
            running.push(tokio::spawn(async move { assembler.run(c.clone(), c).await }));
        }
        (Incarnation { stop, running }, coordinator)
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.running {
            assert!(task.await.is_ok(), "a service panicked");
        }
    }
}

/// What outlives a process.
struct Site {
    blobs: Arc<MemoryBlobs>,
    toolkit: Arc<FakeToolkit>,
}

/// Results of finished tasks, read back from the store.
async fn results(store: &dyn JobStore, job: JobId) -> Vec<TaskResult> {
    let tasks = store.tasks(job).await.unwrap_or_else(|e| panic!("tasks of {job}: {e}"));
    tasks.into_iter().filter_map(|task| task.result).collect()
}

async fn plan(store: &dyn JobStore, job: JobId) -> Plan {
    store.plan(job).await.unwrap_or_else(|e| panic!("plan of {job}: {e}")).unwrap_or_else(|| panic!("{job}: no plan"))
}

async fn state(store: &dyn JobStore, job: JobId) -> JobState {
    store.job(job).await.unwrap_or_else(|e| panic!("{job}: {e}")).unwrap_or_else(|| panic!("{job} is gone")).state
}

fn parts(results: &[TaskResult]) -> Vec<TaskResult> {
    results.iter().filter(|r| matches!(r, TaskResult::Video(_) | TaskResult::Audio(_))).cloned().collect()
}

/// Runs a job of the source and compares manifests at every step; the store is reopened between the steps.
///
/// # Panics
/// When a manifest differs.
pub async fn check(harness: &dyn StoreHarness, source: &FakeSource, scratch: &Path) {
    let mut source = source.clone();
    source.profile.packaging.progressive = true;
    source.profile.packaging.chunk_mb = 16;
    let toolkit = Arc::new(FakeToolkit::new([source.clone()], Arc::new(Immediate)));
    let site = Site { blobs: Arc::new(MemoryBlobs::new()), toolkit };

    let (running, coordinator) = Incarnation::start(&site, harness.open().await, false);
    let job = match coordinator.submit(source.request("tenant", &format!("manifests-{}", source.number))).await {
        Ok(Submitted::Created(job)) => job.id,
        other => panic!("not submitted: {other:?}"),
    };
    let base = source.request("", "").base;
    let made = until_parts_are_done(harness, job).await;
    running.end().await;

    let store = harness.open().await;
    let plan = plan(store.as_ref(), job).await;
    let stored = parts(&results(store.as_ref(), job).await);
    assert_eq!(stored.len(), made.len());
    let planned = planned_playlists(&plan);
    growing(&site, &plan, &made, &stored, scratch).await;

    let (running, _) = Incarnation::start(&site, harness.open().await, true);
    let patience = tokio::time::Instant::now() + PATIENCE;
    while state(store.as_ref(), job).await != JobState::Published {
        assert!(tokio::time::Instant::now() < patience, "{job} is not published");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    running.end().await;
    finished(&site, harness.open().await.as_ref(), job, &base, &planned).await;
}

/// Parts in the order in which they appeared in the rows.
async fn until_parts_are_done(harness: &dyn StoreHarness, job: JobId) -> Vec<TaskResult> {
    let store = harness.open().await;
    let patience = tokio::time::Instant::now() + PATIENCE;
    let mut made: Vec<TaskResult> = Vec::new();
    loop {
        for part in parts(&results(store.as_ref(), job).await) {
            if !made.contains(&part) {
                made.push(part);
            }
        }
        if let Ok(Some(plan)) = store.plan(job).await
            && made.len() == plan.tasks(1).len()
        {
            return made;
        }
        assert!(tokio::time::Instant::now() < patience, "{job}: {} parts", made.len());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Media playlists of video tracks from the plan alone.
fn planned_playlists(plan: &Plan) -> Vec<(String, String)> {
    let rows = Rows::new(plan, []);
    let names = rows.tracks().into_iter().map(|t| ManifestName::Media { kind: t.kind, track: t.id });
    let mut planned = Vec::new();
    for name in names {
        match manifest(&rows, name, Form::Planned) {
            Ok(text) => planned.push((name.path(), text)),
            Err(ManifestError::NotYet { .. }) => {
                assert!(!matches!(name, ManifestName::Media { kind: MediaKind::Video, .. }), "{name:?} has to wait");
            }
            Err(e) => panic!("{name:?}: {e}"),
        }
    }
    let early = manifest(&rows, ManifestName::Multivariant, Form::Planned);
    assert!(matches!(early, Err(ManifestError::NotYet { .. })), "no codec string is known yet: {early:?}");
    planned
}

/// With each further part, the preview directory holds what the stored rows give.
async fn growing(site: &Site, plan: &Plan, made: &[TaskResult], stored: &[TaskResult], scratch: &Path) {
    let dir = scratch.join("out.partial");
    let blobs: Arc<dyn BlobReader> = Arc::clone(&site.blobs) as Arc<_>;
    let lock = OutputLock::acquire(&scratch.join("out"), "").unwrap_or_else(|e| panic!("{e}"));
    let mut preview_dir = PreviewDir::start(blobs, &lock, "film").await.unwrap_or_else(|e| panic!("{e}"));
    let mut num_shown = 0;
    for known in 1..=made.len() {
        let seen = made.get(..known).unwrap_or_default();
        // The same rows, read back from the store in its own order.
        let rows = Rows::new(plan, stored.iter().filter(|part| seen.contains(part)));
        match Preview::of(&Rows::new(plan, seen)).unwrap_or_else(|e| panic!("{known} parts: {e}")) {
            Some(preview) => {
                preview_dir.show(&preview).await.unwrap_or_else(|e| panic!("{e}"));
                num_shown += 1;
            }
            None => {
                let early = manifest(&rows, ManifestName::Multivariant, Form::Preview);
                assert!(matches!(early, Err(ManifestError::NotYet { .. })), "{early:?}");
                continue;
            }
        }
        let media = rows.tracks().into_iter().map(|t| ManifestName::Media { kind: t.kind, track: t.id });
        for name in [ManifestName::Multivariant, ManifestName::Mpd].into_iter().chain(media) {
            let written = std::fs::read_to_string(dir.join(name.path())).unwrap_or_else(|e| panic!("{name:?}: {e}"));
            let rendered = manifest(&rows, name, Form::Preview).unwrap_or_else(|e| panic!("{name:?}: {e}"));
            assert_eq!(rendered, written, "{name:?} with {known} parts");
        }
        let planned = manifest(&rows, ManifestName::Multivariant, Form::Planned);
        let planned = planned.unwrap_or_else(|e| panic!("{e}"));
        let finished = manifest(&Rows::new(plan, stored), ManifestName::Multivariant, Form::Final);
        assert_eq!(lasting(&planned), lasting(&finished.unwrap_or_else(|e| panic!("{e}"))));
    }
    assert!(num_shown > 0, "no preview was ever shown");
    preview_dir.remove().await.unwrap_or_else(|e| panic!("{e}"));
}

/// A multivariant playlist without what segments show: bit rates, the order of variants by them, and that there are no
/// captions.
fn lasting(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .replace(",CLOSED-CAPTIONS=NONE", "")
        .replace(",AUDIO", "\nAUDIO")
        .lines()
        .map(|line| line.split_once(",CODECS=").map_or_else(|| line.to_owned(), |(_, rest)| rest.to_owned()))
        .collect();
    lines.sort();
    lines
}

/// Every manifest of the published presentation is what the rows of the reopened store give.
async fn finished(site: &Site, store: &dyn JobStore, job: JobId, base: &str, planned: &[(String, String)]) {
    let published = store.presentation(job).await.unwrap_or_else(|e| panic!("{e}"));
    let published = published.unwrap_or_else(|| panic!("{job} has no presentation"));
    let json = read(site, &published.catalogue.key).await;
    let catalogue = Catalogue::from_json(&json).unwrap_or_else(|e| panic!("{e}"));
    let (plan, results) = (plan(store, job).await, results(store, job).await);
    let rows = Rows::new(&plan, &results).published(base, &catalogue);
    let mut num_manifests = 0;
    for file in catalogue.files() {
        let Some(name) = ManifestName::at(&file.path, &rows) else { continue };
        let stored = String::from_utf8(read(site, &file.object.key).await).unwrap_or_else(|e| panic!("{e}"));
        let rendered = manifest(&rows, name, Form::Final).unwrap_or_else(|e| panic!("{name:?}: {e}"));
        assert_eq!(rendered, stored, "{}", file.path);
        num_manifests += 1;
    }
    assert_eq!(num_manifests, 3 + rows.tracks().len(), "multivariant playlist, MPD, chunk manifest, one per track");
    for (path, text) in planned {
        let object = catalogue.object(path).unwrap_or_else(|| panic!("{path} is not published"));
        let stored = String::from_utf8(read(site, &object.key).await).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(without_target(text), without_target(&stored), "{path} differs from the planned text");
    }
}

/// A media playlist without the target duration, to which audio tracks that are not finished may add.
fn without_target(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("#EXT-X-TARGETDURATION:")).collect()
}

async fn read(site: &Site, key: &str) -> Vec<u8> {
    site.blobs.read(key, 0, usize::MAX).await.unwrap_or_else(|e| panic!("{key}: {e}")).to_vec()
}
