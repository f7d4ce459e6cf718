//! The key that signs playback links and write tickets.

use super::config::ApiConfigError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use splitreel_telemetry::redact::Secret;

/// Shortest key, in bytes: the output of SHA-256.
const MIN_BYTES: usize = 32;

/// Signs lists of texts with HMAC-SHA-256 (RFC 2104).
#[derive(Clone)]
pub(super) struct SigningKey(Secret<Vec<u8>>);

impl SigningKey {
    /// A key of at least 32 bytes.
    pub(super) fn new(key: Secret<Vec<u8>>) -> Result<Self, ApiConfigError> {
        let bytes = key.expose().len();
        if bytes < MIN_BYTES { Err(ApiConfigError::ShortSigningKey { bytes }) } else { Ok(SigningKey(key)) }
    }

    /// Each part is preceded by its length, so that no two lists of parts give the same message.
    fn mac(&self, parts: &[&str]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length: there is no error to handle.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).ok()?;
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Some(mac)
    }

    /// The signature of a list of parts, in hex.
    pub(super) fn sign(&self, parts: &[&str]) -> String {
        self.mac(parts).map(|mac| hex::encode(mac.finalize().into_bytes())).unwrap_or_default()
    }

    /// Whether a signature is of these parts; compares in constant time.
    pub(super) fn is_signature(&self, parts: &[&str], signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        self.mac(parts).is_some_and(|mac| mac.verify_slice(&signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::new(Secret::new(b"0123456789abcdef0123456789abcdef".to_vec())).unwrap()
    }

    #[test]
    fn the_border_between_parts_is_signed() {
        let key = key();
        assert_ne!(key.sign(&["ab", "c"]), key.sign(&["a", "bc"]));
        assert_ne!(key.sign(&["a", ""]), key.sign(&["a"]));
        assert!(key.is_signature(&["a"], &key.sign(&["a"])));
        for bad in ["", "00", "not hex", &key.sign(&["b"])] {
            assert!(!key.is_signature(&["a"], bad), "{bad}");
        }
    }

    /// A link signed by an earlier release stays valid.
    #[test]
    fn a_signature_is_the_same_in_every_release() {
        let signature = "d5600e91078c898430ab6f4d7ffc0c9f64a0943c44c1b9fdd3f63c4e94a2d8cf";
        assert_eq!(key().sign(&["playback", "studio"]), signature);
    }

    #[test]
    fn a_short_key_is_refused() {
        let short = SigningKey::new(Secret::new(b"short".to_vec()));
        assert!(matches!(short, Err(ApiConfigError::ShortSigningKey { bytes: 5 })));
    }
}
