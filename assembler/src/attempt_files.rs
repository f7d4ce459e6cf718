//! Objects that one attempt of an assembly stores, under the attempt's key prefix.

use crate::blob_failure;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use splitreel_backend::BlobStore;
use splitreel_backend::blob::Piece;
use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_core::part::{PresentationFile, StoredObject};
use splitreel_core::plan::hex;
use splitreel_core::{Failure, FailureCode};

/// Bytes read at a time to hash an object.
const HASH_STEP: usize = 4 << 20;

/// A file that cannot be made of these parts, ever.
pub(crate) fn unpackable(what: &str, e: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::Packaging, format!("{what} cannot be written: {e}"))
}

/// Writer of an attempt's objects.
pub(crate) struct AttemptFiles<'a> {
    pub(crate) blobs: &'a dyn BlobStore,
    pub(crate) prefix: &'a str,
}

impl AttemptFiles<'_> {
    /// Stores a file.
    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<PresentationFile, Failure> {
        let object = StoredObject {
            key: format!("{}{path}", self.prefix),
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
        };
        self.blobs.put(&object.key, Bytes::from(bytes)).await.map_err(|e| blob_failure(&e))?;
        Ok(PresentationFile { path: path.to_owned(), object })
    }

    /// Stores a file made of other objects. The store may copy them on its side.
    pub(crate) async fn compose(
        &self,
        path: &str,
        pieces: &[Piece],
        expected: u64,
    ) -> Result<PresentationFile, Failure> {
        let key = format!("{}{path}", self.prefix);
        let bytes = self.blobs.compose(&key, pieces).await.map_err(|e| blob_failure(&e))?;
        if bytes != expected {
            return Err(Failure::of(FailureCode::Compose, format!("{key} has {bytes} bytes instead of {expected}")));
        }
        let sha256 = self.hash(&key).await?;
        Ok(PresentationFile { path: path.to_owned(), object: StoredObject { key, bytes, sha256 } })
    }

    /// Reads a whole small object and checks its size and hash.
    pub(crate) async fn read(&self, object: &StoredObject) -> Result<Vec<u8>, Failure> {
        read_whole(self.blobs, object).await.map_err(|error| match error {
            ReadError::Blob(error) => blob_failure(&error),
            damaged @ ReadError::Damaged { .. } => Failure::of(FailureCode::PartDamaged, damaged.to_string()),
        })
    }

    async fn hash(&self, key: &str) -> Result<String, Failure> {
        let (mut hash, mut at) = (Sha256::new(), 0u64);
        loop {
            let piece = self.blobs.read(key, at, HASH_STEP).await.map_err(|e| blob_failure(&e))?;
            if piece.is_empty() {
                return Ok(hex(&hash.finalize()));
            }
            hash.update(&piece);
            at += piece.len() as u64;
        }
    }
}
