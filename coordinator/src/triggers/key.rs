//! Object keys as events spell them: some senders URL-encode keys, some do not, and nothing in the document says which.
//! It owns the readings of a key; which of them exists is for storage to say.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Longest key that S3 allows, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// How a sender is known to write keys. A guess that orders the readings, never one that drops any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Form-encoded: `+` is a space, `%XX` a byte (AWS, MinIO, RustFS records).
    Encoded,
    /// As it is (EventBridge, R2, Ceph up to 16, the `Key` member of MinIO).
    Plain,
}

/// The keys that the text may mean, the likelier one first, at least one and at most two. Readings that are no key
/// (empty, above [`MAX_KEY_BYTES`], with a NUL, or no UTF-8 after decoding) are left out; `None` when none remains.
pub fn readings(text: &str, spelling: Spelling) -> Option<Vec<String>> {
    let raw = Some(text.to_owned());
    let decoded = decode(text);
    let order = match spelling {
        Spelling::Encoded => [decoded, raw],
        Spelling::Plain => [raw, decoded],
    };
    let mut keys: Vec<String> = Vec::with_capacity(2);
    for key in order.into_iter().flatten().filter(|key| is_key(key)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    (!keys.is_empty()).then_some(keys)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.contains('\0')
}

/// `+` to a space, `%XX` to a byte; a `%` without two hex digits stands for itself. `None`: not UTF-8.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(key: &str) -> String {
        key.bytes()
            .map(|b| match b {
                b' ' => "+".to_owned(),
                b if b.is_ascii_alphanumeric() || b"/.-_".contains(&b) => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect()
    }

    #[test]
    fn both_readings_in_the_order_of_the_sender() {
        assert_eq!(readings("in/a+b%2B.mp4", Spelling::Encoded).unwrap(), ["in/a b+.mp4", "in/a+b%2B.mp4"]);
        assert_eq!(readings("in/a+b.mp4", Spelling::Plain).unwrap(), ["in/a+b.mp4", "in/a b.mp4"]);
        assert_eq!(readings("in/plain.mp4", Spelling::Encoded).unwrap(), ["in/plain.mp4"]);
        assert_eq!(readings("50%.mp4", Spelling::Encoded).unwrap(), ["50%.mp4"]);
    }

    #[test]
    fn what_is_no_key_is_no_reading() {
        assert_eq!(readings("", Spelling::Encoded), None);
        assert_eq!(readings("a%00b", Spelling::Encoded).unwrap(), ["a%00b"]);
        assert_eq!(readings("%FF", Spelling::Encoded).unwrap(), ["%FF"]);
        assert_eq!(readings(&"a".repeat(1025), Spelling::Plain), None);
        assert_eq!(readings(&"%41".repeat(1024), Spelling::Encoded).unwrap(), ["A".repeat(1024)]);
    }

    proptest! {
        #[test]
        fn the_first_reading_of_an_encoded_key_is_the_key(key in "[^\\x00]{1,80}") {
            prop_assert_eq!(readings(&encode(&key), Spelling::Encoded).unwrap()[0].clone(), key.clone());
            prop_assert_eq!(readings(&key, Spelling::Plain).unwrap()[0].clone(), key);
        }

        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let keys = readings(&text, Spelling::Encoded).unwrap_or_default();
            prop_assert!(keys.len() <= 2 && keys.iter().all(|key| is_key(key)));
        }
    }
}
