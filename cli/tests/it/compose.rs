//! docker-compose.yml held against the roles' settings and against `.env.example`. Starts no container: that is
//! `scripts/compose-check`.

use crate::structure::root;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Nothing to set in a container: it has one name, its own volume, bucket and broker, and no file of settings.
const FIXED: [&str; 6] = [
    "SPLITREEL_CONFIG",
    "SPLITREEL_QUEUE_PREFIX",
    "SPLITREEL_S3_PREFIX",
    "SPLITREEL_SCRATCH",
    "SPLITREEL_STATE",
    "SPLITREEL_WORKER_NAME",
];

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn is_variable(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Variables that the file takes from `.env`, with the default that it has for them.
fn taken(compose: &str) -> BTreeMap<&str, Option<&str>> {
    let written = compose.split("${").skip(1).map(|rest| {
        let (inside, _) = rest.split_once('}').unwrap();
        match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside.split(':').next().unwrap_or(inside), None),
        }
    });
    let passed = compose.lines().filter_map(|line| line.trim().strip_suffix(':')).filter(|name| is_variable(name));
    written.chain(passed.map(|name| (name, None))).collect()
}

#[test]
fn the_example_names_what_compose_takes_with_its_defaults() {
    let (compose, example) = (read("docker-compose.yml"), read(".env.example"));
    let shown: BTreeMap<&str, Option<&str>> = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .filter(|(name, _)| is_variable(name))
        .map(|(name, value)| (name, Some(value).filter(|value| !value.is_empty())))
        .collect();
    assert!(shown.len() > 30, "{shown:?}");
    let taken = taken(&compose);
    let differ: Vec<&&str> =
        shown.keys().chain(taken.keys()).filter(|name| shown.get(*name) != taken.get(*name)).collect();
    assert!(differ.is_empty(), "docker-compose.yml and .env.example differ in {differ:?}");
}

#[test]
fn every_setting_of_a_role_has_a_place_in_compose() {
    let compose = read("docker-compose.yml");
    let set: BTreeSet<&str> =
        compose.lines().filter_map(|line| line.trim().split(':').next()).filter(|name| is_variable(name)).collect();
    for role in ["coordinator", "worker", "assembler"] {
        let done = Command::new(env!("CARGO_BIN_EXE_splitreel")).args([role, "--help"]).output().unwrap();
        let help = String::from_utf8(done.stdout).unwrap();
        let settings: Vec<&str> = help.split("[env: ").skip(1).filter_map(|rest| rest.split('=').next()).collect();
        assert!(settings.len() > 3, "{role}: {settings:?}");
        let missing: Vec<&&str> =
            settings.iter().filter(|name| !set.contains(*name) && !FIXED.contains(name)).collect();
        assert!(missing.is_empty(), "docker-compose.yml does not know these settings of {role}: {missing:?}");
    }
}
