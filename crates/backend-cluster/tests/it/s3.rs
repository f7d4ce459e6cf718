//! Objects on a real S3 server: the suite of the blob seam, and what is particular to multipart and copying.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests: what fails panics"
)]

use bytes::Bytes;
use splitreel_backend::blob::{BlobError, Piece};
use splitreel_backend::conformance::BlobHarness;
use splitreel_backend::{BlobAdmin, BlobReader, BlobStore, PartWriter};
use splitreel_backend_cluster::s3::{S3Blobs, S3Connection, S3Keys, S3Options, Secret};
use splitreel_testkit::proxy::{Fault, HttpProxy};
use splitreel_testkit::s3::{Server, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub const MIB: usize = 1 << 20;

/// A server of its own with a proxy before it. Tests do not share anything.
pub struct Place {
    directory: TempDir,
    pub server: Server,
    pub proxy: HttpProxy,
    prefix: String,
}

impl Place {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("scratch")).unwrap();
        let server = Server::start(ServerConfig::loopback(directory.path().join("s3"))).await.unwrap();
        server.create_bucket("work").unwrap();
        server.create_bucket("inbox").unwrap();
        let proxy = HttpProxy::start(server.address()).await.unwrap();
        Place { directory, server, proxy, prefix: format!("t-{}/", uuid::Uuid::new_v4().simple()) }
    }

    /// Fast retries and short time-outs, through the proxy.
    pub fn options(&self) -> S3Options {
        let config = self.server.config();
        let mut options = S3Options::new("work");
        options.endpoint = Some(self.proxy.endpoint());
        options.path_style = true;
        options.key_prefix = self.prefix.clone();
        options.keys = Some(S3Keys {
            access_key: config.access_key.clone(),
            secret_key: Secret::new(&config.secret_key),
            session_token: None,
        });
        options.retry_base = Duration::from_millis(2);
        options.retry_max = Duration::from_millis(20);
        options
    }

    pub async fn connect(&self, options: S3Options) -> S3Connection {
        S3Connection::open(options).await.unwrap()
    }

    pub async fn blobs(&self) -> S3Blobs {
        S3Blobs::new(self.connect(self.options()).await)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.scratch().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

#[async_trait::async_trait]
impl BlobHarness for Place {
    async fn open(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.blobs().await)
    }

    fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }
}

splitreel_backend::blob_conformance!(Place::start().await);

/// Bytes that differ from one position to the next and from one seed to the next.
pub fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub async fn whole(blobs: &S3Blobs, key: &str) -> Bytes {
    let size = usize::try_from(blobs.size(key).await.unwrap()).unwrap();
    let bytes = blobs.read(key, 0, size).await.unwrap();
    assert_eq!(bytes.len(), size);
    bytes
}

pub fn object(key: &str, bytes: usize) -> Piece {
    Piece::Object { key: key.to_owned(), bytes: bytes as u64 }
}

#[tokio::test]
async fn copied_pieces_move_no_byte_through_the_client() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let mut expected = Vec::new();
    for n in 0..3 {
        let content = noise(6 * MIB, n);
        blobs.put(&format!("p/{n}"), content.clone()).await.unwrap();
        expected.extend_from_slice(&content);
    }
    place.proxy.reset_tally();
    let pieces: Vec<Piece> = (0..3).map(|n| object(&format!("p/{n}"), 6 * MIB)).collect();
    assert_eq!(blobs.compose("p/whole", &pieces).await.unwrap(), 18 * MIB as u64);
    let total = place.proxy.tally().total();
    assert!(total.sent_bytes < 4_096 && total.received_bytes < 4_096, "{total:?}");
    assert!(total.requests <= 9, "{total:?}");
    assert!(whole(&blobs, "p/whole").await == expected, "the content differs");
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn small_and_large_pieces_are_joined_and_only_small_ones_move() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let (large, small) = (noise(12 * MIB, 1), noise(300_000, 2));
    blobs.put("p/large", large.clone()).await.unwrap();
    blobs.put("p/small", small.clone()).await.unwrap();
    let head = noise(2_000, 3);
    let mut pieces = vec![Piece::Bytes(head.clone()), object("p/large", large.len())];
    let mut expected = [&head[..], &large].concat();
    for _ in 0..10 {
        pieces.push(object("p/small", small.len()));
        expected.extend_from_slice(&small);
    }
    pieces.push(object("p/large", large.len()));
    expected.extend_from_slice(&large);
    place.proxy.reset_tally();
    assert_eq!(blobs.compose("p/whole", &pieces).await.unwrap(), expected.len() as u64);
    let sent = place.proxy.tally().total().sent_bytes;
    // Each large piece gives what fills the part before it up to 5 MiB.
    assert!(sent < 11 * MIB as u64, "{sent}");
    assert!(whole(&blobs, "p/whole").await == expected, "the content differs");
}

#[tokio::test]
async fn many_small_pieces_become_one_object() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let content = noise(700_000, 5);
    blobs.put("p/a", content.clone()).await.unwrap();
    let pieces = vec![object("p/a", content.len()); 30];
    assert_eq!(blobs.compose("p/whole", &pieces).await.unwrap(), 21_000_000);
    assert!(whole(&blobs, "p/whole").await == content.repeat(30), "the content differs");
}

