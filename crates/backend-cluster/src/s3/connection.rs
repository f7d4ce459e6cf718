//! The client of one server: built once, shared by all that use it.

use super::locator::S3Locator;
use super::measure::Measured;
use super::options::{S3Options, S3OptionsError};
use super::{S3Error, failure::failed};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A connection pool with its settings. Clones share it.
#[derive(Clone)]
pub struct S3Connection {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    signer: Client,
    options: S3Options,
    /// The server has answered that it copies no ranges.
    copies_not: AtomicBool,
}

impl fmt::Debug for S3Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Connection").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl S3Connection {
    /// Makes the client. Without keys in the options this looks for them the way AWS tools do, which may ask the
    /// instance's metadata service; nothing else is sent before the first operation.
    ///
    /// # Errors
    /// When a setting cannot work.
    pub async fn open(options: S3Options) -> Result<Self, S3OptionsError> {
        options.validate()?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .pool_idle_timeout(Duration::from_secs(30))
            .build_https();
        let region = Region::new(options.region.clone());
        let credentials = match &options.keys {
            Some(keys) => Some(SharedCredentialsProvider::new(Credentials::new(
                keys.access_key.clone(),
                keys.secret_key.expose().to_owned(),
                keys.session_token.as_ref().map(|token| token.expose().to_owned()),
                None,
                "splitreel",
            ))),
            None => {
                let loader = aws_config::defaults(BehaviorVersion::latest());
                let found = loader.http_client(http.clone()).region(region.clone()).load().await;
                found.credentials_provider()
            }
        };
        let timeouts = timeouts(&options, options.attempt_timeout, options.operation_timeout);
        let retries = RetryConfig::standard()
            .with_max_attempts(options.max_attempts)
            .with_initial_backoff(options.retry_base)
            .with_max_backoff(options.retry_max);
        let mut builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(region)
            .force_path_style(options.path_style)
            .timeout_config(timeouts)
            .retry_config(retries)
            // Bodies of answers have a time-out of our own; those of requests that of the attempt.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        builder.set_endpoint_url(options.endpoint.clone());
        builder.set_credentials_provider(credentials);
        let (calculation, validation) = if options.sends_checksums() {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        } else {
            (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
        };
        // Signed in advance, a request has no body to make a checksum of.
        let signing = builder
            .clone()
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let working = builder.request_checksum_calculation(calculation).response_checksum_validation(validation);
        Ok(S3Connection {
            inner: Arc::new(Inner {
                client: Client::from_conf(working.interceptor(Measured).build()),
                signer: Client::from_conf(signing.build()),
                options,
                copies_not: AtomicBool::new(false),
            }),
        })
    }

    /// The settings.
    pub fn options(&self) -> &S3Options {
        &self.inner.options
    }

    /// Whether the work bucket is there and may be used: for readiness.
    ///
    /// # Errors
    /// [`S3Error::NotFound`] names the bucket; any other error means that its existence is unknown.
    pub async fn check(&self) -> Result<(), S3Error> {
        let bucket = &self.options().bucket;
        let object = S3Locator { bucket: bucket.clone(), key: String::new() };
        let sent = self.client().head_bucket().bucket(bucket).send().await;
        sent.map(|_| ()).map_err(failed("look at", &object))
    }

    /// Makes the work bucket; one that exists is fine. For tests and first starts: production buckets have owners.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create_bucket(&self) -> Result<(), S3Error> {
        if self.check().await.is_ok() {
            return Ok(());
        }
        let bucket = &self.options().bucket;
        let object = S3Locator { bucket: bucket.clone(), key: String::new() };
        let mut request = self.client().create_bucket().bucket(bucket);
        if self.options().endpoint.is_none() && self.options().region != "us-east-1" {
            let place = aws_sdk_s3::types::BucketLocationConstraint::from(self.options().region.as_str());
            let place = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(place).build();
            request = request.create_bucket_configuration(place);
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(service) if service.is_bucket_already_owned_by_you() => Ok(()),
                _ => Err(failed("make", &object)(error)),
            },
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.inner.client
    }

    /// For requests that are signed in advance.
    pub(super) fn signer(&self) -> &Client {
        &self.inner.signer
    }

    /// Settings of requests that keep the server busy: it copies or joins before it answers.
    pub(super) fn slow(&self) -> Builder {
        let options = self.options();
        let attempt = options.copy_timeout;
        let timeouts = timeouts(options, attempt, attempt.saturating_mul(3));
        Builder::new().timeout_config(timeouts.to_builder().read_timeout(attempt).build())
    }

    pub(super) fn can_copy(&self) -> bool {
        !self.inner.copies_not.load(Ordering::Relaxed)
    }

    pub(super) fn copies_not(&self) {
        self.inner.copies_not.store(true, Ordering::Relaxed);
    }

    /// The pause before the attempt after `failures` of them.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let options = self.options();
        let factor = 1u32 << failures.saturating_sub(1).min(16);
        options.retry_base.saturating_mul(factor).min(options.retry_max)
    }
}

fn timeouts(options: &S3Options, attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}
