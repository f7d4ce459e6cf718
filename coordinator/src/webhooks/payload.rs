//! What webhooks say: events of the job log as documents for other people's programs. Pure.

use serde::Serialize;
use splitreel_core::event::{Event, EventKind};
use splitreel_core::job::Job;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The types of events that are sent. `task.retried`, `job.submitted`, `job.planned` and `job.replanned` go to endpoints
/// that name them only; the others also go to endpoints that name no type.
pub const EVENT_TYPES: [&str; 10] = [
    "job.cancelled",
    "job.failed",
    "job.paused",
    "job.planned",
    "job.published",
    "job.replanned",
    "job.resumed",
    "job.retried",
    "job.submitted",
    "task.retried",
];

/// Sent on request to see whether an endpoint works.
pub const PING: &str = "webhook.ping";

const QUIET: [&str; 4] = ["job.planned", "job.replanned", "job.submitted", "task.retried"];

/// An endpoint with this list of types wants events of a type. An empty list means the usual ones.
pub fn is_wanted(wanted: &[String], kind: &str) -> bool {
    if wanted.is_empty() { !QUIET.contains(&kind) } else { wanted.iter().any(|w| w == kind) }
}

/// The type of an event; `None`: the event is internal.
pub fn event_type(what: &EventKind) -> Option<&'static str> {
    Some(match what {
        EventKind::Submitted => "job.submitted",
        EventKind::Planned { .. } => "job.planned",
        EventKind::TaskRetried { .. } => "task.retried",
        EventKind::Replanned { .. } => "job.replanned",
        EventKind::Failed { .. } => "job.failed",
        EventKind::Published => "job.published",
        EventKind::Cancelled => "job.cancelled",
        EventKind::Retried => "job.retried",
        EventKind::Paused => "job.paused",
        EventKind::Resumed => "job.resumed",
        _ => return None,
    })
}

/// The document of a webhook, by the Standard Webhooks specification.
#[derive(Serialize)]
struct Payload<'a, D: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: D,
}

#[derive(Serialize)]
struct JobData<'a> {
    job: String,
    seq: i64,
    tenant: &'a str,
    name: &'a str,
    source: &'a str,
    profile: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_tasks: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureData<'a>>,
}

#[derive(Serialize)]
struct FailureData<'a> {
    class: splitreel_core::failure::FailureClass,
    code: &'a str,
    message: &'a str,
}

/// The type of an event and its document as signed and sent; `None`: the event is internal. The same
/// event always makes the same bytes. ffmpeg's own words are left out: they may hold paths.
pub fn payload(event: &Event, job: &Job) -> Option<(&'static str, String)> {
    let kind = event_type(&event.what)?;
    let mut data = JobData {
        job: event.job.to_string(),
        seq: event.seq,
        tenant: &job.request.tenant,
        name: &job.request.base,
        source: &job.request.source.locator,
        profile: &job.request.profile.name,
        output: job.request.output.as_deref(),
        num_tasks: None,
        task: None,
        attempt: None,
        failure: None,
    };
    match &event.what {
        EventKind::Planned { num_tasks } => data.num_tasks = Some(*num_tasks),
        EventKind::TaskRetried { task, attempt, failure, .. } => {
            (data.task, data.attempt) = (Some(*task), Some(*attempt));
            data.failure =
                Some(FailureData { class: failure.class, code: failure.code.as_str(), message: &failure.message });
        }
        EventKind::Failed { task, attempt, failure } | EventKind::Replanned { task, attempt, failure, .. } => {
            (data.task, data.attempt) = (*task, *attempt);
            data.failure =
                Some(FailureData { class: failure.class, code: failure.code.as_str(), message: &failure.message });
        }
        _ => {}
    }
    document(kind, event.at_ms, data).map(|body| (kind, body))
}

/// The document of a ping.
pub fn ping(webhook: &str, now_ms: i64) -> Option<String> {
    document(PING, now_ms, serde_json::json!({ "webhook": webhook }))
}

fn document(kind: &str, at_ms: i64, data: impl Serialize) -> Option<String> {
    serde_json::to_string(&Payload { kind, timestamp: rfc3339(at_ms), data }).ok()
}

/// Milliseconds since the epoch as RFC 3339 text in UTC; out of its range, the epoch.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::failure::{Failure, FailureCode};
    use splitreel_core::fair::Priority;
    use splitreel_core::job::JobRequest;
    use splitreel_core::profile::Profile;
    use splitreel_core::source::SourceRef;
    use splitreel_core::task::TaskKind;
    use splitreel_core::{JobId, WorkerId};
    use uuid::Uuid;

    fn job() -> Job {
        let request = JobRequest {
            tenant: "studio".into(),
            idempotency_key: "k".into(),
            source: SourceRef { locator: "s3://in/a b.mp4".into(), bytes: 7, version: "v".into() },
            base: "a_b".into(),
            profile: Profile::built_in("universal").unwrap(),
            priority: Priority::Normal,
            deep_probe: false,
            output: Some("s3://out/hls/".into()),
            trace: Default::default(),
        };
        Job::new(JobId(Uuid::from_u128(7)), request, 0).0
    }

    fn all() -> Vec<EventKind> {
        let failure =
            Failure::of(FailureCode::FfmpegFailed, "2 of 48 frames are missing").with_evidence(vec!["/tmp/x".into()]);
        vec![
            EventKind::Submitted,
            EventKind::Planned { num_tasks: 12 },
            EventKind::Claimed { task: 1, kind: TaskKind::Segment, index: 0, attempt: 1, worker: WorkerId("w".into()) },
            EventKind::TaskDone { task: 1, kind: TaskKind::Segment, index: 0, attempt: 1 },
            EventKind::TaskRetried { task: 3, attempt: 1, failure: failure.clone(), not_before_ms: 5 },
            EventKind::Replanned { generation: 2, task: Some(3), attempt: Some(2), failure: failure.clone() },
            EventKind::Failed { task: Some(3), attempt: Some(2), failure },
            EventKind::Published,
            EventKind::Cancelled,
            EventKind::Retried,
            EventKind::Paused,
            EventKind::Resumed,
        ]
    }

    #[test]
    fn documents_are_as_documented() {
        let job = job();
        let lines: Vec<String> = all()
            .into_iter()
            .enumerate()
            .filter_map(|(i, what)| {
                let event = Event { seq: i as i64 + 1, job: job.id, at_ms: 1_700_000_000_123, what };
                payload(&event, &job).map(|(_, body)| body)
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert!(!lines.join("").contains("/tmp/x"));
        insta::assert_snapshot!(ping("w1", 0).unwrap(), @r#"{"type":"webhook.ping","timestamp":"1970-01-01T00:00:00Z","data":{"webhook":"w1"}}"#);
    }

    #[test]
    fn the_list_of_types_is_the_list_of_what_is_sent() {
        let mut sent: Vec<_> = all().iter().filter_map(event_type).collect();
        sent.sort_unstable();
        assert_eq!(sent, EVENT_TYPES);
        assert!(is_wanted(&[], "job.published") && !is_wanted(&[], "task.retried"));
        assert!(is_wanted(&["task.retried".into()], "task.retried"));
        assert!(!is_wanted(&["task.retried".into()], "job.published"));
    }
}
