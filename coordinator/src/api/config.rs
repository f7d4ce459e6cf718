//! Settings of the API, and which of them are not safe to run with.

use crate::fleet::FleetConfig;
use axum::http::HeaderValue;
use splitreel_telemetry::redact::Secret;
use std::time::Duration;

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Key of playback links and write tickets: at least 32 bytes, the same in every coordinator.
    pub signing_key: Secret<Vec<u8>>,
    /// Largest request body in bytes, reports of workers excepted.
    pub max_body_bytes: usize,
    /// Largest body of a worker's report in bytes.
    pub max_report_bytes: usize,
    /// Timeout of a request, streams excepted.
    pub request_timeout: Duration,
    /// Requests per second and token, where the tenant has no setting of its own.
    pub requests_per_second: u32,
    /// Lifetime of signed requests that read a source or store an object, in milliseconds.
    pub grant_ttl_ms: i64,
    /// Lifetime of presigned URLs that a redirect leads to, in milliseconds.
    pub redirect_ttl_ms: i64,
    /// Base URL under which callers reach the API, without a trailing `/`: precedes the paths of playback links and
    /// `Location` headers. `None`: they are paths.
    pub public_url: Option<String>,
    /// Origins whose pages may use the API; `*` = all; empty = none.
    pub cors_origins: Vec<String>,
    /// Interval at which the event log is read while there are listeners.
    pub feed_every: Duration,
    /// Workers and control streams.
    pub fleet: FleetConfig,
}

impl ApiConfig {
    /// Defaults with a signing key.
    pub fn new(signing_key: Secret<Vec<u8>>) -> Self {
        ApiConfig {
            signing_key,
            max_body_bytes: 1 << 20,
            max_report_bytes: 32 << 20,
            request_timeout: Duration::from_secs(30),
            requests_per_second: 100,
            grant_ttl_ms: 6 * 3_600_000,
            redirect_ttl_ms: 3_600_000,
            public_url: None,
            cors_origins: Vec::new(),
            feed_every: Duration::from_millis(250),
            fleet: FleetConfig::default(),
        }
    }

    /// Checks the origins that CORS is to allow.
    pub(super) fn check_origins(&self) -> Result<(), ApiConfigError> {
        let is_origin = |o: &str| {
            o == "*"
                || ((o.starts_with("http://") || o.starts_with("https://"))
                    && HeaderValue::from_str(o).is_ok()
                    && !o.ends_with('/'))
        };
        match self.cors_origins.iter().find(|o| !is_origin(o)) {
            Some(origin) => Err(ApiConfigError::Origin { origin: origin.clone() }),
            None => Ok(()),
        }
    }
}

/// The API's settings are not safe to run with.
#[derive(Debug, thiserror::Error)]
pub enum ApiConfigError {
    /// The signing key is too short.
    #[error("the signing key has {bytes} bytes; it needs at least 32")]
    ShortSigningKey {
        /// Length of the key.
        bytes: usize,
    },
    /// A text is not an origin.
    #[error("invalid CORS origin {origin:?}")]
    Origin {
        /// The given text.
        origin: String,
    },
}
