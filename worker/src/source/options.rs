//! Settings of sources that are read over HTTP.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of [`HttpSources`](super::HttpSources).
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Directory for scratch files, created when missing. No other process may use it.
    pub scratch: PathBuf,
    /// Limit on the size of all scratch files together, in bytes.
    pub scratch_bytes: u64,
    /// Limit on the memory for ranges that several segments of a source share, in bytes; 0 keeps none.
    pub shared_bytes: u64,
    /// Maximum number of concurrent requests per attempt.
    pub parallel: usize,
    /// Maximum number of retries of a request that brings no bytes.
    pub retries: u32,
    /// Back-off before the first retry; each further retry doubles it.
    pub first_pause: Duration,
    /// Longest back-off.
    pub longest_pause: Duration,
    /// Time limit for a response, and for the next bytes of a response.
    pub stall: Duration,
    /// Time limit for connecting.
    pub connect: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            scratch: std::env::temp_dir().join("splitreel-sources"),
            scratch_bytes: 64 << 30,
            shared_bytes: 64 << 20,
            parallel: 2,
            retries: 6,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
            stall: Duration::from_secs(20),
            connect: Duration::from_secs(5),
        }
    }
}
