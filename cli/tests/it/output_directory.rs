//! Output directories: neighbours stay, one run at a time writes a directory, and long names work.

use crate::clips;
use crate::reel::{Reel, finish};
use std::path::Path;
use std::time::{Duration, Instant};

/// Directories that have names like helpers of an output directory `site` are the user's.
fn neighbours(reel: &Reel) -> [(std::path::PathBuf, &'static str); 3] {
    let files = [("site.staging/a", "precious"), ("site.partial/b", "precious"), ("site.fetching/c", "precious")];
    for (path, content) in files {
        std::fs::create_dir_all(reel.path(path).parent().unwrap()).unwrap();
        reel.file(path, content);
    }
    files.map(|(path, content)| (reel.path(path), content))
}

fn wait_for(has_come: impl Fn() -> bool) {
    let started = Instant::now();
    while !has_come() {
        assert!(started.elapsed() < Duration::from_secs(60), "the first run does not come to this point");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Names next to the outputs that are helpers or locks.
fn helpers(reel: &Reel) -> Vec<String> {
    let entries = std::fs::read_dir(reel.path("")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".splitreel")).collect()
}

#[test]
fn folders_named_like_helpers_stay() {
    let reel = Reel::new();
    let theirs = neighbours(&reel);
    let out = reel.path("site");
    reel.run(&clips::short(), &out, &["--segment-seconds", "1"]).done();
    assert!(out.join("master.m3u8").exists());
    let holding = reel.path("holding");
    std::fs::create_dir(&holding).unwrap();
    std::fs::write(holding.join("notes.txt"), "notes").unwrap();
    reel.run(&clips::short(), &holding, &[]).refused(2, &["holds other files"]);
    for (path, content) in theirs {
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "{}", path.display());
    }
    assert_eq!(std::fs::read_to_string(holding.join("notes.txt")).unwrap(), "notes");
    assert_eq!(helpers(&reel), Vec::<String>::new());
}

#[test]
fn of_two_runs_on_one_directory_the_second_is_refused_whatever_their_states() {
    let reel = Reel::new();
    let out = reel.path("out");
    let mut first = reel.command("run");
    first.args(["--segment-seconds", "1", "--workers", "1", "-o"]).arg(&out).arg("--").arg(clips::cfr());
    let mut first = first.spawn().unwrap();
    wait_for(|| !helpers(&reel).is_empty());
    let mut second = crate::reel::bare();
    second.arg("run").arg("--state").arg(reel.path("other")).arg("-o").arg(&out).arg("--").arg(clips::short());
    finish(&mut second).refused(2, &["another splitreel", "is writing this directory", out.to_str().unwrap()]);
    assert!(first.wait().unwrap().success());
    assert!(report(&out).contains("cfr"), "the output is not the first run's");
    assert_eq!(helpers(&reel), Vec::<String>::new());
}

fn report(out: &Path) -> String {
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    report.pointer("/source/name").unwrap().as_str().unwrap().to_owned()
}

#[test]
fn an_output_name_of_250_bytes_works_and_has_a_preview() {
    let reel = Reel::new();
    let out = reel.path("y".repeat(250));
    let ran = reel.run(&clips::cfr(), &out, &["--segment-seconds", "2"]).done();
    assert!(out.join("master.m3u8").exists());
    assert!(ran.stderr.contains("playable now"), "{}", ran.stderr);
}

#[test]
fn files_that_appear_in_the_output_while_the_job_runs_stay() {
    let reel = Reel::new();
    let out = reel.path("out");
    let mut run = reel.command("run");
    run.args(["--segment-seconds", "1", "--workers", "1", "-o"]).arg(&out).arg("--").arg(clips::cfr());
    let child = run.spawn().unwrap();
    wait_for(|| reel.path("out.partial").exists());
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("notes.txt"), "notes").unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert_eq!(std::fs::read_to_string(out.join("notes.txt")).unwrap(), "notes");
    std::fs::remove_file(out.join("notes.txt")).unwrap();
    let again = reel.run(&clips::cfr(), &out, &["--segment-seconds", "1"]).done();
    assert!(!again.stderr.contains("segment 1/"), "encoded twice: {}", again.stderr);
    assert!(out.join("master.m3u8").exists());
}
