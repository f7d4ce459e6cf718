//! One range of a granted object over HTTP (RFC 9110 §14): conditional on the pinned version, resumed where it was
//! cut, repeated with growing pauses. Follows no redirect; believes no answer about another version.

use super::Traffic;
use super::options::HttpOptions;
use super::scratch::ScratchFile;
use crate::progress::Transfer;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_MATCH, RANGE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use splitreel_backend::lease::SourceGrant;
use splitreel_core::source::{ByteRange, SourceRef};
use splitreel_core::{Failure, FailureCode};
use splitreel_telemetry::Chain;
use splitreel_telemetry::labels::{S3Operation, S3Outcome};
use splitreel_telemetry::record;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Arrived bytes are written in steps of about this size.
const STEP_BYTES: usize = 512 << 10;
/// Multiple of the retries after which a transfer that keeps breaking, but advances each time, is given up.
const MAX_ADVANCING: u32 = 20;
/// A server's wish to wait is followed up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);

/// A granted object, as one attempt reads it.
pub(super) struct Object<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a HttpOptions,
    pub(super) source: &'a SourceRef,
    pub(super) grant: &'a SourceGrant,
    pub(super) traffic: &'a Traffic,
    pub(super) transfer: &'a Transfer<'a>,
    /// Makes pauses of different attempts differ.
    pub(super) salt: u64,
}

/// Why a range was not fetched.
#[derive(Debug)]
pub(super) enum RangeError {
    /// The server sends everything or nothing.
    Ignored,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for RangeError {
    fn from(failure: Failure) -> Self {
        RangeError::Failed(failure)
    }
}

/// How one request ended.
enum Trouble {
    /// Try again, not before this.
    Again { why: String, pause: Option<Duration> },
    /// There is no sense in that.
    Never(RangeError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Never(failure.into())
    }
}

fn again(why: impl Into<String>) -> Trouble {
    Trouble::Again { why: why.into(), pause: None }
}

/// Where bytes go.
pub(super) enum Sink<'a> {
    /// Into a file, the first one to this offset.
    File(&'a ScratchFile, u64),
    /// Into memory.
    Memory(Vec<u8>),
}

impl Sink<'_> {
    async fn write(&mut self, at: u64, data: Vec<u8>) -> Result<(), Failure> {
        match self {
            Sink::File(file, offset) => file.write(offset.saturating_add(at), data).await,
            Sink::Memory(all) => {
                all.extend(data);
                Ok(())
            }
        }
    }
}

