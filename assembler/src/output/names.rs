//! Names next to an output directory, within the length of a file name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Longest file name in bytes (NAME_MAX of Linux).
pub const NAME_MAX: usize = 255;

/// Start of the name of every lock and helper next to an output directory.
pub(super) const PREFIX: &str = ".splitreel-";

/// File name of an output directory; a path without one (`/`) has no neighbours.
pub(super) fn name_of(dir: &Path) -> &OsStr {
    dir.file_name().unwrap_or_else(|| OsStr::new("out"))
}

/// Short name of an output directory among its neighbours: 16 hex digits.
pub(super) fn id_of(dir: &Path) -> String {
    let hash = splitreel_core::digest::sha256_hex(name_of(dir).as_bytes());
    hash.chars().take(16).collect()
}

/// The beginning of a name, at most `max` bytes long, cut between characters where the name is UTF-8.
pub fn cut(name: &OsStr, max: usize) -> OsString {
    let bytes = name.as_bytes();
    let end = match name.to_str() {
        Some(text) => text.floor_char_boundary(max),
        None => bytes.len().min(max),
    };
    OsString::from_vec(bytes.get(..end).unwrap_or_default().to_vec())
}
