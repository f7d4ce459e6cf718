//! Workers that are killed at each step of an attempt, and workers that stand still: their work is done elsewhere,
//! soon, and nothing of theirs shows.

use super::stack::now_ms;
use super::stage::{Held, Stage, Step, Trap};
use crate::resume::processes_in;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A killed worker's task begins elsewhere within this time.
const KILLED_MS: i64 = 5_000;
/// A frozen one's within this.
const FROZEN_MS: i64 = 20_000;

/// Whether the holder of a task's lease is this worker.
fn is_held_by(task: &Value, name: &str) -> bool {
    task["lease_worker"].as_str().is_some_and(|worker| worker.starts_with(&format!("{name}-")))
}

/// When a later attempt at the task began.
fn begun_again(stage: &Stage, job: &str, task: &Value, after_ms: i64) -> i64 {
    let mut at = None;
    stage.stack.until("the task begins elsewhere", || {
        let events = stage.events(job);
        let is_it = |e: &&Value| {
            e["event"] == "claimed" && e["task"] == task["number"] && e["at_ms"].as_i64().unwrap() >= after_ms
        };
        at = events.iter().find(is_it).map(|e| {
            assert!(e["worker"].as_str().unwrap().starts_with("second-"), "{e}");
            e["at_ms"].as_i64().unwrap()
        });
        at.is_some()
    });
    at.unwrap()
}

/// The one task that is left when the second worker has done all others.
fn last_task(stage: &Stage, job: &str) -> Value {
    let mut open = Vec::new();
    stage.stack.until("all else is done", || {
        open = stage.open_tasks(job).unwrap_or_default();
        open.len() == 1
    });
    open.remove(0)
}

/// A job whose first worker is killed when it has come to this step.
fn killed_at(stage: &Stage, step: Step, held: Held) {
    let api = stage.own_api();
    // The probe makes each step first. Storage does not tell workers apart: there, one request is stopped.
    let trap = match step {
        Step::Fetch | Step::Upload => Trap::set(&stage.s3, step, held, 1, 1),
        _ => Trap::set(&api, step, held, 1, u64::MAX),
    };
    let victim = stage.worker_over("victim", &api);
    let job = stage.submit();
    trap.wait(stage);
    assert!(stage.open_tasks(&job).is_some(), "{step:?} was that of the probe");
    let second = stage.worker("second");
    // Its completion counts: then there is nothing to begin again.
    let counts = (step, held) == (Step::Complete, Held::Answer);
    let task = (!counts).then(|| last_task(stage, &job));
    let killed_ms = now_ms();
    victim.kill();
    if let Some(task) = task {
        let took_ms = begun_again(stage, &job, &task, killed_ms) - killed_ms;
        eprintln!("killed at {step:?}, {held:?} held: elsewhere after {took_ms} ms");
        assert!(took_ms <= KILLED_MS, "{step:?} {held:?}: {took_ms} ms");
    }
    stage.published(&job);
    trap.lose();
    second.signal(libc::SIGTERM);
    assert!(second.wait().success());
}

#[test]
fn a_worker_may_be_killed_while_it_claims_or_fetches() {
    let stage = Stage::new();
    let roles = vec![stage.coordinator(0), stage.assembler()];
    killed_at(&stage, Step::Claim, Held::Request);
    killed_at(&stage, Step::Claim, Held::Answer);
    killed_at(&stage, Step::Fetch, Held::Request);
    stage.leave(roles, &["victim", "second"]);
}

#[test]
fn a_worker_may_be_killed_while_it_stores_or_reports() {
    let stage = Stage::new();
    let roles = vec![stage.coordinator(0), stage.assembler()];
    killed_at(&stage, Step::Upload, Held::Request);
    killed_at(&stage, Step::Upload, Held::Answer);
    killed_at(&stage, Step::Complete, Held::Request);
    killed_at(&stage, Step::Complete, Held::Answer);
    stage.leave(roles, &["victim", "second"]);
}

