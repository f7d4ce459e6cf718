//! Copies presentations to buckets on S3. Fits the adapter to the coordinator's seam; when to copy, and again, is decided
//! there.

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use splitreel_assembler::export::catalogue;
use splitreel_backend_cluster::s3::{S3Blobs, S3Locator, S3Sources};
use splitreel_coordinator::api::content_type;
use splitreel_coordinator::outputs::{OutputError, OutputStore, folder, in_order};
use splitreel_coordinator::triggers::Place;
use splitreel_core::job::Job;
use splitreel_core::part::Presentation;

/// Files copied at the same time.
const PARALLEL: usize = 16;

/// Outputs in buckets: the server copies, no byte passes through here where it can.
pub struct S3Outputs {
    /// The work bucket.
    pub blobs: S3Blobs,
    /// Any bucket.
    pub sources: S3Sources,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl S3Outputs {
    async fn copy(&self, job: &Job, presentation: &Presentation, location: &str) -> Result<(), Cause> {
        let place = Place::parse(location)?;
        let below = format!("{}{}", place.prefix, folder(job));
        let files = catalogue(&self.blobs, presentation).await?;
        for wave in in_order(files.files().collect()) {
            futures::stream::iter(wave)
                .map(Ok::<_, Cause>)
                .try_for_each_concurrent(PARALLEL, |file| {
                    let key = format!("{below}{}", file.path);
                    let bucket = place.bucket.clone();
                    async move {
                        let from = self.blobs.object(&file.object.key)?;
                        let to = S3Locator { bucket, key };
                        // What an earlier try copied is whole: a key appears with all of its bytes.
                        let is_there = self.sources.head(&to).await.is_ok_and(|found| found.bytes == file.object.bytes);
                        if !is_there {
                            self.sources.copy(&from, &to, Some(content_type(&file.path))).await?;
                        }
                        Ok(())
                    }
                })
                .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl OutputStore for S3Outputs {
    async fn lay_out(&self, job: &Job, presentation: &Presentation, location: &str) -> Result<(), OutputError> {
        let copied = self.copy(job, presentation, location).await;
        copied.map_err(|source| OutputError { location: location.to_owned(), source })
    }
}
