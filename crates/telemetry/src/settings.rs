//! Settings of logs and traces, as a configuration file may hold them.

use serde::{Deserialize, Serialize};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    #[default]
    Pretty,
}

/// Settings of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// How lines look.
    pub format: Format,
    /// What is logged, in the language of `RUST_LOG`; `None`: `RUST_LOG`, or `info`.
    pub filter: Option<String>,
}

/// Settings of traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Base address of an OTLP/HTTP collector, for example `http://collector:4318`; `/v1/traces` is added. `None`:
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (taken as it is) or `OTEL_EXPORTER_OTLP_ENDPOINT`; without these, nothing
    /// is exported. `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` turn exporting off whatever is said here.
    pub endpoint: Option<String>,
    /// Name of this service in traces unless `OTEL_SERVICE_NAME` says another.
    pub service_name: String,
}
