//! Fingerprints: short names for long or foreign texts. It owns how texts are told apart before they are hashed.

use sha2::{Digest, Sha256};

/// SHA-256 over the texts, each behind its length, in lower-case hex: 64 characters.
pub fn fingerprint(texts: &[&str]) -> String {
    hash(texts).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 64 bits of the same hash.
pub fn short_fingerprint(texts: &[&str]) -> u64 {
    hash(texts).iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn hash(texts: &[&str]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_texts_counts() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["ab"]).len(), 64);
        assert_eq!(fingerprint(&["x"])[..16], format!("{:016x}", short_fingerprint(&["x"])));
    }
}
