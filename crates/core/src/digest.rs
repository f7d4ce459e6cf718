//! SHA-256 as names and proofs: of bytes, and of lists of texts.

use sha2::{Digest, Sha256};

/// SHA-256 of bytes, in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of a list of texts in lower-case hex: a short name for long or foreign texts. Each text is preceded by its
/// length, so that no two lists give the same input.
pub fn fingerprint(texts: &[&str]) -> String {
    hex::encode(hash(texts))
}

/// The first 64 bits of [`fingerprint`].
pub fn short_fingerprint(texts: &[&str]) -> u64 {
    hash(texts).iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn hash(texts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_texts_counts() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["ab"]).len(), 64);
        assert!(fingerprint(&["x"]).starts_with(&format!("{:016x}", short_fingerprint(&["x"]))));
    }

    /// FIPS 180-4, example "abc".
    #[test]
    fn sha256_is_that_of_the_standard() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
