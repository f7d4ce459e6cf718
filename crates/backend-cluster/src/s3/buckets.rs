//! The bucket seam on S3: listings of source buckets.

use super::sources::S3Sources;
use async_trait::async_trait;
use splitreel_backend::buckets::{Buckets, ListError, Listed};

#[async_trait]
impl Buckets for S3Sources {
    async fn list(&self, bucket: &str, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, ListError> {
        let after = Some(after).filter(|a| !a.is_empty());
        let found = self.list_objects(bucket, prefix, after, limit).await;
        let found = found.map_err(|e| ListError { bucket: bucket.to_owned(), source: Box::new(e) })?;
        let listed = found.into_iter().map(|o| Listed {
            key: o.key,
            bytes: o.bytes,
            etag: o.etag.unwrap_or_default(),
            modified_ms: o.modified_ms.unwrap_or(0),
        });
        Ok(listed.collect())
    }
}
