//! Where finished spans go: nowhere, or with the feature `otlp` to a collector by OTLP over HTTP. Nothing here may slow
//! down or stop the work that is traced.

#[cfg(feature = "otlp")]
mod otlp;

#[cfg(feature = "otlp")]
pub use otlp::ExportError;
#[cfg(feature = "otlp")]
pub(crate) use otlp::exporting;

use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

/// A provider that sends nothing. Spans get ids, so that context flows and log lines can be joined by trace; whether
/// a trace is sampled stays as the caller said.
pub(crate) fn silent() -> SdkTracerProvider {
    SdkTracerProvider::builder().with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))).build()
}
