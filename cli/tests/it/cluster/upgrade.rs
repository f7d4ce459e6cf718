//! A coordinator is replaced by one that needs newer workers.

use super::same_bytes::short_segments;
use super::stack::{SOURCES, Stack, free_port, local};
use crate::clips;

#[test]
fn workers_that_are_too_old_end_and_leave_their_work_to_others() {
    let stack = Stack::start();
    let profile = short_segments(&stack);
    stack.upload("cfr.mp4", &clips::cfr());
    let coordinator = stack.coordinator();
    let worker = stack.worker("old");
    let submitted = stack.ask(&["submit", &format!("s3://{SOURCES}/cfr.mp4"), "--profile", &profile]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let job = String::from_utf8(submitted.stdout).unwrap().trim().to_owned();
    let scratch = stack.scratch("old").join("scratch");
    stack.until("an attempt", || std::fs::read_dir(&scratch).is_ok_and(|d| d.count() > 0));
    coordinator.signal(libc::SIGTERM);
    assert!(coordinator.wait().success(), "{}", stack.logs());

    let listen = ("SPLITREEL_LISTEN", local(stack.api).to_string());
    let coordinator = stack.role("coordinator", &[listen, ("SPLITREEL_OLDEST_PROTOCOL", "1000".to_owned())]);
    assert_eq!(worker.wait().code(), Some(75), "{}", stack.logs());
    assert!(stack.logs().contains("this program is older than the coordinator accepts"), "{}", stack.logs());
    assert_eq!(std::fs::read_dir(&scratch).map_or(0, Iterator::count), 0, "scratch files are left");
    coordinator.signal(libc::SIGTERM);
    assert!(coordinator.wait().success(), "{}", stack.logs());

    let _coordinator = stack.coordinator();
    let (_worker, _assembler) = (stack.worker("new"), stack.assembler());
    let watched = stack.ask(&["watch", &job]);
    assert!(watched.status.success(), "{}\n{}", String::from_utf8_lossy(&watched.stderr), stack.logs());
}

#[test]
fn two_coordinators_that_start_at_once_migrate_once() {
    let stack = Stack::start();
    let listen = [stack.api, free_port()].map(|port| local(port).to_string());
    let both = listen.map(|address| stack.spawn("coordinator", &[("SPLITREEL_LISTEN", address)]));
    for one in &both {
        stack.until("a coordinator is ready", || one.is_ready());
    }
    assert_eq!(stack.rows("SELECT version FROM _sqlx_migrations WHERE NOT success"), Vec::<serde_json::Value>::new());
}
