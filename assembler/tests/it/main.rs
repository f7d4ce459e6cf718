//! The assembler on in-memory objects: what it publishes, what it refuses, and the directories that it writes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod export;
mod preview;

use bytes::Bytes;
use splitreel_backend::PartWriter;
use splitreel_backend::memory::MemoryBlobs;
use splitreel_core::digest::sha256_hex;
use splitreel_core::part::{Presentation, PresentationFile, StoredObject};
use splitreel_presentation::Catalogue;
use std::path::Path;

/// Stores an object under a key.
async fn store(blobs: &MemoryBlobs, key: &str, content: &str) -> StoredObject {
    blobs.put(key, Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
    StoredObject { key: key.into(), bytes: content.len() as u64, sha256: sha256_hex(content.as_bytes()) }
}

/// A presentation of files with these contents.
async fn published(blobs: &MemoryBlobs, files: &[(&str, &str)]) -> Presentation {
    let mut listed = Vec::new();
    for (path, content) in files {
        let object = store(blobs, &format!("objects/{path}"), content).await;
        listed.push(PresentationFile { path: (*path).into(), object });
    }
    let catalogue = Catalogue::new(listed).unwrap();
    let json = String::from_utf8(catalogue.to_json().unwrap()).unwrap();
    let stored = store(blobs, "catalogue.json", &json).await;
    Presentation {
        hash: catalogue.hash(),
        catalogue: stored,
        bytes: catalogue.bytes(),
        num_files: catalogue.num_files() as u32,
    }
}

/// Paths and contents below a directory, by path.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}
