//! Sources, outputs and signed requests on a real S3 server. Signed requests are sent by a client that knows nothing
//! but the request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests: what fails panics"
)]

use crate::s3::{MIB, Place, noise};
use bytes::Bytes;
use splitreel_backend::BlobReader;
use splitreel_backend::grants::{GrantError, Grants, SignedRequest};
use splitreel_backend_cluster::s3::{S3Error, S3Grants, S3Keys, S3Locator, S3Sources, Secret, SourceScope, if_match};
use splitreel_testkit::proxy::Fault;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TTL: Duration = Duration::from_secs(60);

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends a signed request with further headers; a body is sent with its length.
pub async fn send(request: &SignedRequest, more: &[(&str, &str)], body: &[u8]) -> Answer {
    let rest = request.url.strip_prefix("http://").unwrap();
    let (host, target) = rest.split_at(rest.find('/').unwrap());
    let mut head = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", request.method);
    let signed = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in signed.filter(|(name, _)| *name != "content-length").chain(more.iter().copied()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if request.method != "GET" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

async fn sources(place: &Place) -> S3Sources {
    S3Sources::new(place.connect(place.options()).await)
}

fn locator(text: &str) -> S3Locator {
    text.parse().unwrap()
}

/// Stores an object the way an outsider would.
async fn upload(sources: &S3Sources, object: &S3Locator, content: &[u8]) {
    let request = sources.presign_put(object, content.len() as u64, None, TTL).await.unwrap();
    assert_eq!(send(&request, &[], content).await.status, 200);
}

#[tokio::test]
async fn a_pinned_source_is_read_in_ranges_until_it_is_replaced() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    for key in ["film.mp4", "a b/c%20d+e.mp4", "Kino/映画 é.mkv", "what?is=this#here&so", "film."] {
        let object = S3Locator::new("inbox", key).unwrap();
        let content = noise(100_000, 1);
        upload(&sources, &object, &content).await;
        let pinned = sources.pin(&object.to_string()).await.unwrap();
        assert_eq!((pinned.locator.as_str(), pinned.bytes), (object.to_string().as_str(), 100_000));
        assert!(if_match(&pinned).is_some());
        let request = sources.presign_get(&pinned, TTL).await.unwrap();
        assert_eq!(request.method, "GET");
        let answer = send(&request, &[("range", "bytes=1000-1999")], b"").await;
        assert_eq!(answer.status, 206, "{key}: {}", answer.head);
        assert_eq!(answer.header("content-range"), Some("bytes 1000-1999/100000"));
        assert!(answer.body == content[1_000..2_000], "the content differs");
        assert!(send(&request, &[], b"").await.body == content, "the content differs");

        upload(&sources, &object, &noise(100_000, 2)).await;
        assert_eq!(send(&request, &[("range", "bytes=1000-1999")], b"").await.status, 412, "{key}");
        assert_ne!(sources.pin(&object.to_string()).await.unwrap(), pinned);
    }
}

#[tokio::test]
async fn what_is_not_there_cannot_be_pinned() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    assert!(matches!(sources.pin("s3://inbox/none").await, Err(S3Error::NotFound { .. })));
    assert!(matches!(sources.pin("s3://no-bucket/none").await, Err(S3Error::NotFound { .. })));
    assert!(matches!(sources.pin("/tmp/film.mp4").await, Err(S3Error::Locator(_))));
}

#[tokio::test]
async fn a_signed_put_stores_what_was_signed_and_nothing_else() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    let object = locator("s3://inbox/up/a");
    let request = sources.presign_put(&object, 5, None, TTL).await.unwrap();
    assert_eq!(request.method, "PUT");
    assert_eq!(send(&request, &[], b"123456").await.status, 403);
    assert!(matches!(sources.head(&object).await, Err(S3Error::NotFound { .. })));
    let mut elsewhere = request.clone();
    elsewhere.url = elsewhere.url.replace("/up/a", "/up/b");
    assert_eq!(send(&elsewhere, &[], b"12345").await.status, 403);
    let mut forged = request.clone();
    forged.url = forged.url.replace("X-Amz-Expires=60", "X-Amz-Expires=600");
    assert_ne!(forged.url, request.url);
    assert_eq!(send(&forged, &[], b"12345").await.status, 403);
    let mut read = request.clone();
    read.method = "GET".to_owned();
    assert_eq!(send(&read, &[], b"").await.status, 403);
    assert_eq!(send(&request, &[], b"12345").await.status, 200);
    assert_eq!(sources.head(&object).await.unwrap().bytes, 5);
}

