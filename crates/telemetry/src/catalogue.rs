//! The one table of all metrics: name, kind, labels, buckets, recording role, meaning. Descriptions, buckets and
//! zeros come from here, and `docs/metrics.md` lists exactly this. Records nothing.

use crate::grammar::Kind;
use crate::labels::{
    AttemptOutcome, ENDED_STATES, Exit, Method, OPEN_STATES, OutboxState, Outcome, Pass, PublishOutcome, Queue,
    RETRIED_CLASSES, RefusedFor, Report, Role, S3Operation, S3Outcome, Submission, TASK_KINDS, TriggerOutcome,
    TriggerSource, WebhookOutcome,
};
use splitreel_core::FailureCode;

/// What a label may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A route template of the program, or `unmatched`.
    Routes,
    /// A status code of three digits; 499 when the client went away before the answer.
    Statuses,
    /// The version of the program: one per process.
    Version,
}

/// A label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, after the [grammar](crate::grammar).
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, in the order in which the recording functions give the values.
    pub labels: &'static [Label],
    /// Upper bounds of the buckets, ascending, in the unit of the name; empty unless it is a histogram.
    pub buckets: &'static [f64],
    /// Which processes tell it.
    pub recorded_by: &'static [Role],
    /// One sentence.
    pub help: &'static str,
}

const COORDINATOR: &[Role] = &[Role::Coordinator];
const WORKER: &[Role] = &[Role::Worker];
const PERFORMERS: &[Role] = &[Role::Worker, Role::Assembler];
const EVERYBODY: &[Role] = &[Role::Coordinator, Role::Worker, Role::Assembler];

/// Probes take tenths of a second, whole sound tracks an hour.
const WORK_SECONDS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
const JOB_SECONDS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0];
/// From a claim that finds its task at once to a job that waits for its share.
const WAIT_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0];
const CALL_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const MEDIA_SECONDS: &[f64] = &[0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0];
const SPEED_RATIOS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

macro_rules! catalogue {
    ($(
        $id:ident $kind:ident $name:literal [$($label:literal: $values:expr),*] $buckets:expr, $recorded_by:expr,
            $help:literal;
    )+) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$(Label { name: $label, values: $values }),*],
                buckets: $buckets,
                recorded_by: $recorded_by,
                help: $help,
            };
        )+

        /// Every metric, in the order of the document.
        pub const CATALOGUE: &[Metric] = &[$($id),+];
    };
}

use Values::{Routes, Statuses, Version, Words};

