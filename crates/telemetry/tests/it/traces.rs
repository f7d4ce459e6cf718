//! Trace context, and spans that leave the process.

use crate::lines::{Lines, attempt, beside_others, quiet, task_id};
use crate::sink::{Sink, holds};
use proptest::prelude::*;
use splitreel_core::Trace;
use splitreel_core::task::TaskKind;
use splitreel_telemetry::start::subscriber;
use splitreel_telemetry::trace::{self, Parent};
use splitreel_telemetry::{Format, Logs, Traces};
use std::process::Command;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn resumed(line: &str) -> Parent {
    Parent::resumed(&Trace::new(Some(line.to_owned())))
}

fn line_of(parent: &Parent) -> Option<String> {
    parent.kept().as_str().map(str::to_owned)
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn context_survives_headers_and_a_kept_line() {
    let given = extract_of(&[header("TraceParent", TRACEPARENT), header("tracestate", "a=1,b=2"), header("x", "y")]);
    assert_eq!(given.trace_id().as_deref(), Some(TRACE));
    assert_eq!(line_of(&given).as_deref(), Some(TRACEPARENT));
    let mut headers = given.headers();
    headers.sort();
    assert_eq!(headers, [header("traceparent", TRACEPARENT), header("tracestate", "a=1,b=2")]);
    let kept = resumed(&line_of(&given).unwrap());
    assert_eq!(line_of(&kept), line_of(&given));
}

fn extract_of(headers: &[(String, String)]) -> Parent {
    trace::extract(headers)
}

#[test]
fn a_span_continues_the_trace_and_gives_it_on_without_an_exporter() {
    let (subscriber, _guard) = quiet(Format::Json, "off", Lines::default());
    tracing::subscriber::with_default(subscriber, || {
        let parent = resumed(TRACEPARENT);
        let carried = attempt(&parent).in_scope(trace::inject);
        let next = trace::extract(&carried);
        assert_eq!(next.trace_id().as_deref(), Some(TRACE));
        let (here, there) = (line_of(&parent).unwrap(), line_of(&next).unwrap());
        assert_ne!(here, there, "no span of its own");
        assert!(there.ends_with("-01"), "the caller's choice to sample is lost: {there}");

        let job = trace::job(task_id().job, "acme");
        let kept = line_of(&Parent::of(&job)).unwrap();
        assert!(kept.ends_with("-00"), "nobody would get the spans: {kept}");
        let task = trace::task(&resumed(&kept), task_id(), TaskKind::Audio, 1);
        assert_eq!(Parent::of(&task).trace_id(), Parent::of(&job).trace_id());
    });
}

#[test]
fn without_telemetry_there_is_no_context() {
    assert!(trace::inject().is_empty());
    let parent = Parent::default();
    assert_eq!((line_of(&parent), parent.trace_id()), (None, None));
    parent.adopt(&tracing::Span::none());
}

proptest! {
    #[test]
    fn whatever_comes_in_is_a_context_or_nothing(value in "\\PC{0,80}", state in "\\PC{0,600}") {
        let parent = trace::extract(&[header("traceparent", &value), header("tracestate", &state)]);
        prop_assert_eq!(line_of(&parent).is_some(), parent.trace_id().is_some());
    }

    #[test]
    fn every_context_comes_back(trace in "[0-9a-f]{32}", span in "[0-9a-f]{16}", sampled in any::<bool>()) {
        prop_assume!(trace.contains(|c| c != '0') && span.contains(|c| c != '0'));
        let line = format!("00-{trace}-{span}-0{}", u8::from(sampled));
        prop_assert_eq!(line_of(&resumed(&line)), Some(line));
    }

    #[test]
    fn a_long_tracestate_is_dropped(length in 511_usize..2_000) {
        let parent = trace::extract(&[
            header("traceparent", TRACEPARENT),
            header("tracestate", &format!("a={}", "x".repeat(length))),
        ]);
        prop_assert_eq!(parent.headers(), [header("traceparent", TRACEPARENT)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_a_collector() {
    let mut sink = Sink::start().await;
    let logs = Logs { filter: Some("off".into()), ..Logs::default() };
    let traces = Traces { endpoint: Some(sink.base.clone()), service_name: "splitreel-worker".into() };
    beside_others();
    let (subscriber, guard) = subscriber(&logs, &traces, |_| None, false, std::io::sink).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let span = attempt(&resumed(TRACEPARENT));
        span.in_scope(|| tracing::error!("encoder died"));
        trace::failed(&span, "encoder_died");
    });
    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
    let (path, kind, body) = sink.next().await;
    assert_eq!((path.as_str(), kind.as_str()), ("/v1/traces", "application/x-protobuf"));
    for text in ["attempt", "splitreel-worker", "splitreel.job", "splitreel.attempt", "host-1-2", "encoder_died"] {
        assert!(holds(&body, text.as_bytes()), "{text} is missing");
    }
    assert!(holds(&body, &bytes_of(TRACE)) && holds(&body, &bytes_of("b7ad6b7169203331")), "the parent is missing");
    assert!(sink.is_empty());
}

/// What [`the_standard_variables_are_honoured`] runs in a process of its own.
#[test]
#[ignore = "only makes sense with the variables of the test that starts it"]
fn child() {
    let logs = Logs { format: Format::Json, filter: None };
    let guard = splitreel_telemetry::init(&logs, &Traces { endpoint: None, service_name: "unnamed".into() }).unwrap();
    attempt(&Parent::default()).in_scope(|| {
        tracing::debug!("a detail");
        tracing::info!("an event");
    });
    drop(guard);
}

async fn run_child(base: &str, variables: &'static [(&'static str, &'static str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "traces::child", "--ignored", "--nocapture"]);
    command.env_remove("RUST_LOG").env("OTEL_EXPORTER_OTLP_ENDPOINT", base).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standard_variables_are_honoured() {
    let mut sink = Sink::start().await;
    let lines = run_child(&sink.base, &[("OTEL_SERVICE_NAME", "renamed"), ("RUST_LOG", "debug")]).await;
    let (path, _, body) = sink.next().await;
    assert_eq!(path, "/v1/traces");
    assert!(holds(&body, b"renamed") && !holds(&body, b"unnamed"));
    assert!(lines.contains("a detail") && lines.contains("\"attempt\":3"), "{lines}");

    let never = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.0")];
    let lines = run_child(&sink.base, Box::leak(Box::new(never))).await;
    assert!(lines.contains("an event") && !lines.contains("a detail") && lines.contains("\"trace_id\""), "{lines}");
    assert!(sink.is_empty(), "sampled against the variable");

    run_child(&sink.base, &[("OTEL_SDK_DISABLED", "true")]).await;
    assert!(sink.is_empty(), "exported although disabled");
}
