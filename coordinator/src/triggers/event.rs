//! Upload events: reads the notification documents of S3-like stores. Pure; it fetches nothing and believes nothing
//! but the name of the object: an event is a hint, storage decides.
//!
//! Flavours: AWS S3 (event message structure 2.x), the same inside an SNS notification, EventBridge ("Object
//! Created"), MinIO and RustFS (`EventName`, `Key`, `Records`), Ceph RGW (event names without `s3:`), Cloudflare R2.

use super::key::{Spelling, readings};
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// Largest document that is read, bytes. SNS, SQS and EventBridge send at most 256 KiB.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// Most records of one document.
pub const MAX_RECORDS: usize = 1000;
/// Envelopes may lie in envelopes so deep.
const MAX_DEPTH: u32 = 3;
const MAX_BUCKET_BYTES: usize = 255;

/// An object that is said to have been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadEvent {
    /// The bucket.
    pub bucket: String,
    /// The keys that the event may mean, the likelier one first; at least one.
    pub keys: Vec<String>,
    /// Size by the event, bytes.
    pub bytes: Option<u64>,
    /// Entity tag by the event, without quotes.
    pub etag: Option<String>,
    /// Version id by the event.
    pub version: Option<String>,
}

impl UploadEvent {
    /// An event about one object whose key is known exactly.
    pub fn exact(bucket: &str, key: &str) -> Self {
        UploadEvent { bucket: bucket.to_owned(), keys: vec![key.to_owned()], bytes: None, etag: None, version: None }
    }
}

/// An SNS topic asks for confirmation. An operator has to open the URL; this program does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmNeeded {
    /// The topic.
    pub topic: String,
    /// The address that confirms; `None` when it is not one of the sender's own (https, below `amazonaws.com`).
    pub url: Option<String>,
}

/// What a document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Objects that were written, in the order of the document.
    pub events: Vec<UploadEvent>,
    /// Subscriptions to confirm.
    pub confirm: Vec<ConfirmNeeded>,
    /// Records about other things: removals, tests, folder marks, keys that are none.
    pub num_ignored: usize,
}

/// Why a document cannot be read. Sending it again does not help.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// More than [`MAX_DOCUMENT_BYTES`].
    #[error("the event document has {bytes} bytes, more than {MAX_DOCUMENT_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or a known member has another type than documented.
    #[error("the event document cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// JSON, but no notification that is known here.
    #[error("the document is no upload event of a known kind")]
    Unknown,
    /// Envelope in envelope in envelope.
    #[error("the event document is wrapped more than {MAX_DEPTH} times")]
    TooDeep,
}

/// Reads a document of any flavour.
///
/// # Errors
/// [`ParseError`]; memory used stays within a small multiple of [`MAX_DOCUMENT_BYTES`].
pub fn parse(body: &[u8]) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    read(body, 0, &mut parsed)?;
    Ok(parsed)
}

fn read(body: &[u8], depth: u32, parsed: &mut Parsed) -> Result<(), ParseError> {
    if body.len() > MAX_DOCUMENT_BYTES {
        return Err(ParseError::TooLarge { bytes: body.len() });
    }
    if depth >= MAX_DEPTH {
        return Err(ParseError::TooDeep);
    }
    if body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        let Bounded(documents) = serde_json::from_slice::<Bounded<Document>>(body)?;
        return documents.into_iter().try_for_each(|document| document.read(depth, parsed));
    }
    serde_json::from_slice::<Document>(body)?.read(depth, parsed)
}

/// Members of all flavours; each uses a few of them.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Records")]
    records: Option<Bounded<Row>>,
    #[serde(rename = "EventName")]
    event_name: Option<String>,
    #[serde(rename = "Key")]
    key: Option<String>,
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "Type")]
    sns_type: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "TopicArn")]
    topic: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    detail: Option<S3>,
    action: Option<String>,
    bucket: Option<BucketName>,
    object: Option<Object>,
}

