//! What is particular to a directory of files.

use crate::Directory;
use bytes::Bytes;
use splitreel_backend::blob::{BlobError, Piece};
use splitreel_backend::conformance::BlobHarness;
use splitreel_backend::{BlobAdmin, BlobReader, PartWriter};
use splitreel_backend_embedded::LocalBlobs;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[tokio::test]
async fn files_are_moved_in_and_linked_out() {
    let directory = Directory::new();
    let blobs = BlobHarness::open(&directory).await;
    let path = directory.scratch().join("part");
    fs::write(&path, b"content").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    blobs.put_file("a/b", &path).await.unwrap();
    assert!(!path.exists());
    let target = directory.scratch().join("out");
    blobs.export("a/b", &target).await.unwrap();
    assert_eq!(fs::metadata(&target).unwrap().ino(), inode);
}

#[tokio::test]
async fn another_file_system_is_copied_from_and_to() {
    let directory = Directory::new();
    // Shared memory is a file system of its own on Linux.
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let blobs = BlobHarness::open(&directory).await;
    let path = elsewhere.path().join("part");
    fs::write(&path, b"content").unwrap();
    blobs.put_file("a/b", &path).await.unwrap();
    assert_eq!(blobs.read("a/b", 0, 100).await.unwrap(), "content");
    let target = elsewhere.path().join("out");
    blobs.export("a/b", &target).await.unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"content");
    assert!(blobs.export("a/b", &target).await.is_err());
    let names: Vec<_> = fs::read_dir(elsewhere.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|n| n == "part" || n == "out"), "{names:?}");
}

#[tokio::test]
async fn temporary_files_are_neither_objects_nor_left_behind() {
    let directory = Directory::new();
    let blobs = LocalBlobs::open(directory.blobs()).await.unwrap();
    blobs.put("a/b", Bytes::from_static(b"1")).await.unwrap();
    let missing = Piece::Object { key: "a/none".to_owned(), bytes: 1 };
    assert!(blobs.compose("a/c", &[Piece::Bytes(Bytes::from_static(b"x")), missing]).await.is_err());
    let temp = directory.blobs().join(".tmp");
    let own = fs::read_dir(&temp).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_dir()).unwrap();
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);

    let dead = temp.join("dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), b"partial").unwrap();
    fs::write(temp.join("dead.lock"), b"").unwrap();
    assert_eq!(blobs.list("").await.unwrap(), ["a/b"]);
    for key in [".tmp/dead/0", ".tmp"] {
        assert!(matches!(blobs.size(key).await, Err(BlobError::BadKey { .. })));
    }
    assert_eq!(blobs.sweep_temp().await.unwrap(), 1);
    assert!(!dead.exists() && own.exists());
}

#[tokio::test]
async fn empty_directories_go_with_their_last_object() {
    let directory = Directory::new();
    let blobs = BlobHarness::open(&directory).await;
    blobs.put("a/b/c/d", Bytes::new()).await.unwrap();
    blobs.put("a/e", Bytes::new()).await.unwrap();
    blobs.delete("a/b/c/d").await.unwrap();
    assert!(!directory.blobs().join("a/b").exists());
    blobs.delete("a/e").await.unwrap();
    assert!(!directory.blobs().join("a").exists());
    assert!(directory.blobs().exists());
}

#[tokio::test]
async fn a_name_too_long_for_the_file_system_is_a_bad_key() {
    let directory = Directory::new();
    let blobs = BlobHarness::open(&directory).await;
    let key = "k".repeat(300);
    assert!(matches!(blobs.put(&key, Bytes::new()).await, Err(BlobError::BadKey { .. })));
}

#[tokio::test]
async fn a_directory_is_not_an_object() {
    let directory = Directory::new();
    let blobs = BlobHarness::open(&directory).await;
    blobs.put("a/b", Bytes::new()).await.unwrap();
    assert!(matches!(blobs.size("a").await, Err(BlobError::NotFound { .. })));
    assert!(matches!(blobs.read("a", 0, 1).await, Err(BlobError::NotFound { .. })));
    blobs.delete("a").await.unwrap();
    assert_eq!(blobs.list("").await.unwrap(), ["a/b"]);
}