catalogue! {
    BUILD_INFO Gauge "splitreel_build_info" ["version": Version] &[], EVERYBODY,
        "1, with the version of the process.";

    JOBS Gauge "splitreel_jobs" ["state": Words(OPEN_STATES)] &[], COORDINATOR,
        "Open jobs by state.";
    JOBS_SUBMITTED Counter "splitreel_jobs_submitted_total" ["outcome": Words(Submission::WORDS)] &[], COORDINATOR,
        "Submits by what they came to.";
    JOBS_ENDED Counter "splitreel_jobs_ended_total" ["state": Words(ENDED_STATES)] &[], COORDINATOR,
        "Jobs that ended, by state.";
    JOB_END_TO_END Histogram "splitreel_job_end_to_end_seconds" ["state": Words(ENDED_STATES)] JOB_SECONDS, COORDINATOR,
        "Time from submit to the end of a job.";

    JOB_START Histogram "splitreel_job_start_seconds" [] WAIT_SECONDS, COORDINATOR,
        "Time from submit to the first claim of a job.";

    LEASES Gauge "splitreel_leases" ["kind": Words(TASK_KINDS)] &[], COORDINATOR,
        "Leases by the kind of their task.";
    TASKS_CLAIMED Counter "splitreel_tasks_claimed_total" ["kind": Words(TASK_KINDS)] &[], COORDINATOR,
        "Claims that were given a lease.";
    TASKS_COMPLETED Counter "splitreel_tasks_completed_total" ["kind": Words(TASK_KINDS)] &[], COORDINATOR,
        "Tasks that became done.";
    TASKS_RETRIED Counter "splitreel_tasks_retried_total" ["class": Words(RETRIED_CLASSES)] &[], COORDINATOR,
        "Attempts that were reported as failed and will be followed by another, by class of the failure.";
    ATTEMPTS_FAILED Counter "splitreel_attempts_failed_total" ["code": Words(FailureCode::LABELS)] &[], COORDINATOR,
        "Attempts that were reported as failed, by code of the failure.";
    LEASES_EXPIRED Counter "splitreel_leases_expired_total" [] &[], COORDINATOR,
        "Leases taken back because they ran out.";
    LEASES_SHORTENED Counter "splitreel_leases_shortened_total" [] &[], COORDINATOR,
        "Leases shortened because the control stream of their worker broke.";
    REPORTS_REFUSED Counter "splitreel_reports_refused_total"
        ["report": Words(Report::WORDS), "reason": Words(RefusedFor::WORDS)] &[], COORDINATOR,
        "Claims and reports of workers that were refused.";

    QUEUE_DEPTH Gauge "splitreel_queue_depth" ["queue": Words(Queue::WORDS)] &[], COORDINATOR,
        "Tasks that wait for their lease, those in back-off included; paused jobs are left out.";
    OUTBOX_ROWS Gauge "splitreel_outbox_rows" ["state": Words(OutboxState::WORDS)] &[], COORDINATOR,
        "Outbox rows, not yet sent or not yet claimed.";
    OUTBOX_OLDEST_AGE Gauge "splitreel_outbox_oldest_age_seconds" [] &[], COORDINATOR,
        "Age of the oldest outbox row that was not yet sent; 0 when there is none.";
    RINGS_PUBLISHED Counter "splitreel_rings_published_total"
        ["outcome": Words(PublishOutcome::WORDS)] &[], COORDINATOR,
        "Messages that the relay handed to the broker, by what became of them.";
    RINGS_SWEPT Counter "splitreel_rings_swept_total" [] &[], COORDINATOR,
        "Outbox rows written again because their message may be lost.";
    PASS Histogram "splitreel_coordinator_pass_seconds"
        ["pass": Words(Pass::WORDS), "outcome": Words(Outcome::WORDS)] CALL_SECONDS, COORDINATOR,
        "Duration of one turn of a coordinator's loop.";
    OBJECTS_COLLECTED Counter "splitreel_objects_collected_total" [] &[], COORDINATOR,
        "Objects deleted because no row names them.";

    ATTEMPT_DURATION Histogram "splitreel_attempt_duration_seconds"
        ["kind": Words(TASK_KINDS), "outcome": Words(AttemptOutcome::WORDS)] WORK_SECONDS, PERFORMERS,
        "Duration of an attempt from the start of its work until its report is answered.";
    ENCODE_SPEED Histogram "splitreel_encode_speed_ratio" ["kind": Words(TASK_KINDS)] SPEED_RATIOS, WORKER,
        "Media seconds per second of completed encodes.";
    ENCODED_MEDIA Histogram "splitreel_encoded_media_seconds" ["kind": Words(TASK_KINDS)] MEDIA_SECONDS, WORKER,
        "Length of source time that a completed encode covers.";
    FFMPEG_EXITED Counter "splitreel_ffmpeg_exited_total" ["outcome": Words(Exit::WORDS)] &[], WORKER,
        "ffmpeg and ffprobe processes by how they ended.";
    SOURCE_FETCHED Counter "splitreel_source_fetched_bytes_total" [] &[], WORKER,
        "Bytes of sources read over the network.";
    SCRATCH_USED Gauge "splitreel_scratch_used_bytes" [] &[], WORKER,
        "Scratch space reserved for bytes of sources.";
    SLOTS Gauge "splitreel_slots" ["queue": Words(Queue::WORDS)] &[], PERFORMERS,
        "Attempts that this process may run at the same time.";
    SLOTS_BUSY Gauge "splitreel_slots_busy" ["queue": Words(Queue::WORDS)] &[], PERFORMERS,
        "Attempts that this process is running.";

    S3_REQUESTS Counter "splitreel_s3_requests_sent_total"
        ["operation": Words(S3Operation::WORDS), "outcome": Words(S3Outcome::WORDS)] &[], EVERYBODY,
        "Requests to the object store, each try for itself.";
    S3_REQUEST Histogram "splitreel_s3_request_seconds"
        ["operation": Words(S3Operation::WORDS)] CALL_SECONDS, EVERYBODY,
        "Time from a request to the object store to the head of its answer.";
    S3_TRANSFERRED Counter "splitreel_s3_transferred_bytes_total"
        ["operation": Words(S3Operation::WORDS)] &[], EVERYBODY,
        "Bytes of bodies sent to or read from the object store.";

    HTTP_REQUESTS Counter "splitreel_http_requests_answered_total"
        ["method": Words(Method::WORDS), "route": Routes, "status": Statuses] &[], COORDINATOR,
        "HTTP requests answered.";
    HTTP_REQUEST Histogram "splitreel_http_request_seconds"
        ["method": Words(Method::WORDS), "route": Routes] CALL_SECONDS, COORDINATOR,
        "Time from an HTTP request to the head of its answer.";
    WEBHOOKS_SENT Counter "splitreel_webhooks_sent_total" ["outcome": Words(WebhookOutcome::WORDS)] &[], COORDINATOR,
        "Tries to deliver a webhook, by outcome.";
    TRIGGER_EVENTS Counter "splitreel_trigger_events_received_total"
        ["source": Words(TriggerSource::WORDS), "outcome": Words(TriggerOutcome::WORDS)] &[], COORDINATOR,
        "Trigger events by source and what they came to.";
}

