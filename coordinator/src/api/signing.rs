//! Keyed signatures for what the service gives out and takes back: playback links and write tickets. Pure.

use sha2::{Digest, Sha256};
use splitreel_core::plan::hex;
use std::fmt;
use subtle::ConstantTimeEq;

const BLOCK: usize = 64;

/// Bytes that nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// SHA-256 of the bytes, hex: what may be compared and stored.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&self.0)
    }

    /// HMAC-SHA256 (RFC 2104) over parts, each led by its length so that no two lists of parts look alike; hex.
    pub(crate) fn sign(&self, parts: &[&str]) -> String {
        let mut message = Vec::new();
        for part in parts {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        hex(&hmac(&self.0, &message))
    }

    /// Whether the signature is of these parts; takes the same time wherever it differs.
    pub(crate) fn is_signature(&self, parts: &[&str], signature: &str) -> bool {
        is_same(&self.sign(parts), signature)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256, hex.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Compares without telling by its time where texts differ.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        for (to, from) in block.iter_mut().zip(Sha256::digest(key)) {
            *to = from;
        }
    } else {
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, cases 2 and 6.
    #[test]
    fn hmac_is_that_of_the_standard() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn parts_are_told_apart_and_secrets_do_not_show() {
        let key = Secret::new(*b"0123456789abcdef0123456789abcdef");
        assert_ne!(key.sign(&["ab", "c"]), key.sign(&["a", "bc"]));
        assert_ne!(key.sign(&["a", ""]), key.sign(&["a"]));
        assert!(key.is_signature(&["a"], &key.sign(&["a"])));
        assert!(!key.is_signature(&["a"], ""));
        assert_eq!(format!("{key:?}"), "Secret(…)");
    }
}