/// An ffmpeg that stops itself before an encode and goes on when it is continued; all else it does as the real one.
fn ffmpeg_that_stops(dir: &Path) -> PathBuf {
    let path = dir.join("ffmpeg");
    let script = "#!/bin/sh\ncase \"$*\" in *libx264*) kill -STOP $$ ;; esac\nexec ffmpeg \"$@\"\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_worker_may_be_killed_while_it_encodes() {
    let stage = Stage::new();
    let mut roles = vec![stage.coordinator(0), stage.assembler()];
    let dir = tempfile::tempdir().unwrap();
    let mut settings = stage.stack.hands("victim");
    settings.push(("SPLITREEL_SERVER", stage.api.endpoint()));
    settings.push(("SPLITREEL_FFMPEG", ffmpeg_that_stops(dir.path()).to_str().unwrap().to_owned()));
    let victim = stage.stack.role("worker", &settings);
    let job = stage.submit();
    stage.stack.until("it encodes", || {
        processes_in(&stage.stack.scratch("victim")).iter().any(|line| line.contains("libx264"))
    });
    let open = stage.open_tasks(&job).unwrap();
    let task = open.iter().find(|task| is_held_by(task, "victim")).unwrap();
    let second = stage.worker("second");
    let killed_ms = now_ms();
    victim.kill();
    let took_ms = begun_again(&stage, &job, task, killed_ms) - killed_ms;
    eprintln!("killed while encoding: elsewhere after {took_ms} ms");
    assert!(took_ms <= KILLED_MS, "{took_ms} ms");
    stage.published(&job);
    roles.push(second);
    stage.leave(roles, &["victim", "second"]);
}

/// How long a frozen worker stays so: until it has been replaced, or longer on demand.
fn frozen_for_ms() -> i64 {
    std::env::var("SPLITREEL_FREEZE_SECONDS").ok().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0) * 1000
}

/// A job whose first worker stands still while a request of this step is under way, until all is over without it;
/// then the request arrives, and the worker goes on.
fn frozen_at(stage: &Stage, step: Step, longest_ms: i64, frozen_for_ms: i64) {
    let api = stage.own_api();
    let trap = match step {
        Step::Upload => Trap::set(&stage.s3, step, Held::Request, 1, 1),
        _ => Trap::set(&api, step, Held::Request, 1, u64::MAX),
    };
    let victim = stage.worker_over("victim", &api);
    let job = stage.submit();
    trap.wait(stage);
    let second = stage.worker("second");
    let task = last_task(stage, &job);
    assert!(is_held_by(&task, "victim"), "{task}");
    let frozen_ms = now_ms();
    victim.signal(libc::SIGSTOP);
    let took_ms = begun_again(stage, &job, &task, frozen_ms) - frozen_ms;
    eprintln!("frozen at {step:?}: elsewhere after {took_ms} ms");
    assert!(took_ms <= longest_ms, "{took_ms} ms");
    stage.published(&job);
    stage.stack.until("it was frozen long enough", || now_ms() - frozen_ms >= frozen_for_ms);
    let query = format!("SELECT number, attempt, done_by, result FROM tasks WHERE job = '{job}' ORDER BY number");
    let before = stage.stack.rows(&query);
    assert_eq!(before.iter().filter(|t| t["number"] == task["number"]).map(|t| &t["attempt"]).collect::<Vec<_>>(), [2]);
    trap.gate.open();
    victim.signal(libc::SIGCONT);
    for worker in [victim, second] {
        worker.signal(libc::SIGTERM);
        assert!(worker.wait().success(), "{}", stage.stack.logs());
    }
    assert_eq!(stage.stack.rows(&query), before, "a late result counts");
    stage.published(&job);
}

#[test]
fn a_frozen_worker_is_replaced_and_its_late_result_is_refused() {
    let stage = Stage::new();
    let roles = vec![stage.coordinator(0), stage.assembler()];
    frozen_at(&stage, Step::Complete, FROZEN_MS, frozen_for_ms());
    stage.leave(roles, &["victim", "second"]);
}

#[test]
fn what_a_frozen_worker_stores_late_is_never_visible() {
    let stage = Stage::new();
    let mut settings = stage.coordinating(0);
    settings.push(("SPLITREEL_LEASE_SECONDS", "3".to_owned()));
    let roles = vec![stage.stack.role("coordinator", &settings), stage.assembler()];
    frozen_at(&stage, Step::Upload, 8_000, 0);
    stage.leave(roles, &["victim", "second"]);
}
