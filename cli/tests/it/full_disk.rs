//! A disk that is full, seen by one process only.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables for a process in which no file below `dir` grows beyond `room` bytes. Builds what does it within `dir`.
pub fn settings(dir: &Path, room: u64) -> Vec<(&'static str, String)> {
    let library = dir.join("full_disk.so");
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/full_disk.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    vec![
        ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
        ("FULL_DISK", dir.to_str().unwrap().to_owned()),
        ("FULL_DISK_ROOM", room.to_string()),
    ]
}
