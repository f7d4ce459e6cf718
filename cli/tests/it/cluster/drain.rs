//! Workers that are asked to end.

use super::same_bytes::short_segments;
use super::stack::{SOURCES, Stack};
use crate::clips;

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
    stack.until("an attempt", || std::fs::read_dir(&scratch).is_ok_and(|d| d.count() > 0));
    leaving.signal(libc::SIGTERM);
    assert!(leaving.wait().success(), "{}", stack.logs());
    assert_eq!(std::fs::read_dir(&scratch).map_or(0, Iterator::count), 0, "scratch files are left");
    let _worker = stack.worker("staying");
    let _assembler = stack.assembler();
    let watched = stack.ask(&["watch", &job]);
    assert!(watched.status.success(), "{}\n{}", String::from_utf8_lossy(&watched.stderr), stack.logs());
}
