//! The grant seam: presigned requests for single objects, for processes that hold no credentials, and the pinning of
//! sources. A signed request names one object and one method and permits nothing else.

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};
use splitreel_core::source::SourceRef;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Why a source was not pinned or a request not signed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The source or object does not exist.
    #[error("there is nothing at {what}")]
    NotFound {
        /// Locator or key.
        what: String,
    },
    /// The locator is not of a form, or not in a place, that this deployment reads.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// Locator or key.
        what: String,
        /// Reason and remedy.
        why: String,
    },
    /// Storage did not answer: try again.
    #[error("storage did not answer about {what}")]
    Unavailable {
        /// Locator or key.
        what: String,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A presigned request: any holder may send it until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SignedRequest {
    /// HTTP method.
    pub method: String,
    /// URL with its signature.
    pub url: String,
    /// Headers that must be sent along, by lower-case name.
    pub headers: Vec<(String, String)>,
    /// Milliseconds since the epoch.
    pub expires_ms: i64,
}

/// Pins sources and signs requests.
#[async_trait]
pub trait Grants: Send + Sync {
    /// Pins the present size and version of the source at a locator (`s3://bucket/key`, a path).
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError>;
    /// Signed request to read a pinned source, in ranges; `None` when local workers open the locator directly.
    async fn read_source(&self, source: &SourceRef, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
    /// Signed request to store one object of a known size; `None` when local workers have the store itself.
    async fn write_object(&self, key: &str, bytes: u64, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
    /// Signed request to read one object; `None` when local workers have the store itself.
    async fn read_object(&self, key: &str, ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError>;
}

/// Scheme of the locators of local files whose paths are not UTF-8.
const SCHEME: &str = "file://";
/// Bytes of a path that stand for themselves in a `file:` URI.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The locator of a local file or directory: its absolute path, or, where this is not UTF-8, a `file:` URI (RFC 8089)
/// that keeps every byte.
pub fn file_locator(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => format!("{SCHEME}{}", percent_encode(path.as_os_str().as_bytes(), PLAIN)),
    }
}

/// The path that a locator of [`file_locator`] names; `None` for other locators, relative paths and names with a NUL.
pub fn local_path(locator: &str) -> Option<PathBuf> {
    let path = match locator.strip_prefix(SCHEME) {
        Some(encoded) => PathBuf::from(OsString::from_vec(percent_decode_str(encoded).collect())),
        None => PathBuf::from(locator),
    };
    (path.is_absolute() && !path.as_os_str().as_bytes().contains(&0)).then_some(path)
}

/// Pins a local file: its size and modification time.
///
/// # Errors
/// Those of the file system.
pub fn pin_file(path: &Path) -> std::io::Result<SourceRef> {
    let path = path.canonicalize()?;
    let meta = path.metadata()?;
    let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let locator = file_locator(&path);
    Ok(SourceRef { locator, bytes: meta.len(), version: format!("mtime-{modified}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_of_any_bytes_comes_back_from_its_locator(name in prop::collection::vec(1u8.., 1..40)) {
            let path = PathBuf::from(OsString::from_vec([b"/".as_slice(), &name].concat()));
            prop_assert_eq!(local_path(&file_locator(&path)).map(PathBuf::into_os_string), Some(path.into_os_string()));
        }
    }

    #[test]
    fn names_that_are_not_utf_8_keep_their_bytes() {
        let path = PathBuf::from(OsString::from_vec(b"/in/caf\xe9 1.mp4".to_vec()));
        assert_eq!(file_locator(&path), "file:///in/caf%E9%201.mp4");
        assert_eq!(file_locator(Path::new("/in/caf\u{e9} 1.mp4")), "/in/caf\u{e9} 1.mp4");
        for other in ["s3://bucket/key", "a.mp4", "file://host", "file:///a%00b"] {
            assert_eq!(local_path(other), None, "{other}");
        }
    }
}
