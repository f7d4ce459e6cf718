//! The catalogue against what is recorded, and against the document.

use crate::repository;
use futures::FutureExt;
use splitreel_core::job::JobState;
use splitreel_core::task::{Refusal, TaskKind};
use splitreel_core::{FailureClass, FailureCode};
use splitreel_telemetry::catalogue::{CATALOGUE, Metric, Values};
use splitreel_telemetry::exposition;
use splitreel_telemetry::grammar::Kind;
use splitreel_telemetry::labels::*;
use splitreel_telemetry::record;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Calls every recording function but that of HTTP requests, with every value of its closed sets.
fn record_everything() {
    record::set_jobs(&BTreeMap::from([(JobState::Running, 3)]));
    record::set_leases(&BTreeMap::from([(TaskKind::Segment, 7)]));
    record::job_started(SECOND);
    for word in ENDED_STATES {
        record::job_ended(JobState::parse(word).unwrap(), SECOND);
    }
    for kind in TASK_KINDS.iter().map(|word| TaskKind::parse(word).unwrap()) {
        record::task_claimed(kind);
        record::task_completed(kind);
        record::encoded(kind, SECOND * 30, SECOND * 10);
        for outcome in AttemptOutcome::ALL {
            record::attempt_ended(kind, *outcome, SECOND);
        }
    }
    record::leases_expired(1);
    record::leases_shortened(1);
    record::task_retried(FailureClass::Media);
    record::attempt_failed(&FailureCode::FramesDiffer);
    record::attempt_failed(&FailureCode::Unknown("melted".into()));
    record::task_retried(FailureClass::Permanent);
    for report in Report::ALL {
        for reason in [Refusal::NotClaimable, Refusal::LeaseLost, Refusal::Cancelled] {
            record::report_refused(*report, reason);
        }
    }
    record::set_outbox(4, 5, Some(SECOND));
    record::wakeups_swept(1);
    record::objects_collected(1);
    record::source_fetched(1);
    drop(record::scratch(1));
    for queue in Queue::ALL {
        record::set_queue(*queue, 2);
        record::set_slots(*queue, 8);
        drop(record::busy_slot(*queue));
    }
    Submission::ALL.iter().for_each(|outcome| record::job_submitted(*outcome));
    PublishOutcome::ALL.iter().for_each(|outcome| record::wakeups_published(*outcome, 1));
    Exit::ALL.iter().for_each(|exit| record::ffmpeg_exited(*exit));
    WebhookOutcome::ALL.iter().for_each(|outcome| record::webhook_sent(*outcome));
    for pass in Pass::ALL {
        let turns = [Ok(()), Err(())].map(|answer| record::pass(*pass, std::future::ready(answer)).now_or_never());
        assert_eq!(turns, [Some(Ok(())), Some(Err(()))]);
    }
    for operation in S3Operation::ALL {
        S3Outcome::ALL.iter().for_each(|outcome| record::s3_request(*operation, *outcome, SECOND, 1));
    }
    for source in TriggerSource::ALL {
        TriggerOutcome::ALL.iter().for_each(|outcome| record::trigger_event(*source, *outcome));
    }
}

/// Name and labels of each sample line.
fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (head, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
            let pairs = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
            let labels = pairs.map(|pair| {
                let (name, value) = pair.split_once("=\"").unwrap();
                (name.to_owned(), value.trim_end_matches('"').to_owned())
            });
            (name.to_owned(), labels.collect())
        })
        .collect()
}

fn metric_of(sample: &str) -> &'static Metric {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
    let found = CATALOGUE.iter().find(|metric| match metric.kind {
        Kind::Histogram => Some(metric.name) == base,
        Kind::Counter | Kind::Gauge => metric.name == sample,
    });
    found.unwrap_or_else(|| panic!("{sample} is not in the catalogue, or is of another kind"))
}

