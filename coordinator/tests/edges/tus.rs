//! Uploads by the tus protocol into a local directory.

use crate::fixture::{Deployment, TestClock, call, call_json, caller};
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures::StreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::Value;
use sha2::{Digest, Sha256};
use splitreel_backend::fault::{FaultPlan, FaultyRecords, Verdict};
use splitreel_backend::uploads::{UploadRef, UploadStorage};
use splitreel_backend_embedded::LocalUploads;
use splitreel_coordinator::api::uploads_router;
use splitreel_coordinator::uploads::{NewUpload, UploadError, Uploads, UploadsConfig};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

struct Site {
    here: Deployment,
    folder: TempDir,
    uploads: Uploads,
    router: Router,
}

fn site_with(config: UploadsConfig) -> Site {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(LocalUploads::new(folder.path()).unwrap());
    let uploads = Uploads::new(storage, here.records.clone(), here.accept.clone(), here.world.clone(), config);
    let (router, _) = uploads_router(uploads.clone()).split_for_parts();
    Site { here, folder, uploads, router }
}

fn site() -> Site {
    site_with(UploadsConfig { max_bytes: 10_000_000, ..UploadsConfig::default() })
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header("tus-resumable", "1.0.0");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).unwrap()
}

const PIECE: (&str, &str) = ("content-type", "application/offset+octet-stream");

impl Site {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        call(&self.router, Some(&caller("studio", &["uploads.write"])), request).await
    }

    async fn create(&self, bytes: u64, metadata: &str) -> String {
        let length = bytes.to_string();
        let headers = [("upload-length", length.as_str()), ("upload-metadata", metadata)];
        let response = self.send(request("POST", "/v1/uploads", &headers, Body::empty())).await;
        assert_eq!(response.status().as_u16(), 201);
        response.headers()["location"].to_str().unwrap().to_owned()
    }

    async fn patch(&self, path: &str, offset: u64, body: impl Into<Body>) -> Response<Body> {
        let offset = offset.to_string();
        self.send(request("PATCH", path, &[PIECE, ("upload-offset", &offset)], body)).await
    }

    async fn offset(&self, path: &str) -> u64 {
        let response = self.send(request("HEAD", path, &[], Body::empty())).await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["cache-control"], "no-store");
        header(&response, "upload-offset").parse().unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise
}

/// A body that breaks off after some bytes.
fn broken(bytes: &[u8]) -> Body {
    let chunks: Vec<io::Result<Bytes>> = bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let end = futures::stream::once(async { Err(io::Error::other("connection lost")) });
    Body::from_stream(futures::stream::iter(chunks).chain(end))
}

#[tokio::test]
async fn twenty_cuts_and_resumes_make_the_identical_file_and_one_job() {
    let site = site();
    let film = noise(300_000, 1);
    // filename "a film.mp4", profile "universal"
    let path = site.create(film.len() as u64, "filename YSBmaWxtLm1wNA==,profile dW5pdmVyc2Fs").await;
    let mut random = SmallRng::seed_from_u64(2);
    for _ in 0..20 {
        let offset = site.offset(&path).await;
        let end = (offset as usize + random.random_range(0..20_000)).min(film.len());
        site.patch(&path, offset, broken(&film[offset as usize..end])).await;
        assert_eq!(site.offset(&path).await, end as u64);
    }
    let offset = site.offset(&path).await;
    let response = site.patch(&path, offset, film[offset as usize..].to_vec()).await;
    assert_eq!((response.status().as_u16(), header(&response, "upload-offset")), (204, "300000"));
    let files = site.files();
    assert_eq!(files.len(), 1);
    assert_eq!(Sha256::digest(std::fs::read(&files[0]).unwrap()), Sha256::digest(&film));
    let studio = caller("studio", &["uploads.write"]);
    let (_, answer) = call_json(&site.router, Some(&studio), "GET", &path, None).await;
    let jobs = site.here.jobs().await;
    assert_eq!((jobs.len(), answer["job"].as_str().unwrap()), (1, jobs[0].id.to_string().as_str()));
    assert_eq!((answer["state"].as_str().unwrap(), jobs[0].request.base.as_str()), ("done", "a_film"));
    assert_eq!(jobs[0].request.source.locator, files[0].to_str().unwrap());
    // Repeating the last piece of nothing changes nothing.
    assert_eq!(site.patch(&path, film.len() as u64, Body::empty()).await.status().as_u16(), 204);
    assert_eq!(site.here.jobs().await.len(), 1);
}

