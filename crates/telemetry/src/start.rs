//! Turns logs and traces on, once per process, and off again without losing what was recorded. Reads the standard
//! environment variables; does not touch metrics.

use crate::settings::{Logs, Traces};
use crate::{export, logs};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::io::IsTerminal;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Longest time that the end of the process may wait for spans to leave.
const FLUSH: Duration = Duration::from_secs(3);
const DEFAULT_FILTER: &str = "info";

/// Why logs or traces could not be turned on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter is not in the language of `RUST_LOG`.
    #[error("the log filter {filter:?} is not understood")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("logging is set up already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
    /// Finished spans cannot be sent.
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Export(#[from] export::ExportError),
}

/// Sends what is left when it is dropped, for at most three seconds. To be kept until the end of the process.
#[must_use = "spans are lost unless this lives until the end of the process"]
#[derive(Debug)]
pub struct Guard {
    provider: SdkTracerProvider,
    flush: Duration,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Too late to tell anybody about spans that could not be sent.
        let _ = self.provider.shutdown_with_timeout(self.flush);
    }
}

/// Turns on logs to standard error, and traces. Once per process.
pub fn init(logs: &Logs, traces: &Traces) -> Result<Guard, StartError> {
    let lookup = |name: &str| std::env::var(name).ok();
    let is_colored = std::io::stderr().is_terminal() && lookup("NO_COLOR").is_none_or(|value| value.is_empty());
    let (subscriber, guard) = subscriber(logs, traces, lookup, is_colored, std::io::stderr)?;
    subscriber.try_init().map_err(StartError::Installed)?;
    if cfg!(not(feature = "otlp"))
        && let Some(endpoint) = endpoint(traces, &lookup)
    {
        let endpoint = crate::redact::without_credentials(&endpoint);
        tracing::warn!(endpoint, "traces are not exported: this program was built without OTLP");
    }
    Ok(guard)
}

/// What [`init`] installs, with another environment and another place for the lines: for use with
/// `tracing::subscriber::with_default`.
pub fn subscriber<L, W>(
    logs: &Logs,
    traces: &Traces,
    lookup: L,
    is_colored: bool,
    writer: W,
) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static + use<L, W>, Guard), StartError>
where
    L: Fn(&str) -> Option<String>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(logs, &lookup);
    let filter = EnvFilter::try_new(&filter).map_err(|source| StartError::Filter { filter, source })?;
    let provider = match endpoint(traces, &lookup) {
        #[cfg(feature = "otlp")]
        Some(endpoint) => export::exporting(&endpoint, &service_name(traces, &lookup))?,
        #[cfg(not(feature = "otlp"))]
        Some(_) => export::silent(),
        None => export::silent(),
    };
    // Warnings and errors of ours become events of the span around them; what libraries say stays in the log.
    let traced = FilterFn::new(|metadata: &tracing::Metadata<'_>| {
        metadata.target().starts_with("splitreel") && *metadata.level() <= Level::INFO
    })
    .with_max_level_hint(LevelFilter::INFO);
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("splitreel"))
        .with_location(false)
        .with_threads(false)
        .with_filter(traced);
    let subscriber = Registry::default().with(spans).with(logs::layer(logs.format, filter, is_colored, writer));
    Ok((subscriber, Guard { provider, flush: FLUSH }))
}

fn filter(logs: &Logs, lookup: &impl Fn(&str) -> Option<String>) -> String {
    let chosen = logs.filter.clone().or_else(|| lookup("RUST_LOG")).filter(|filter| !filter.trim().is_empty());
    chosen.unwrap_or_else(|| DEFAULT_FILTER.to_owned())
}

#[cfg(feature = "otlp")]
fn service_name(traces: &Traces, lookup: &impl Fn(&str) -> Option<String>) -> String {
    lookup("OTEL_SERVICE_NAME").filter(|name| !name.is_empty()).unwrap_or_else(|| traces.service_name.clone())
}

/// The full address of the traces signal; `None`: export nothing.
fn endpoint(traces: &Traces, lookup: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
    let is = |name: &str, word: &str| set(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let signal = |base: &str| format!("{}/v1/traces", base.trim().trim_end_matches('/'));
    if let Some(base) = traces.endpoint.as_deref().filter(|base| !base.trim().is_empty()) {
        return Some(signal(base));
    }
    set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| Some(signal(&set("OTEL_EXPORTER_OTLP_ENDPOINT")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_setting_wins_over_the_environment_and_that_over_the_default() {
        let default = Logs::default();
        let debug = Logs { filter: Some("debug".into()), ..Logs::default() };
        assert_eq!(filter(&default, &env(&[])), "info");
        assert_eq!(filter(&default, &env(&[("RUST_LOG", "splitreel=trace")])), "splitreel=trace");
        assert_eq!(filter(&default, &env(&[("RUST_LOG", " ")])), "info");
        assert_eq!(filter(&debug, &env(&[("RUST_LOG", "error")])), "debug");
    }

    #[test]
    fn where_traces_go() {
        let none = Traces { endpoint: None, service_name: "worker".into() };
        let given = Traces { endpoint: Some("http://c:4318/".into()), service_name: "worker".into() };
        let base: &[(&str, &str)] = &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://e:4318")];
        let signal: &[(&str, &str)] = &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://e:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/custom"),
        ];
        let off: &[(&str, &str)] = &[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://e")];
        let no_exporter: &[(&str, &str)] = &[("OTEL_TRACES_EXPORTER", "none")];
        let empty: &[(&str, &str)] = &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")];
        for (traces, pairs, expected) in [
            (&none, &[] as &[(&str, &str)], None),
            (&none, empty, None),
            (&none, base, Some("http://e:4318/v1/traces")),
            (&none, signal, Some("http://t/custom")),
            (&given, signal, Some("http://c:4318/v1/traces")),
            (&given, off, None),
            (&given, no_exporter, None),
        ] {
            assert_eq!(endpoint(traces, &env(pairs)).as_deref(), expected, "{traces:?} {pairs:?}");
        }
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn the_environment_may_name_the_service() {
        let traces = Traces { endpoint: None, service_name: "splitreel-worker".into() };
        assert_eq!(service_name(&traces, &env(&[])), "splitreel-worker");
        assert_eq!(service_name(&traces, &env(&[("OTEL_SERVICE_NAME", "mine")])), "mine");
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn a_collector_that_never_answers_does_not_keep_the_process() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", silent.local_addr().unwrap());
        let traces = Traces { endpoint: Some(base), service_name: "worker".into() };
        let (subscriber, mut guard) = subscriber(&Logs::default(), &traces, env(&[]), false, std::io::sink).unwrap();
        guard.flush = Duration::from_millis(50);
        tracing::subscriber::with_default(subscriber, || drop(tracing::info_span!(target: "splitreel", "lost")));
        let started = std::time::Instant::now();
        drop(guard);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }

    #[test]
    fn a_wrong_filter_is_an_error() {
        let logs = Logs { filter: Some("splitreel=loud".into()), ..Logs::default() };
        let result = subscriber(&logs, &Traces::default(), env(&[]), false, std::io::sink);
        assert!(matches!(result.map(|_| ()), Err(StartError::Filter { .. })));
    }
}
