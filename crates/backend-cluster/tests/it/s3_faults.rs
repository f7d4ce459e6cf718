//! Objects over a bad line: what is refused, stalls, breaks off, or is carried out and never confirmed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests: what fails panics"
)]

use crate::s3::{MIB, Place, noise, object, whole};
use bytes::Bytes;
use splitreel_backend::blob::{BlobError, Piece};
use splitreel_backend::conformance::BlobHarness;
use splitreel_backend::{BlobAdmin, BlobReader, PartWriter};
use splitreel_backend_cluster::s3::S3Blobs;
use splitreel_testkit::proxy::{Exchange, Fault, Mix, seeded};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

fn refuse(status: u16, code: &'static str) -> Fault {
    Fault::Refuse { status, code }
}

/// The request that completes an upload.
fn completes(request: &Exchange) -> bool {
    request.method == "POST" && request.has_query("uploadId")
}

fn creates_upload(request: &Exchange) -> bool {
    request.method == "POST" && request.has_query("uploads")
}

#[tokio::test]
async fn two_refusals_are_survived_by_every_operation() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let large = noise(17 * MIB, 1);
    let path = place.file("large", &large);
    let busy = |request: &Exchange| if request.earlier < 2 { refuse(503, "SlowDown") } else { Fault::None };
    let again = || {
        place.proxy.reset_tally();
        place.proxy.set_rule(busy);
    };
    again();
    blobs.put("a/small", Bytes::from_static(b"content")).await.unwrap();
    again();
    blobs.put_file("a/large", &path).await.unwrap();
    again();
    assert_eq!(blobs.read("a/small", 2, 3).await.unwrap(), "nte");
    again();
    assert_eq!(blobs.size("a/large").await.unwrap(), large.len() as u64);
    again();
    let pieces = [Piece::Bytes(Bytes::from_static(b"head")), object("a/large", large.len())];
    assert_eq!(blobs.compose("a/whole", &pieces).await.unwrap(), large.len() as u64 + 4);
    again();
    blobs.export("a/small", &place.scratch().join("out")).await.unwrap();
    again();
    assert_eq!(blobs.list("a/").await.unwrap(), ["a/large", "a/small", "a/whole"]);
    again();
    blobs.delete("a/large").await.unwrap();
    assert!(place.proxy.tally().total().faults >= 2);
    place.proxy.clear_rule();
    assert_eq!(blobs.list("a/").await.unwrap(), ["a/small", "a/whole"]);
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_always_refuses_is_unavailable() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    place.proxy.set_rule(|_| refuse(503, "SlowDown"));
    let error = blobs.size("a/b").await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable { .. }), "{error:?}");
    assert_eq!(place.proxy.tally().total().requests, 5);
}

#[tokio::test]
async fn a_stalled_body_is_resumed_where_it_stopped() {
    let place = Place::start().await;
    let mut options = place.options();
    options.stall_timeout = Duration::from_millis(100);
    let blobs = S3Blobs::new(place.connect(options).await);
    let content = noise(MIB, 4);
    blobs.put("a/b", content.clone()).await.unwrap();
    place.proxy.reset_tally();
    let stall = Fault::Stall { after: 300_000, pause: Duration::from_secs(60) };
    place.proxy.set_rule(move |request| if request.number == 0 { stall.clone() } else { Fault::None });
    assert!(blobs.read("a/b", 0, MIB).await.unwrap() == content, "the content differs");
    let count = place.proxy.tally().total();
    assert_eq!(count.requests, 2);
    assert!(count.received_bytes < MIB as u64 + 200_000, "{count:?}");
}

