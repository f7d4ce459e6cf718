//! Objects that one attempt of an assembly stores, under the attempt's key prefix.

use crate::blob_failure;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use splitreel_backend::BlobStore;
use splitreel_backend::blob::{Piece, check_key};
use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_core::digest::short_fingerprint;
use splitreel_core::part::{PresentationFile, StoredObject};
use splitreel_core::plan::hex;
use splitreel_core::{Failure, FailureCode};

/// Bytes read at a time to hash an object.
const HASH_STEP: usize = 4 << 20;

/// A file that cannot be made of these parts, ever.
pub(crate) fn unpackable(what: &str, e: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::Packaging, format!("{what} cannot be written: {e}"))
}

/// Key of the object of a file. Keys take ASCII letters and digits only, names of files letters of all scripts: such a
/// path is replaced by its hash.
fn key_of(prefix: &str, path: &str) -> String {
    let key = format!("{prefix}{path}");
    match check_key(&key) {
        Ok(()) => key,
        Err(_) => format!("{prefix}named/{:016x}", short_fingerprint(&[path])),
    }
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
            key: key_of(self.prefix, path),
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
        let key = key_of(self.prefix, path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_letters_of_any_script_have_keys_of_their_own() {
        let names = ["\u{4e88}\u{544a}.mp4", "\u{672c}\u{7de8}.mp4", "film.mp4", "v/720p/init.mp4"];
        let keys = names.map(|name| key_of("jobs/1/", name));
        assert!(keys.iter().all(|key| check_key(key).is_ok()), "{keys:?}");
        assert_ne!(keys[0], keys[1]);
        assert_eq!((keys[2].as_str(), keys[3].as_str()), ("jobs/1/film.mp4", "jobs/1/v/720p/init.mp4"));
    }
}
