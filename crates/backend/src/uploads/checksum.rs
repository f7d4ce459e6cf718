//! Checksums of request bodies (tus checksum extension), and the base64 of checksums and metadata.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Algorithms, as the header `Tus-Checksum-Algorithm` lists them. The protocol asks for SHA-1 at least.
pub const ALGORITHMS: &str = "sha1,sha256";

/// The expected hash of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-1 (FIPS 180-4): detects accidents, not attacks.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// Why the header `Upload-Checksum` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// No algorithm of [`ALGORITHMS`].
    #[error("the algorithm is none of {ALGORITHMS}")]
    Algorithm,
    /// Not base64 of the right length.
    #[error("the checksum is not base64 of the right length")]
    Value,
}

impl Checksum {
    /// Reads the header `Upload-Checksum`: an algorithm, a space, base64.
    ///
    /// # Errors
    /// [`ChecksumError`].
    pub fn parse(header: &str) -> Result<Self, ChecksumError> {
        let (algorithm, value) = header.trim().split_once(' ').ok_or(ChecksumError::Value)?;
        let bytes = decode_base64(value.trim()).ok_or(ChecksumError::Value)?;
        match algorithm {
            "sha1" => bytes.try_into().map(Checksum::Sha1).map_err(|_| ChecksumError::Value),
            "sha256" => bytes.try_into().map(Checksum::Sha256).map_err(|_| ChecksumError::Value),
            _ => Err(ChecksumError::Algorithm),
        }
    }

    /// Starts to hash a body.
    pub fn hasher(&self) -> ChecksumHasher {
        match self {
            Checksum::Sha1(wanted) => ChecksumHasher::Sha1(Sha1::new(), *wanted),
            Checksum::Sha256(wanted) => ChecksumHasher::Sha256(Sha256::new(), *wanted),
        }
    }
}

/// Hashes a body in chunks.
pub enum ChecksumHasher {
    /// With the expected hash.
    Sha1(Sha1, [u8; 20]),
    /// With the expected hash.
    Sha256(Sha256, [u8; 32]),
}

impl ChecksumHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            ChecksumHasher::Sha1(hasher, _) => hasher.update(bytes),
            ChecksumHasher::Sha256(hasher, _) => hasher.update(bytes),
        }
    }

    /// Whether the bytes have the expected hash.
    pub fn is_match(self) -> bool {
        match self {
            ChecksumHasher::Sha1(hasher, wanted) => <[u8; 20]>::from(hasher.finalize()) == wanted,
            ChecksumHasher::Sha256(hasher, wanted) => <[u8; 32]>::from(hasher.finalize()) == wanted,
        }
    }
}

/// Base64 of RFC 4648 §4; the padding may be left out. `None`: the text is not base64.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let engine = if text.ends_with('=') { STANDARD } else { STANDARD_NO_PAD };
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_read() {
        let sha1 = Checksum::parse("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=").unwrap();
        let mut hasher = sha1.hasher();
        hasher.update(b"hello ");
        hasher.update(b"world");
        assert!(hasher.is_match());
        let mut hasher = Checksum::parse("sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=").unwrap().hasher();
        hasher.update(b"abc");
        assert!(hasher.is_match());
        assert!(!sha1.hasher().is_match());
        assert_eq!(Checksum::parse("md5 AAAA"), Err(ChecksumError::Algorithm));
        for bad in ["", "sha1", "sha1 ???", "sha1 AAAA", "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            assert_eq!(Checksum::parse(bad), Err(ChecksumError::Value), "{bad}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zg", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(decode_base64(text).unwrap(), bytes.as_bytes());
        }
        for bad in ["Z", "Zh==", "Zg=", "Z===", "Zm9v=", "Z g=", "Zg==Zg==", "_-8="] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decoded_without_panic(text in any::<String>()) {
            let _ = decode_base64(&text).map(|bytes| assert!(bytes.len() <= text.len()));
        }
    }
}
