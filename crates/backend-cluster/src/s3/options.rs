//! Settings of a connection and what is wrong with them. Nothing here talks to a server.

use super::parts::{MAX_COPY_BYTES, MIN_PART_BYTES};
use std::fmt;
use std::time::Duration;

/// A value that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Access keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Keys {
    /// Access key id.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// For temporary keys.
    pub session_token: Option<Secret>,
}

/// Whether requests carry checksums that the operation does not require.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumMode {
    /// As `Supported` with AWS, as `Required` with everything else: several other servers refuse or garble the
    /// trailers that checksums travel in.
    #[default]
    Auto,
    /// Only what an operation demands.
    Required,
    /// Wherever the protocol knows them.
    Supported,
}

/// Settings of a connection.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// URL of the server; `None`: AWS, by region.
    pub endpoint: Option<String>,
    /// Region; part of every signature. Servers that have none accept `us-east-1`.
    pub region: String,
    /// The work bucket.
    pub bucket: String,
    /// Keys of the work bucket start with this: empty, or ending in `/`.
    pub key_prefix: String,
    /// The bucket is named in the path, not in the host: what servers without a wildcard DNS name need.
    pub path_style: bool,
    /// Keys; `None`: found the way AWS tools do (environment, profile, web identity, instance).
    pub keys: Option<S3Keys>,
    /// Checksums of the protocol.
    pub checksums: ChecksumMode,
    /// To establish a connection.
    pub connect_timeout: Duration,
    /// To send a request and get the head of its answer.
    pub read_timeout: Duration,
    /// For one attempt, without the body of its answer.
    pub attempt_timeout: Duration,
    /// For all attempts of an operation with their pauses, without the body of the answer.
    pub operation_timeout: Duration,
    /// For one attempt to copy or to complete on the server's side; three times that for all attempts.
    pub copy_timeout: Duration,
    /// Longest pause within the body of an answer.
    pub stall_timeout: Duration,
    /// Attempts of an operation, the first included; also how often the body of an answer is resumed.
    pub max_attempts: u32,
    /// First pause between attempts; later ones grow up to `retry_max`.
    pub retry_base: Duration,
    /// Longest pause between attempts.
    pub retry_max: Duration,
    /// Size of a part that is sent. Memory of an operation is this times `parallel`.
    pub part_bytes: u64,
    /// Files of this size and above are sent in parts.
    pub multipart_from_bytes: u64,
    /// Objects above this size are copied in parts; the protocol's limit is 5 GiB.
    pub single_copy_bytes: u64,
    /// Parts under way at a time.
    pub parallel: usize,
}

impl S3Options {
    /// Documented defaults for a bucket: AWS, `us-east-1`, time-outs of 5 s (connect), 30 s (read), 60 s (attempt),
    /// 300 s (operation, copy), 10 s (stall), 5 attempts that begin 100 ms apart, parts of 8 MiB above 16 MiB, four
    /// at a time.
    pub fn new(bucket: impl Into<String>) -> Self {
        S3Options {
            endpoint: None,
            region: "us-east-1".to_owned(),
            bucket: bucket.into(),
            key_prefix: String::new(),
            path_style: false,
            keys: None,
            checksums: ChecksumMode::Auto,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(60),
            operation_timeout: Duration::from_secs(300),
            copy_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(10),
            max_attempts: 5,
            retry_base: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            part_bytes: 8 << 20,
            multipart_from_bytes: 16 << 20,
            single_copy_bytes: MAX_COPY_BYTES,
            parallel: 4,
        }
    }

    /// Whether checksums are sent wherever the protocol knows them.
    pub fn sends_checksums(&self) -> bool {
        match self.checksums {
            ChecksumMode::Required => false,
            ChecksumMode::Supported => true,
            ChecksumMode::Auto => self.is_aws(),
        }
    }

