//! Webhook keys: the key that a receiver checks signatures with. Stored in clear, since signing needs it; shown only in
//! the answer that made it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use splitreel_backend::Secrets;
use splitreel_backend::world::NoRandomness;
use splitreel_telemetry::redact::Secret;
use standardwebhooks::Webhook;

const PREFIX: &str = "whsec_";

/// A signing key in the form of the Standard Webhooks specification: `whsec_` and base64. Its stored document holds the
/// key; `Debug` does not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct WebhookKey(Secret<String>);

impl Serialize for WebhookKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.reveal())
    }
}

impl WebhookKey {
    /// A new key of 256 random bits.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn fresh(secrets: &dyn Secrets) -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        secrets.fill(&mut bytes)?;
        Ok(WebhookKey(Secret::new(format!("{PREFIX}{}", STANDARD.encode(bytes)))))
    }

    /// A key that the receiver brings along. `None`: the text is not `whsec_` and base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        let is_sized = (32..=88).contains(&encoded.len());
        (is_sized && Webhook::new(text).is_ok()).then(|| WebhookKey(Secret::new(text.to_owned())))
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> &str {
        self.0.expose()
    }

    /// The header `webhook-signature` of a message. `None`: the stored key is damaged.
    pub(crate) fn sign(&self, message: &str, timestamp_s: i64, body: &str) -> Option<String> {
        Webhook::new(self.reveal()).and_then(|key| key.sign(message, timestamp_s, body.as_bytes())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::world::Machine;

    #[test]
    fn keys_are_fresh_well_formed_and_not_printed() {
        let key = WebhookKey::fresh(&Machine).unwrap();
        assert_ne!(key, WebhookKey::fresh(&Machine).unwrap());
        assert_eq!(WebhookKey::parse(key.reveal()), Some(key.clone()));
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
            assert_eq!(WebhookKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_stored_key_is_read_back_whole() {
        let key = WebhookKey::fresh(&Machine).unwrap();
        let stored = serde_json::to_value(&key).unwrap();
        assert_eq!(stored, key.reveal());
        assert_eq!(serde_json::from_value::<WebhookKey>(stored).unwrap(), key);
    }
}