#[tokio::test]
async fn a_signed_digest_is_checked_by_the_server() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    let object = locator("s3://inbox/up/a");
    // sha256 of "abc" (FIPS 180-4, example).
    let digest: [u8; 32] = [
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03,
        0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
    ];
    let request = sources.presign_put(&object, 3, Some(&digest), TTL).await.unwrap();
    assert_eq!(send(&request, &[], b"abd").await.status, 400);
    assert_eq!(send(&request, &[], b"abc").await.status, 200);
}

#[tokio::test]
async fn wrong_keys_are_refused() {
    let place = Place::start().await;
    let mut options = place.options();
    options.keys = Some(S3Keys {
        access_key: place.server.config().access_key.clone(),
        secret_key: Secret::new("wrong"),
        session_token: None,
    });
    let wrong = S3Sources::new(place.connect(options).await);
    let error = wrong.head(&locator("s3://inbox/a")).await.unwrap_err();
    let is_denied = matches!(&error, S3Error::Unavailable { source, .. }
        if source.kind() == std::io::ErrorKind::PermissionDenied);
    assert!(is_denied, "{error:?}");
    let request = wrong.presign_put(&locator("s3://inbox/a"), 1, None, TTL).await.unwrap();
    assert_eq!(send(&request, &[], b"x").await.status, 403);
}

#[tokio::test]
async fn parts_are_sent_by_others_and_completed_once() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    let object = locator("s3://inbox/up/large.mp4");
    let content = noise(5 * MIB + 1_000, 3);
    let upload = sources.create_upload(&object, Some("video/mp4")).await.unwrap();
    let mut parts = Vec::new();
    for (number, part) in [(1, &content[..5 * MIB]), (2, &content[5 * MIB..])] {
        let request = sources.presign_part(&object, &upload, number, part.len() as u64, TTL).await.unwrap();
        let answer = send(&request, &[], part).await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        parts.push((number, answer.header("etag").unwrap().to_owned()));
    }
    let unconfirmed = Fault::ApplyThenFail { status: 500 };
    place.proxy.reset_tally();
    place.proxy.set_rule(move |r| if r.method == "POST" && r.earlier == 0 { unconfirmed.clone() } else { Fault::None });
    let bytes = content.len() as u64;
    for _ in 0..2 {
        let info = sources.complete_upload(&object, &upload, &parts, bytes).await.unwrap();
        assert_eq!(info.bytes, bytes);
    }
    assert!(sources.complete_upload(&object, &upload, &parts, bytes + 1).await.is_err());
    let pinned = sources.pin(&object.to_string()).await.unwrap();
    let request = sources.presign_get(&pinned, TTL).await.unwrap();
    assert!(send(&request, &[], b"").await.body == content, "the content differs");
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    let object = locator("s3://inbox/up/a");
    let upload = sources.create_upload(&object, None).await.unwrap();
    assert_eq!(place.server.open_uploads().unwrap(), [("inbox".to_owned(), "up/a".to_owned())]);
    sources.abort_upload(&object, &upload).await.unwrap();
    assert!(place.server.open_uploads().unwrap().is_empty());
    assert!(matches!(sources.head(&object).await, Err(S3Error::NotFound { .. })));
}

