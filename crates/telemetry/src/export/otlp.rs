//! Sends finished spans by OTLP over HTTP, in batches, from a thread of its own.

use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A collector that does not answer within this is given up on.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No runtime for the exporter.
    #[error("cannot start the exporter of traces")]
    Runtime(#[source] std::io::Error),
    /// No HTTP client for the exporter.
    #[error("cannot make an HTTP client for traces")]
    Client(#[source] reqwest::Error),
    /// The collector's address cannot be used.
    #[error("cannot export traces to {endpoint:?}")]
    Exporter {
        /// Address as configured.
        endpoint: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// A provider that sends to `endpoint`, the full address of the traces signal. Sampling follows
/// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, batches follow `OTEL_BSP_*`, headers
/// `OTEL_EXPORTER_OTLP_HEADERS`.
pub(crate) fn exporting(endpoint: &str, service_name: &str) -> Result<SdkTracerProvider, ExportError> {
    let resource = Resource::builder().with_service_name(service_name.to_owned()).build();
    let exporter = OwnRuntime::new(endpoint)?;
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Runs the exporter on a runtime of its own, inside the batch thread: spans are flushed also when the program's
/// runtime is busy, has a single thread, or has ended.
#[derive(Debug)]
struct OwnRuntime {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    inner: OtlpExporter,
}

impl OwnRuntime {
    fn new(endpoint: &str) -> Result<Self, ExportError> {
        // Fails when the program has chosen a provider before: then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ExportError::Runtime)?;
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // The runtime stands still between batches, so nobody would notice that a kept connection was closed.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(ExportError::Client)?;
        let inner = OtlpExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|source| ExportError::Exporter { endpoint: endpoint.to_owned(), source })?;
        Ok(OwnRuntime { runtime: Some(runtime), inner })
    }
}

impl SpanExporter for OwnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match &self.runtime {
            Some(runtime) => runtime.block_on(self.inner.export(batch)),
            None => Err(OTelSdkError::AlreadyShutdown),
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // Dropping a runtime waits, which is forbidden where this may be dropped.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
