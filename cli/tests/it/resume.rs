//! Killed at random moments, the same command goes on: finished tasks stay finished, nothing is left lying about,
//! and the output is the one that an undisturbed run makes.

use crate::clips;
use crate::determinism::assert_identical;
use crate::output::Output;
use crate::reel::{Reel, finish};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const ARGS: &[&str] = &["--segment-seconds", "2", "--workers", "2", "--json"];

/// Kills in the resume test: few in the ordinary run, more on demand.
fn num_kills() -> u32 {
    std::env::var("SPLITREEL_RESUME_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// A seeded sequence of numbers in 0..1 (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn command(reel: &Reel, source: &Path, out: &Path) -> Command {
    let mut it = reel.command("run");
    it.args(ARGS).arg("-o").arg(out).arg("--").arg(source);
    it
}

/// Runs the command in a process group of its own and kills the group at `moment`, unless it ends before.
/// True: it was killed.
fn kill_at(reel: &Reel, source: &Path, out: &Path, moment: Duration) -> bool {
    let mut child = command(reel, source, out).process_group(0).spawn().unwrap();
    let (ended_tx, ended) = mpsc::channel::<()>();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(_) = line else { break };
        }
        drop(ended_tx);
    });
    // The channel closes when the program does.
    let is_running = ended.recv_timeout(moment) == Err(mpsc::RecvTimeoutError::Timeout);
    if is_running {
        kill_group(&child);
    }
    let status = child.wait().unwrap();
    reader.join().unwrap();
    is_running && status.code().is_none()
}

fn kill_group(child: &Child) {
    // SAFETY: takes numbers only; the group is the child's own.
    unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
}

/// Processes whose command line or working directory mentions `dir`.
pub fn processes_in(dir: &Path) -> Vec<String> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let is_process = entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        if !is_process || entry.file_name().to_string_lossy() == std::process::id().to_string() {
            continue;
        }
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if line.contains(&needle) || cwd.to_string_lossy().contains(&needle) {
            found.push(line);
        }
    }
    found
}

/// Processes of a directory that stay. The kernel kills the orphans of a killed process by itself, but not within the
/// same system call.
pub fn orphans(dir: &Path) -> Vec<String> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_in(dir);
        if left.is_empty() || Instant::now() > limit {
            return left;
        }
        std::thread::yield_now();
    }
}

#[track_caller]
fn assert_no_orphans(dir: &Path) {
    assert_eq!(orphans(dir), [""; 0], "still running");
}

fn status(reel: &Reel) -> Option<Value> {
    let ended = finish(reel.command("status").arg("--json"));
    serde_json::from_str(&ended.stdout).ok()
}

/// What was done, by task number: the attempt that did it.
fn done_by(status: &Value) -> BTreeMap<u64, u64> {
    let events = status["events"].as_array().unwrap();
    let done = events.iter().filter(|e| e["event"] == "task_done");
    done.map(|e| (e["task"].as_u64().unwrap(), e["attempt"].as_u64().unwrap())).collect()
}

/// Each task was done once, and no attempt at it began after that.
#[track_caller]
fn assert_nothing_done_twice(status: &Value) {
    let mut done: BTreeMap<u64, u64> = BTreeMap::new();
    for event in status["events"].as_array().unwrap() {
        let Some(task) = event["task"].as_u64() else { continue };
        match event["event"].as_str() {
            Some("claimed") => assert!(!done.contains_key(&task), "task {task} was done and claimed again: {event}"),
            Some("task_done") => assert_eq!(done.insert(task, 1), None, "task {task} was done twice"),
            _ => {}
        }
    }
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|e| e.path());
    paths.flat_map(|p| if p.is_dir() && !p.is_symlink() { files_below(&p) } else { vec![p] }).collect()
}

#[track_caller]
fn assert_tidy(reel: &Reel, out: &Path) {
    let scratch = files_below(&reel.state().join("scratch"));
    assert!(scratch.is_empty(), "left in scratch: {scratch:?}");
    let locks = files_below(&reel.state().join("workers"));
    assert!(locks.is_empty(), "left of dead processes: {locks:?}");
    let name = out.file_name().unwrap().to_string_lossy().into_owned();
    let beside: Vec<_> = std::fs::read_dir(out.parent().unwrap())
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let left: Vec<_> = beside.iter().filter(|n| n.starts_with(&name) && **n != name).collect();
    assert!(left.is_empty(), "left beside the output: {left:?}");
}

#[test]
fn killed_at_random_moments_it_goes_on_and_ends_alike() {
    let source = clips::busy();
    let undisturbed = Reel::new();
    let out = undisturbed.path("out");
    let whole = finish(&mut command(&undisturbed, &source, &out)).done();
    let want = Output::open(&out).files();
    assert_tidy(&undisturbed, &out);

    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut left = num_kills();
    while left > 0 {
        let reel = Reel::new();
        let out = reel.path("out");
        let mut known_done = BTreeMap::new();
        // The same command until it is done; a run may be killed several times, each time later.
        let mut moment = whole.wall.mul_f64(dice.roll());
        let done = loop {
            if left == 0 || !kill_at(&reel, &source, &out, moment) {
                break finish(&mut command(&reel, &source, &out)).done();
            }
            left -= 1;
            assert_no_orphans(&reel.path(""));
            assert!(!out.exists() || out.join("report.json").exists(), "half an output under its final name");
            if let Some(status) = status(&reel) {
                let now = done_by(&status);
                assert!(
                    known_done.iter().all(|(task, attempt)| now.get(task) == Some(attempt)),
                    "{known_done:?} became {now:?}"
                );
                known_done = now;
            }
            moment = whole.wall.mul_f64(dice.roll());
        };
        let status = status(&reel).expect("a job");
        assert_nothing_done_twice(&status);
        let now = done_by(&status);
        assert!(
            known_done.iter().all(|(task, attempt)| now.get(task) == Some(attempt)),
            "{known_done:?} became {now:?}"
        );
        assert_eq!(status["job"]["state"], "published", "{}", done.stderr);
        assert_identical(&want, &Output::open(&out).files());
        assert_tidy(&reel, &out);
    }
}

#[test]
fn an_interrupt_ends_with_130_and_the_same_command_says_that_it_resumes() {
    let source = clips::busy();
    let reel = Reel::new();
    let out = reel.path("out");
    let mut child = command(&reel, &source, &out).process_group(0).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Some task is done: there is something to resume from.
    let is_under_way =
        lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"segment\"") && line.contains("done"));
    assert!(is_under_way, "no segment was done before the end");
    // SAFETY: takes numbers only.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    rest.join().unwrap();
    assert_no_orphans(&reel.path(""));
    let mut again = reel.command("run");
    again.args(&ARGS[..ARGS.len() - 1]).arg("-o").arg(&out).arg("--").arg(&source);
    let ended = finish(&mut again).done();
    let said = format!("{}{}", ended.stdout, ended.stderr).to_lowercase();
    assert!(said.contains("resum"), "nothing about resuming: {said}");
    assert_nothing_done_twice(&status(&reel).unwrap());
    assert_tidy(&reel, &out);
}
