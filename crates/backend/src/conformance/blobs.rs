//! Behaviours of a blob store.

use super::BlobHarness;
use crate::blob::{BlobError, BlobStore, Piece};
use bytes::Bytes;
use std::future::poll_fn;
use std::task::Poll;

const KEY: &str = "jobs/0f/seg-1.m4s";

async fn whole(blobs: &dyn BlobStore, key: &str) -> Bytes {
    let size = blobs.size(key).await.unwrap();
    blobs.read(key, 0, usize::try_from(size).unwrap()).await.unwrap()
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<u8>>().into()
}

/// What was put is what is read.
pub async fn bytes_round_trip(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    let content = pattern(3_000_000);
    blobs.put(KEY, content.clone()).await.unwrap();
    assert_eq!(blobs.size(KEY).await.unwrap(), 3_000_000);
    assert_eq!(whole(&*blobs, KEY).await, content);
}

/// Zero bytes are not "absent".
pub async fn an_empty_object_is_an_object(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put(KEY, Bytes::new()).await.unwrap();
    assert_eq!(blobs.size(KEY).await.unwrap(), 0);
    assert_eq!(blobs.read(KEY, 0, 10).await.unwrap(), Bytes::new());
    assert_eq!(blobs.list("").await.unwrap(), [KEY]);
}

/// A range that reaches beyond the end is cut; one that starts beyond it is empty.
pub async fn ranges_stop_at_the_end(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put(KEY, Bytes::from_static(b"0123456789")).await.unwrap();
    for (offset, len, expected) in
        [(0, 4, "0123"), (4, 3, "456"), (8, 10, "89"), (10, 1, ""), (99, 1, ""), (u64::MAX, 1, ""), (3, 0, "")]
    {
        assert_eq!(blobs.read(KEY, offset, len).await.unwrap(), expected, "{offset} {len}");
    }
    assert_eq!(blobs.read(KEY, 0, 1 << 40).await.unwrap(), "0123456789");
}

/// An unknown key says so, in every operation that needs the object.
pub async fn what_is_not_there_is_not_found(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    let target = harness.scratch().join("missing.bin");
    let piece = Piece::Object { key: KEY.to_owned(), bytes: 1 };
    let errors = [
        blobs.read(KEY, 0, 1).await.unwrap_err(),
        blobs.size(KEY).await.unwrap_err(),
        blobs.export(KEY, &target).await.unwrap_err(),
        blobs.compose("jobs/other", &[piece]).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, BlobError::NotFound { key } if key == KEY), "{error:?}");
    }
    assert!(!target.exists());
    assert!(blobs.list("").await.unwrap().is_empty());
    assert!(blobs.list("jobs/").await.unwrap().is_empty());
}

/// Nothing but the allowed form of keys is accepted, in any operation.
pub async fn bad_keys_are_refused(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    let file = harness.scratch().join("content");
    std::fs::write(&file, b"x").unwrap();
    let long = "a/".repeat(256) + "a";
    for key in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a b",
        "a%2fb",
        "a\\b",
        "a\nb",
        "a\0b",
        "é",
        "a:b",
        &long,
    ] {
        let bad = |error: &BlobError| matches!(error, BlobError::BadKey { .. });
        assert!(bad(&blobs.put(key, Bytes::new()).await.unwrap_err()), "{key:?}");
        assert!(bad(&blobs.put_file(key, &file).await.unwrap_err()), "{key:?}");
        assert!(bad(&blobs.compose(key, &[]).await.unwrap_err()), "{key:?}");
        assert!(
            bad(&blobs.compose("a", &[Piece::Object { key: key.to_owned(), bytes: 0 }]).await.unwrap_err()),
            "{key:?}"
        );
        assert!(bad(&blobs.read(key, 0, 1).await.unwrap_err()), "{key:?}");
        assert!(bad(&blobs.size(key).await.unwrap_err()), "{key:?}");
        assert!(bad(&blobs.export(key, &harness.scratch().join("out")).await.unwrap_err()), "{key:?}");
        assert!(bad(&blobs.delete(key).await.unwrap_err()), "{key:?}");
    }
    for prefix in ["a", "/", "../", "a//", "a b/"] {
        assert!(matches!(blobs.list(prefix).await.unwrap_err(), BlobError::BadKey { .. }), "{prefix:?}");
    }
    assert!(blobs.list("").await.unwrap().is_empty());
    assert!(file.exists());
}

/// The last write is what counts.
pub async fn a_second_write_replaces_the_first(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put(KEY, Bytes::from_static(b"first, longer")).await.unwrap();
    blobs.put(KEY, Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(whole(&*blobs, KEY).await, "second");
}

/// A local file becomes an object, and so does one through a symbolic link.
pub async fn a_file_is_stored_with_its_content(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    let path = harness.scratch().join("part.m4s");
    std::fs::write(&path, pattern(100_000)).unwrap();
    let link = harness.scratch().join("link.m4s");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    blobs.put_file("a/linked", &link).await.unwrap();
    blobs.put_file("a/b/c", &path).await.unwrap();
    let _ = std::fs::remove_file(&path);
    assert_eq!(whole(&*blobs, "a/b/c").await, pattern(100_000));
    assert_eq!(whole(&*blobs, "a/linked").await, pattern(100_000));
    assert!(blobs.put_file("a/none", &harness.scratch().join("none")).await.is_err());
    assert_eq!(blobs.list("a/").await.unwrap(), ["a/b/c", "a/linked"]);
}

/// An exported object is an ordinary local file.
pub async fn an_exported_file_can_be_read(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put(KEY, pattern(10_000)).await.unwrap();
    let target = harness.scratch().join("out.m4s");
    blobs.export(KEY, &target).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), pattern(10_000));
    std::fs::remove_file(&target).unwrap();
    assert_eq!(whole(&*blobs, KEY).await, pattern(10_000));
}