#[tokio::test]
async fn the_protocol_is_spoken_as_written() {
    let site = site();
    let response = call(&site.router, None, request("OPTIONS", "/v1/uploads", &[], Body::empty())).await;
    assert_eq!(response.status().as_u16(), 204);
    assert_eq!(header(&response, "tus-version"), "1.0.0");
    assert_eq!(header(&response, "tus-max-size"), "10000000");
    assert!(header(&response, "tus-extension").contains("creation-with-upload"));
    assert_eq!(header(&response, "tus-checksum-algorithm"), "sha1,sha256");

    for (headers, status) in [
        (vec![], 400),
        (vec![("upload-length", "-1")], 400),
        (vec![("upload-length", "x")], 400),
        (vec![("upload-length", "10000001")], 413),
        (vec![("upload-length", "10"), ("upload-metadata", "a !!")], 400),
        (vec![("upload-length", "10"), ("upload-metadata", "profile bm9uZQ==")], 422),
        (vec![("upload-length", "10"), ("upload-metadata", "profile dW5pdmVyc2Fs,priority eA==")], 422),
    ] {
        let response = site.send(request("POST", "/v1/uploads", &headers, Body::empty())).await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
        assert_eq!(header(&response, "tus-resumable"), "1.0.0");
    }
    let mut wrong = request("POST", "/v1/uploads", &[("upload-length", "10")], Body::empty());
    wrong.headers_mut().insert("tus-resumable", "0.2.2".parse().unwrap());
    let response = site.send(wrong).await;
    assert_eq!((response.status().as_u16(), header(&response, "tus-version")), (412, "1.0.0"));
    assert!(site.files().is_empty());

    let path = site.create(10, "filename YQ==").await;
    let response = site.send(request("HEAD", &path, &[], Body::empty())).await;
    assert_eq!((header(&response, "upload-length"), header(&response, "upload-metadata")), ("10", "filename YQ=="));
    assert!(header(&response, "upload-expires").ends_with(" GMT"));
    assert_eq!(site.patch(&path, 3, "abc").await.status().as_u16(), 409);
    assert_eq!(site.patch(&path, 0, "0123456789a").await.status().as_u16(), 413);
    let chunked = Body::from_stream(futures::stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"0123456789a"))]));
    assert_eq!(site.patch(&path, 0, chunked).await.status().as_u16(), 413);
    assert_eq!(site.offset(&path).await, 0);
    let untyped = request("PATCH", &path, &[("upload-offset", "0")], "abc");
    assert_eq!(site.send(untyped).await.status().as_u16(), 415);
    assert_eq!(site.send(request("PATCH", &path, &[PIECE], "abc")).await.status().as_u16(), 400);
    assert_eq!(site.patch(&path, 0, "abc").await.status().as_u16(), 204);
    assert_eq!(site.patch(&path, 0, "abc").await.status().as_u16(), 409);
    let overridden =
        request("POST", &path, &[PIECE, ("upload-offset", "3"), ("x-http-method-override", "PATCH")], "de");
    assert_eq!(site.send(overridden).await.status().as_u16(), 204);
    assert_eq!(site.offset(&path).await, 5);
    assert_eq!(site.send(request("POST", &path, &[], "")).await.status().as_u16(), 405);
    assert_eq!(site.send(request("DELETE", &path, &[], Body::empty())).await.status().as_u16(), 204);
    assert_eq!(site.send(request("HEAD", &path, &[], Body::empty())).await.status().as_u16(), 404);
    assert!(site.files().is_empty());
    assert_eq!(site.send(request("HEAD", "/v1/uploads/not-an-id", &[], Body::empty())).await.status().as_u16(), 400);
}

#[tokio::test]
async fn a_first_piece_may_come_with_the_creation() {
    let site = site();
    let response = site.send(request("POST", "/v1/uploads", &[PIECE, ("upload-length", "6")], "abc")).await;
    assert_eq!((response.status().as_u16(), header(&response, "upload-offset")), (201, "3"));
    let path = header(&response, "location").to_owned();
    assert_eq!(site.patch(&path, 3, "def").await.status().as_u16(), 204);
    let too_long = request("POST", "/v1/uploads", &[PIECE, ("upload-length", "2")], "abc");
    assert_eq!(site.send(too_long).await.status().as_u16(), 413);
    let empty = site.send(request("POST", "/v1/uploads", &[("upload-length", "0")], Body::empty())).await;
    assert_eq!(empty.status().as_u16(), 201);
    assert_eq!(site.offset(header(&empty, "location")).await, 0);
    let mut sizes: Vec<_> = site.files().iter().map(|f| std::fs::metadata(f).unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 6], "the refused one is gone");
}

