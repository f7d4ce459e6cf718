//! Garbage collection: deletes what no row names, some time after the job has ended.

use crate::Coordinator;
use splitreel_backend::StoreError;
use splitreel_backend::blob::BlobError;
use splitreel_backend::store::JobFilter;
use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobState};
use splitreel_core::key::job_prefix;
use splitreel_presentation::Catalogue;
use splitreel_telemetry::record;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// Ended jobs that are looked at in one go.
const BATCH: usize = 1000;

/// Why garbage could not be collected this time.
#[derive(Debug, thiserror::Error)]
pub enum GarbageError {
    /// The job store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A catalogue cannot be read: nothing of its job is deleted.
    #[error(transparent)]
    Catalogue(#[from] ReadError),
}

impl Coordinator {
    /// Deletes unreferenced objects of jobs that ended longer than the grace ago. Each pass looks at one batch, the next
    /// pass at older jobs, and after the oldest at the newest again: a late upload of a dead attempt is found too.
    pub(crate) async fn collect_garbage(&self) -> Result<(), GarbageError> {
        let before = *self.inner.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = JobFilter {
            states: vec![JobState::Published, JobState::Failed, JobState::Cancelled],
            only: self.inner.config.scope.clone(),
            before,
            limit: BATCH,
            ..JobFilter::default()
        };
        let due = self.now().saturating_sub(self.inner.config.garbage_grace_ms);
        let jobs = self.inner.store.jobs(filter).await?;
        let next = jobs.last().filter(|_| jobs.len() == BATCH).map(|job| job.id);
        *self.inner.cleaned.lock().unwrap_or_else(PoisonError::into_inner) = next;
        let mut failed = None;
        for job in jobs.iter().filter(|j| j.ended_ms.is_some_and(|t| t <= due)) {
            match self.collect(job).await {
                Ok(0) => {}
                Ok(n) => tracing::info!(job = %job.id, objects = n, "deleted unreferenced objects"),
                Err(error) => {
                    tracing::warn!(job = %job.id, %error, "garbage collection of a job failed; will retry");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Deletes the objects of an ended job that no row names: parts of dead attempts, and, once published,
    /// everything that the presentation is not made of. Answers how many.
    ///
    /// # Errors
    /// [`GarbageError`]: some may be left, the next collection takes them.
    pub async fn collect(&self, job: &Job) -> Result<usize, GarbageError> {
        // Listed before the rows are read: a retry may reopen the job at any moment, and what its attempts write
        // must not be on this list. What is on it and is named by no row later belongs to dead attempts.
        let keys = self.inner.blobs.list(&job_prefix(job.id)).await?;
        let Some(job) = self.inner.store.job(job.id).await? else { return Ok(0) };
        if !job.state.is_ended() {
            return Ok(0);
        }
        let named = self.named_keys(&job).await?;
        self.delete_except(&keys, &named).await
    }

    /// Deletes every object of a job, named or not: its presentation was exported, or it is forgotten.
    ///
    /// # Errors
    /// [`GarbageError`]: some may be left.
    pub async fn release_objects(&self, job: JobId) -> Result<usize, GarbageError> {
        let keys = self.inner.blobs.list(&job_prefix(job)).await?;
        self.delete_except(&keys, &BTreeSet::new()).await
    }

    async fn delete_except(&self, keys: &[String], named: &BTreeSet<String>) -> Result<usize, GarbageError> {
        let mut deleted = 0;
        for key in keys.iter().filter(|key| !named.contains(*key)) {
            self.inner.blobs.delete(key).await?;
            record::objects_collected(1);
            deleted += 1;
        }
        Ok(deleted)
    }

    async fn named_keys(&self, job: &Job) -> Result<BTreeSet<String>, GarbageError> {
        let mut named = BTreeSet::new();
        if let Some(p) = self.inner.store.presentation(job.id).await? {
            let json = read_whole(&*self.inner.blobs, &p.catalogue).await?;
            let catalogue = Catalogue::from_json(&json).map_err(|error| ReadError::damaged(&p.catalogue, error))?;
            named.extend(catalogue.files().map(|file| file.object.key));
            named.insert(p.catalogue.key.clone());
        }
        if job.state != JobState::Published {
            // A retry builds on what is done of the current plan; parts of earlier generations are garbage.
            let tasks = self.inner.store.tasks(job.id).await?.into_iter().filter(|task| job.owns(task));
            for result in tasks.filter_map(|task| task.result) {
                named.extend(result.keys().into_iter().map(str::to_owned));
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use async_trait::async_trait;
    use bytes::Bytes;
    use splitreel_backend::conformance::fixture::{job_id, request};
    use splitreel_backend::doorbell::Queue;
    use splitreel_backend::fault::{FaultPlan, FaultyBlobs, Verdict};
    use splitreel_backend::memory::{ChannelDoorbell, MemoryBlobs, MemoryStore};
    use splitreel_backend::{BlobAdmin, Doorbell, PartWriter, Submissions, World};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    /// Lists no objects, ever.
    struct NoAnswer;

    #[async_trait]
    impl FaultPlan for NoAnswer {
        async fn before(&self, op: &'static str) -> Verdict {
            if op == "blobs.list" { std::future::pending().await } else { Verdict::Proceed }
        }
        async fn after(&self, _: &'static str) -> Verdict {
            Verdict::Proceed
        }
    }

    async fn cancelled(store: &MemoryStore, n: u32) -> JobId {
        let job = job_id(n.into());
        store.submit(job, request("t", &n.to_string()), i64::from(n)).await.unwrap();
        store.cancel(job, i64::from(n)).await.unwrap();
        job
    }

    #[tokio::test]
    async fn jobs_behind_the_newest_thousand_have_their_turn() {
        let (store, blobs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryBlobs::new()));
        let oldest = cancelled(&store, 1).await;
        for n in 2..=u32::try_from(BATCH).unwrap() + 1 {
            cancelled(&store, n).await;
        }
        let left = || blobs.list("jobs/");
        let coordinator = Coordinator::new(
            Arc::clone(&store) as Arc<_>,
            Arc::clone(&blobs) as Arc<_>,
            Arc::new(ChannelDoorbell::new()),
            World::machine(),
            Config::default(),
        );
        // The second time for a dead attempt whose last object arrived after the first.
        for _ in 0..2 {
            blobs.put(&format!("jobs/{oldest}/1/1-x/a"), Bytes::from_static(b"a")).await.unwrap();
            coordinator.collect_garbage().await.unwrap();
            assert_eq!(left().await.unwrap().len(), 1);
            coordinator.collect_garbage().await.unwrap();
            assert!(left().await.unwrap().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn storage_that_does_not_answer_the_collection_holds_up_no_work() {
        let (store, bell) = (Arc::new(MemoryStore::new()), Arc::new(ChannelDoorbell::new()));
        cancelled(&store, 1).await;
        let coordinator = Coordinator::new(
            Arc::clone(&store) as Arc<_>,
            Arc::new(FaultyBlobs::new(Arc::new(MemoryBlobs::new()), Arc::new(NoAnswer))),
            Arc::clone(&bell) as Arc<_>,
            World::machine(),
            Config { garbage_every: Duration::from_millis(1), ..Config::default() },
        );
        let stop = CancellationToken::new();
        let (running, s) = (coordinator.clone(), stop.clone());
        let running = tokio::spawn(async move { running.run(s).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        coordinator.submit(request("t", "new")).await.unwrap();
        let notified = tokio::time::timeout(Duration::from_secs(5), bell.next(Queue::Work)).await;
        assert!(notified.expect("no wakeup in time").is_ok());
        stop.cancel();
        running.await.unwrap();
    }
}