impl Metric {
    /// Every combination of label values; `None` when a label is open (routes, statuses, version).
    pub fn combinations(&self) -> Option<Vec<Vec<&'static str>>> {
        let mut all: Vec<Vec<&'static str>> = vec![Vec::new()];
        for label in self.labels {
            let Words(words) = label.values else { return None };
            all = all
                .into_iter()
                .flat_map(|row| {
                    words.iter().map(move |word| {
                        let mut longer = row.clone();
                        longer.push(*word);
                        longer
                    })
                })
                .collect();
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{check_label, check_name};
    use splitreel_core::job::JobState;
    use splitreel_core::task::TaskKind;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_and_label_keeps_the_grammar() {
        let mut names = BTreeSet::new();
        for metric in CATALOGUE {
            assert_eq!(check_name(metric.name, metric.kind), Ok(()), "{}", metric.name);
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            assert!(metric.help.ends_with('.') && !metric.recorded_by.is_empty(), "{}", metric.name);
            let mut labels = BTreeSet::new();
            for label in metric.labels {
                assert_eq!(check_label(label.name), Ok(()), "{}", metric.name);
                assert!(labels.insert(label.name), "{} has {} twice", metric.name, label.name);
            }
        }
    }

    #[test]
    fn histograms_and_only_they_have_ascending_buckets() {
        for metric in CATALOGUE {
            assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
            assert!(metric.buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
        }
    }

    #[test]
    fn series_stay_few() {
        for metric in CATALOGUE {
            let series = metric.combinations().map_or(0, |all| all.len()) * (metric.buckets.len() + 3).max(1);
            assert!(series <= 1_000, "{} may have {series} series", metric.name);
        }
    }

    #[test]
    fn words_of_the_domain_are_the_domains() {
        assert!(OPEN_STATES.iter().all(|word| JobState::parse(word).is_some_and(|state| !state.is_ended())));
        assert!(ENDED_STATES.iter().all(|word| JobState::parse(word).is_some_and(JobState::is_ended)));
        assert!(TASK_KINDS.iter().all(|word| TaskKind::parse(word).is_some()));
    }
}