#[tokio::test]
async fn a_piece_that_does_not_match_its_checksum_is_not_kept() {
    let site = site();
    let path = site.create(11, "").await;
    let good = ("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    let wrong = site.send(request("PATCH", &path, &[PIECE, ("upload-offset", "0"), good], "hello")).await;
    assert_eq!(wrong.status().as_u16(), 460);
    assert_eq!(site.offset(&path).await, 0);
    let half = site.send(request("PATCH", &path, &[PIECE, ("upload-offset", "0"), good], broken(b"hello "))).await;
    assert_eq!((half.status().as_u16(), site.offset(&path).await), (204, 0));
    let unknown = ("upload-checksum", "md5 AAAA");
    let refused = site.send(request("PATCH", &path, &[PIECE, ("upload-offset", "0"), unknown], "hello")).await;
    assert_eq!(refused.status().as_u16(), 400);
    let right = site.send(request("PATCH", &path, &[PIECE, ("upload-offset", "0"), good], "hello world")).await;
    assert_eq!(right.status().as_u16(), 204);
    assert_eq!(std::fs::read(&site.files()[0]).unwrap(), b"hello world");
}

#[tokio::test]
async fn of_two_writers_one_is_told_to_wait() {
    let site = Arc::new(site());
    let path = site.create(6, "").await;
    let (send, receive) = futures::channel::mpsc::unbounded::<io::Result<Bytes>>();
    let first = {
        let (site, path) = (site.clone(), path.clone());
        tokio::spawn(async move { site.patch(&path, 0, Body::from_stream(receive)).await.status().as_u16() })
    };
    send.unbounded_send(Ok(Bytes::from_static(b"abc"))).unwrap();
    let mut status = 0;
    // Until the first has taken its lock the second is simply the first.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        let records = splitreel_backend::Records::list(
            site.here.records.as_ref(),
            splitreel_backend::records::RecordFilter { kind: "upload".into(), limit: 1, ..Default::default() },
        );
        if !records.await.unwrap()[0].doc["lock"].is_null() {
            status = site.patch(&path, 0, "xyz").await.status().as_u16();
            break;
        }
    }
    assert_eq!(status, 423);
    assert_eq!(site.send(request("DELETE", &path, &[], Body::empty())).await.status().as_u16(), 423);
    send.unbounded_send(Ok(Bytes::from_static(b"def"))).unwrap();
    drop(send);
    assert_eq!(first.await.unwrap(), 204);
    assert_eq!(std::fs::read(&site.files()[0]).unwrap(), b"abcdef");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up_and_what_it_sent_is_kept() {
    let site = site();
    let path = site.create(6, "").await;
    let (send, receive) = futures::channel::mpsc::unbounded::<io::Result<Bytes>>();
    send.unbounded_send(Ok(Bytes::from_static(b"abc"))).unwrap();
    let response = site.patch(&path, 0, Body::from_stream(receive)).await;
    assert_eq!((response.status().as_u16(), header(&response, "upload-offset")), (204, "3"));
    drop(send);
}

#[tokio::test]
async fn after_a_crash_the_real_size_counts() {
    let site = site();
    let path = site.create(6, "").await;
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(site.patch(&path, 0, "a").await.status().as_u16(), 204);
    // A writer took the lock, stored two bytes, and died before it could note them.
    let key = splitreel_coordinator::uploads::StoredUpload::key("studio", id);
    let records = site.here.records.clone();
    let mut record = splitreel_backend::Records::get(records.as_ref(), &key).await.unwrap().unwrap();
    let now = splitreel_backend::Clock::now_ms(site.here.clock.as_ref());
    record.doc["lock"] = serde_json::json!({ "holder": uuid::Uuid::nil(), "until_ms": now + 30_000 });
    let any = splitreel_backend::records::Expect::Any;
    splitreel_backend::Records::put(records.as_ref(), &key, any, record.doc, Some(now), now).await.unwrap().unwrap();
    let storage = LocalUploads::new(site.folder.path()).unwrap();
    let reference = UploadRef { id, handle: String::new(), bytes: 6 };
    let piece = futures::stream::iter([Ok(Bytes::from_static(b"bc"))]).boxed();
    assert_eq!(storage.append(&reference, 1, piece, None).await.unwrap().offset, 3);
    assert_eq!(site.patch(&path, 1, "xx").await.status().as_u16(), 423);
    site.here.clock.advance(30_000);
    assert_eq!(site.offset(&path).await, 3);
    assert_eq!(site.patch(&path, 1, "xx").await.status().as_u16(), 409);
    assert_eq!(site.patch(&path, 3, "def").await.status().as_u16(), 204);
    assert_eq!(std::fs::read(&site.files()[0]).unwrap(), b"abcdef");
}