#[test]
fn what_is_recorded_is_what_the_catalogue_says() {
    let (recorder, exposition) = exposition::recorder().unwrap();
    metrics::with_local_recorder(&recorder, || {
        exposition::prime(Role::ALL, "1.2.3");
        record_everything();
    });
    let text = exposition.render();
    let mut told = BTreeSet::new();
    for (sample, labels) in samples(&text) {
        let metric = metric_of(&sample);
        told.insert(metric.name);
        let given: BTreeSet<&str> = labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
        let declared: BTreeSet<&str> = metric.labels.iter().map(|label| label.name).collect();
        assert_eq!(given, declared, "{sample}");
        for label in metric.labels {
            if let Values::Words(words) = label.values {
                assert!(words.contains(&labels[label.name].as_str()), "{sample} {labels:?}");
            }
        }
    }
    // HTTP requests are recorded by the middleware, whose own test looks at them.
    let silent: Vec<&str> = CATALOGUE.iter().map(|metric| metric.name).filter(|name| !told.contains(name)).collect();
    assert_eq!(silent, ["splitreel_http_requests_answered_total", "splitreel_http_request_seconds"]);
    for line in [
        "splitreel_jobs{state=\"running\"} 3",
        "splitreel_jobs{state=\"planning\"} 0",
        "splitreel_leases{kind=\"segment\"} 7",
        "splitreel_tasks_retried_total{class=\"media\"} 1",
        "splitreel_attempts_failed_total{code=\"frames_differ\"} 1",
        "splitreel_attempts_failed_total{code=\"other\"} 1",
        "splitreel_build_info{version=\"1.2.3\"} 1",
        "splitreel_queue_depth{queue=\"work\"} 2",
        "splitreel_slots_busy{queue=\"work\"} 0",
        "splitreel_encode_speed_ratio_sum{kind=\"segment\"} 3",
        "splitreel_attempt_duration_seconds_bucket{kind=\"segment\",outcome=\"completed\",le=\"0.5\"} 0",
        "splitreel_attempt_duration_seconds_bucket{kind=\"segment\",outcome=\"completed\",le=\"1\"} 1",
        "# TYPE splitreel_job_start_seconds histogram",
        "# TYPE splitreel_leases_expired_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
    }
}

#[test]
fn counters_of_a_role_exist_before_they_count() {
    let (recorder, exposition) = exposition::recorder().unwrap();
    metrics::with_local_recorder(&recorder, || exposition::prime(&[Role::Assembler], "1"));
    let names: BTreeSet<String> = samples(&exposition.render()).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains("splitreel_s3_requests_sent_total"), "{names:?}");
    assert!(!names.contains("splitreel_tasks_claimed_total"), "{names:?}");
}

#[test]
fn without_a_recorder_nothing_happens() {
    record_everything();
    let (_, exposition) = exposition::recorder().unwrap();
    assert_eq!(exposition.render(), "");
}

/// A row of the table in the document.
fn row(metric: &Metric) -> String {
    let list = |words: Vec<String>| if words.is_empty() { "–".to_owned() } else { words.join(", ") };
    let labels = list(metric.labels.iter().map(|label| format!("`{}`", label.name)).collect());
    let recorded_by = if metric.recorded_by.len() == Role::ALL.len() {
        "all".to_owned()
    } else {
        list(metric.recorded_by.iter().map(|role| role.as_str().to_owned()).collect())
    };
    let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
    format!("| `{name}` | {kind} | {labels} | {recorded_by} | {help} |")
}

#[test]
fn the_document_lists_exactly_the_catalogue() {
    let document = repository("docs/metrics.md");
    let listed: Vec<&str> = document.lines().filter(|line| line.starts_with("| `splitreel_")).collect();
    let expected: Vec<String> = CATALOGUE.iter().map(row).collect();
    assert_eq!(listed, expected, "the table should be\n{}", expected.join("\n"));
}

/// A row of the table of labels in the document.
fn label_rows() -> Vec<String> {
    let mut sets: BTreeMap<&str, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for label in CATALOGUE.iter().flat_map(|metric| metric.labels) {
        if let Values::Words(words) = label.values {
            sets.entry(label.name).or_default().insert(words.to_vec());
        }
    }
    let quoted = |words: &Vec<&str>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    let row = |(name, sets): (&str, &BTreeSet<Vec<&str>>)| {
        format!("| {name} | {} |", sets.iter().map(quoted).collect::<Vec<_>>().join("; "))
    };
    sets.iter().map(|(name, sets)| row((name, sets))).collect()
}

#[test]
fn the_document_lists_the_words_of_every_closed_label() {
    let document = repository("docs/metrics.md");
    let rows = label_rows();
    for row in &rows {
        assert!(document.contains(row.as_str()), "the table of labels should be\n{}", rows.join("\n"));
    }
}
