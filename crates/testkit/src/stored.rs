//! Databases as an older version left them: what has to become of their jobs, whatever the store.

use crate::services::Services;
use crate::toolkit::{FakeSource, FakeToolkit, Fortunate};
use sha2::{Digest, Sha256};
use splitreel_backend::invariants::audit;
use splitreel_backend::store::JobFilter;
use splitreel_backend::{BlobStore, JobStore};
use splitreel_core::JobId;
use splitreel_core::event::EventKind;
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::{Presentation, PresentationFile};
use splitreel_core::plan::hex;
use splitreel_core::planner::Capabilities;
use splitreel_core::task::TaskState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// All jobs end in seconds, on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// The synthetic source that stands for the stored one: three segments, a sound track.
const SOURCE: u64 = 2;

/// A stored database, opened and migrated by this version.
pub struct Stored {
    /// Its store.
    pub store: Arc<dyn JobStore>,
    /// Its objects.
    pub blobs: Arc<dyn BlobStore>,
}

type Found<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Stored {
    /// All jobs, by the last part of their base name, output or key that the fixture names them by.
    async fn jobs(&self) -> Found<Vec<Job>> {
        self.store.jobs(JobFilter { limit: 100, ..JobFilter::default() }).await.map_err(text)
    }

    /// Carries out what is open and retries what failed; says what is not as it has to be.
    ///
    /// # Errors
    /// The first difference, in words.
    pub async fn check(self) -> Found<()> {
        let before: BTreeMap<JobId, Job> = self.jobs().await?.into_iter().map(|job| (job.id, job)).collect();
        let num = |state| before.values().filter(|job| job.state == state).count();
        if (num(JobState::Published), num(JobState::Failed), num(JobState::Probing), num(JobState::Running))
            != (1, 1, 1, 2)
        {
            return Err(format!("the fixture has other jobs than expected: {before:?}"));
        }
        let published = before.values().find(|job| job.state == JobState::Published).ok_or("none published")?.id;
        let presentation = self.presentation(published).await?;
        for job in before.values().filter(|job| job.state == JobState::Failed) {
            self.store.retry(job.id, job.ended_ms.unwrap_or(0) + 1).await.map_err(text)?;
        }
        let services = self.services(before.values());
        let after: BTreeMap<JobId, Job> =
            services.until_ended(PATIENCE).await.map_err(text)?.into_iter().map(|job| (job.id, job)).collect();
        if after.keys().ne(before.keys()) {
            return Err("a job is lost".into());
        }
        for (id, job) in &after {
            if job.state != JobState::Published {
                return Err(format!("job {id} is {}: {:?}", job.state.as_str(), job.failure));
            }
            self.audit(job).await?;
            let had_plan = before.get(id).is_some_and(|before| before.is_planned());
            let is_replanned = self.is_replanned(*id).await?;
            if is_replanned != (had_plan && *id != published) {
                return Err(format!("job {id} had a plan: {had_plan}, was planned again: {is_replanned}"));
            }
        }
        if self.presentation(published).await? != presentation {
            return Err("the published presentation changed".into());
        }
        Ok(())
    }

    fn services<'j>(&self, jobs: impl Iterator<Item = &'j Job>) -> Services {
        let sources = jobs.map(|job| {
            let mut source = FakeSource::numbered(SOURCE);
            source.reference = job.request.source.clone();
            source
        });
        let toolkit = Arc::new(FakeToolkit::new(sources, Arc::new(Fortunate)));
        Services {
            store: Arc::clone(&self.store),
            blobs: Arc::clone(&self.blobs),
            sources: Arc::clone(&toolkit) as Arc<_>,
            toolkit,
            capabilities: Capabilities::default(),
            spoiler: None,
        }
    }

    async fn presentation(&self, job: JobId) -> Found<Presentation> {
        let found = self.store.presentation(job).await.map_err(text)?;
        found.ok_or_else(|| format!("job {job} has no presentation"))
    }

    async fn is_replanned(&self, job: JobId) -> Found<bool> {
        let events = self.store.events(Some(job), 0, 10_000).await.map_err(text)?;
        Ok(events.iter().any(|event| matches!(event.what, EventKind::Replanned { .. })))
    }

    async fn audit(&self, job: &Job) -> Found<()> {
        let tasks = self.store.tasks(job.id).await.map_err(text)?;
        let unsent = self.store.unsent(&Some(vec![job.id]), 1_000).await.map_err(text)?;
        if let Some(what) = audit(job, &tasks, &unsent).into_iter().next() {
            return Err(what);
        }
        let is_open =
            tasks.iter().any(|task| !task.state.is_final() || task.state == TaskState::Failed && job.owns(task));
        if is_open { Err(format!("job {} has open tasks", job.id)) } else { Ok(()) }
    }

    /// Reads all files of a published presentation.
    ///
    /// # Errors
    /// The first file that is missing or differs.
    pub async fn read_published(&self) -> Found<usize> {
        let jobs = self.jobs().await?;
        let job = jobs.iter().find(|job| job.state == JobState::Published).ok_or("none published")?;
        let catalogue = self.presentation(job.id).await?.catalogue;
        let json = self.blobs.read(&catalogue.key, 0, usize::MAX).await.map_err(text)?;
        let files: Vec<PresentationFile> = serde_json::from_slice(&json).map_err(text)?;
        for file in &files {
            let bytes = self.blobs.read(&file.object.key, 0, usize::MAX).await.map_err(text)?;
            if hex(&Sha256::digest(&bytes)) != file.object.sha256 {
                return Err(format!("{} differs", file.path));
            }
        }
        Ok(files.len())
    }
}
