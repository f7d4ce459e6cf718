//! Webhook secrets: the key that a receiver checks signatures with. It is stored as it is, since signing needs it,
//! and never shown after it was made.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use splitreel_backend::Ids;
use standardwebhooks::Webhook;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A signing key in the form of the Standard Webhooks specification: `whsec_` and base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new key of 256 bits, drawn from the randomness of fresh identifiers, of which each brings at least 32 bits.
    pub fn fresh(ids: &dyn Ids) -> Self {
        let mut hasher = Sha256::new();
        for _ in 0..16 {
            hasher.update(ids.fresh().as_bytes());
        }
        Secret(format!("whsec_{}", base64(&hasher.finalize())))
    }

    /// A key that the receiver brings along. `None`: it is not `whsec_` and base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix("whsec_")?;
        let is_sized = (32..=88).contains(&encoded.len());
        (is_sized && Webhook::new(text).is_ok()).then(|| Secret(text.to_owned()))
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The header `webhook-signature` of a message. `None`: the stored key is damaged.
    pub(crate) fn sign(&self, message: &str, timestamp_s: i64, body: &str) -> Option<String> {
        Webhook::new(&self.0).and_then(|key| key.sign(message, timestamp_s, body.as_bytes())).ok()
    }
}

/// Base64 of RFC 4648 §4 with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) as usize & 63;
            let letter = ALPHABET.get(digit).filter(|_| place <= group.len()).map_or('=', |b| char::from(*b));
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::world::Machine;

    #[test]
    fn keys_are_fresh_well_formed_and_not_printed() {
        let key = Secret::fresh(&Machine);
        assert_ne!(key, Secret::fresh(&Machine));
        assert_eq!(Secret::parse(key.reveal()), Some(key.clone()));
        assert!(!format!("{key:?}").contains("whsec_"));
        assert!(key.sign("evt_1", 1, "{}").unwrap().starts_with("v1,"));
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            &format!("whsec_{}", "A".repeat(200)),
            &"A".repeat(44),
            "whsec_????????????????????????????????",
        ] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
