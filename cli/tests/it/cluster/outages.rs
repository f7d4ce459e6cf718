//! Servers that die, forget or stop answering under a running job, a scratch disk that is full, a source that changes.

use super::servers::OwnServers;
use super::stack::now_ms;
use super::stage::{Held, Stage, Step, Trap};
use crate::{clips, full_disk};
use splitreel_testkit::proxy::{Fault, Gate};

/// How long storage is out of order.
const OUTAGE_MS: i64 = 30_000;

/// A job to which something happens between two of its segments.
fn meanwhile(stage: &Stage, what: impl FnOnce()) -> String {
    let trap = Trap::set(&stage.s3, Step::Upload, Held::Request, 2, 1);
    let job = stage.submit();
    trap.wait(stage);
    what();
    trap.gate.open();
    job
}

#[test]
fn database_and_broker_may_die_and_the_broker_may_forget() {
    let own = OwnServers::start();
    let stage = Stage::on(own.servers.clone(), clips::short());
    let mut roles = vec![stage.coordinator(0), stage.coordinator(1), stage.assembler()];
    roles.extend(["one", "two"].map(|name| stage.worker(name)));
    for what in [&["restart", "postgres"][..], &["restart", "rabbitmq"], &["drop-queues"]] {
        let job = meanwhile(&stage, || {
            own.run(what);
        });
        stage.published(&job);
        eprintln!("{what:?}: published");
    }
    stage.leave(roles, &["one", "two"]);
}

/// A job whose storage is out of order for a while, for everybody.
fn storage_fails(fault: impl Fn() -> Fault + Send + Sync + 'static, over: impl FnOnce()) {
    let stage = Stage::new();
    let storage = [("AWS_ENDPOINT_URL_S3", stage.s3.endpoint())];
    let coordinating = [&stage.coordinating(0)[..], &storage].concat();
    let packaging = [("SPLITREEL_SERVER", stage.api.endpoint()), storage[0].clone()];
    let mut roles = vec![stage.stack.role("coordinator", &coordinating), stage.assembler_over(&packaging)];
    roles.push(stage.worker("worker"));
    let job = meanwhile(&stage, || stage.s3.set_rule(move |_| fault()));
    let begun_ms = now_ms();
    stage.stack.until("the outage is over", || now_ms() - begun_ms >= OUTAGE_MS);
    assert!(stage.open_tasks(&job).is_some_and(|open| !open.is_empty()), "the outage delayed nothing");
    stage.s3.clear_rule();
    over();
    stage.published(&job);
    eprintln!("published {} ms after the outage", now_ms() - begun_ms - OUTAGE_MS);
    stage.leave(roles, &["worker"]);
}

#[test]
fn storage_may_answer_503_for_30_seconds() {
    storage_fails(|| Fault::Refuse { status: 503, code: "SlowDown" }, || {});
}

#[test]
fn storage_may_stall_for_30_seconds() {
    let gate = Gate::default();
    let held = gate.clone();
    storage_fails(move || Fault::Hold(held.clone()), || gate.open());
}

#[test]
fn a_worker_with_a_full_disk_fails_its_attempts_and_others_do_the_work() {
    let stage = Stage::new();
    let mut roles = vec![stage.coordinator(0), stage.assembler()];
    let scratch = stage.stack.scratch("full");
    std::fs::create_dir(&scratch).unwrap();
    let mut settings = stage.stack.hands("full");
    settings.push(("SPLITREEL_SERVER", stage.api.endpoint()));
    settings.extend(full_disk::settings(&scratch, 16 << 10));
    let full = stage.stack.role("worker", &settings);
    let job = stage.submit();
    stage.stack.until("an attempt fails for lack of space", || {
        let failed = |e: &serde_json::Value| e["event"] == "task_retried" && e["failure"]["code"] == "no_space";
        stage.events(&job).iter().any(failed)
    });
    roles.push(stage.worker("roomy"));
    let begun_ms = now_ms();
    stage.published(&job);
    eprintln!("published {} ms after there was room", now_ms() - begun_ms);
    full.signal(libc::SIGTERM);
    assert!(full.wait().success());
    stage.leave(roles, &["roomy"]);
}

#[test]
fn a_source_that_is_replaced_fails_its_job_and_says_so() {
    let stage = Stage::new();
    let roles = vec![stage.coordinator(0), stage.assembler(), stage.worker("worker")];
    let job = meanwhile(&stage, || stage.replace_source(&clips::cfr()));
    stage.ended(&job, "failed");
    let watched = stage.ask(&["watch", &job]);
    let said = String::from_utf8_lossy(&watched.stderr).into_owned();
    assert_eq!(watched.status.code(), Some(3), "{said}");
    let failure = &stage.stack.rows(&format!("SELECT failure::json->>'code' AS code FROM jobs WHERE id = '{job}'"))[0];
    assert_eq!(failure["code"], "source_changed", "{said}");
    stage.leave(roles, &["worker"]);
}
