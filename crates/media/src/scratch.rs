//! Neutral names for inputs: ffmpeg never sees the name that a user gave a file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A symbolic link with a harmless name; removed when dropped.
#[derive(Debug)]
pub(crate) struct NeutralName {
    link: PathBuf,
}

impl NeutralName {
    /// Links `source` (made absolute) into `scratch`, which must exist.
    pub(crate) fn new(scratch: &Path, source: &Path) -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let target = std::path::absolute(source)?;
        let scratch = std::path::absolute(scratch)?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let link = scratch.join(format!("input-{}-{number}", std::process::id()));
            match std::os::unix::fs::symlink(&target, &link) {
                Ok(()) => return Ok(NeutralName { link }),
                // Left behind by an earlier process with the same id.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What stands behind `-i`.
    pub(crate) fn url(&self) -> std::ffi::OsString {
        file_url(&self.link)
    }
}

impl Drop for NeutralName {
    fn drop(&mut self) {
        // A left-over link is harmless: the whole scratch directory is removed later.
        let _ = std::fs::remove_file(&self.link);
    }
}

/// A path as ffmpeg's `file:` protocol takes it: no prefix of the name can be mistaken for a protocol or an option.
pub(crate) fn file_url(path: &Path) -> std::ffi::OsString {
    let mut url = std::ffi::OsString::from("file:");
    url.push(path);
    url
}
