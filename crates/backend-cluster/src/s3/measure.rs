//! Counts requests to the server, each try for itself. Changes nothing about them.

use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use splitreel_telemetry::labels::{S3Operation, S3Outcome};
use splitreel_telemetry::record;
use std::time::Instant;

/// Records every request in the metrics.
#[derive(Debug)]
pub(super) struct Measured;

/// A request on its way.
#[derive(Debug)]
struct Sent {
    at: Instant,
    operation: S3Operation,
    bytes: u64,
}

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Measured {
    fn name(&self) -> &'static str {
        "splitreel metrics"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let query = request.uri().split_once('?').map_or("", |(_, query)| query);
        let is_copy = request.headers().get("x-amz-copy-source").is_some();
        if let Some(operation) = operation(request.method(), query, is_copy) {
            let bytes = length(request.headers().get("content-length"));
            cfg.interceptor_state().store_put(Sent { at: Instant::now(), operation, bytes });
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(sent) = cfg.load::<Sent>() else { return Ok(()) };
        let response = context.response();
        let outcome = match (response, context.output_or_error()) {
            (Some(response), _) => S3Outcome::of_status(response.status().as_u16()),
            (None, Some(Err(error))) if is_timeout(error) => S3Outcome::TimedOut,
            _ => S3Outcome::Failed,
        };
        let bytes = match response {
            Some(response) if sent.operation == S3Operation::Get => length(response.headers().get("content-length")),
            _ => sent.bytes,
        };
        record::s3_request(sent.operation, outcome, sent.at.elapsed(), bytes);
        Ok(())
    }
}

fn length(header: Option<&str>) -> u64 {
    header.and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn is_timeout<E>(error: &aws_smithy_runtime_api::client::orchestrator::OrchestratorError<E>) -> bool {
    error.is_timeout_error() || error.as_connector_error().is_some_and(|e| e.is_timeout())
}

/// What a request asks for (S3 API reference, "Actions"); `None`: about buckets.
fn operation(method: &str, query: &str, is_copy: bool) -> Option<S3Operation> {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    Some(match method {
        "HEAD" => S3Operation::Head,
        "GET" if has("list-type") => S3Operation::List,
        "GET" if has("uploads") => S3Operation::ListMultipart,
        "GET" => S3Operation::Get,
        "PUT" if has("partNumber") && is_copy => S3Operation::UploadPartCopy,
        "PUT" if has("partNumber") => S3Operation::UploadPart,
        "PUT" if is_copy => S3Operation::Copy,
        "PUT" if has("x-id") => S3Operation::Put,
        "POST" if has("uploads") => S3Operation::CreateMultipart,
        "POST" if has("uploadId") => S3Operation::CompleteMultipart,
        "POST" if has("delete") => S3Operation::Delete,
        "DELETE" if has("uploadId") => S3Operation::AbortMultipart,
        "DELETE" => S3Operation::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (method, query, is_copy, expected) in [
            ("HEAD", "", false, Some(S3Operation::Head)),
            ("GET", "x-id=GetObject", false, Some(S3Operation::Get)),
            ("GET", "list-type=2&prefix=uploads", false, Some(S3Operation::List)),
            ("GET", "uploads&prefix=a", false, Some(S3Operation::ListMultipart)),
            ("PUT", "x-id=PutObject", false, Some(S3Operation::Put)),
            ("PUT", "x-id=CopyObject", true, Some(S3Operation::Copy)),
            ("PUT", "x-id=UploadPart&partNumber=1&uploadId=a", false, Some(S3Operation::UploadPart)),
            ("PUT", "x-id=UploadPartCopy&partNumber=1&uploadId=a", true, Some(S3Operation::UploadPartCopy)),
            ("PUT", "", false, None),
            ("POST", "uploads", false, Some(S3Operation::CreateMultipart)),
            ("POST", "uploadId=a", false, Some(S3Operation::CompleteMultipart)),
            ("POST", "delete", false, Some(S3Operation::Delete)),
            ("DELETE", "x-id=DeleteObject", false, Some(S3Operation::Delete)),
            ("DELETE", "x-id=AbortMultipartUpload&uploadId=a", false, Some(S3Operation::AbortMultipart)),
        ] {
            assert_eq!(operation(method, query, is_copy), expected, "{method} {query}");
        }
    }
}
