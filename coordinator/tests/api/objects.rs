//! The blob seam of workers: signed requests against a store on loopback that fails as stores do.

use crate::stage::{ROOT, Served, Stage, fresh};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use splitreel_backend::blob::{BlobError, BlobReader, PartWriter};
use splitreel_backend::lease::Leases;
use splitreel_client::{RemoteLeases, SessionTimes};
use splitreel_core::WorkerId;
use splitreel_core::task::TaskKind;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Number of the next requests that get this answer.
    failing: AtomicUsize,
    failure: Mutex<u16>,
    requests: AtomicUsize,
}

impl Store {
    fn fail(&self, status: u16, times: usize) {
        *self.failure.lock().unwrap() = status;
        self.failing.store(times, Ordering::SeqCst);
    }

    fn failed(&self) -> Option<StatusCode> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let left = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.ok().map(|_| StatusCode::from_u16(*self.failure.lock().unwrap()).unwrap())
    }
}

type Signed = Query<HashMap<String, String>>;

async fn put(
    State(store): State<Arc<Store>>,
    Path(key): Path<String>,
    Query(query): Signed,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    assert_eq!(query["signature"], "good");
    assert_eq!(headers["x-expected-bytes"], body.len().to_string());
    assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
    assert!(!headers.contains_key(header::AUTHORIZATION), "the token goes to the coordinator only");
    if let Some(status) = store.failed() {
        return status;
    }
    store.objects.lock().unwrap().insert(key, body);
    StatusCode::OK
}

async fn get(State(store): State<Arc<Store>>, Path(key): Path<String>, headers: HeaderMap) -> Response {
    if let Some(status) = store.failed() {
        return status.into_response();
    }
    let Some(object) = store.objects.lock().unwrap().get(&key).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(range) = headers.get(header::RANGE) else { return object.into_response() };
    let (first, last) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last) = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap());
    if first >= object.len() {
        let place = format!("bytes */{}", object.len());
        return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, place)]).into_response();
    }
    let end = (last + 1).min(object.len());
    let place = format!("bytes {first}-{}/{}", end - 1, object.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, place)], object.slice(first..end)).into_response()
}

async fn storage(stage: &Stage) -> (Arc<Store>, AbortOnDropHandle<()>) {
    let store = Arc::new(Store::default());
    let router = Router::new().route("/o/{*key}", axum::routing::put(put).get(get)).with_state(store.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *stage.links.base.lock().unwrap() = Some(format!("http://{}/o", listener.local_addr().unwrap()));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (store, AbortOnDropHandle::new(serving))
}

#[tokio::test]
async fn a_worker_stores_below_its_prefix_and_reads_what_is_of_its_job() {
    let stage = Stage::new();
    let (store, _serving) = storage(&stage).await;
    let served = Served::new(&stage.api).await;
    let leases = RemoteLeases::new(served.client(ROOT), SessionTimes::default());
    let blobs = leases.blobs().unwrap();
    let job = stage.job(ROOT).await;
    let order = leases.claim(&stage.wakeup(job, 0, TaskKind::Probe), &WorkerId("w".into()), fresh()).await.unwrap();
    let key = format!("{}part", order.key_prefix);
    blobs.put(&key, Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(store.objects.lock().unwrap()[&key], &b"0123456789"[..]);
    assert_eq!(blobs.read(&key, 2, 3).await.unwrap(), &b"234"[..]);
    assert_eq!(blobs.read(&key, 8, 100).await.unwrap(), &b"89"[..]);
    assert_eq!(blobs.read(&key, 10, 1).await.unwrap(), &b""[..]);
    assert_eq!(blobs.read(&key, 0, 0).await.unwrap(), &b""[..]);
    assert_eq!(blobs.size(&key).await.unwrap(), 10);
    let folder = tempfile::tempdir().unwrap();
    let (file, copy) = (folder.path().join("file"), folder.path().join("copy"));
    std::fs::write(&file, vec![7u8; 300_000]).unwrap();
    let large = format!("{}large", order.key_prefix);
    blobs.put_file(&large, &file).await.unwrap();
    blobs.export(&large, &copy).await.unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&file).unwrap());
    let empty = format!("{}empty", order.key_prefix);
    blobs.put(&empty, Bytes::new()).await.unwrap();
    assert_eq!(blobs.size(&empty).await.unwrap(), 0);
    let missing = format!("{}missing", order.key_prefix);
    assert!(matches!(blobs.read(&missing, 0, 1).await, Err(BlobError::NotFound { .. })));
    assert!(blobs.export(&missing, &folder.path().join("none")).await.is_err());
    assert!(!folder.path().join("none").exists());
    // Nothing else.
    for key in ["jobs/x/0/1-y/part".to_owned(), format!("jobs/{job}/1/1-{}/part", order.lease)] {
        assert!(blobs.put(&key, Bytes::new()).await.is_err(), "{key}");
    }
    assert!(matches!(blobs.put("../x", Bytes::new()).await, Err(BlobError::BadKey { .. })));
    served.stop().await;
}