#[tokio::test]
async fn a_large_piece_of_the_wrong_size_or_missing_is_refused() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    blobs.put("p/a", noise(6 * MIB, 1)).await.unwrap();
    for bytes in [6 * MIB - 1, 6 * MIB + 1] {
        let error = blobs.compose("p/whole", &[object("p/a", bytes), object("p/a", 6 * MIB)]).await.unwrap_err();
        assert!(matches!(&error, BlobError::Unavailable { key, .. } if key == "p/a"), "{error:?}");
    }
    let error = blobs.compose("p/whole", &[object("p/a", 6 * MIB), object("p/none", 6 * MIB)]).await.unwrap_err();
    assert!(matches!(&error, BlobError::NotFound { key } if key == "p/none"), "{error:?}");
    assert_eq!(blobs.list("").await.unwrap(), ["p/a"]);
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_copy_gets_the_bytes() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let content = noise(6 * MIB, 1);
    blobs.put("p/a", content.clone()).await.unwrap();
    place.proxy.set_rule(|request| match request.header("x-amz-copy-source") {
        Some(_) => Fault::Refuse { status: 501, code: "NotImplemented" },
        None => Fault::None,
    });
    for round in 0..2 {
        place.proxy.reset_tally();
        let pieces = [object("p/a", content.len()), object("p/a", content.len())];
        assert_eq!(blobs.compose("p/whole", &pieces).await.unwrap(), 12 * MIB as u64);
        assert!(whole(&blobs, "p/whole").await == content.repeat(2), "the content differs");
        // What was learnt once is not tried again.
        assert_eq!(place.proxy.tally().total().faults > 0, round == 0);
    }
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn a_large_file_goes_up_in_parts_and_comes_back() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let content = noise(18 * MIB + 12_345, 9);
    let path = place.file("large", &content);
    place.proxy.reset_tally();
    blobs.put_file("a/large", &path).await.unwrap();
    let puts = place.proxy.tally().of("PUT", "/");
    assert_eq!((puts.requests, puts.sent_bytes), (3, content.len() as u64));
    assert_eq!(blobs.size("a/large").await.unwrap(), content.len() as u64);
    let target = place.scratch().join("back");
    blobs.export("a/large", &target).await.unwrap();
    assert!(std::fs::read(&target).unwrap() == content, "the content differs");
    let names: Vec<_> = std::fs::read_dir(place.scratch()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "large" || name == "back"), "{names:?}");
}

#[tokio::test]
async fn many_are_listed_by_pages_and_deleted_by_batches() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let mut keys: Vec<String> = (0..1_100).map(|n| format!("many/{n}")).collect();
    let mut running = tokio::task::JoinSet::new();
    for chunk in keys.chunks(100) {
        let (blobs, chunk) = (blobs.clone(), chunk.to_vec());
        running.spawn(async move {
            for key in chunk {
                blobs.put(&key, Bytes::new()).await.unwrap();
            }
        });
    }
    running.join_all().await;
    keys.sort();
    assert_eq!(blobs.list("many/").await.unwrap(), keys);
    blobs.put("kept", Bytes::new()).await.unwrap();
    place.proxy.reset_tally();
    keys.push("many/never-was".to_owned());
    blobs.delete_many(&keys).await.unwrap();
    assert_eq!(place.proxy.tally().total().requests, 2);
    assert_eq!(blobs.list("").await.unwrap(), ["kept"]);
    let bad = blobs.delete_many(&["a b".to_owned()]).await.unwrap_err();
    assert!(matches!(bad, BlobError::BadKey { .. }));
}

#[tokio::test]
async fn a_server_that_deletes_only_one_by_one_is_enough() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let keys: Vec<String> = (0..5).map(|n| format!("many/{n}")).collect();
    for key in &keys {
        blobs.put(key, Bytes::new()).await.unwrap();
    }
    place.proxy.set_rule(|request| match request.has_query("delete") {
        true => Fault::Refuse { status: 501, code: "NotImplemented" },
        false => Fault::None,
    });
    blobs.delete_many(&keys).await.unwrap();
    assert!(blobs.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn only_keys_of_the_store_are_listed() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    blobs.put("a/b", Bytes::new()).await.unwrap();
    let mut elsewhere = place.options();
    elsewhere.key_prefix = "other/".to_owned();
    let other = S3Blobs::new(place.connect(elsewhere).await);
    other.put("c", Bytes::new()).await.unwrap();
    let root = place.server.config().root.join("work").join(&place.prefix);
    std::fs::write(root.join("not a key"), b"x").unwrap();
    assert_eq!(blobs.list("").await.unwrap(), ["a/b"]);
    assert_eq!(other.list("").await.unwrap(), ["c"]);
}

#[tokio::test]
async fn the_bucket_is_checked_and_made() {
    let place = Place::start().await;
    place.connect(place.options()).await.check().await.unwrap();
    let mut options = place.options();
    options.bucket = "fresh".to_owned();
    let fresh = place.connect(options).await;
    assert!(fresh.check().await.is_err());
    fresh.create_bucket().await.unwrap();
    fresh.create_bucket().await.unwrap();
    fresh.check().await.unwrap();
}
