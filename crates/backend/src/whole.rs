//! Reading a small object as a whole, checked against what its row records.

use crate::blob::{BlobError, BlobReader};
use splitreel_core::digest::sha256_hex;
use splitreel_core::part::StoredObject;

/// Bytes read at a time.
const STEP: usize = 4 << 20;

/// An object could not be read as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The stored bytes are not the recorded ones. Reading again does not help.
    #[error("the stored object {key} is damaged: {why}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// The difference.
        why: String,
    },
}

impl ReadError {
    /// The object does not hold what was recorded.
    pub fn damaged(object: &StoredObject, why: impl ToString) -> Self {
        ReadError::Damaged { key: object.key.clone(), why: why.to_string() }
    }
}

/// Reads all bytes of an object into memory and checks their number and hash.
///
/// # Errors
/// [`ReadError`].
pub async fn read_whole(blobs: &dyn BlobReader, object: &StoredObject) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < object.bytes {
        let piece = blobs.read(&object.key, bytes.len() as u64, STEP).await?;
        if piece.is_empty() {
            return Err(ReadError::damaged(object, format!("{} bytes long, not {}", bytes.len(), object.bytes)));
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() as u64 != object.bytes {
        return Err(ReadError::damaged(object, format!("longer than {} bytes", object.bytes)));
    }
    if sha256_hex(&bytes) != object.sha256 {
        return Err(ReadError::damaged(object, "the hash differs"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartWriter;
    use crate::memory::MemoryBlobs;
    use bytes::Bytes;

    #[tokio::test]
    async fn an_object_that_differs_from_its_record_is_refused() {
        let blobs = MemoryBlobs::new();
        blobs.put("a", Bytes::from_static(b"abc")).await.unwrap();
        let object = |bytes, of: &[u8]| StoredObject { key: "a".into(), bytes, sha256: sha256_hex(of) };
        assert_eq!(read_whole(&blobs, &object(3, b"abc")).await.unwrap(), b"abc");
        for (bytes, of) in [(3, b"abd"), (2, b"abc"), (4, b"abc")] {
            let read = read_whole(&blobs, &object(bytes, of)).await;
            assert!(matches!(read, Err(ReadError::Damaged { .. })), "{bytes} {read:?}");
        }
        let missing = StoredObject { key: "b".into(), ..object(3, b"abc") };
        assert!(matches!(read_whole(&blobs, &missing).await, Err(ReadError::Blob(BlobError::NotFound { .. }))));
    }

    #[tokio::test]
    async fn objects_of_several_steps_and_empty_ones_are_read() {
        let blobs = MemoryBlobs::new();
        for len in [0, 1, STEP, STEP + 1, 2 * STEP + 7] {
            let content = vec![7_u8; len];
            blobs.put("a", content.clone().into()).await.unwrap();
            let object = StoredObject { key: "a".into(), bytes: len as u64, sha256: sha256_hex(&content) };
            assert!(read_whole(&blobs, &object).await.unwrap() == content, "{len}");
        }
    }
}
