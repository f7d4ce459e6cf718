//! Uploads, grants, bucket listings and outputs on a real S3 server against the conformance suites.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests: what fails panics"
)]

use crate::s3::Place;
use crate::s3_sources::send;
use async_trait::async_trait;
use bytes::Bytes;
use splitreel_backend::buckets::Buckets;
use splitreel_backend::conformance::{
    BucketHarness, GrantCapabilities, GrantHarness, OutputHarness, UploadCapabilities, UploadHarness,
};
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::outputs::{OutputStore, folder};
use splitreel_backend::uploads::UploadStorage;
use splitreel_backend::{BlobAdmin, BlobReader, BlobStore, Grants, PartWriter};
use splitreel_backend_cluster::s3::{S3Blobs, S3Grants, S3Locator, S3Outputs, S3Sources, S3Uploads, SourceScope};
use splitreel_core::job::Job;
use std::sync::Arc;

impl Place {
    /// All of a bucket as objects.
    async fn objects(&self, bucket: &str) -> S3Blobs {
        let mut options = self.options();
        options.bucket = bucket.to_owned();
        options.key_prefix = String::new();
        S3Blobs::new(self.connect(options).await)
    }

    /// Bytes of an object; `None` when it does not exist.
    async fn content_at(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let blobs = self.objects(bucket).await;
        let size = blobs.size(key).await.ok()?;
        Some(blobs.read(key, 0, usize::try_from(size).unwrap()).await.unwrap())
    }
}

#[async_trait]
impl UploadHarness for Place {
    async fn open(&self) -> Arc<dyn UploadStorage> {
        let mut options = self.options();
        options.part_bytes = 5 << 20;
        let connection = self.connect(options).await;
        Arc::new(S3Uploads::new(connection.clone(), connection))
    }
    fn capabilities(&self) -> UploadCapabilities {
        UploadCapabilities { takes_direct_uploads: true }
    }
    async fn content(&self, locator: &str) -> Option<Bytes> {
        let object: S3Locator = locator.parse().unwrap();
        self.content_at(&object.bucket, &object.key).await
    }
    async fn put(&self, request: &SignedRequest, part: Bytes) -> String {
        let answer = send(request, &[], &part).await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        answer.header("etag").unwrap().to_owned()
    }
}

#[async_trait]
impl GrantHarness for Place {
    async fn open(&self) -> Arc<dyn Grants> {
        let scope = SourceScope { allowed: Some(vec![("inbox".to_owned(), String::new())]), denied: Vec::new() };
        Arc::new(S3Grants::new(self.connect(self.options()).await, scope))
    }
    fn capabilities(&self) -> GrantCapabilities {
        GrantCapabilities { signs: true }
    }
    async fn write_source(&self, name: &str, content: &[u8]) -> String {
        self.objects("inbox").await.put(name, Bytes::copy_from_slice(content)).await.unwrap();
        format!("s3://inbox/{name}")
    }
    async fn remove_source(&self, name: &str) {
        self.objects("inbox").await.delete(name).await.unwrap();
    }
    async fn elsewhere(&self) -> String {
        self.objects("work").await.put("film.mkv", Bytes::from_static(b"x")).await.unwrap();
        "s3://work/film.mkv".to_owned()
    }
    async fn send(&self, request: &SignedRequest, body: Bytes) -> (u16, Bytes) {
        let answer = send(request, &[], &body).await;
        (answer.status, answer.body.into())
    }
}

#[async_trait]
impl BucketHarness for Place {
    async fn open(&self) -> Arc<dyn Buckets> {
        Arc::new(S3Sources::new(self.connect(self.options()).await))
    }
    fn bucket(&self) -> String {
        "inbox".to_owned()
    }
    async fn put(&self, key: &str, content: &[u8]) {
        self.objects("inbox").await.put(key, Bytes::copy_from_slice(content)).await.unwrap();
    }
}

#[async_trait]
impl OutputHarness for Place {
    async fn open(&self) -> Arc<dyn OutputStore> {
        let connection = self.connect(self.options()).await;
        Arc::new(S3Outputs { blobs: S3Blobs::new(connection.clone()), sources: S3Sources::new(connection) })
    }
    async fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::new(S3Blobs::new(self.connect(self.options()).await))
    }
    fn location(&self) -> String {
        "s3://inbox/out/".to_owned()
    }
    fn unusable_location(&self) -> String {
        "s3://no-such-bucket/out/".to_owned()
    }
    async fn content(&self, job: &Job, path: &str) -> Option<Bytes> {
        self.content_at("inbox", &format!("out/{}{path}", folder(job))).await
    }
}

mod output_conformance {
    use super::*;
    splitreel_backend::output_conformance!(Place::start().await);
}

mod upload_conformance {
    use super::*;
    splitreel_backend::upload_conformance!(Place::start().await);
}

mod grant_conformance {
    use super::*;
    splitreel_backend::grant_conformance!(Place::start().await);
}

mod bucket_conformance {
    use super::*;
    splitreel_backend::bucket_conformance!(Place::start().await);
}
