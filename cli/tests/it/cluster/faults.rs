//! Processes die and the output stays what it was.

use super::same_bytes::{hashes, run_alone, short_segments};
use super::stack::{SOURCES, Stack};
use crate::clips;
use std::time::{Duration, Instant};

/// Polls until `is` holds; the condition is another process's doing.
fn until(what: &str, stack: &Stack, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not happen: {}", stack.logs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_worker_and_a_killed_coordinator_are_replaced_and_the_bytes_are_the_same() {
    let stack = Stack::start();
    let profile = short_segments(&stack);
    let clip = clips::cfr();
    stack.upload("cfr.mp4", &clip);
    let coordinator = stack.coordinator();
    let victim = stack.worker("victim");
    let source = format!("s3://{SOURCES}/cfr.mp4");
    let submitted = stack.ask(&["submit", &source, "--profile", &profile]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let job = String::from_utf8(submitted.stdout).unwrap().trim().to_owned();
    let segments_done = || {
        let status = stack.ask(&["status", &job, "--json"]);
        let text: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let tasks = text["tasks"].as_array().cloned().unwrap_or_default();
        tasks.iter().filter(|t| t["kind"] == "segment" && t["state"] == "done").count()
    };
    until("a first segment", &stack, || segments_done() >= 1);
    victim.signal(libc::SIGKILL);
    drop(victim);
    coordinator.signal(libc::SIGKILL);
    drop(coordinator);
    let _coordinator = stack.coordinator();
    let _worker = stack.worker("second");
    let _assembler = stack.assembler();
    let watched = stack.ask(&["watch", &job]);
    assert!(watched.status.success(), "{}\n{}", String::from_utf8_lossy(&watched.stderr), stack.logs());
    let out = stack.dir.path().join("out");
    stack.fetch(&job, &out);
    assert_eq!(hashes(&out), run_alone(&stack, &clip, &profile, "cfr"));
}

#[test]
fn a_worker_that_is_told_to_end_hands_its_work_back_and_leaves_nothing() {
    let stack = Stack::start();
    let profile = short_segments(&stack);
    stack.upload("cfr.mp4", &clips::cfr());
    let _coordinator = stack.coordinator();
    let leaving = stack.worker("leaving");
    let submitted = stack.ask(&["submit", &format!("s3://{SOURCES}/cfr.mp4"), "--profile", &profile]);
    let job = String::from_utf8(submitted.stdout).unwrap().trim().to_owned();
    let scratch = stack.dir.path().join("scratch-leaving/scratch");
    until("an attempt", &stack, || std::fs::read_dir(&scratch).is_ok_and(|d| d.count() > 0));
    leaving.signal(libc::SIGTERM);
    assert!(leaving.wait().success(), "{}", stack.logs());
    assert_eq!(std::fs::read_dir(&scratch).map_or(0, Iterator::count), 0, "scratch files are left");
    let _worker = stack.worker("staying");
    let _assembler = stack.assembler();
    let watched = stack.ask(&["watch", &job]);
    assert!(watched.status.success(), "{}\n{}", String::from_utf8_lossy(&watched.stderr), stack.logs());
}