impl Document {
    fn read(self, depth: u32, parsed: &mut Parsed) -> Result<(), ParseError> {
        if let Some(kind) = self.sns_type.as_deref() {
            return match (kind, self.message) {
                ("Notification", Some(message)) => read(message.as_bytes(), depth + 1, parsed),
                ("SubscriptionConfirmation", _) => {
                    let url = self.subscribe_url.filter(|url| is_confirmation_url(url));
                    parsed.confirm.push(ConfirmNeeded { topic: self.topic.unwrap_or_default(), url });
                    Ok(())
                }
                ("UnsubscribeConfirmation", _) => {
                    parsed.num_ignored += 1;
                    Ok(())
                }
                _ => Err(ParseError::Unknown),
            };
        }
        if let Some(Bounded(records)) = self.records {
            records.into_iter().for_each(|row| row.read(parsed));
            return Ok(());
        }
        if let (Some(name), Some(key)) = (&self.event_name, &self.key) {
            let (bucket, key) = key.split_once('/').unwrap_or((key, ""));
            let found = Found { bucket, key, spelling: Spelling::Plain, object: &Object::default() };
            found.take(is_creation(name), parsed);
            return Ok(());
        }
        if self.event.as_deref() == Some("s3:TestEvent") {
            parsed.num_ignored += 1;
            return Ok(());
        }
        if let (Some(kind), Some(S3 { bucket: Some(bucket), object: Some(object) })) = (&self.detail_type, &self.detail)
        {
            let found = Found { bucket: &bucket.0, key: &object.key, spelling: Spelling::Plain, object };
            found.take(kind == "Object Created", parsed);
            return Ok(());
        }
        if let (Some(action), Some(bucket), Some(object)) = (&self.action, &self.bucket, &self.object) {
            let is_created = matches!(action.as_str(), "PutObject" | "CopyObject" | "CompleteMultipartUpload");
            let found = Found { bucket: &bucket.0, key: &object.key, spelling: Spelling::Plain, object };
            found.take(is_created, parsed);
            return Ok(());
        }
        Err(ParseError::Unknown)
    }
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "eventName", default)]
    name: String,
    #[serde(rename = "eventSource", default)]
    source: String,
    s3: Option<S3>,
}

impl Row {
    fn read(&self, parsed: &mut Parsed) {
        let Some(S3 { bucket: Some(bucket), object: Some(object) }) = &self.s3 else {
            parsed.num_ignored += 1;
            return;
        };
        let spelling = if self.source.starts_with("ceph:") { Spelling::Plain } else { Spelling::Encoded };
        let found = Found { bucket: &bucket.0, key: &object.key, spelling, object };
        found.take(is_creation(&self.name), parsed);
    }
}

#[derive(Deserialize)]
struct S3 {
    bucket: Option<BucketName>,
    object: Option<Object>,
}

/// A text or an object with a `name`.
struct BucketName(String);

impl<'de> Deserialize<'de> for BucketName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = BucketName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a bucket name or an object with one")
            }
            fn visit_str<E>(self, name: &str) -> Result<BucketName, E> {
                Ok(BucketName(name.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<BucketName, A::Error> {
                let mut name = String::new();
                while let Some(member) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    if member == "name" {
                        name = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(BucketName(name))
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    key: String,
    #[serde(default)]
    size: Size,
    #[serde(alias = "eTag", alias = "ETag")]
    etag: Option<String>,
    #[serde(rename = "versionId", alias = "version-id")]
    version: Option<String>,
}

/// A number, the same as text, or anything else, which says nothing.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(from = "SizeText")]
struct Size(Option<u64>);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
    Other(IgnoredAny),
}

impl From<SizeText> for Size {
    fn from(text: SizeText) -> Self {
        Size(match text {
            SizeText::Number(bytes) => Some(bytes),
            SizeText::Text(digits) => digits.parse().ok(),
            SizeText::Other(_) => None,
        })
    }
}

struct Found<'a> {
    bucket: &'a str,
    key: &'a str,
    spelling: Spelling,
    object: &'a Object,
}

impl Found<'_> {
    fn take(&self, is_created: bool, parsed: &mut Parsed) {
        let is_bucket = self.bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
            && self.bucket.len() <= MAX_BUCKET_BYTES
            && self.bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        // A key that ends in "/" is the mark of a folder.
        let keys = readings(self.key, self.spelling).filter(|_| is_created && is_bucket && !self.key.ends_with('/'));
        let Some(keys) = keys else {
            parsed.num_ignored += 1;
            return;
        };
        let said = |text: &Option<String>| text.as_deref().map(|t| t.trim_matches('"').to_owned());
        let (etag, version) = (said(&self.object.etag), said(&self.object.version));
        parsed.events.push(UploadEvent {
            bucket: self.bucket.to_owned(),
            keys,
            bytes: self.object.size.0,
            etag: etag.filter(|tag| !tag.is_empty()),
            version: version.filter(|id| !id.is_empty() && id != "null"),
        });
    }
}

/// `ObjectCreated:Put`, `s3:ObjectCreated:CompleteMultipartUpload` …
fn is_creation(name: &str) -> bool {
    name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:")
}

fn is_confirmation_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        url.scheme() == "https" && url.username().is_empty() && url.host_str().is_some_and(is_amazon_host)
    })
}

fn is_amazon_host(host: &str) -> bool {
    host.starts_with("sns.") && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
}

