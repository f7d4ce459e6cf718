//! Uploads and sources in local directories against the conformance suites.

use crate::Directory;
use async_trait::async_trait;
use bytes::Bytes;
use splitreel_backend::Grants;
use splitreel_backend::conformance::{GrantCapabilities, GrantHarness, UploadCapabilities, UploadHarness};
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::uploads::UploadStorage;
use splitreel_backend_embedded::{LocalGrants, LocalUploads};
use std::path::PathBuf;
use std::sync::Arc;

#[async_trait]
impl UploadHarness for Directory {
    async fn open(&self) -> Arc<dyn UploadStorage> {
        Arc::new(LocalUploads::new(&self.folder("uploads")).unwrap())
    }
    fn capabilities(&self) -> UploadCapabilities {
        UploadCapabilities { takes_direct_uploads: false }
    }
    async fn content(&self, locator: &str) -> Option<Bytes> {
        std::fs::read(locator).ok().map(Bytes::from)
    }
    async fn put(&self, _: &SignedRequest, _: Bytes) -> String {
        unreachable!("there are no direct uploads into a directory")
    }
}

#[async_trait]
impl GrantHarness for Directory {
    async fn open(&self) -> Arc<dyn Grants> {
        Arc::new(LocalGrants::new(&[&self.folder("sources")]).unwrap())
    }
    fn capabilities(&self) -> GrantCapabilities {
        GrantCapabilities { signs: false }
    }
    async fn write_source(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder("sources").join(name);
        std::fs::write(&path, content).unwrap();
        path.canonicalize().unwrap().to_str().unwrap().to_owned()
    }
    async fn remove_source(&self, name: &str) {
        std::fs::remove_file(self.folder("sources").join(name)).unwrap();
    }
    async fn elsewhere(&self) -> String {
        let path = self.folder("elsewhere").join("film.mkv");
        std::fs::write(&path, b"x").unwrap();
        path.to_str().unwrap().to_owned()
    }
    async fn send(&self, _: &SignedRequest, _: Bytes) -> (u16, Bytes) {
        unreachable!("no request is signed for a directory")
    }
}

impl Directory {
    /// A folder of this directory, made if it is missing.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

mod upload_conformance {
    use super::*;
    splitreel_backend::upload_conformance!(Directory::new());
}

mod grant_conformance {
    use super::*;
    splitreel_backend::grant_conformance!(Directory::new());
}