#[tokio::test]
async fn objects_are_copied_by_the_server_whole_or_in_ranges() {
    let place = Place::start().await;
    let mut options = place.options();
    options.single_copy_bytes = 10 * MIB as u64;
    let connection = place.connect(options).await;
    let sources = S3Sources::new(connection);
    let (small, large) = (noise(1_000, 1), noise(25 * MIB, 2));
    for (key, content) in [("o ne/é+%.mp4", &small), ("large.mp4", &large)] {
        let (from, to) = (S3Locator::new("work", key).unwrap(), S3Locator::new("inbox", format!("out/{key}")).unwrap());
        upload(&sources, &from, content).await;
        place.proxy.reset_tally();
        let copied = sources.copy(&from, &to, Some("video/mp4")).await.unwrap();
        assert_eq!(copied, content.len() as u64);
        let total = place.proxy.tally().total();
        assert!(total.sent_bytes < 2_000 && total.received_bytes < 4_000, "{total:?}");
        let pinned = sources.pin(&to.to_string()).await.unwrap();
        let answer = send(&sources.presign_get(&pinned, TTL).await.unwrap(), &[], b"").await;
        assert!(answer.body == *content, "the content differs");
        assert_eq!(answer.header("content-type"), Some("video/mp4"));
    }
    let none = sources.copy(&locator("s3://work/none"), &locator("s3://inbox/x"), None).await;
    assert!(matches!(none, Err(S3Error::NotFound { .. })));
    // A server that copies nothing gets the bytes.
    place.proxy.set_rule(|request| match request.header("x-amz-copy-source") {
        Some(_) => Fault::Refuse { status: 501, code: "NotImplemented" },
        None => Fault::None,
    });
    let (from, to) = (locator("s3://work/large.mp4"), locator("s3://inbox/again.mp4"));
    assert_eq!(sources.copy(&from, &to, None).await.unwrap(), large.len() as u64);
    assert_eq!(sources.head(&to).await.unwrap().bytes, large.len() as u64);
    sources.delete(&to).await.unwrap();
    sources.delete(&to).await.unwrap();
}

#[tokio::test]
async fn lists_are_taken_up_at_any_key() {
    let place = Place::start().await;
    let sources = sources(&place).await;
    for key in ["in/a.mp4", "in/b c.mp4", "in/d/é.mp4", "out/x.mp4"] {
        upload(&sources, &S3Locator::new("inbox", key).unwrap(), key.as_bytes()).await;
    }
    let keys = |listed: Vec<splitreel_backend_cluster::s3::Listed>| -> Vec<String> {
        listed.into_iter().map(|entry| entry.key).collect()
    };
    let all = sources.list_objects("inbox", "in/", None, 100).await.unwrap();
    assert_eq!((all[0].bytes, all[0].modified_ms.is_some()), (8, true));
    assert_eq!(keys(all), ["in/a.mp4", "in/b c.mp4", "in/d/é.mp4"]);
    assert_eq!(keys(sources.list_objects("inbox", "in/", Some("in/a.mp4"), 1).await.unwrap()), ["in/b c.mp4"]);
    assert!(sources.list_objects("inbox", "in/", Some("in/z"), 10).await.unwrap().is_empty());
    assert!(matches!(sources.list_objects("no-bucket", "", None, 10).await, Err(S3Error::NotFound { .. })));
}

#[tokio::test]
async fn grants_reach_one_object_within_the_scope() {
    let place = Place::start().await;
    let connection = place.connect(place.options()).await;
    let scope = SourceScope {
        allowed: Some(vec![("inbox".to_owned(), String::new())]),
        denied: vec![("inbox".to_owned(), "private/".to_owned())],
    };
    let grants = S3Grants::new(connection.clone(), scope);
    let sources = S3Sources::new(connection);
    upload(&sources, &locator("s3://inbox/a"), b"source").await;
    let pinned = grants.pin("s3://inbox/a").await.unwrap();
    let read = grants.read_source(&pinned, 60_000).await.unwrap().unwrap();
    assert_eq!(send(&read, &[("range", "bytes=0-2")], b"").await.body, b"sou");
    for outside in ["s3://work/a", "s3://inbox/private/a", "/etc/passwd", "s3://inbox/../a"] {
        assert!(matches!(grants.pin(outside).await, Err(GrantError::Unusable { .. })), "{outside}");
    }
    assert!(matches!(grants.pin("s3://inbox/none").await, Err(GrantError::NotFound { .. })));

    let write = grants.write_object("jobs/1/part.m4s", 4, 60_000).await.unwrap().unwrap();
    assert_eq!(send(&write, &[], b"part").await.status, 200);
    let blobs = place.blobs().await;
    assert_eq!(blobs.read("jobs/1/part.m4s", 0, 10).await.unwrap(), Bytes::from_static(b"part"));
    let back = grants.read_object("jobs/1/part.m4s", 60_000).await.unwrap().unwrap();
    assert_eq!(send(&back, &[], b"").await.body, b"part");
    assert!(matches!(grants.write_object("../x", 4, 60_000).await, Err(GrantError::Unusable { .. })));
    place.proxy.set_rule(|_| Fault::Refuse { status: 503, code: "SlowDown" });
    assert!(matches!(grants.pin("s3://inbox/a").await, Err(GrantError::Unavailable { .. })));
}