#[tokio::test]
async fn what_nobody_goes_on_with_expires_and_what_is_complete_is_kept_for_its_job() {
    let site = site();
    let forgotten = site.create(6, "").await;
    let film = site.create(3, "profile dW5pdmVyc2Fs").await;
    assert_eq!(site.patch(&forgotten, 0, "ab").await.status().as_u16(), 204);
    assert_eq!(site.patch(&film, 0, "abc").await.status().as_u16(), 204);
    site.here.clock.advance(24 * 3_600_000);
    for _ in 0..2 {
        let answered = site.send(request("HEAD", &forgotten, &[], Body::empty())).await;
        assert_eq!(answered.status().as_u16(), 410);
        assert_eq!(site.patch(&forgotten, 2, "cd").await.status().as_u16(), 410);
        site.uploads.sweep().await.unwrap();
    }
    assert_eq!(site.files().len(), 1);
    site.here.clock.advance(7 * 24 * 3_600_000);
    site.uploads.sweep().await.unwrap();
    assert_eq!(site.send(request("HEAD", &forgotten, &[], Body::empty())).await.status().as_u16(), 404);
    assert_eq!(site.files().len(), 1, "its job is still open");
    site.here.coordinator.cancel(site.here.jobs().await[0].id).await.unwrap();
    site.here.clock.advance(24 * 3_600_000);
    site.uploads.sweep().await.unwrap();
    assert!(site.files().is_empty());
    assert_eq!(site.send(request("HEAD", &film, &[], Body::empty())).await.status().as_u16(), 404);
}

#[tokio::test]
async fn an_upload_whose_bytes_are_gone_expires() {
    let site = site();
    let path = site.create(6, "").await;
    assert!(!site.files().is_empty());
    site.files().iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert_eq!(site.patch(&path, 0, "ab").await.status().as_u16(), 404);
    for _ in 0..4 {
        site.here.clock.advance(4 * 24 * 3_600_000);
        site.uploads.sweep().await.unwrap();
    }
    assert_eq!(site.send(request("HEAD", &path, &[], Body::empty())).await.status().as_u16(), 404);
}

#[tokio::test]
async fn the_job_of_an_upload_waits_for_room_in_the_quota() {
    let site = site();
    site.here.save_quota("studio", Some(1)).await;
    let mut paths = Vec::new();
    for _ in 0..2 {
        let path = site.create(3, "profile dW5pdmVyc2Fs").await;
        assert_eq!(site.patch(&path, 0, "abc").await.status().as_u16(), 204);
        paths.push(path);
    }
    let caller = caller("studio", &["uploads.write"]);
    let told = async || call_json(&site.router, Some(&caller), "GET", &paths[1], None).await.1;
    assert_eq!(site.here.jobs().await.len(), 1);
    let waiting = told().await;
    assert_eq!(
        (&waiting["state"], &waiting["job"], &waiting["job_error"]),
        (&"done".into(), &Value::Null, &Value::Null)
    );
    // Longer than a complete upload is kept.
    for _ in 0..3 {
        site.here.clock.advance(5 * 24 * 3_600_000);
        site.uploads.sweep().await.unwrap();
        assert_eq!((site.here.jobs().await.len(), site.files().len()), (1, 2));
    }
    site.here.cancel_all().await;
    site.here.clock.advance(31_000);
    site.uploads.sweep().await.unwrap();
    let jobs = site.here.jobs().await;
    assert_eq!((jobs.len(), told().await["job"].as_str()), (2, Some(jobs[0].id.to_string().as_str())));
}

