//! The preview directory.

use super::{pairs, store, tree};
use splitreel_assembler::output::OutputLock;
use splitreel_assembler::preview::PreviewDir;
use splitreel_backend::BlobAdmin;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_core::part::PresentationFile;
use splitreel_presentation::{Manifest, Preview};
use std::path::Path;
use std::sync::Arc;

async fn preview(blobs: &MemoryBlobs, media: &[(&str, &str)], manifests: &[(&str, &str)]) -> Preview {
    let mut files = Vec::new();
    for (path, content) in media {
        let object = store(blobs, &format!("objects/{path}"), content).await;
        files.push(PresentationFile { path: (*path).into(), object });
    }
    let manifests = manifests.iter().map(|(path, text)| Manifest { path: (*path).into(), text: (*text).into() });
    Preview { media: files, manifests: manifests.collect() }
}

/// The files of a preview without its marker.
fn files(dir: &Path) -> Vec<(String, String)> {
    let (markers, files): (Vec<_>, Vec<_>) = tree(dir).into_iter().partition(|(path, _)| path == ".splitreel");
    assert_eq!(markers.len(), 1);
    files
}

#[tokio::test]
async fn a_directory_of_the_users_is_left_alone_and_the_preview_goes_elsewhere() {
    let (blobs, scratch) = (Arc::new(MemoryBlobs::new()), tempfile::tempdir().unwrap());
    let theirs = scratch.path().join("out.partial");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("master.m3u8"), "theirs").unwrap();
    let lock = OutputLock::acquire(&scratch.path().join("out"), "s").unwrap();
    let mut shown = PreviewDir::start(Arc::clone(&blobs) as Arc<_>, &lock, "film").await.unwrap();
    shown.show(&preview(&blobs, &[], &[("master.m3u8", "ours")]).await).await.unwrap();
    let dir = shown.path().unwrap().to_owned();
    assert_eq!(files(&dir), pairs(&[("master.m3u8", "ours")]));
    std::fs::write(dir.join("notes.txt"), "put there meanwhile").unwrap();
    shown.remove().await.unwrap();
    assert_eq!(tree(&theirs), pairs(&[("master.m3u8", "theirs")]));
    assert_eq!(files(&dir), pairs(&[("notes.txt", "put there meanwhile")]));
}

#[tokio::test]
async fn it_starts_empty_follows_the_preview_and_goes_away() {
    let (blobs, scratch) = (Arc::new(MemoryBlobs::new()), tempfile::tempdir().unwrap());
    let dir = scratch.path().join("out.partial");
    let lock = OutputLock::acquire(&scratch.path().join("out"), "s").unwrap();
    let mut stale = PreviewDir::start(Arc::clone(&blobs) as Arc<_>, &lock, "film").await.unwrap();
    stale.show(&preview(&blobs, &[("v/720p/seg-00009.m4s", "stale")], &[]).await).await.unwrap();
    assert!(dir.exists());
    let mut shown = PreviewDir::start(Arc::clone(&blobs) as Arc<_>, &lock, "film").await.unwrap();
    assert!(!dir.exists(), "what an earlier run left is gone");

    let first = [("v/720p/init.mp4", "header"), ("v/720p/seg-00001.m4s", "one")];
    shown.show(&preview(&blobs, &first, &[("master.m3u8", "1 of 2")]).await).await.unwrap();
    let expected = [("master.m3u8", "1 of 2"), first[0], first[1]];
    assert_eq!(shown.path(), Some(dir.as_path()));
    assert_eq!(files(&dir), pairs(&expected));

    let second = [first[0], first[1], ("v/720p/seg-00002.m4s", "two")];
    shown.show(&preview(&blobs, &second, &[("master.m3u8", "2 of 2")]).await).await.unwrap();
    assert_eq!(files(&dir), pairs(&[("master.m3u8", "2 of 2"), second[0], second[1], second[2]]));

    shown.remove().await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn no_manifest_names_media_that_could_not_be_linked() {
    let (blobs, scratch) = (Arc::new(MemoryBlobs::new()), tempfile::tempdir().unwrap());
    let dir = scratch.path().join("out.partial");
    let lock = OutputLock::acquire(&scratch.path().join("out"), "s").unwrap();
    let mut shown = PreviewDir::start(Arc::clone(&blobs) as Arc<_>, &lock, "film").await.unwrap();
    let lost = preview(&blobs, &[("v/720p/seg-00001.m4s", "one")], &[("master.m3u8", "text")]).await;
    blobs.delete("objects/v/720p/seg-00001.m4s").await.unwrap();
    assert!(shown.show(&lost).await.is_err());
    assert!(!dir.join("master.m3u8").exists());
}
