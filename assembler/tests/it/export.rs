//! Export of a published presentation to a directory.

use super::{pairs, published, store, tree};
use splitreel_assembler::export::{ExportError, catalogue, export, sibling};
use splitreel_backend::BlobAdmin;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_core::part::Presentation;

const FILES: [(&str, &str); 3] = [("film.mp4", "mp4"), ("master.m3u8", "playlist"), ("v/720p/init.mp4", "header")];

#[tokio::test]
async fn a_presentation_is_exported_as_files() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    let dir = scratch.path().join("out");
    export(&blobs, &presentation, &dir).await.unwrap();
    assert_eq!(tree(&dir), pairs(&FILES));
    assert!(!sibling(&dir, ".staging").exists());
}

#[tokio::test]
async fn existing_content_and_a_stale_staging_directory_are_replaced() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    let dir = scratch.path().join("out");
    for old in [dir.join("old.mp4"), sibling(&dir, ".staging").join("half.mp4")] {
        std::fs::create_dir_all(old.parent().unwrap()).unwrap();
        std::fs::write(old, "old").unwrap();
    }
    export(&blobs, &presentation, &dir).await.unwrap();
    assert_eq!(tree(&dir), pairs(&FILES));
    assert!(!sibling(&dir, ".staging").exists());
}

#[tokio::test]
async fn a_missing_object_leaves_the_target_unchanged() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    blobs.delete("objects/master.m3u8").await.unwrap();
    let dir = scratch.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("before.txt"), "before").unwrap();
    let failed = export(&blobs, &presentation, &dir).await.unwrap_err();
    assert!(matches!(failed, ExportError::Blob(_)), "{failed:?}");
    assert_eq!(tree(&dir), pairs(&[("before.txt", "before")]));
}

#[tokio::test]
async fn a_catalogue_that_leaves_the_directory_is_refused() {
    let blobs = MemoryBlobs::new();
    let evil = r#"[{"path": "../evil", "object": {"key": "k", "bytes": 1, "sha256": ""}}]"#;
    for json in [evil, "not json"] {
        let stored = store(&blobs, "catalogue.json", json).await;
        let presentation = Presentation { hash: String::new(), catalogue: stored, bytes: 0, num_files: 1 };
        let refused = catalogue(&blobs, &presentation).await;
        assert!(matches!(refused, Err(ExportError::Catalogue(_))), "{refused:?}");
    }
}

#[test]
fn siblings_keep_the_folder_and_the_name() {
    assert_eq!(sibling("a/film.streams".as_ref(), ".partial"), std::path::Path::new("a/film.streams.partial"));
}
