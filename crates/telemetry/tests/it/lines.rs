//! Log lines.

use serde_json::Value;
use splitreel_core::task::TaskKind;
use splitreel_core::{JobId, TaskId, WorkerId};
use splitreel_telemetry::start::subscriber;
use splitreel_telemetry::{Format, Guard, Logs, Traces, trace};
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

/// Where lines go in a test.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Lines;

    fn make_writer(&'w self) -> Lines {
        self.clone()
    }
}

impl Lines {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub fn json(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Keeps a second subscriber in the process. Where there is one only, of some other thread, a call site that is reached
/// without a subscriber is taken for one that nobody wants, and stays so for those who do.
pub fn beside_others() {
    static OTHER: OnceLock<Dispatch> = OnceLock::new();
    OTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
}

/// Logs into `lines` and exports nothing.
pub fn quiet(
    format: Format,
    filter: &str,
    lines: Lines,
) -> (impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<>, Guard) {
    beside_others();
    let logs = Logs { format, filter: Some(filter.to_owned()) };
    subscriber(&logs, &Traces::default(), |_| None, false, lines).unwrap()
}

pub fn task_id() -> TaskId {
    let job: JobId = "018f4e9a-7b7a-7cc0-a3b1-0d3c2b1a0f00".parse().unwrap();
    TaskId { job, number: 12 }
}

pub fn attempt(parent: &trace::Parent) -> tracing::Span {
    trace::attempt(parent, task_id(), TaskKind::Segment, 3, &WorkerId("host-1-2".into()))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot store")]
struct Outer(#[source] std::io::Error);

#[test]
fn a_json_line_has_the_fields_of_its_spans() {
    let lines = Lines::default();
    let (subscriber, _guard) = quiet(Format::Json, "info", lines.clone());
    let span_id = tracing::subscriber::with_default(subscriber, || {
        let span = attempt(&trace::Parent::default());
        span.in_scope(|| {
            let error = Outer(std::io::Error::other("disk full"));
            tracing::warn!(
                bytes = 7_u64,
                ratio = 0.5,
                ok = false,
                level = "mine",
                attempt = 4,
                error = &error as &dyn std::error::Error,
                "a \"quoted\" {}",
                "line"
            );
        });
        tracing::info!("outside");
        trace::Parent::of(&span).trace_id()
    });
    let lines = lines.json();
    assert_eq!(lines.len(), 2);
    let line = &lines[0];
    for (name, value) in [
        ("level", "WARN"),
        ("message", "a \"quoted\" line"),
        ("job", "018f4e9a-7b7a-7cc0-a3b1-0d3c2b1a0f00"),
        ("task", "018f4e9a-7b7a-7cc0-a3b1-0d3c2b1a0f00/12"),
        ("kind", "segment"),
        ("worker", "host-1-2"),
        ("error", "cannot store: disk full"),
        ("field.level", "mine"),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert_eq!(line["attempt"], 4, "the event's own field wins");
    assert_eq!((&line["bytes"], &line["ratio"], &line["ok"]), (&7.into(), &0.5.into(), &false.into()));
    assert_eq!(line["trace_id"].as_str(), span_id.as_deref());
    assert_eq!(line["span_id"].as_str().map(str::len), Some(16));
    assert!(line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z') && at.contains('T')), "{line}");
    assert!(line["target"].as_str().is_some_and(|target| target.ends_with("::lines")), "{line}");
    assert!(lines[1].get("trace_id").is_none() && lines[1].get("job").is_none(), "{}", lines[1]);
}

#[test]
fn a_filter_drops_lines_but_not_the_fields_of_those_that_stay() {
    for filter in ["error", "off,it=error", "it::lines=error"] {
        let lines = Lines::default();
        let (subscriber, _guard) = quiet(Format::Json, filter, lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            attempt(&trace::Parent::default()).in_scope(|| {
                tracing::warn!("dropped");
                tracing::error!("kept");
            });
        });
        let lines = lines.json();
        assert_eq!(lines.len(), 1, "{filter}");
        assert_eq!((&lines[0]["message"], &lines[0]["attempt"]), (&"kept".into(), &3.into()), "{filter}");
    }
}

#[test]
fn inner_fields_win_and_the_exporters_own_are_left_out() {
    let lines = Lines::default();
    let (subscriber, _guard) = quiet(Format::Json, "info", lines.clone());
    tracing::subscriber::with_default(subscriber, || {
        let outer = attempt(&trace::Parent::default());
        let _outer = outer.enter();
        let inner = tracing::info_span!("inner", splitreel.kind = "none", otel.kind = "client");
        inner.in_scope(|| tracing::info!("here"));
    });
    let line = lines.json().remove(0);
    assert_eq!((&line["kind"], &line["worker"]), (&"none".into(), &"host-1-2".into()));
    assert!(line.as_object().unwrap().keys().all(|key| !key.starts_with("otel.")), "{line}");
}

#[test]
fn a_line_for_people_has_them_too() {
    let lines = Lines::default();
    let (subscriber, _guard) = quiet(Format::Pretty, "info", lines.clone());
    tracing::subscriber::with_default(subscriber, || {
        attempt(&trace::Parent::default()).in_scope(|| tracing::info!("stored"));
    });
    let text = lines.text();
    assert!(text.contains("stored") && text.contains("host-1-2") && text.contains("INFO"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}