#[tokio::test]
async fn a_body_that_always_stalls_fails_in_time() {
    let place = Place::start().await;
    let mut options = place.options();
    options.stall_timeout = Duration::from_millis(50);
    options.max_attempts = 3;
    let blobs = S3Blobs::new(place.connect(options).await);
    blobs.put("a/b", noise(MIB, 4)).await.unwrap();
    place.proxy.set_rule(|_| Fault::Stall { after: 1, pause: Duration::from_secs(60) });
    let begun = Instant::now();
    let error = blobs.read("a/b", 0, MIB).await.unwrap_err();
    let is_timeout = matches!(&error, BlobError::Unavailable { source, .. } if source.kind() == ErrorKind::TimedOut);
    assert!(is_timeout, "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let target = place.scratch().join("out");
    assert!(blobs.export("a/b", &target).await.is_err());
    assert!(std::fs::read_dir(place.scratch()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_head_that_stalls_is_asked_for_again() {
    let place = Place::start().await;
    let mut options = place.options();
    options.attempt_timeout = Duration::from_millis(150);
    let blobs = S3Blobs::new(place.connect(options).await);
    let pause = Duration::from_secs(60);
    place.proxy.set_rule(move |r| if r.earlier == 0 { Fault::Stall { after: 0, pause } } else { Fault::None });
    blobs.put("a/b", Bytes::from_static(b"content")).await.unwrap();
    assert_eq!(whole(&blobs, "a/b").await, "content");
}

#[tokio::test]
async fn answers_that_break_off_or_end_early_are_completed() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let content = noise(MIB, 6);
    blobs.put("a/b", content.clone()).await.unwrap();
    for fault in [Fault::CutAnswer { after: 123_456 }, Fault::Truncate { after: 123_456 }] {
        place.proxy.reset_tally();
        place.proxy.set_rule(move |request| if request.number < 3 { fault.clone() } else { Fault::None });
        assert!(blobs.read("a/b", 1_000, MIB).await.unwrap() == content[1_000..], "the content differs");
        assert_eq!(place.proxy.tally().total().requests, 4);
    }
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_not_mixed() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    blobs.put("a/b", noise(MIB, 6)).await.unwrap();
    let file = place.server.config().root.clone();
    let key = blobs.object("a/b").unwrap().key;
    let after = 123_456;
    place.proxy.set_rule(move |request| {
        if request.number == 1 {
            return Fault::CutAnswer { after };
        }
        // Another object of the same size, and no record of the entity tag of the first.
        std::fs::write(file.join("work").join(&key), noise(MIB, 7)).unwrap();
        for entry in std::fs::read_dir(&file).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(".internal.json") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        Fault::None
    });
    let error = blobs.read("a/b", 0, MIB).await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_put_that_was_carried_out_but_not_confirmed_is_whole() {
    let place = Place::start().await;
    let content = noise(200_000, 8);
    let mut options = place.options();
    for (attempts, fault) in
        [(5, Fault::ApplyThenFail { status: 500 }), (5, Fault::ApplyThenCut), (1, Fault::ApplyThenFail { status: 500 })]
    {
        options.max_attempts = attempts;
        let blobs = S3Blobs::new(place.connect(options.clone()).await);
        place.proxy.reset_tally();
        place.proxy.set_rule(move |request| if request.earlier == 0 { fault.clone() } else { Fault::None });
        let stored = blobs.put("a/b", content.clone()).await;
        assert_eq!(stored.is_ok(), attempts > 1);
        place.proxy.clear_rule();
        assert!(whole(&blobs, "a/b").await == content, "the content differs");
        blobs.delete("a/b").await.unwrap();
    }
}

#[tokio::test]
async fn a_put_that_breaks_off_is_whole_or_absent() {
    let place = Place::start().await;
    let mut options = place.options();
    options.max_attempts = 1;
    let blobs = S3Blobs::new(place.connect(options).await);
    place.proxy.set_rule(|_| Fault::CutRequest { after: 100_000 });
    blobs.put("a/b", noise(200_000, 8)).await.unwrap_err();
    place.proxy.clear_rule();
    assert!(matches!(blobs.size("a/b").await, Err(BlobError::NotFound { .. })));
}

#[tokio::test]
async fn a_completion_that_was_not_confirmed_is_recognised() {
    let place = Place::start().await;
    let content = noise(17 * MIB, 2);
    let path = place.file("large", &content);
    for (key, attempts, fault) in [
        ("a/0", 1, Fault::ApplyThenFail { status: 500 }),
        ("a/1", 5, Fault::ApplyThenFail { status: 500 }),
        ("a/2", 5, Fault::ApplyThenCut),
    ] {
        let mut options = place.options();
        options.max_attempts = attempts;
        let blobs = S3Blobs::new(place.connect(options).await);
        place.proxy.reset_tally();
        place.proxy.set_rule(move |r| if completes(r) && r.earlier <= 1 { fault.clone() } else { Fault::None });
        blobs.put_file(key, &path).await.unwrap();
        assert!(place.proxy.tally().total().faults > 0);
        place.proxy.clear_rule();
        assert!(whole(&blobs, key).await == content, "the content differs");
    }
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn a_completion_that_did_not_happen_leaves_what_was_there() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let content = noise(17 * MIB, 2);
    let path = place.file("large", &content);
    // Of the same size, so that only the mark distinguishes them.
    blobs.put_file("a/taken", &place.file("other", &noise(17 * MIB, 3))).await.unwrap();
    place.proxy.set_rule(|request| if completes(request) { refuse(500, "InternalError") } else { Fault::None });
    for key in ["a/taken", "a/free"] {
        let error = blobs.put_file(key, &path).await.unwrap_err();
        assert!(matches!(error, BlobError::Unavailable { .. }), "{error:?}");
    }
    place.proxy.clear_rule();
    assert!(whole(&blobs, "a/taken").await == noise(17 * MIB, 3), "the old content is gone");
    assert_eq!(blobs.list("").await.unwrap(), ["a/taken"]);
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn uploads_that_nobody_knows_of_are_swept() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let path = place.file("large", &noise(17 * MIB, 2));
    let unconfirmed = Fault::ApplyThenFail { status: 500 };
    let rule = unconfirmed.clone();
    place.proxy.set_rule(move |r| if creates_upload(r) && r.earlier == 0 { rule.clone() } else { Fault::None });
    blobs.put_file("jobs/1/large", &path).await.unwrap();
    // An upload whose parts fail and that cannot be aborted either.
    place.proxy.set_rule(|request| match request.method.as_str() {
        "PUT" | "DELETE" => refuse(503, "SlowDown"),
        _ => Fault::None,
    });
    blobs.put_file("jobs/2/large", &path).await.unwrap_err();
    place.proxy.clear_rule();
    assert_eq!(place.server.open_uploads().unwrap().len(), 2);
    assert_eq!(blobs.abort_uploads("", Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(blobs.abort_uploads("jobs/3/", Duration::ZERO).await.unwrap(), 0);
    assert_eq!(blobs.abort_uploads("jobs/2/", Duration::ZERO).await.unwrap(), 1);
    assert_eq!(blobs.abort_uploads("", Duration::ZERO).await.unwrap(), 1);
    assert!(place.server.open_uploads().unwrap().is_empty());
    assert_eq!(blobs.list("").await.unwrap(), ["jobs/1/large"]);
}

#[tokio::test]
async fn an_abandoned_upload_aborts_itself() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    let path = place.file("large", &noise(17 * MIB, 2));
    let (reached, mut was_reached) = tokio::sync::mpsc::unbounded_channel();
    place.proxy.set_rule(move |request| {
        if request.has_query("partNumber") {
            let _ = reached.send(());
            return Fault::Stall { after: 0, pause: Duration::from_secs(60) };
        }
        Fault::None
    });
    tokio::select! {
        _ = blobs.put_file("a/b", &path) => panic!("it stalls"),
        _ = was_reached.recv() => {}
    }
    let gone = async {
        while !place.server.open_uploads().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    assert!(blobs.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn refusals_mean_what_they_say() {
    let place = Place::start().await;
    let blobs = place.blobs().await;
    for (status, code) in [(507, "InsufficientStorage"), (403, "QuotaExceeded"), (507, "XMinioStorageFull")] {
        place.proxy.set_rule(move |_| refuse(status, code));
        let error = blobs.put("a/b", Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(&error, BlobError::NoSpace { key } if key == "a/b"), "{code}: {error:?}");
    }
    place.proxy.set_rule(|_| refuse(400, "KeyTooLongError"));
    let error = blobs.put("a/b", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(&error, BlobError::BadKey { key } if key == "a/b"), "{error:?}");
    place.proxy.set_rule(|_| refuse(403, "AccessDenied"));
    let error = blobs.put("a/b", Bytes::from_static(b"x")).await.unwrap_err();
    let is_denied =
        matches!(&error, BlobError::Unavailable { source, .. } if source.kind() == ErrorKind::PermissionDenied);
    assert!(is_denied, "{error:?}");
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_object() {
    let place = Place::start().await;
    let mut options = place.options();
    options.bucket = "no-bucket".to_owned();
    let blobs = S3Blobs::new(place.connect(options).await);
    let error = blobs.put("a/b", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable { .. }), "{error:?}");
}

/// Random operations on a bad day. Whatever is answered, a key holds the whole or nothing, and a sweep finds the rest.
#[tokio::test]
async fn a_bad_day_leaves_nothing_half_done() {
    let place = Place::start().await;
    let mut options = place.options();
    options.stall_timeout = Duration::from_millis(50);
    options.read_timeout = Duration::from_millis(500);
    let blobs = S3Blobs::new(place.connect(options).await);
    let contents: Vec<Bytes> =
        (0..6).map(|n| noise([0, 10, 70_000, 500_000, 6 * MIB, 17 * MIB][n], 50 + n as u64)).collect();
    let mut mix = Mix::rough(Duration::from_millis(200));
    mix.delay = 50;
    place.proxy.set_rule(seeded(20_240_229, mix));
    let mut num_stored = 0;
    for (n, content) in contents.iter().enumerate() {
        let path = place.file(&format!("{n}"), content);
        for round in 0..4 {
            let key = format!("d/{n}/{round}");
            let stored = match round {
                0 => blobs.put(&key, content.clone()).await.map(|()| 0),
                1 | 2 => blobs.put_file(&key, &path).await.map(|()| 0),
                _ => blobs.compose(&key, &[object(&format!("d/{n}/0"), content.len())]).await,
            };
            num_stored += usize::from(stored.is_ok());
            if let Ok(read) = blobs.read(&key, 0, content.len()).await {
                assert!(read == *content, "{key} differs");
            }
        }
    }
    place.proxy.clear_rule();
    assert!(num_stored >= 18, "{num_stored}");
    let keys = blobs.list("").await.unwrap();
    assert!(keys.len() >= num_stored);
    for key in keys {
        let n: usize = key.split('/').nth(1).unwrap().parse().unwrap();
        assert!(whole(&blobs, &key).await == contents[n], "{key} differs");
    }
    blobs.abort_uploads("", Duration::ZERO).await.unwrap();
    assert!(place.server.open_uploads().unwrap().is_empty());
    assert!(place.proxy.tally().total().faults > 5);
}