#[tokio::test]
async fn transfers_are_repeated_where_that_may_help() {
    let stage = Stage::new();
    let (store, _serving) = storage(&stage).await;
    let served = Served::new(&stage.api).await;
    let leases = RemoteLeases::new(served.client(ROOT), SessionTimes::default());
    let blobs = leases.blobs().unwrap();
    let job = stage.job(ROOT).await;
    let order = leases.claim(&stage.wakeup(job, 0, TaskKind::Probe), &WorkerId("w".into()), fresh()).await.unwrap();
    let key = format!("{}part", order.key_prefix);
    for status in [503, 403] {
        store.fail(status, 2);
        blobs.put(&key, Bytes::from_static(b"x")).await.unwrap();
        store.fail(status, 1);
        assert_eq!(blobs.read(&key, 0, 1).await.unwrap(), &b"x"[..]);
    }
    store.fail(507, 1);
    assert!(matches!(blobs.put(&key, Bytes::new()).await, Err(BlobError::NoSpace { .. })));
    // When the job has ended, no more rights are given.
    stage.coordinator.cancel(job).await.unwrap();
    let before = store.requests.load(Ordering::SeqCst);
    assert!(blobs.put(&key, Bytes::new()).await.is_err());
    assert_eq!(store.requests.load(Ordering::SeqCst), before);
    served.stop().await;
}

#[tokio::test]
async fn a_ticket_is_of_one_lease_only() {
    let stage = Stage::new();
    let (_store, _serving) = storage(&stage).await;
    let (one, two) = (stage.job(ROOT).await, stage.job(ROOT).await);
    let claim = async |job| {
        let body = serde_json::json!({"ring": stage.wakeup(job, 0, TaskKind::Probe), "worker": "w", "lease": fresh(), "protocol": splitreel_client::types::PROTOCOL});
        stage.ask("POST", "/v1/work/claim", ROOT, Some(body)).await.json()
    };
    let (first, second) = (claim(one).await, claim(two).await);
    let ask = async |job, order: &serde_json::Value, ticket: &serde_json::Value, attempt: u32, key: &str| {
        let path = format!("/v1/work/{job}/0/{}/objects", order["order"]["lease"].as_str().unwrap());
        let body = serde_json::json!({"attempt": attempt, "ticket": ticket, "objects": [{"key": key, "bytes": 1}]});
        stage.ask("POST", &path, ROOT, Some(body)).await
    };
    let own = format!("{}x", first["order"]["key_prefix"].as_str().unwrap());
    let foreign = format!("{}x", second["order"]["key_prefix"].as_str().unwrap());
    assert_eq!(ask(one, &first, &first["ticket"], 1, &own).await.status, 200);
    assert_eq!(ask(one, &first, &second["ticket"], 1, &own).await.code(), "lease_lost");
    assert_eq!(ask(one, &first, &first["ticket"], 2, &own).await.code(), "lease_lost");
    assert_eq!(ask(one, &first, &first["ticket"], 1, &foreign).await.code(), "invalid");
    assert_eq!(
        ask(one, &first, &first["ticket"], 1, first["order"]["key_prefix"].as_str().unwrap()).await.code(),
        "invalid"
    );
    *stage.links.base.lock().unwrap() = None;
    assert_eq!(ask(one, &first, &first["ticket"], 1, &own).await.code(), "no_grants");
}
