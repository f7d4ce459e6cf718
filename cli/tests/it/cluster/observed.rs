//! What the processes of a cluster tell of a job: metrics that count it, and one trace.

use super::collector::{Collector, Span};
use super::same_bytes::short_segments;
use super::stack::{Role, Stack, local};
use crate::clips;
use std::collections::{BTreeMap, BTreeSet};

fn expect(role: &Role, samples: &[(&str, f64)]) {
    let found = role.metrics();
    for (sample, value) in samples {
        assert_eq!(found.get(*sample), Some(value), "{sample} in {found:#?}");
    }
}

fn expect_some(role: &Role, samples: &[&str]) {
    let found = role.metrics();
    for sample in samples {
        assert!(found.get(*sample).is_some_and(|value| *value > 0.0), "{sample} in {found:#?}");
    }
}

/// Numbers of tasks of a job by kind.
fn tasks(stack: &Stack, job: &str) -> BTreeMap<String, u32> {
    let status = stack.ask(&["status", job, "--json"]);
    let text: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let mut found = BTreeMap::new();
    for task in text["tasks"].as_array().unwrap() {
        *found.entry(task["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

/// What the coordinator counts of one job.
fn coordinator_counts(coordinator: &Role, num_tasks: u32) {
    expect(
        coordinator,
        &[
            ("splitreel_jobs_submitted_total{outcome=\"created\"}", 1.0),
            ("splitreel_jobs_submitted_total{outcome=\"refused\"}", 0.0),
            ("splitreel_jobs_ended_total{state=\"published\"}", 1.0),
            ("splitreel_jobs_ended_total{state=\"failed\"}", 0.0),
            ("splitreel_job_end_to_end_seconds_count{state=\"published\"}", 1.0),
            ("splitreel_job_start_seconds_count", 1.0),
            ("splitreel_rings_published_total{outcome=\"confirmed\"}", f64::from(num_tasks)),
            ("splitreel_leases_expired_total", 0.0),
        ],
    );
    expect_some(
        coordinator,
        &[
            "splitreel_s3_requests_sent_total{operation=\"get\",outcome=\"ok\"}",
            "splitreel_coordinator_pass_seconds_count{pass=\"relay\",outcome=\"ok\"}",
            "splitreel_http_requests_answered_total{method=\"POST\",route=\"/v1/jobs\",status=\"201\"}",
        ],
    );
}

#[test]
fn a_job_is_counted_where_it_happens_and_is_one_trace() {
    let collector = Collector::start();
    let stack = Stack::start();
    let exports = || ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.clone());
    let profile = short_segments(&stack);
    stack.upload("cfr.mp4", &clips::cfr());
    let coordinator = stack.role("coordinator", &[("SPLITREEL_LISTEN", local(stack.api).to_string()), exports()]);
    let worker = stack.role("worker", &[stack.hands("one"), vec![exports()]].concat());
    let assembler = stack.role("assembler", &[exports()]);
    let job = stack.transcode("cfr.mp4", Some(&profile));
    let tasks = tasks(&stack, &job);
    let segments = tasks["segment"];
    assert!(segments >= 2, "{tasks:?}");

    for (kind, num) in &tasks {
        let num = f64::from(*num);
        expect(
            &coordinator,
            &[
                (&format!("splitreel_tasks_claimed_total{{kind=\"{kind}\"}}"), num),
                (&format!("splitreel_tasks_completed_total{{kind=\"{kind}\"}}"), num),
            ],
        );
        let by = if kind == "assemble" { &assembler } else { &worker };
        let attempts = format!("splitreel_attempt_duration_seconds_count{{kind=\"{kind}\",outcome=\"completed\"}}");
        expect(by, &[(&attempts, num)]);
    }
    coordinator_counts(&coordinator, tasks.values().sum());
    expect(
        &worker,
        &[
            ("splitreel_slots{queue=\"work\"}", 1.0),
            ("splitreel_slots_busy{queue=\"work\"}", 0.0),
            ("splitreel_scratch_used_bytes", 0.0),
            ("splitreel_encode_speed_ratio_count{kind=\"segment\"}", f64::from(segments)),
        ],
    );
    expect_some(
        &worker,
        &[
            "splitreel_source_fetched_bytes_total",
            "splitreel_ffmpeg_exited_total{outcome=\"ok\"}",
            "splitreel_s3_requests_sent_total{operation=\"put\",outcome=\"ok\"}",
            "splitreel_s3_transferred_bytes_total{operation=\"put\"}",
        ],
    );
    expect(&assembler, &[("splitreel_slots{queue=\"assemble\"}", 1.0)]);
    expect_some(&assembler, &["splitreel_s3_requests_sent_total{operation=\"put\",outcome=\"ok\"}"]);
    // The gauges are read every few seconds.
    stack.until("the gauges of an empty queue", || {
        let found = coordinator.metrics();
        let gauges = [
            "splitreel_queue_depth{queue=\"work\"}",
            "splitreel_queue_depth{queue=\"assemble\"}",
            "splitreel_jobs{state=\"running\"}",
            "splitreel_leases{kind=\"segment\"}",
            "splitreel_outbox_rows{state=\"sent\"}",
        ];
        gauges.iter().all(|gauge| found.get(*gauge) == Some(&0.0))
    });

    for role in [worker, assembler, coordinator] {
        role.signal(libc::SIGTERM);
        assert!(role.wait().success(), "{}", stack.logs());
    }
    one_trace(&collector.spans(), &tasks);
}

/// Follows the parents of a span to the root, by name.
fn ancestry<'a>(spans: &BTreeMap<&'a [u8], &'a Span>, of: &'a Span) -> Vec<&'a str> {
    let mut names = vec![of.name.as_str()];
    let mut at = of;
    while !at.parent.is_empty() {
        at = spans.get(at.parent.as_slice()).unwrap_or_else(|| panic!("{at:?} has no parent among {spans:#?}"));
        names.push(&at.name);
    }
    names
}

fn one_trace(all: &[Span], tasks: &BTreeMap<String, u32>) {
    let jobs: Vec<&Span> = all.iter().filter(|span| span.name == "job").collect();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let spans: BTreeMap<&[u8], &Span> =
        all.iter().filter(|span| span.trace == jobs[0].trace).map(|span| (span.id.as_slice(), span)).collect();
    let services: BTreeSet<&str> = spans.values().map(|span| span.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["splitreel-coordinator", "splitreel-worker", "splitreel-assembler"]));

    let mut chains: BTreeMap<String, u32> = BTreeMap::new();
    for span in spans.values() {
        *chains.entry(ancestry(&spans, span).join(" < ")).or_default() += 1;
    }
    let root = "job < POST /v1/jobs";
    let attempt = format!("attempt < task < {root}");
    let report = "POST /v1/work/{job}/{task}/{lease}/complete < report";
    let (all, encodes) = (tasks.values().sum::<u32>(), tasks["segment"] + tasks["audio"]);
    for (chain, num) in [
        (root.to_owned(), 1),
        (format!("plan < {root}"), 1),
        (format!("task < {root}"), all),
        (attempt.clone(), all),
        (format!("POST /v1/work/claim < claim < {attempt}"), all),
        (format!("fetch < {attempt}"), all - 1),
        (format!("probe < {attempt}"), 1),
        (format!("encode < {attempt}"), encodes),
        (format!("package < {attempt}"), 1),
        (format!("{report} < {attempt}"), all),
        (format!("publish < {report} < {attempt}"), 1),
    ] {
        assert_eq!(chains.get(&chain), Some(&num), "{chain}: {chains:#?}");
    }
    assert!(chains.get(&format!("upload < {attempt}")).is_some_and(|num| *num > encodes), "{chains:#?}");

    let document = std::fs::read_to_string(crate::structure::root().join("docs/tracing.md")).unwrap();
    for name in spans.values().map(|span| span.name.as_str()).filter(|name| !name.contains('/')) {
        let is_listed = document.lines().any(|line| {
            let line = line.trim_start_matches([' ', '│', '├', '└', '─']);
            line == name || line.starts_with(&format!("{name} "))
        });
        assert!(is_listed, "{name} is not in docs/tracing.md");
    }
}
