//! The grant seam on one machine: sources are files below the configured folders. Local workers open files and objects
//! themselves, so no request is ever signed.

use async_trait::async_trait;
use splitreel_backend::grants::{GrantError, Grants, SignedRequest, local_path, pin_file};
use splitreel_core::source::SourceRef;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Grants on the files of this machine.
pub struct LocalGrants {
    folders: Vec<PathBuf>,
}

impl LocalGrants {
    /// Grants for sources below one of the folders, which must exist.
    ///
    /// # Errors
    /// When a folder cannot be resolved.
    pub fn new(folders: &[&Path]) -> std::io::Result<Self> {
        Ok(LocalGrants { folders: folders.iter().map(|folder| folder.canonicalize()).collect::<Result<_, _>>()? })
    }
}

/// Pins a file. Files outside the folders are reported as missing.
fn look(locator: &str, folders: &[PathBuf]) -> Result<SourceRef, GrantError> {
    let what = || locator.to_owned();
    let unusable = |why: &str| GrantError::Unusable { what: what(), why: why.to_owned() };
    let Some(path) = local_path(locator) else {
        return Err(unusable("this server reads uploads, and files of its folders by their whole path"));
    };
    let source = match pin_file(&path) {
        Ok(source) => source,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied) => {
            return Err(GrantError::NotFound { what: what() });
        }
        Err(e) => return Err(GrantError::Unavailable { what: what(), source: Box::new(e) }),
    };
    let path = local_path(&source.locator).unwrap_or_default();
    if !folders.iter().any(|folder| path.starts_with(folder)) {
        return Err(GrantError::NotFound { what: what() });
    }
    if path.is_file() { Ok(source) } else { Err(unusable("it is no regular file")) }
}

#[async_trait]
impl Grants for LocalGrants {
    async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError> {
        let (text, folders) = (locator.to_owned(), self.folders.clone());
        let stopped = |e| GrantError::Unavailable { what: locator.to_owned(), source: Box::new(e) };
        tokio::task::spawn_blocking(move || look(&text, &folders)).await.map_err(stopped)?
    }

    async fn read_source(&self, _source: &SourceRef, _ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(None)
    }

    async fn write_object(&self, _key: &str, _bytes: u64, _ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(None)
    }

    async fn read_object(&self, _key: &str, _ttl_ms: i64) -> Result<Option<SignedRequest>, GrantError> {
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_folders_are_sources() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("in");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::create_dir_all(place.path().join("in-too")).unwrap();
        for name in ["in/a.mp4", "in/sub/b.mp4", "in-too/c.mp4", "d.mp4"] {
            std::fs::write(place.path().join(name), b"x").unwrap();
        }
        std::os::unix::fs::symlink(place.path().join("d.mp4"), inside.join("link.mp4")).unwrap();
        let grants = LocalGrants::new(&[&inside]).unwrap();
        let at = |name: &str| look(place.path().join(name).to_str().unwrap(), &grants.folders);
        assert!(at("in/a.mp4").is_ok() && at("in/sub/b.mp4").is_ok() && at("in/sub/../a.mp4").is_ok());
        for name in ["d.mp4", "in-too/c.mp4", "in/../d.mp4", "in/link.mp4", "in/none.mp4"] {
            assert!(matches!(at(name), Err(GrantError::NotFound { .. })), "{name}");
        }
        assert!(matches!(at("in/sub"), Err(GrantError::Unusable { .. })));
        for locator in ["s3://bucket/key", "a.mp4", "https://host/a.mp4"] {
            assert!(matches!(look(locator, &grants.folders), Err(GrantError::Unusable { .. })), "{locator}");
        }
    }
}
