//! Trace context between processes (W3C Trace Context), and the spans of a job's life. Context travels with the work:
//! in HTTP headers, in wakeups, and as a `traceparent` kept with the job.

use crate::field;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use splitreel_core::task::TaskKind;
use splitreel_core::{JobId, TaskId, Trace, WorkerId};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Target of all spans of this crate. They are kept whatever the log filter says, so that log lines have their fields.
pub const TARGET: &str = "splitreel_telemetry::span";
/// Names of the headers that carry context.
pub const HEADERS: [&str; 2] = [TRACEPARENT, "tracestate"];
const TRACEPARENT: &str = "traceparent";
/// Vendors must carry at least 512 characters of `tracestate` (W3C Trace Context §3.3.1.5); longer ones are dropped.
const MAX_TRACESTATE: usize = 512;

/// The span, most likely of another process, under which work goes on.
#[derive(Clone, Debug, Default)]
pub struct Parent(opentelemetry::Context);

impl Parent {
    /// The current span of this process.
    pub fn current() -> Self {
        Self::of(&Span::current())
    }

    /// A span of this process.
    pub fn of(span: &Span) -> Self {
        Parent(span.context())
    }

    /// What [`Parent::kept`] gave. Anything else is no parent.
    pub fn resumed(trace: &Trace) -> Self {
        trace.as_str().map(|line| extract(&[(TRACEPARENT.to_owned(), line.to_owned())])).unwrap_or_default()
    }

    /// To keep with a job or to send along.
    pub fn kept(&self) -> Trace {
        Trace::new(self.headers().into_iter().find(|(name, _)| name == TRACEPARENT).map(|(_, value)| value))
    }

    /// The headers to send along; empty without a trace.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut carrier = Carrier(Vec::new());
        TraceContextPropagator::new().inject_context(&self.0, &mut carrier);
        carrier.0.retain(|(_, value)| !value.is_empty());
        carrier.0
    }

    /// 32 hexadecimal digits; `None` without a trace.
    pub fn trace_id(&self) -> Option<String> {
        let context = self.0.span().span_context().clone();
        context.is_valid().then(|| context.trace_id().to_string())
    }

    /// Makes a span that was not entered yet a child. Without a trace, or without telemetry, nothing changes.
    pub fn adopt(&self, span: &Span) {
        if self.0.span().span_context().is_valid() {
            // It fails where nothing follows traces: then there is nothing to continue.
            let _ = span.set_parent(self.0.clone());
        }
    }
}

/// The current trace as headers; empty without one.
pub fn inject() -> Vec<(String, String)> {
    Parent::current().headers()
}

/// The trace that came with a message or request. Names in any case; unknown ones and malformed values are ignored.
pub fn extract(headers: &[(String, String)]) -> Parent {
    let known = headers.iter().filter_map(|(name, value)| {
        let name = HEADERS.iter().find(|header| name.eq_ignore_ascii_case(header))?;
        (*name == TRACEPARENT || value.len() <= MAX_TRACESTATE).then(|| ((*name).to_owned(), value.clone()))
    });
    let carrier = Carrier(known.collect());
    Parent(TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &carrier))
}

struct Carrier(Vec<(String, String)>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// The span `job`, a child of the current one: a job is accepted. Its [`Parent::kept`] is kept with the job and is what
/// everything later hangs on. It ends with the submit: no process holds a span for as long as a job lives.
pub fn job(job: JobId, tenant: &str) -> Span {
    tracing::info_span!(target: TARGET, "job", { field::JOB } = %job, { field::TENANT } = tenant)
}

/// The producer span `task`: the wakeup of an attempt is sent. The [`attempt`] of the worker that receives the wakeup
/// continues the span.
pub fn task(parent: &Parent, task: TaskId, kind: TaskKind, attempt: u32) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "task",
        otel.kind = "producer",
        { field::JOB } = %task.job,
        { field::TASK } = %task,
        { field::KIND } = kind.as_str(),
        { field::ATTEMPT } = attempt,
    );
    parent.adopt(&span);
    span
}

/// The consumer span `attempt`: a worker or assembler runs one attempt, from wakeup to report.
pub fn attempt(parent: &Parent, task: TaskId, kind: TaskKind, attempt: u32, worker: &WorkerId) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "attempt",
        otel.kind = "consumer",
        { field::JOB } = %task.job,
        { field::TASK } = %task,
        { field::KIND } = kind.as_str(),
        { field::ATTEMPT } = attempt,
        { field::WORKER } = %worker,
    );
    parent.adopt(&span);
    span
}

/// A part of an attempt, or what the coordinator does with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A worker asks for the lease.
    Claim,
    /// The source's bytes are fetched.
    Fetch,
    /// The source is looked at.
    Probe,
    /// ffmpeg encodes.
    Encode,
    /// Parts are stored.
    Upload,
    /// Parts are checked and packaged.
    Package,
    /// A worker reports the end of an attempt.
    Report,
    /// The coordinator plans a job.
    Plan,
    /// The coordinator makes a presentation visible.
    Publish,
}

impl Step {
    /// The name of its span.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Claim => "claim",
            Step::Fetch => "fetch",
            Step::Probe => "probe",
            Step::Encode => "encode",
            Step::Upload => "upload",
            Step::Package => "package",
            Step::Report => "report",
            Step::Plan => "plan",
            Step::Publish => "publish",
        }
    }
}

/// The span of a step, a child of the current one.
pub fn step(step: Step) -> Span {
    tracing::info_span!(target: TARGET, "step", otel.name = step.as_str())
}

/// The span of a step of a job that is taken up again.
pub fn step_of(parent: &Parent, job: JobId, step: Step) -> Span {
    let span =
        tracing::info_span!(target: TARGET, parent: None, "step", otel.name = step.as_str(), { field::JOB } = %job);
    parent.adopt(&span);
    span
}

/// Marks a span as failed. `why` is a code or a short message without secrets.
pub fn failed(span: &Span, why: &str) {
    span.set_status(Status::error(why.to_owned()));
}
