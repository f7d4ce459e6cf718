//! Log lines: one JSON object per line with the fields of the spans around it, or text for people. Decides how lines
//! look, not what is logged.

use crate::chain::Chain;
use crate::field;
use crate::settings::Format;
use opentelemetry::trace::TraceContextExt;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// Keys that every line has; a field of the same name is written as `field.NAME`.
const RESERVED: [&str; 6] = ["timestamp", "level", "target", "message", "trace_id", "span_id"];

/// The layer that writes log lines.
pub(crate) fn layer<S, W>(format: Format, filter: EnvFilter, is_colored: bool, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Our spans pass whatever the filter says: they carry the fields of the lines that pass.
    let filter =
        FilterFn::new(is_our_span as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::INFO).or(filter);
    let layer = match format {
        Format::Json => tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_ansi(false)
            .with_writer(writer)
            .boxed(),
        Format::Pretty => tracing_subscriber::fmt::layer().with_ansi(is_colored).with_writer(writer).boxed(),
    };
    layer.with_filter(filter)
}

pub(crate) fn is_our_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == crate::trace::TARGET && *metadata.level() <= Level::INFO
}

/// `{"timestamp", "level", "target", "message", "trace_id", "span_id", …fields}`. Fields of inner spans win over those
/// of outer ones, and fields of the event over all.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = BTreeMap::new();
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>().map_or("", |formatted| formatted.fields.as_str());
            if let Ok(Value::Object(of_span)) = serde_json::from_str(formatted) {
                fields.extend(of_span.into_iter().filter_map(|(name, value)| Some((key(&name)?, value))));
            }
        }
        let mut of_event = EventFields { fields, message: String::new() };
        event.record(&mut of_event);
        let line = line(event.metadata(), of_event).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

fn line(metadata: &Metadata<'_>, of_event: EventFields) -> Result<String, serde_json::Error> {
    let mut timestamp = String::new();
    // It writes into a string; there is nothing that could fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &timestamp)?;
    map.serialize_entry("level", metadata.level().as_str())?;
    map.serialize_entry("target", metadata.target())?;
    map.serialize_entry("message", &of_event.message)?;
    let context = opentelemetry::Context::current();
    let span = context.span();
    if span.span_context().is_valid() {
        map.serialize_entry("trace_id", &span.span_context().trace_id().to_string())?;
        map.serialize_entry("span_id", &span.span_context().span_id().to_string())?;
    }
    for (name, value) in &of_event.fields {
        map.serialize_entry(name, value)?;
    }
    map.end()?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// The key of a field in a line; `None` for what only concerns the exporter.
fn key(name: &str) -> Option<String> {
    let name = name.strip_prefix(field::PREFIX).unwrap_or(name);
    if name.starts_with("otel.") {
        None
    } else if RESERVED.contains(&name) {
        Some(format!("field.{name}"))
    } else {
        Some(name.to_owned())
    }
}

struct EventFields {
    fields: BTreeMap<String, Value>,
    message: String,
}

impl EventFields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else if let Some(key) = key(field.name()) {
            self.fields.insert(key, value);
        }
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    /// With its causes: a line says why.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::from(Chain(value).to_string()));
    }
}
