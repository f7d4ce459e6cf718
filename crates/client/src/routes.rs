//! The paths of the API, each written once: the server's table of routes, its OpenAPI documents and the client all use
//! these constants. A path is a template: `{name}` stands for one segment, `{*name}` for one or more.

/// What people and programs find at the address itself.
pub const ROOT: &str = "/";
/// The OpenAPI document of the public API.
pub const OPENAPI: &str = "/openapi.json";
/// The page that shows the document.
pub const DOCS: &str = "/docs";
/// The script of that page.
pub const DOCS_SCRIPT: &str = "/docs/page.js";
/// A file of a presentation through a signed link.
pub const PLAY: &str = "/play/{grant}/{*path}";

/// The caller.
pub const ME: &str = "/v1/me";
/// Jobs.
pub const JOBS: &str = "/v1/jobs";
/// One job.
pub const JOB: &str = "/v1/jobs/{id}";
/// Cancels a job.
pub const JOB_CANCEL: &str = "/v1/jobs/{id}/cancel";
/// Pauses a job.
pub const JOB_PAUSE: &str = "/v1/jobs/{id}/pause";
/// Resumes a job.
pub const JOB_RESUME: &str = "/v1/jobs/{id}/resume";
/// Retries a job.
pub const JOB_RETRY: &str = "/v1/jobs/{id}/retry";
/// The tasks of a job.
pub const JOB_TASKS: &str = "/v1/jobs/{id}/tasks";
/// The event log of a job.
pub const JOB_EVENTS: &str = "/v1/jobs/{id}/events";
/// The events of a job as server-sent events.
pub const JOB_EVENTS_STREAM: &str = "/v1/jobs/{id}/events/stream";
/// The events of a job over a WebSocket.
pub const JOB_EVENTS_SOCKET: &str = "/v1/jobs/{id}/events/ws";
/// The plan of a job.
pub const JOB_PLAN: &str = "/v1/jobs/{id}/plan";
/// The report of a published job.
pub const JOB_REPORT: &str = "/v1/jobs/{id}/report";
/// The files of a published job.
pub const JOB_FILES: &str = "/v1/jobs/{id}/files";
/// One file of a published job.
pub const JOB_FILE: &str = "/v1/jobs/{id}/files/{*path}";
/// Makes a playback link.
pub const JOB_PLAYBACK: &str = "/v1/jobs/{id}/playback";
/// The event log of all jobs.
pub const EVENTS: &str = "/v1/events";
/// The events of all jobs as server-sent events.
pub const EVENTS_STREAM: &str = "/v1/events/stream";
/// The events of all jobs over a WebSocket.
pub const EVENTS_SOCKET: &str = "/v1/events/ws";
/// Upload events of S3-like stores.
pub const EVENTS_S3: &str = "/v1/events/s3";
/// Cost estimates.
pub const QUOTE: &str = "/v1/quote";
/// Profiles.
pub const PROFILES: &str = "/v1/profiles";
/// One profile.
pub const PROFILE: &str = "/v1/profiles/{name}";
/// Tokens.
pub const TOKENS: &str = "/v1/tokens";
/// One token.
pub const TOKEN: &str = "/v1/tokens/{id}";
/// Tenants.
pub const TENANTS: &str = "/v1/tenants";
/// One tenant.
pub const TENANT: &str = "/v1/tenants/{tenant}";
/// Workers and assemblers.
pub const WORKERS: &str = "/v1/workers";
/// Drains a worker.
pub const WORKER_DRAIN: &str = "/v1/workers/{worker}/drain";
/// Numbers for an autoscaler.
pub const AUTOSCALE: &str = "/v1/autoscale";
/// Rules of triggers.
pub const RULES: &str = "/v1/rules";
/// One rule.
pub const RULE: &str = "/v1/rules/{id}";
/// Asks which rule takes an object.
pub const RULES_TEST: &str = "/v1/rules:test";
/// Uploads by the tus protocol.
pub const UPLOADS: &str = "/v1/uploads";
/// One upload.
pub const UPLOAD: &str = "/v1/uploads/{id}";
/// Starts a direct upload.
pub const UPLOADS_DIRECT: &str = "/v1/uploads:direct";
/// Signs the parts of a direct upload.
pub const UPLOAD_PARTS: &str = "/v1/uploads/{id}/parts";
/// Completes a direct upload.
pub const UPLOAD_COMPLETE: &str = "/v1/uploads/{id}/complete";
/// Webhooks.
pub const WEBHOOKS: &str = "/v1/webhooks";
/// One webhook.
pub const WEBHOOK: &str = "/v1/webhooks/{id}";
/// Sends a test event.
pub const WEBHOOK_PING: &str = "/v1/webhooks/{id}/ping";
/// Deliveries of a webhook.
pub const WEBHOOK_DELIVERIES: &str = "/v1/webhooks/{id}/deliveries";
/// Sends a delivery again.
pub const WEBHOOK_REPLAY: &str = "/v1/webhooks/{id}/deliveries/{delivery}/replay";

/// Prefix of the protocol between coordinator and workers, which has a document of its own.
pub const WORK_PREFIX: &str = "/v1/work/";
/// The OpenAPI document of that protocol.
pub const WORK_OPENAPI: &str = "/v1/work/openapi.json";
/// Control streams of workers.
pub const WORK_PRESENCE: &str = "/v1/work/presence";
/// Claims a task.
pub const WORK_CLAIM: &str = "/v1/work/claim";
/// Renews a lease.
pub const WORK_RENEW: &str = "/v1/work/{job}/{task}/{lease}/renew";
/// Reports success.
pub const WORK_COMPLETE: &str = "/v1/work/{job}/{task}/{lease}/complete";
/// Reports failure.
pub const WORK_FAIL: &str = "/v1/work/{job}/{task}/{lease}/fail";
/// Signs requests that store objects.
pub const WORK_OBJECTS: &str = "/v1/work/{job}/{task}/{lease}/objects";
/// Signs requests that read objects.
pub const WORK_READS: &str = "/v1/work/{job}/{task}/{lease}/reads";

/// The segments of a path, unescaped: the values take the places of the parameters, in order. A missing value leaves an
/// empty segment, which no route matches.
pub(crate) fn segments<'a>(route: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    let mut values = values.iter().copied();
    let mut segments = Vec::new();
    for segment in route.split('/').skip(1) {
        match segment.strip_prefix('{') {
            None => segments.push(segment),
            Some(name) if name.starts_with('*') => segments.extend(values.next().unwrap_or_default().split('/')),
            Some(_) => segments.push(values.next().unwrap_or_default()),
        }
    }
    segments
}

/// A path with values that need no escaping, such as identifiers.
pub fn path(route: &str, values: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments(route, values) {
        path.push('/');
        path.push_str(segment);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_places_of_parameters() {
        assert_eq!(path(JOBS, &[]), "/v1/jobs");
        assert_eq!(path(WORK_RENEW, &["j", "7", "l"]), "/v1/work/j/7/l/renew");
        assert_eq!(path(JOB_FILE, &["j", "v/720p/a.m4s"]), "/v1/jobs/j/files/v/720p/a.m4s");
        assert_eq!(path(RULES_TEST, &[]), "/v1/rules:test");
    }
}
