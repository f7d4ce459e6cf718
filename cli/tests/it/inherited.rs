//! Descriptors that the program was started with stay its own.

use crate::clips;
use crate::reel::Reel;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// Processes that run in the process group tree of `parent`, itself left out, with the files that they have open.
fn children_of(parent: u32) -> Vec<(String, Vec<PathBuf>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold spaces.
        let is_child = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok()) == Some(parent);
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        // Between fork and exec, a child is a copy of its parent.
        if is_child && command.split('\0').next().is_some_and(|program| program.ends_with("ffmpeg")) {
            let files = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            let open = files.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
            found.push((command.replace('\0', " "), open));
        }
    }
    found
}

fn lock(path: &Path) -> File {
    let file = File::create(path).unwrap();
    file.lock().unwrap();
    file
}

#[test]
fn a_locked_file_of_the_caller_is_not_inherited_by_ffmpeg() {
    let reel = Reel::new();
    let path = reel.path("lock");
    let held = lock(&path);
    let descriptor = held.as_raw_fd();
    let mut run = reel.command("run");
    run.args(["--segment-seconds", "1", "--workers", "1", "-o"]).arg(reel.path("out")).arg("--").arg(clips::cfr());
    // SAFETY: one system call, on a descriptor that the parent keeps open.
    unsafe {
        run.pre_exec(move || {
            // As `exec 9>lock` of a shell: open over exec.
            if libc::dup2(descriptor, 99) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    };
    let mut child = run.spawn().unwrap();
    drop(held);
    assert!(File::open(&path).unwrap().try_lock().is_err(), "the program itself does not hold the lock");
    let mut num_seen = 0;
    while child.try_wait().unwrap().is_none() {
        for (command, open) in children_of(child.id()) {
            num_seen += 1;
            assert!(!open.contains(&path), "{command} has {open:?}");
        }
        if num_seen > 5 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(num_seen > 0, "no ffmpeg was seen");
    child.kill().unwrap();
    child.wait().unwrap();
    File::open(&path).unwrap().try_lock().expect("the lock went with the program");
}
