//! Outputs: published presentations are copied to the place that their job names. The job log says what is published;
//! a record per job says what is still to be copied, so that a copy is repeated until it is whole, by whichever
//! coordinator comes first. It owns the order and the repetition; how a place is written is the seam's.

use async_trait::async_trait;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use splitreel_backend::records::{Expect, Record, RecordKey};
use splitreel_backend::{JobStore, Records, StoreError, World};
use splitreel_client::types::OutputView;
use splitreel_core::JobId;
use splitreel_core::event::{Event, EventKind};
use splitreel_core::job::Job;
use splitreel_core::part::PresentationFile;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::documents::put_document;
use crate::presentations::{PresentationError, Presentations};
use splitreel_backend::events::EventSink;
use splitreel_backend::outputs::{OutputError, OutputStore, folder};

/// Kind of the records of outputs.
pub const OUTPUT_KIND: &str = "output";
/// Length of a claim, in milliseconds. After it another coordinator may copy too, which does no harm.
const CLAIM_MS: i64 = 10 * 60_000;
/// A copy that fails is given up after this time.
const GIVE_UP_MS: i64 = 3 * 24 * 3_600_000;
const FIRST_PAUSE_MS: i64 = 2_000;
const LONGEST_PAUSE_MS: i64 = 600_000;
/// Presentations that are copied at the same time.
const PARALLEL: usize = 4;
const BATCH: usize = 100;
const TICK: Duration = Duration::from_secs(1);

/// How far the copy of a job's presentation is, if it is to have one.
///
/// # Errors
/// When the records do not answer.
pub(crate) async fn view(records: &dyn Records, job: &Job) -> Result<Option<OutputView>, StoreError> {
    let Some(output) = &job.request.output else { return Ok(None) };
    let location = if output.starts_with("s3://") { format!("{output}{}", folder(job)) } else { output.clone() };
    let record = records.get(&key(&job.request.tenant, job.id)).await?;
    let kept = record.and_then(|record| serde_json::from_value::<OutputDocument>(record.doc).ok());
    Ok(Some(match kept {
        None => OutputView { location, is_done: false, is_given_up: false, error: None },
        Some(kept) => OutputView { location, is_done: kept.is_done, is_given_up: kept.is_given_up, error: kept.error },
    }))
}

/// What is kept of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OutputDocument {
    since_ms: i64,
    tries: u32,
    is_done: bool,
    is_given_up: bool,
    error: Option<String>,
}

impl OutputDocument {
    /// When to look again after a failure; `None`: never.
    fn next(&self, now_ms: i64) -> Option<i64> {
        let pause = FIRST_PAUSE_MS.saturating_mul(1i64 << self.tries.min(20)).min(LONGEST_PAUSE_MS);
        (now_ms.saturating_sub(self.since_ms) < GIVE_UP_MS).then(|| now_ms.saturating_add(pause))
    }
}

fn key(tenant: &str, job: JobId) -> RecordKey {
    RecordKey { kind: OUTPUT_KIND.to_owned(), tenant: tenant.to_owned(), id: job.to_string() }
}

/// Copies what is published. Cheap to clone; also the sink that hears of it.
#[derive(Clone)]
pub struct Outputs {
    jobs: Arc<dyn JobStore>,
    records: Arc<dyn Records>,
    presentations: Presentations,
    places: Arc<dyn OutputStore>,
    world: World,
}

impl Outputs {
    /// Outputs over the given seams.
    pub fn new(
        jobs: Arc<dyn JobStore>,
        records: Arc<dyn Records>,
        presentations: Presentations,
        places: Arc<dyn OutputStore>,
        world: World,
    ) -> Self {
        Outputs { jobs, records, presentations, places, world }
    }

