//! `s3://bucket/key`: parsing and writing. The key is taken as it is, as S3 tools do: nothing is decoded.

use std::fmt;
use std::str::FromStr;

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct S3Locator {
    /// Bucket.
    pub bucket: String,
    /// Key: 1 to 1024 bytes.
    pub key: String,
}

/// Why a text is no locator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocatorError {
    /// Another form.
    #[error("{text:?} is not of the form s3://bucket/key")]
    Form {
        /// What was given.
        text: String,
    },
    /// The bucket cannot exist.
    #[error("{bucket:?} is not the name of a bucket")]
    Bucket {
        /// What was given.
        bucket: String,
    },
    /// The key cannot be used: too long, with control characters, or with a `.` or `..` segment, which HTTP clients
    /// drop from a URL (RFC 3986 §5.2.4).
    #[error("{key:?} cannot be used as a key")]
    Key {
        /// What was given.
        key: String,
    },
}

impl S3Locator {
    /// Names an object.
    ///
    /// # Errors
    /// When bucket or key cannot be used.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Result<Self, LocatorError> {
        let (bucket, key) = (bucket.into(), key.into());
        if !is_bucket(&bucket) {
            return Err(LocatorError::Bucket { bucket });
        }
        let dotted = key.split('/').any(|segment| segment == "." || segment == "..");
        if key.is_empty() || key.len() > 1024 || dotted || key.chars().any(char::is_control) {
            return Err(LocatorError::Key { key });
        }
        Ok(S3Locator { bucket, key })
    }

    /// Bucket and key as a copy source names them: percent-encoded but for `/`.
    pub(super) fn encoded(&self) -> String {
        format!("{}/{}", self.bucket, percent_encoded(&self.key))
    }
}

/// Names of buckets: 3 to 63 letters, digits, `.`, `-`, `_` (AWS takes fewer, Ceph these), beginning and ending with
/// a letter or digit.
pub(super) fn is_bucket(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// All but the unreserved characters (RFC 3986 §2.3) and `/` encoded.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl FromStr for S3Locator {
    type Err = LocatorError;

    fn from_str(text: &str) -> Result<Self, LocatorError> {
        let rest = text.strip_prefix("s3://");
        let Some((bucket, key)) = rest.and_then(|rest| rest.split_once('/')) else {
            return Err(LocatorError::Form { text: text.to_owned() });
        };
        S3Locator::new(bucket, key)
    }
}

impl fmt::Display for S3Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_as_they_are() {
        for (text, bucket, key) in [
            ("s3://in/film.mp4", "in", None),
            ("s3://inbox/film.mp4", "inbox", Some("film.mp4")),
            ("s3://inbox/a b/c%20d+e.mp4", "inbox", Some("a b/c%20d+e.mp4")),
            ("s3://inbox/Großes Kino/映画.mkv", "inbox", Some("Großes Kino/映画.mkv")),
            ("s3://inbox/film.", "inbox", Some("film.")),
            ("s3://inbox/dir./...", "inbox", Some("dir./...")),
            ("s3://inbox//leading/and//double", "inbox", Some("/leading/and//double")),
            ("s3://inbox/what?is=this#here", "inbox", Some("what?is=this#here")),
            ("s3://in.box-1_A/k", "in.box-1_A", Some("k")),
        ] {
            let parsed = text.parse::<S3Locator>();
            match key {
                Some(key) => {
                    let parsed = parsed.unwrap();
                    assert_eq!((parsed.bucket.as_str(), parsed.key.as_str()), (bucket, key));
                    assert_eq!(parsed.to_string(), text);
                }
                None => assert_eq!(parsed, Err(LocatorError::Bucket { bucket: bucket.to_owned() })),
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "s3://", "s3://inbox", "inbox/key", "S3://inbox/key", "https://inbox/key", "/inbox/key"] {
            assert_eq!(text.parse::<S3Locator>(), Err(LocatorError::Form { text: text.to_owned() }), "{text}");
        }
        for text in ["s3:///key", "s3://-in/key", "s3://in box/key", "s3://inbox./key", "s3://user@inbox:1/key"] {
            assert!(matches!(text.parse::<S3Locator>(), Err(LocatorError::Bucket { .. })), "{text}");
        }
        let long = format!("s3://inbox/{}", "k".repeat(1025));
        for text in ["s3://inbox/", "s3://inbox/a/../b", "s3://inbox/.", "s3://inbox/a\nb", "s3://inbox/a\0", &long] {
            assert!(matches!(text.parse::<S3Locator>(), Err(LocatorError::Key { .. })), "{text}");
        }
    }

    #[test]
    fn copy_sources_are_encoded() {
        let locator = S3Locator::new("inbox", "a b/c%20+é.mp4").unwrap();
        assert_eq!(locator.encoded(), "inbox/a%20b/c%2520%2B%C3%A9.mp4");
    }
}
