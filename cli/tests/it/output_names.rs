//! Names of outputs: all scripts, alike names, long names, names that are not UTF-8.

use crate::clips;
use crate::reel::{Ended, Reel, bare, finish};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Runs in the folder of the inputs, without -o unless `args` have it.
fn run_in(folder: &Path, args: &[&OsStr]) -> Ended {
    let mut run = bare();
    run.current_dir(folder).arg("run").arg("--state").arg(folder.join("../state")).args(["--profile", "passthrough"]);
    finish(run.args(args))
}

/// A folder that holds the same clip under these names.
fn folder(reel: &Reel, name: &str, inputs: &[&OsStr]) -> std::path::PathBuf {
    let folder = reel.path(name);
    std::fs::create_dir(&folder).unwrap();
    for input in inputs {
        std::fs::copy(clips::short(), folder.join(input)).unwrap();
    }
    folder
}

/// Directories that hold a presentation, by name, with the source's name in the report.
fn outputs(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if let Ok(json) = std::fs::read(entry.path().join("report.json")) {
            let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let source = report.pointer("/source/name").and_then(|n| n.as_str()).unwrap().to_owned();
            found.push((entry.file_name().into_string().unwrap(), source));
        }
    }
    found.sort();
    found
}

#[test]
fn sources_with_alike_names_get_outputs_of_their_own() {
    let reel = Reel::new();
    let pairs = [
        ("\u{43c}\u{43e}\u{439} \u{444}.mp4", "\u{434}\u{440}.mp4"),
        ("\u{4e88}\u{544a}.mp4", "\u{672c}\u{7de8}.mp4"),
        ("film.mp4", "film.mov"),
        ("a#1.mp4", "a?1.mp4"),
        ("cafe\u{301}.mp4", "caf\u{e9}.mp4"),
        ("trailing.", "trailing.mp4"),
    ];
    for (n, (first, second)) in pairs.into_iter().enumerate() {
        let inputs = [OsStr::new(first), OsStr::new(second)];
        let folder = folder(&reel, &n.to_string(), &inputs);
        for input in inputs {
            run_in(&folder, &[input]).done();
        }
        let apart = outputs(&folder);
        let mut sources: Vec<&str> = apart.iter().map(|(_, source)| source.as_str()).collect();
        sources.sort_unstable();
        let mut expected = [first, second];
        expected.sort_unstable();
        assert_eq!(sources, expected, "{apart:?}");
        // Again, in the other order: every source finds its own output.
        for input in [inputs[1], inputs[0]] {
            let again = run_in(&folder, &[input]).done();
            assert!(again.stderr.contains("up to date"), "{}", again.stderr);
        }
        run_in(&folder, &[inputs[0], inputs[1], OsStr::new("-o"), OsStr::new("both")]).done();
        assert_eq!(outputs(&folder.join("both")).len(), 2, "{first} {second}");
    }
}

#[test]
fn a_folder_of_the_users_with_the_name_of_the_output_is_passed_over() {
    let reel = Reel::new();
    let folder = folder(&reel, "in", &[OsStr::new("film.mp4")]);
    std::fs::create_dir(folder.join("film.streams")).unwrap();
    std::fs::write(folder.join("film.streams/notes.txt"), "notes").unwrap();
    run_in(&folder, &[OsStr::new("film.mp4")]).done();
    assert_eq!(outputs(&folder), [("film.mp4.streams".to_owned(), "film.mp4".to_owned())]);
    assert_eq!(std::fs::read_to_string(folder.join("film.streams/notes.txt")).unwrap(), "notes");
}

#[test]
fn a_name_that_is_not_utf_8_works_from_the_command_line_to_the_report() {
    let reel = Reel::new();
    let name = OsString::from_vec(b"caf\xe9.mp4".to_vec());
    let folder = folder(&reel, "in", &[&name]);
    run_in(&folder, &[&name]).done();
    assert_eq!(outputs(&folder), [("caf_.streams".to_owned(), "caf%E9.mp4".to_owned())]);
    let again = run_in(&folder, &[&name]).done();
    assert!(again.stderr.contains("up to date"), "{}", again.stderr);
    let mut status = bare();
    let listed = finish(status.arg("list").arg("--state").arg(folder.join("../state"))).done();
    assert!(listed.stdout.contains("caf%E9.mp4"), "{}", listed.stdout);
}

#[test]
fn names_of_255_bytes_and_hostile_names_work() {
    let reel = Reel::new();
    let long = format!("{}.mp4", "x".repeat(251));
    let wide = format!("{}.mp4", "\u{52d5}".repeat(83));
    let names = [long.as_str(), &wide, "-rf.mp4", "a\nb\u{202e}4pm.mp4", "..mp4", "\u{1b}[31m.mp4"];
    let names = names.map(OsStr::new);
    let folder = folder(&reel, "in", &names);
    for name in names {
        let ended = run_in(&folder, &[OsStr::new("--"), name]).done();
        let said: Vec<char> = ended.stderr.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert!(said.is_empty() && !ended.stderr.contains('\u{202e}'), "{:?}", ended.stderr);
    }
    let found = outputs(&folder);
    assert_eq!(found.len(), names.len(), "{found:?}");
    assert!(found.iter().all(|(dir, _)| dir.len() <= 255 && !dir.starts_with(['.', '-'])), "{found:?}");
}
