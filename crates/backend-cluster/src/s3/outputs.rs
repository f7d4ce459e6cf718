//! The output seam on S3: presentations are copied into buckets.

use super::blobs::S3Blobs;
use super::locator::S3Locator;
use super::sources::S3Sources;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use splitreel_backend::outputs::{OutputError, OutputStore, content_type, folder, in_order};
use splitreel_core::job::Job;
use splitreel_core::part::PresentationFile;

/// Files copied at the same time.
const PARALLEL: usize = 16;

/// Outputs in buckets, copied by the server where it can.
pub struct S3Outputs {
    /// The work bucket.
    pub blobs: S3Blobs,
    /// Any bucket.
    pub sources: S3Sources,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Bucket and prefix of `s3://BUCKET/` or `s3://BUCKET/PREFIX/`.
fn place(location: &str) -> Option<(&str, &str)> {
    let (bucket, prefix) = location.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && (prefix.is_empty() || prefix.ends_with('/'))).then_some((bucket, prefix))
}

impl S3Outputs {
    async fn copy_files(&self, job: &Job, files: &[PresentationFile], location: &str) -> Result<(), Cause> {
        let (bucket, prefix) = place(location).ok_or("the location is not s3://BUCKET/PREFIX/")?;
        let below = format!("{prefix}{}", folder(job));
        for wave in in_order(files) {
            futures::stream::iter(wave)
                .map(Ok::<_, Cause>)
                .try_for_each_concurrent(PARALLEL, |file| {
                    let key = format!("{below}{}", file.path);
                    let bucket = bucket.to_owned();
                    async move {
                        let from = self.blobs.object(&file.object.key)?;
                        let to = S3Locator { bucket, key };
                        // A key appears with all of its bytes, so an object of the right size is a finished copy.
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
    async fn copy(&self, job: &Job, files: &[PresentationFile], location: &str) -> Result<(), OutputError> {
        let copied = self.copy_files(job, files, location).await;
        copied.map_err(|source| OutputError { location: location.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_bucket_and_a_folder() {
        assert_eq!(place("s3://out/"), Some(("out", "")));
        assert_eq!(place("s3://out/a/b/"), Some(("out", "a/b/")));
        for bad in ["s3://out", "s3://out/a", "s3:///a/", "/srv/out/", ""] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