impl Object<'_> {
    /// Fetches `range` into `sink`.
    pub(super) async fn fetch(&self, range: ByteRange, sink: &mut Sink<'_>) -> Result<(), RangeError> {
        let mut written = 0u64;
        let (mut in_vain, mut all) = (0u32, 0u32);
        while written < range.len() {
            let before = written;
            let rest = ByteRange { start: range.start.saturating_add(written), end: range.end };
            let (why, wanted_pause) = match self.once(rest, sink, &mut written).await {
                // Servers may send less than the requested range (RFC 9110 §15.3.7).
                Ok(()) if written > before => continue,
                Ok(()) => ("an empty answer".to_owned(), None),
                Err(Trouble::Never(error)) => return Err(error),
                Err(Trouble::Again { why, pause }) => (why, pause),
            };
            all += 1;
            in_vain = if written > before { 1 } else { in_vain + 1 };
            let retries = self.options.retries;
            if in_vain > retries || all > retries.saturating_mul(MAX_ADVANCING) {
                let message =
                    format!("bytes {}-{} of {} could not be fetched: {why}", rest.start, range.end, self.name());
                return Err(Failure::of(FailureCode::SourceUnavailable, message).into());
            }
            let pause = pause(self.options, in_vain, self.salt ^ range.start).max(wanted_pause.unwrap_or_default());
            tracing::debug!(source = self.name(), at = rest.start, %why, ?pause, "fetching is tried again");
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    fn name(&self) -> &str {
        &self.source.locator
    }

    /// Sends one request and writes its body; `written` receives the number of bytes, also on failure.
    async fn once(&self, range: ByteRange, sink: &mut Sink<'_>, written: &mut u64) -> Result<(), Trouble> {
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = self.client.get(&self.grant.url);
        for (name, value) in &self.grant.headers {
            request = request.header(name, value);
        }
        if let Some(etag) = &self.grant.etag
            && !self.grant.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("if-match"))
        {
            request = request.header(IF_MATCH, etag);
        }
        let request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let started = Instant::now();
        let sent = tokio::time::timeout(self.options.stall, request.send()).await;
        let (outcome, bytes) = match &sent {
            Ok(Ok(response)) => {
                (S3Outcome::of_status(response.status().as_u16()), response.content_length().unwrap_or(0))
            }
            Ok(Err(_)) => (S3Outcome::Failed, 0),
            Err(_) => (S3Outcome::TimedOut, 0),
        };
        record::s3_request(S3Operation::Get, outcome, started.elapsed(), bytes);
        // The error's text holds the URL, which is a secret.
        let response =
            sent.map_err(|_| again("no answer"))?.map_err(|error| again(Chain(&error.without_url()).to_string()))?;
        self.check(&response, range)?;
        self.take(response, range.len(), sink, written).await
    }

    /// Compares the head of an answer with the request and the pinned version.
    fn check(&self, response: &Response, range: ByteRange) -> Result<(), Trouble> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let status = response.status();
        let total = header(CONTENT_RANGE).and_then(content_range).map(|(_, total)| total);
        match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {}
            StatusCode::PRECONDITION_FAILED => {
                return Err(self.changed("it is not the pinned version any more").into());
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(match total {
                    Some(Some(total)) if total != self.source.bytes => {
                        self.changed(&format!("it has {total} bytes, {} are pinned", self.source.bytes)).into()
                    }
                    _ => Trouble::Never(RangeError::Ignored),
                });
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let message = format!("{} is gone: put it back and retry", self.name());
                return Err(Failure::of(FailureCode::NotFound, message).into());
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message =
                    format!("storage refuses to let {} be read ({status}); the next attempt asks anew", self.name());
                return Err(Failure::of(FailureCode::GrantExpired, message).into());
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                return Err(busy(status, header(RETRY_AFTER)));
            }
            _ if status.is_server_error() => return Err(busy(status, header(RETRY_AFTER))),
            _ => {
                let message = format!("storage answers {status} when {} is read", self.name());
                return Err(Failure::of(FailureCode::SourceRefused, message).into());
            }
        }
        if let (Some(pinned), Some(found)) = (&self.grant.etag, header(ETAG))
            && pinned.trim_start_matches("W/") != found.trim_start_matches("W/")
        {
            return Err(self.changed("its entity tag is another one").into());
        }
        if status == StatusCode::OK {
            let length = response.content_length();
            if let Some(length) = length.filter(|length| *length != self.source.bytes) {
                return Err(self.changed(&format!("it has {length} bytes, {} are pinned", self.source.bytes)).into());
            }
            // The whole object: usable when the range starts at 0; excess bytes are discarded.
            let is_use = range.start == 0 && range.end == self.source.bytes;
            return if is_use { Ok(()) } else { Err(Trouble::Never(RangeError::Ignored)) };
        }
        match header(CONTENT_RANGE).and_then(content_range) {
            Some((_, Some(total))) if total != self.source.bytes => {
                Err(self.changed(&format!("it has {total} bytes, {} are pinned", self.source.bytes)).into())
            }
            Some((Some(start), _)) if start == range.start => Ok(()),
            _ => {
                let message = format!("storage sends other bytes of {} than those it is asked for", self.name());
                Err(Failure::of(FailureCode::SourceAnswer, message).into())
            }
        }
    }

    fn changed(&self, how: &str) -> Failure {
        let message = format!("{} was replaced after the job was submitted: {how}. Submit it again", self.name());
        Failure::of(FailureCode::SourceChanged, message)
    }

    async fn take(
        &self,
        mut response: Response,
        expected: u64,
        sink: &mut Sink<'_>,
        written: &mut u64,
    ) -> Result<(), Trouble> {
        let mut step = Vec::new();
        let mut left = expected;
        let mut outcome = Ok(());
        while left > 0 {
            let chunk = match tokio::time::timeout(self.options.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    outcome = Err(again(Chain(&error.without_url()).to_string()));
                    break;
                }
                Err(_) => {
                    outcome = Err(again(format!("no bytes for {} s", self.options.stall.as_secs_f32())));
                    break;
                }
            };
            self.traffic.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            record::source_fetched(chunk.len() as u64);
            let useful = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            step.extend_from_slice(chunk.get(..useful).unwrap_or_default());
            left = left.saturating_sub(useful as u64);
            if step.len() >= STEP_BYTES {
                self.put(std::mem::take(&mut step), sink, written).await?;
            }
        }
        // What came before a cut counts: the next request starts behind it.
        if !step.is_empty() {
            self.put(step, sink, written).await?;
        }
        outcome
    }

    async fn put(&self, data: Vec<u8>, sink: &mut Sink<'_>, written: &mut u64) -> Result<(), Failure> {
        let length = data.len() as u64;
        let at = match sink {
            Sink::File(..) => *written,
            Sink::Memory(_) => 0,
        };
        sink.write(at, data).await?;
        *written = written.saturating_add(length);
        self.transfer.moved(length);
        Ok(())
    }
}

fn busy(status: StatusCode, retry_after: Option<&str>) -> Trouble {
    let pause = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    Trouble::Again { why: format!("storage answers {status}"), pause: pause.map(|pause| pause.min(MAX_RETRY_AFTER)) }
}

/// First byte and total size of `bytes 0-99/1000`, `bytes */1000`, `bytes 0-99/*` (RFC 9110 §14.4).
fn content_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = match range.trim() {
        "*" => None,
        range => Some(range.split_once('-')?.0.parse().ok()?),
    };
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start, total))
}

/// The pause in front of repetition `number` (from 1): doubles up to a bound, spread over its upper half by `salt`.
fn pause(options: &HttpOptions, number: u32, salt: u64) -> Duration {
    let doubled = options.first_pause.saturating_mul(1 << number.saturating_sub(1).min(16)).min(options.longest_pause);
    let mixed = (salt ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let half = doubled / 2;
    half + half.mul_f64(mixed as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/100"), Some((Some(5), Some(100))));
        assert_eq!(content_range("bytes */100"), Some((None, Some(100))));
        assert_eq!(content_range("bytes 5-9/*"), Some((Some(5), None)));
        for bad in ["", "bytes", "bytes 5/100", "items 5-9/100", "bytes a-9/100", "bytes 5-9/-1"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pauses_grow_within_their_bounds(number in 1u32..60, salt in any::<u64>()) {
            let options = HttpOptions::default();
            let found = pause(&options, number, salt);
            let full = options.first_pause.saturating_mul(1 << (number - 1).min(16)).min(options.longest_pause);
            prop_assert!(found >= full / 2 && found <= full + Duration::from_micros(1));
        }
    }
}