    /// Copies until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Some(Err(error)) = stop.run_until_cancelled(self.copy_due()).await {
                tracing::warn!(%error, "output pass failed; retrying");
            }
        }
    }

    /// Copies what is due. Answers how many presentations were.
    ///
    /// # Errors
    /// When the records do not answer.
    pub async fn copy_due(&self) -> Result<usize, StoreError> {
        let due = self.records.due(OUTPUT_KIND, self.now(), BATCH).await?;
        let num = due.len();
        let mut copies =
            futures::stream::iter(due.into_iter().map(|record| self.copy(record))).buffer_unordered(PARALLEL);
        while let Some(copied) = copies.next().await {
            // The others are not to be dropped half way: they are claimed. This one is due again after its claim.
            if let Err(error) = copied {
                tracing::warn!(%error, "output copy failed; will retry");
            }
        }
        Ok(num)
    }

    async fn copy(&self, record: Record) -> Result<(), StoreError> {
        let mut kept = match serde_json::from_value::<OutputDocument>(record.doc.clone()) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(job = %record.key.id, %error, "output record is corrupt; dropped");
                let (expect, now) = (Expect::Version(record.version), self.now());
                let _ = self.records.put(&record.key, expect, record.doc, None, now).await?;
                return Ok(());
            }
        };
        let until = self.now().saturating_add(CLAIM_MS);
        let claimed = self.put(&record.key, Expect::Version(record.version), &kept, Some(until)).await?;
        let Some(version) = claimed else { return Ok(()) };
        let outcome = self.copy_files(&record.key).await?;
        kept.tries = kept.tries.saturating_add(1);
        let due = match outcome {
            Ok(()) => {
                (kept.is_done, kept.error) = (true, None);
                None
            }
            Err(error) => {
                tracing::warn!(job = %record.key.id, error = &error as &dyn std::error::Error, "output copy failed; will retry");
                kept.error = Some(error.to_string());
                let next = kept.next(self.now());
                kept.is_given_up = next.is_none();
                next
            }
        };
        // A conflict means that the claim expired and another coordinator copies: it writes the result.
        self.put(&record.key, Expect::Version(version), &kept, due).await.map(|_| ())
    }

    async fn copy_files(&self, key: &RecordKey) -> Result<Result<(), OutputError>, StoreError> {
        let Ok(id) = key.id.parse::<JobId>() else { return Ok(Ok(())) };
        let Some(job) = self.jobs.job(id).await? else { return Ok(Ok(())) };
        let Some(location) = job.request.output.clone() else { return Ok(Ok(())) };
        let published = match self.presentations.of(&job).await {
            Ok(published) => published,
            Err(PresentationError::NotPublished { .. }) => return Ok(Ok(())),
            Err(PresentationError::Store(error)) => return Err(error),
            Err(error) => return Ok(Err(OutputError { location, source: Box::new(error) })),
        };
        let files: Vec<PresentationFile> = published.catalogue.files().collect();
        Ok(self.places.copy(&job, &files, &location).await)
    }

    async fn put(
        &self,
        key: &RecordKey,
        expect: Expect,
        document: &OutputDocument,
        due_ms: Option<i64>,
    ) -> Result<Option<i64>, StoreError> {
        Ok(put_document(self.records.as_ref(), key, expect, document, due_ms, self.now()).await?.ok())
    }

    fn now(&self) -> i64 {
        self.world.clock.now_ms()
    }
}

#[async_trait]
impl EventSink for Outputs {
    async fn take(&self, events: &[Event]) -> Result<(), StoreError> {
        for event in events.iter().filter(|event| matches!(event.what, EventKind::Published)) {
            let Some(job) = self.jobs.job(event.job).await?.filter(|job| job.request.output.is_some()) else {
                continue;
            };
            let now = self.now();
            let fresh = OutputDocument { since_ms: now, tries: 0, is_done: false, is_given_up: false, error: None };
            // There already: the same event again.
            self.put(&key(&job.request.tenant, job.id), Expect::Absent, &fresh, Some(now)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::memory::{MemoryBlobs, MemoryRecords, MemoryStore};
    use uuid::Uuid;

    /// Takes anything.
    struct Anywhere;

    #[async_trait]
    impl OutputStore for Anywhere {
        async fn copy(&self, _: &Job, _: &[PresentationFile], _: &str) -> Result<(), OutputError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_holds_up_no_other() {
        let records = Arc::new(MemoryRecords::new());
        let store: Arc<dyn JobStore> = Arc::new(MemoryStore::new());
        let blobs = Arc::new(MemoryBlobs::new());
        let outputs = Outputs::new(
            Arc::clone(&store),
            Arc::clone(&records) as Arc<_>,
            Presentations::new(store, blobs, World::machine()),
            Arc::new(Anywhere),
            World::machine(),
        );
        let [bad, good] = [1, 2].map(|n| key("t", JobId(Uuid::from_u128(n))));
        let fresh = OutputDocument { since_ms: 0, tries: 0, is_done: false, is_given_up: false, error: None };
        let docs =
            [(&bad, serde_json::json!({"since_ms": "long ago"})), (&good, serde_json::to_value(&fresh).unwrap())];
        for (key, doc) in docs {
            records.put(key, Expect::Absent, doc, Some(0), 0).await.unwrap().unwrap();
        }
        assert_eq!(outputs.copy_due().await.unwrap(), 2);
        let kept = records.get(&good).await.unwrap().unwrap().doc;
        assert!(serde_json::from_value::<OutputDocument>(kept).unwrap().is_done);
        assert_eq!(outputs.copy_due().await.unwrap(), 0);
    }

    #[test]
    fn a_copy_that_fails_is_tried_for_three_days_and_not_too_often() {
        let mut kept = OutputDocument { since_ms: 0, tries: 1, is_done: false, is_given_up: false, error: None };
        assert_eq!(kept.next(100), Some(4_100));
        kept.tries = 60;
        assert_eq!(kept.next(100), Some(600_100));
        assert_eq!(kept.next(GIVE_UP_MS), None);
    }
}