#[tokio::test]
async fn a_failure_at_the_very_end_is_made_good_by_the_sweep() {
    let site = site();
    let path = site.create(3, "profile dW5pdmVyc2Fs").await;
    site.here.grants.is_down.store(true, std::sync::atomic::Ordering::SeqCst);
    let response = site.patch(&path, 0, "abc").await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, "5"));
    assert_eq!(site.offset(&path).await, 3);
    site.here.clock.advance(31_000);
    site.uploads.sweep().await.unwrap();
    assert!(site.here.jobs().await.is_empty());
    site.here.grants.is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    site.here.clock.advance(31_000);
    site.uploads.sweep().await.unwrap();
    assert_eq!(site.here.jobs().await.len(), 1);
    assert_eq!(site.patch(&path, 3, Body::empty()).await.status().as_u16(), 204);
    assert_eq!(site.here.jobs().await.len(), 1);
}

#[tokio::test]
async fn tenants_see_their_own_uploads_only_and_not_too_many() {
    let site = site_with(UploadsConfig { max_kept: 2, ..UploadsConfig::default() });
    let path = site.create(6, "").await;
    let (stranger, unscoped) = (caller("other", &["uploads.write"]), caller("studio", &["jobs.write"]));
    for method in ["HEAD", "PATCH", "DELETE", "GET"] {
        let sent = || request(method, &path, &[PIECE, ("upload-offset", "0")], "abc");
        assert_eq!(call(&site.router, Some(&stranger), sent()).await.status().as_u16(), 404, "{method}");
        assert_eq!(call(&site.router, Some(&unscoped), sent()).await.status().as_u16(), 403, "{method}");
        assert_eq!(call(&site.router, None, sent()).await.status().as_u16(), 401, "{method}");
    }
    site.create(6, "").await;
    let third = site.send(request("POST", "/v1/uploads", &[("upload-length", "6")], Body::empty())).await;
    assert_eq!(third.status().as_u16(), 429);
    let direct = serde_json::json!({ "bytes": 5 });
    let (status, _) = call_json(&site.router, Some(&stranger), "POST", "/v1/uploads:direct", Some(direct)).await;
    assert_eq!(status.as_u16(), 501, "a local directory takes none");
}

/// Writes of records fail from the given one on, while ten seconds go by.
struct DeafFrom {
    first: usize,
    num_puts: AtomicUsize,
    clock: Arc<TestClock>,
}

#[async_trait]
impl FaultPlan for DeafFrom {
    async fn before(&self, op: &'static str) -> Verdict {
        if op != "records.put" || self.num_puts.fetch_add(1, Ordering::SeqCst) < self.first {
            return Verdict::Proceed;
        }
        self.clock.advance(10_000);
        Verdict::Fail
    }
    async fn after(&self, _: &'static str) -> Verdict {
        Verdict::Proceed
    }
}

fn deaf_from(first: usize) -> (Site, Arc<DeafFrom>) {
    let site = site();
    let plan = Arc::new(DeafFrom { first, num_puts: AtomicUsize::new(0), clock: site.here.clock.clone() });
    let records = Arc::new(FaultyRecords::new(site.here.records.clone(), plan.clone()));
    let storage = Arc::new(LocalUploads::new(site.folder.path()).unwrap());
    let (accept, world) = (site.here.accept.clone(), site.here.world.clone());
    let uploads = Uploads::new(storage, records, accept, world, UploadsConfig::default());
    (Site { uploads, ..site }, plan)
}

fn three_bytes() -> NewUpload {
    NewUpload { bytes: 3, name: "a".into(), metadata: String::new(), wish: None, is_direct: false }
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_lock_ran_out_stops() {
    // What makes the upload and locks it is written, nothing after that.
    let (site, plan) = deaf_from(2);
    let upload = site.uploads.create("studio", three_bytes()).await.unwrap();
    let silence = futures::stream::pending().boxed();
    let written = site.uploads.append("studio", upload.id, 0, None, silence, None);
    let written = tokio::time::timeout(std::time::Duration::from_secs(600), written).await.expect("it writes on");
    assert!(matches!(written, Err(UploadError::Locked)), "{written:?}");
    assert_eq!(plan.num_puts.load(Ordering::SeqCst), 5, "two, and three renewals in thirty seconds");
}

#[tokio::test]
async fn an_upload_that_nobody_hears_of_leaves_nothing() {
    let (site, _) = deaf_from(0);
    assert!(matches!(site.uploads.create("studio", three_bytes()).await, Err(UploadError::Store(_))));
    assert!(site.files().is_empty());
}