    fn is_aws(&self) -> bool {
        let Some(endpoint) = &self.endpoint else { return true };
        let host = url::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
        host.is_some_and(|host| host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), S3OptionsError> {
        let bad = |setting, why: &str| Err(S3OptionsError::Invalid { setting, why: why.to_owned() });
        if let Some(endpoint) = &self.endpoint {
            match url::Url::parse(endpoint) {
                Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                    return bad("endpoint", "it starts with neither http:// nor https://");
                }
                Ok(url) if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() => {
                    return bad("endpoint", "it needs a host and takes no user name");
                }
                Ok(_) => {}
                Err(error) => return bad("endpoint", &error.to_string()),
            }
        }
        if !super::locator::is_bucket(&self.bucket) {
            return bad("bucket", "it is not the name of a bucket");
        }
        if splitreel_backend::blob::check_prefix(&self.key_prefix).is_err() || self.key_prefix.len() > 256 {
            return bad("key_prefix", "it must be empty or end in `/`, of letters, digits and ._-, at most 256 bytes");
        }
        if self.region.is_empty() {
            return bad("region", "it is empty; servers without regions take us-east-1");
        }
        if self.keys.as_ref().is_some_and(|k| k.access_key.is_empty() || k.secret_key.expose().is_empty()) {
            return bad("keys", "access key or secret key is empty");
        }
        if self.part_bytes < MIN_PART_BYTES {
            return bad("part_bytes", "parts are at least 5 MiB");
        }
        if !(MIN_PART_BYTES..=MAX_COPY_BYTES).contains(&self.single_copy_bytes)
            || self.multipart_from_bytes > MAX_COPY_BYTES
        {
            return bad("single_copy_bytes, multipart_from_bytes", "one request moves 5 MiB to 5 GiB");
        }
        if self.max_attempts == 0 || self.parallel == 0 {
            return bad("max_attempts, parallel", "they are at least 1");
        }
        let timeouts = [
            self.connect_timeout,
            self.read_timeout,
            self.attempt_timeout,
            self.operation_timeout,
            self.copy_timeout,
            self.stall_timeout,
        ];
        if timeouts.contains(&Duration::ZERO) {
            return bad("time-outs", "they are above zero");
        }
        Ok(())
    }
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum S3OptionsError {
    /// A setting cannot work.
    #[error("the S3 setting {setting} cannot be used: {why}")]
    Invalid {
        /// Its name.
        setting: &'static str,
        /// Reason.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_secrets_are_not_shown() {
        let mut options = S3Options::new("work");
        options.keys = Some(S3Keys {
            access_key: "AK".to_owned(),
            secret_key: Secret::new("hunter2"),
            session_token: Some(Secret::new("hunter3")),
        });
        options.validate().unwrap();
        assert!(!format!("{options:?}").contains("hunter"));
    }

    #[test]
    fn bad_settings_are_named() {
        type Breaks = fn(&mut S3Options);
        let broken: [(&str, Breaks); 10] = [
            ("endpoint", |o| o.endpoint = Some("ftp://x".to_owned())),
            ("endpoint", |o| o.endpoint = Some("http://user:pw@x".to_owned())),
            ("endpoint", |o| o.endpoint = Some("nonsense".to_owned())),
            ("bucket", |o| o.bucket = "a/b".to_owned()),
            ("key_prefix", |o| o.key_prefix = "work".to_owned()),
            ("region", |o| o.region.clear()),
            ("part_bytes", |o| o.part_bytes = 1 << 20),
            ("single_copy_bytes, multipart_from_bytes", |o| o.single_copy_bytes = 6 << 30),
            ("max_attempts, parallel", |o| o.parallel = 0),
            ("time-outs", |o| o.stall_timeout = Duration::ZERO),
        ];
        for (name, breaks) in broken {
            let mut options = S3Options::new("work");
            breaks(&mut options);
            let Err(S3OptionsError::Invalid { setting, .. }) = options.validate() else { panic!("{name} passed") };
            assert_eq!(setting, name);
        }
    }

    #[test]
    fn checksums_are_for_aws() {
        let mut options = S3Options::new("work");
        assert!(options.sends_checksums());
        for (endpoint, expected) in [
            ("https://s3.eu-central-1.amazonaws.com", true),
            ("http://127.0.0.1:9000", false),
            ("https://amazonaws.com.evil.example", false),
        ] {
            options.endpoint = Some(endpoint.to_owned());
            assert_eq!(options.sends_checksums(), expected, "{endpoint}");
        }
        options.checksums = ChecksumMode::Supported;
        assert!(options.sends_checksums());
    }
}
