//! Export of a published presentation to a directory.

use super::{pairs, published, store, tree};
use splitreel_assembler::export::{ExportError, catalogue, export};
use splitreel_assembler::output::{OutputLock, Permit, Whose};
use splitreel_backend::BlobAdmin;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_core::part::Presentation;
use std::path::Path;

const FILES: [(&str, &str); 3] = [("film.mp4", "mp4"), ("master.m3u8", "playlist"), ("v/720p/init.mp4", "header")];

const JOB: &str = "job-1";

fn permit() -> Permit {
    Permit { job: JOB.into(), base: "film".into(), whose: Whose::Job }
}

/// Names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_presentation_is_exported_as_files() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    let dir = scratch.path().join("out");
    let lock = OutputLock::acquire(&dir, "s").unwrap();
    export(&blobs, &presentation, &lock, &permit()).await.unwrap();
    assert_eq!(tree(&dir), pairs(&FILES));
    drop(lock);
    assert_eq!(names(scratch.path()), ["out"], "no helper is left");
}

#[tokio::test]
async fn the_earlier_presentation_of_the_job_is_replaced_and_neighbours_stay() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    let dir = scratch.path().join("out");
    let report = format!(r#"{{"run": {{"job": "{JOB}", "base": "old"}}}}"#);
    for (path, content) in
        [("out/old.mp4", "old"), ("out/report.json", &report), ("out.staging/a", "a"), ("out.partial/b", "b")]
    {
        let path = scratch.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let lock = OutputLock::acquire(&dir, "s").unwrap();
    export(&blobs, &presentation, &lock, &permit()).await.unwrap();
    assert_eq!(tree(&dir), pairs(&FILES));
    drop(lock);
    assert_eq!(names(scratch.path()), ["out", "out.partial", "out.staging"]);
}

#[tokio::test]
async fn a_directory_with_other_files_is_not_replaced() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    let dir = scratch.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("notes.txt"), "notes").unwrap();
    let lock = OutputLock::acquire(&dir, "s").unwrap();
    let refused = export(&blobs, &presentation, &lock, &permit()).await.unwrap_err();
    assert!(matches!(&refused, ExportError::Holds { path, .. } if path == Path::new("notes.txt")), "{refused:?}");
    assert_eq!(tree(&dir), pairs(&[("notes.txt", "notes")]));
    drop(lock);
    assert_eq!(names(scratch.path()), ["out"]);
}

#[tokio::test]
async fn a_missing_object_leaves_the_target_unchanged() {
    let (blobs, scratch) = (MemoryBlobs::new(), tempfile::tempdir().unwrap());
    let presentation = published(&blobs, &FILES).await;
    blobs.delete("objects/master.m3u8").await.unwrap();
    let dir = scratch.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("before.txt"), "before").unwrap();
    let lock = OutputLock::acquire(&dir, "s").unwrap();
    let failed = export(&blobs, &presentation, &lock, &permit()).await.unwrap_err();
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
