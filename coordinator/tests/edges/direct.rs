//! Uploads whose parts the client puts into storage itself.

use crate::fixture::{Deployment, TestGrants, call_json, caller};
use async_trait::async_trait;
use serde_json::json;
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::uploads::{
    Appended, ByteStream, Checksum, DirectUpload, PutPart, UploadRef, UploadStorage, UploadStorageError,
};
use splitreel_coordinator::api::uploads_router;
use splitreel_coordinator::uploads::{Uploads, UploadsConfig};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A storage that signs, and takes as complete what carries the right tags.
struct Signing {
    grants: Arc<TestGrants>,
    aborted: Mutex<Vec<Uuid>>,
}

#[async_trait]
impl UploadStorage for Signing {
    async fn begin(&self, _: Uuid, _: u64) -> Result<String, UploadStorageError> {
        Err(UploadStorageError::Unsupported)
    }
    async fn stored(&self, _: &UploadRef) -> Result<u64, UploadStorageError> {
        Ok(0)
    }
    async fn append(
        &self,
        _: &UploadRef,
        _: u64,
        _: ByteStream,
        _: Option<Checksum>,
    ) -> Result<Appended, UploadStorageError> {
        Err(UploadStorageError::Unsupported)
    }
    async fn finish(&self, _: &UploadRef) -> Result<String, UploadStorageError> {
        Err(UploadStorageError::Unsupported)
    }
    async fn abort(&self, upload: &UploadRef) -> Result<(), UploadStorageError> {
        self.aborted.lock().unwrap().push(upload.id);
        Ok(())
    }
    async fn begin_direct(&self, id: Uuid, _: u64) -> Result<DirectUpload, UploadStorageError> {
        Ok(DirectUpload { handle: format!("mpu-{id}"), part_bytes: 100 })
    }
    async fn sign_parts(
        &self,
        upload: &UploadRef,
        first: u32,
        count: u32,
        ttl_ms: i64,
    ) -> Result<Vec<SignedRequest>, UploadStorageError> {
        let sign = |number| SignedRequest {
            method: "PUT".into(),
            url: format!("https://storage.test/{}?part={number}", upload.handle),
            headers: vec![("x-signed".into(), "1".into())],
            expires_ms: ttl_ms,
        };
        Ok((first..first + count).map(sign).collect())
    }
    async fn complete(&self, upload: &UploadRef, parts: &[PutPart]) -> Result<String, UploadStorageError> {
        if parts.iter().any(|part| part.etag != format!("\"{}\"", part.number)) {
            return Err(UploadStorageError::Parts);
        }
        let locator = format!("s3://uploads/{}", upload.id);
        let bytes = (parts.len() as u64 * 100).min(upload.bytes);
        self.grants.set(&locator, bytes, "v");
        Ok(locator)
    }
}

#[tokio::test]
async fn parts_are_signed_completed_and_start_one_job() {
    let here = Deployment::new();
    let storage = Arc::new(Signing { grants: here.grants.clone(), aborted: Mutex::default() });
    let config = UploadsConfig::default();
    let uploads = Uploads::new(storage.clone(), here.records.clone(), here.accept.clone(), here.world.clone(), config);
    let (router, openapi) = uploads_router(uploads.clone()).split_for_parts();
    assert_eq!(openapi.paths.paths.len(), 5);
    let studio = caller("studio", &["uploads.write"]);
    let body = json!({ "bytes": 25_050, "filename": "film.mp4", "profile": "universal" });
    let (status, begun) = call_json(&router, Some(&studio), "POST", "/v1/uploads:direct", Some(body)).await;
    assert_eq!((status.as_u16(), &begun["part_bytes"], &begun["num_parts"]), (201, &json!(100), &json!(251)));
    assert_eq!(begun["parts"].as_array().unwrap().len(), 200);
    assert_eq!(begun["parts"][0]["headers"], json!([["x-signed", "1"]]));
    let path = format!("/v1/uploads/{}", begun["id"].as_str().unwrap());
    let more = format!("{path}/parts?first=201");
    let (_, rest) = call_json(&router, Some(&studio), "GET", &more, None).await;
    let numbers: Vec<_> = rest["parts"].as_array().unwrap().iter().map(|p| p["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (201..=251).collect::<Vec<_>>());

    let parts = |count: u32, etag: &dyn Fn(u32) -> String| {
        let parts: Vec<_> = (1..=count).map(|n| json!({ "number": n, "etag": etag(n) })).collect();
        Some(json!({ "parts": parts }))
    };
    let good = |n: u32| format!("\"{n}\"");
    let complete = format!("{path}/complete");
    for bad in [parts(0, &good), parts(250, &good), parts(251, &|_| "\"x\"".into())] {
        assert_eq!(call_json(&router, Some(&studio), "POST", &complete, bad).await.0.as_u16(), 422);
    }
    let swapped = Some(json!({ "parts": [{ "number": 2, "etag": "\"2\"" }, { "number": 1, "etag": "\"1\"" }] }));
    assert_eq!(call_json(&router, Some(&studio), "POST", &complete, swapped).await.0.as_u16(), 422);
    let other = caller("other", &["uploads.write"]);
    assert_eq!(call_json(&router, Some(&other), "POST", &complete, parts(251, &good)).await.0.as_u16(), 404);
    assert!(here.jobs().await.is_empty());
    for _ in 0..3 {
        let (status, done) = call_json(&router, Some(&studio), "POST", &complete, parts(251, &good)).await;
        assert_eq!((status.as_u16(), &done["state"], &done["offset"]), (200, &json!("done"), &json!(25_050)));
        let jobs = here.jobs().await;
        assert_eq!((jobs.len(), &done["job"]), (1, &json!(jobs[0].id.to_string())));
    }
    let (status, _) = call_json(&router, Some(&studio), "GET", &path, None).await;
    assert_eq!(status.as_u16(), 200);
    // Without parts nothing lasts.
    let body = json!({ "bytes": 10 });
    call_json(&router, Some(&studio), "POST", "/v1/uploads:direct", Some(body)).await;
    here.clock.advance(24 * 3_600_000);
    uploads.sweep().await.unwrap();
    assert_eq!(storage.aborted.lock().unwrap().len(), 1);
}