/// A list of at most [`MAX_RECORDS`]: a longer one is refused while it is read, before it takes memory.
struct Bounded<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reads<T> {
            type Value = Bounded<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_RECORDS}")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bounded<T>, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = seq.next_element()? {
                    if rows.len() == MAX_RECORDS {
                        return Err(A::Error::custom(format_args!("more than {MAX_RECORDS} records")));
                    }
                    rows.push(row);
                }
                Ok(Bounded(rows))
            }
        }
        deserializer.deserialize_seq(Reads(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(name: &str, key: &str) -> String {
        format!(r#"{{"eventName":"{name}","s3":{{"bucket":{{"name":"b"}},"object":{{"key":"{key}","size":3}}}}}}"#)
    }

    #[test]
    fn only_creations_are_events() {
        for (name, is_event) in [
            ("ObjectCreated:Put", true),
            ("s3:ObjectCreated:CompleteMultipartUpload", true),
            ("s3:ObjectCreated:Copy", true),
            ("ObjectRemoved:Delete", false),
            ("s3:ObjectRemoved:DeleteMarkerCreated", false),
            ("s3:ObjectAccessed:Get", false),
            ("s3:ObjectRestore:Completed", false),
            ("", false),
        ] {
            let parsed = parse(format!(r#"{{"Records":[{}]}}"#, record(name, "k")).as_bytes()).unwrap();
            assert_eq!((parsed.events.len(), parsed.num_ignored), (usize::from(is_event), usize::from(!is_event)));
        }
    }

    #[test]
    fn folder_marks_and_odd_buckets_are_ignored() {
        let odd =
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"../b"},"object":{"key":"k"}}}]}"#;
        for body in [format!(r#"{{"Records":[{}]}}"#, record("ObjectCreated:Put", "folder/")), odd.to_owned()] {
            let parsed = parse(body.as_bytes()).unwrap();
            assert!(parsed.events.is_empty() && parsed.num_ignored == 1);
        }
    }

    #[test]
    fn a_confirmation_is_told_and_only_of_the_senders_own_address() {
        let body = |url: &str| {
            format!(
                r#"{{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:eu-west-1:1:t","SubscribeURL":"{url}"}}"#
            )
        };
        let url = |url: &str| parse(body(url).as_bytes()).unwrap().confirm.remove(0).url;
        let good = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336";
        assert_eq!(url(good).as_deref(), Some(good));
        for bad in [
            "http://sns.eu-west-1.amazonaws.com/",
            "https://sns.eu-west-1.amazonaws.com.evil.test/",
            "https://169.254.169.254/",
            "https://user@sns.eu-west-1.amazonaws.com/",
            "file:///etc/passwd",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn garbage_giant_and_deep_documents_are_errors() {
        for body in ["", "null", "42", "\"text\"", "{", "{}", "[{}]", r#"{"Records":7}"#, r#"{"Type":"Notification"}"#]
        {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(matches!(parse(&vec![b' '; MAX_DOCUMENT_BYTES + 1]), Err(ParseError::TooLarge { .. })));
        let many = vec!["{}"; MAX_RECORDS + 1].join(",");
        assert!(matches!(parse(format!(r#"{{"Records":[{many}]}}"#).as_bytes()), Err(ParseError::Malformed(_))));
        let deep = format!("{}{}", r#"{"detail":"#.repeat(400), "}".repeat(400));
        assert!(parse(deep.as_bytes()).is_err());
        let nested = "[".repeat(100_000);
        assert!(parse(nested.as_bytes()).is_err());
        let mut wrapped = format!(r#"{{"Records":[{}]}}"#, record("ObjectCreated:Put", "k"));
        for depth in 0..4 {
            assert_eq!(parse(wrapped.as_bytes()).is_ok(), depth < 3, "{depth}");
            wrapped = serde_json::json!({ "Type": "Notification", "Message": wrapped }).to_string();
        }
    }

    #[test]
    fn sizes_may_be_text() {
        let body = record("ObjectCreated:Put", "k").replace("\"size\":3", "\"size\":\"17\",\"eTag\":\"\\\"abc\\\"\"");
        let event = parse(format!(r#"{{"Records":[{body}]}}"#).as_bytes()).unwrap().events.remove(0);
        assert_eq!((event.bytes, event.etag.as_deref()), (Some(17), Some("abc")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body).map(|parsed| assert!(parsed.events.len() <= MAX_RECORDS));
        }

        #[test]
        fn a_damaged_document_never_panics(at in 0usize..400, byte in any::<u8>()) {
            let mut body = format!(r#"{{"Records":[{},{}]}}"#, record("ObjectCreated:Put", "a+b"), record("x", "k")).into_bytes();
            let at = at % body.len();
            body[at] = byte;
            let _ = parse(&body).map(|parsed| assert!(parsed.events.len() <= 2));
        }
    }
}
