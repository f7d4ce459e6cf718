//! Names of span fields: OpenTelemetry attributes in traces and, without `splitreel.`, keys in log lines.
//!
//! A name that code writes out instead of taking it from here would be missing from somebody's query.

/// What our own names begin with; log lines leave it out.
pub const PREFIX: &str = "splitreel.";
/// Id of the job.
pub const JOB: &str = "splitreel.job";
/// Id of the task, `JOB/NUMBER`.
pub const TASK: &str = "splitreel.task";
/// What the task does: a word of `TaskKind`.
pub const KIND: &str = "splitreel.kind";
/// Number of the attempt, from 1.
pub const ATTEMPT: &str = "splitreel.attempt";
/// Name of the worker process that runs the attempt.
pub const WORKER: &str = "splitreel.worker";
/// Whose job it is.
pub const TENANT: &str = "splitreel.tenant";
/// Id of the HTTP request, as in the `x-request-id` header.
pub const REQUEST: &str = "splitreel.request";

/// OpenTelemetry: method of an HTTP request.
pub const HTTP_METHOD: &str = "http.request.method";
/// OpenTelemetry: route template that an HTTP request matched.
pub const HTTP_ROUTE: &str = "http.route";
/// OpenTelemetry: status code of the answer.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// OpenTelemetry: path of an HTTP request, without its query (a query may hold a signature).
pub const URL_PATH: &str = "url.path";
