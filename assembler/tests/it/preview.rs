//! The preview directory.

use super::{pairs, store, tree};
use splitreel_assembler::preview::PreviewDir;
use splitreel_backend::BlobAdmin;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_core::part::PresentationFile;
use splitreel_presentation::{Manifest, Preview};
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

#[tokio::test]
async fn it_starts_empty_follows_the_preview_and_goes_away() {
    let (blobs, scratch) = (Arc::new(MemoryBlobs::new()), tempfile::tempdir().unwrap());
    let dir = scratch.path().join("out.partial");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("stale.m4s"), "stale").unwrap();
    let mut shown = PreviewDir::start(Arc::clone(&blobs) as Arc<_>, dir.clone()).await.unwrap();
    assert!(!dir.exists(), "what an earlier run left is gone");

    let first = [("v/720p/init.mp4", "header"), ("v/720p/seg-00001.m4s", "one")];
    shown.show(&preview(&blobs, &first, &[("master.m3u8", "1 of 2")]).await).await.unwrap();
    let expected = [("master.m3u8", "1 of 2"), first[0], first[1]];
    assert_eq!(tree(&dir), pairs(&expected));

    let second = [first[0], first[1], ("v/720p/seg-00002.m4s", "two")];
    shown.show(&preview(&blobs, &second, &[("master.m3u8", "2 of 2")]).await).await.unwrap();
    assert_eq!(tree(&dir), pairs(&[("master.m3u8", "2 of 2"), second[0], second[1], second[2]]));

    shown.remove().await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn no_manifest_names_media_that_could_not_be_linked() {
    let (blobs, scratch) = (Arc::new(MemoryBlobs::new()), tempfile::tempdir().unwrap());
    let dir = scratch.path().join("out.partial");
    let mut shown = PreviewDir::start(Arc::clone(&blobs) as Arc<_>, dir.clone()).await.unwrap();
    let lost = preview(&blobs, &[("v/720p/seg-00001.m4s", "one")], &[("master.m3u8", "text")]).await;
    blobs.delete("objects/v/720p/seg-00001.m4s").await.unwrap();
    assert!(shown.show(&lost).await.is_err());
    assert!(!dir.join("master.m3u8").exists());
}
