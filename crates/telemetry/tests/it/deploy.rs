//! Dashboard and alerts only ask for metrics that exist.

use crate::repository;
use serde_json::Value;
use splitreel_telemetry::catalogue::CATALOGUE;
use splitreel_telemetry::grammar::Kind;
use splitreel_telemetry::ops;
use std::collections::BTreeSet;

const DASHBOARD: &str = "deploy/grafana/dashboards/splitreel.json";
const ALERTS: &str = "deploy/prometheus/alerts.yml";

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every metric name in a text, with the selector behind it, if any.
fn metrics_in(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("splitreel_") {
        if text[..at].chars().next_back().is_some_and(is_name) {
            continue;
        }
        let rest = &text[at..];
        let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
        let selector = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        found.push((name.clone(), selector.map_or(String::new(), |(inside, _)| inside.to_owned())));
    }
    found
}

/// What is wrong with the metrics that a text asks for.
fn wrong_in(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, selector) in metrics_in(text) {
        let of = |name: &str| CATALOGUE.iter().find(|metric| metric.name == name);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let histogram = base.and_then(of).filter(|metric| metric.kind == Kind::Histogram);
        let plain = of(&name).filter(|metric| metric.kind != Kind::Histogram);
        let Some(metric) = histogram.or(plain) else {
            wrong.push(format!("{name} is not recorded"));
            continue;
        };
        for condition in selector.split(',').filter(|condition| !condition.is_empty()) {
            let label: String = condition.trim().chars().take_while(|c| is_name(*c)).collect();
            let is_known = metric.labels.iter().any(|known| known.name == label) || label == "job";
            if !is_known {
                wrong.push(format!("{name} has no label {label}"));
            }
        }
    }
    wrong
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| expressions(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_is_told() {
    let dashboard: Value = serde_json::from_str(&repository(DASHBOARD)).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() >= 30, "{} expressions", asked.len());
    let wrong: Vec<String> = asked.iter().flat_map(|expression| wrong_in(expression)).collect();
    assert_eq!(wrong, Vec::<String>::new());
    let shown: BTreeSet<String> = asked.iter().flat_map(|e| metrics_in(e)).map(|(name, _)| name).collect();
    for metric in CATALOGUE {
        assert!(shown.iter().any(|name| name.starts_with(metric.name)), "{} is not shown", metric.name);
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&repository(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn alerts_ask_for_what_is_told() {
    let alerts = repository(ALERTS);
    assert!(metrics_in(&alerts).len() >= 15);
    assert_eq!(wrong_in(&alerts), Vec::<String>::new());
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{names:?}");
    assert_eq!(names.len(), alerts.matches(" expr: ").count());
}

#[test]
fn wrong_names_and_labels_are_found() {
    for (text, wrong) in [
        ("rate(splitreel_nothing_total[5m])", "splitreel_nothing_total is not recorded"),
        ("splitreel_job_start_seconds", "splitreel_job_start_seconds is not recorded"),
        ("splitreel_jobs_bucket", "splitreel_jobs_bucket is not recorded"),
        ("splitreel_jobs{status=\"x\"}", "splitreel_jobs has no label status"),
    ] {
        assert_eq!(wrong_in(text), [wrong]);
    }
}

#[test]
fn prometheus_scrapes_the_port_that_the_roles_listen_on() {
    let config = repository("deploy/prometheus/prometheus.yml");
    let port = format!("port: {}", ops::DEFAULT_PORT);
    assert_eq!(config.matches(&port).count(), 3);
    for role in ["coordinator", "worker", "assembler"] {
        assert!(config.contains(&format!("names: [{role}]")), "{role}");
    }
    assert!(config.contains("rabbitmq:15692") && config.contains("- alerts.yml"));
}