/// Export never overwrites.
pub async fn export_refuses_an_existing_target(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put(KEY, Bytes::from_static(b"new")).await.unwrap();
    let target = harness.scratch().join("taken");
    std::fs::write(&target, b"old").unwrap();
    let error = blobs.export(KEY, &target).await.unwrap_err();
    let is_taken =
        matches!(&error, BlobError::Unavailable { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists);
    assert!(is_taken, "{error:?}");
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
}

/// Bytes and objects are joined in order, whatever their sizes.
pub async fn pieces_are_put_together(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    let large = pattern(2_500_000);
    blobs.put("p/large", large.clone()).await.unwrap();
    blobs.put("p/empty", Bytes::new()).await.unwrap();
    let pieces = [
        Piece::Bytes(Bytes::from_static(b"head")),
        Piece::Object { key: "p/large".to_owned(), bytes: large.len() as u64 },
        Piece::Object { key: "p/empty".to_owned(), bytes: 0 },
        Piece::Bytes(Bytes::from_static(b"-middle-")),
        Piece::Object { key: "p/large".to_owned(), bytes: large.len() as u64 },
    ];
    let expected: Vec<u8> = [b"head".as_slice(), &large, b"-middle-", &large].concat();
    assert_eq!(blobs.compose("p/whole", &pieces).await.unwrap(), expected.len() as u64);
    assert!(whole(&*blobs, "p/whole").await == expected, "the content differs");
    assert_eq!(blobs.compose("p/none", &[]).await.unwrap(), 0);
    assert_eq!(blobs.size("p/none").await.unwrap(), 0);
}

/// A piece that is not as long as its row says is damage, not content.
pub async fn a_piece_of_the_wrong_size_is_refused(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put("p/a", Bytes::from_static(b"12345")).await.unwrap();
    for bytes in [4, 6] {
        assert!(blobs.compose("p/whole", &[Piece::Object { key: "p/a".to_owned(), bytes }]).await.is_err());
    }
    assert_eq!(blobs.list("").await.unwrap(), ["p/a"]);
}

/// Keys come in byte order; a prefix is a whole path segment.
pub async fn lists_are_sorted_and_by_prefix(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    for key in ["b/1", "a/2/x", "a/10", "a-b/1", "a/1", "c", "ab/1", "a/2.x"] {
        blobs.put(key, Bytes::new()).await.unwrap();
    }
    assert_eq!(blobs.list("").await.unwrap(), ["a-b/1", "a/1", "a/10", "a/2.x", "a/2/x", "ab/1", "b/1", "c"]);
    assert_eq!(blobs.list("a/").await.unwrap(), ["a/1", "a/10", "a/2.x", "a/2/x"]);
    assert_eq!(blobs.list("a/2/").await.unwrap(), ["a/2/x"]);
    assert!(blobs.list("z/").await.unwrap().is_empty());
    assert!(blobs.list("c/").await.unwrap().is_empty());
}

/// Deleting twice is fine and leaves the neighbours alone.
pub async fn delete_is_idempotent(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    blobs.put("a/b/c", Bytes::from_static(b"1")).await.unwrap();
    blobs.put("a/d", Bytes::from_static(b"2")).await.unwrap();
    for _ in 0..2 {
        blobs.delete("a/b/c").await.unwrap();
    }
    blobs.delete("never/was").await.unwrap();
    blobs.delete("a/d/below").await.unwrap();
    assert!(matches!(blobs.size("a/b/c").await, Err(BlobError::NotFound { .. })));
    assert_eq!(blobs.list("").await.unwrap(), ["a/d"]);
    blobs.put("a/b/c", Bytes::from_static(b"3")).await.unwrap();
    assert_eq!(whole(&*blobs, "a/b/c").await, "3");
}

/// A put that its caller gave up on has either happened or not.
pub async fn an_abandoned_put_is_whole_or_absent(harness: &dyn BlobHarness) {
    let blobs = harness.open().await;
    let content = pattern(1_000_000);
    for n in 0..10 {
        let key = format!("abandoned/{n}");
        let mut put = blobs.put(&key, content.clone());
        let _ = poll_fn(|cx| Poll::Ready(put.as_mut().poll(cx).is_ready())).await;
        drop(put);
        match blobs.size(&key).await {
            Ok(size) => assert_eq!(size, 1_000_000),
            Err(error) => assert!(matches!(error, BlobError::NotFound { .. }), "{error:?}"),
        }
        for key in blobs.list("").await.unwrap() {
            assert!(whole(&*blobs, &key).await == content, "{key} is partial");
        }
    }
}

/// Writers and deleters of neighbouring keys run side by side.
pub async fn concurrent_puts_and_deletes_do_not_disturb_each_other(harness: &dyn BlobHarness) {
    let mut running = tokio::task::JoinSet::new();
    for n in 0..4 {
        let blobs = harness.open().await;
        running.spawn(async move {
            for round in 0..25 {
                let key = format!("deep/er/{}/{n}", round % 3);
                blobs.put(&key, Bytes::from(key.clone())).await.unwrap();
                assert_eq!(whole(&*blobs, &key).await, key);
                blobs.delete(&key).await.unwrap();
            }
        });
    }
    running.join_all().await;
    assert!(harness.open().await.list("").await.unwrap().is_empty());
}

/// What was put before a restart is there after it.
pub async fn objects_survive_reopening(harness: &dyn BlobHarness) {
    harness.open().await.put(KEY, Bytes::from_static(b"kept")).await.unwrap();
    assert_eq!(whole(&*harness.open().await, KEY).await, "kept");
}
