//! The documents held against the repository: what they link to exists, names they give to code are in that code, and
//! every option of the program is described. Does not judge what they say.

use crate::structure::{files, root};
use std::path::{Path, PathBuf};

/// Markdown files of the repository.
fn documents() -> Vec<(PathBuf, String)> {
    let root = root();
    let at_root = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let found: Vec<(PathBuf, String)> = at_root
        .chain(files(&root.join("docs")))
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect();
    assert!(found.len() > 10, "{} documents", found.len());
    found
}

/// Text and target of every link that stays inside the repository.
fn links(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("](") {
        let before = text.get(..at).unwrap_or_default();
        let label = before.rfind('[').and_then(|from| before.get(from + 1..)).unwrap_or_default();
        let target = text.get(at + 2..).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        if !target.contains("://") && !target.starts_with('#') {
            found.push((label, target.split('#').next().unwrap_or_default()));
        }
    }
    found
}

#[test]
fn links_lead_to_files_that_exist() {
    let mut wrong = Vec::new();
    let mut num_links = 0;
    for (path, text) in documents() {
        for (label, target) in links(&text) {
            num_links += 1;
            if !path.parent().unwrap_or(Path::new("")).join(target).exists() {
                wrong.push(format!("{}: [{label}] leads to {target}, which does not exist", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(num_links > 50, "{num_links} links");
}

/// A link whose text is a name in code (`` [`Plan::tasks`](crates/core/src/plan.rs) ``) must lead to the file that
/// defines it.
#[test]
fn names_of_code_are_defined_in_the_files_that_they_link_to() {
    let mut wrong = Vec::new();
    let mut num_names = 0;
    for (path, text) in documents() {
        for (label, target) in links(&text) {
            let Some(name) = label.strip_prefix('`').and_then(|l| l.strip_suffix('`')) else { continue };
            if !target.ends_with(".rs") || name.contains('/') || name.ends_with(".rs") {
                continue;
            }
            num_names += 1;
            let file = path.parent().unwrap_or(Path::new("")).join(target);
            let code = std::fs::read_to_string(&file).unwrap_or_default();
            let (owner, own) = name.rsplit_once("::").unwrap_or(("", name));
            let has_owner = owner.is_empty() || words(&code).any(|word| word == owner);
            let is_defined = has_owner && defines(&code, own);
            if !is_defined && !is_module(&file, name) {
                wrong.push(format!("{}: {name} is not defined in {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(num_names > 40, "{num_names} names");
}

/// `confine.rs` and `confine/mod.rs` are the module `confine`.
fn is_module(file: &Path, name: &str) -> bool {
    let stem = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let of = if stem(file).as_deref() == Some("mod") { file.parent() } else { Some(file) };
    of.and_then(stem).as_deref() == Some(name)
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Whether a line begins an item, a field or a variant of this name.
fn defines(code: &str, name: &str) -> bool {
    const BEFORE: [&str; 8] = ["pub", "crate", "super", "async", "unsafe", "const", "in", "default"];
    const ITEMS: [&str; 9] = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "macro_rules"];
    code.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| {
        let is_const = line.contains("const ");
        let mut rest = words(line).filter(|word| !word.is_empty()).skip_while(|word| BEFORE.contains(word));
        match rest.next() {
            Some(item) if ITEMS.contains(&item) => rest.next() == Some(name),
            // A constant, a field, or a variant.
            Some(word) if word == name => {
                let after = line.split_once(name).map_or("", |(_, after)| after);
                is_const || after.is_empty() || after.starts_with([':', ',', '(', ' '])
            }
            _ => false,
        }
    })
}

/// Files that are named without a link.
#[test]
fn files_that_are_named_exist() {
    const FOLDERS: [&str; 9] =
        ["assembler/", "cli/", "coordinator/", "crates/", "docs/", "examples/", "migrations/", "scripts/", "worker/"];
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for word in text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
            let is_path =
                FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains(['*', '<', '{', '$', '…']);
            if is_path && !root().join(word.trim_end_matches(['.', ',', ':', ')'])).exists() {
                wrong.push(format!("{}: {word} does not exist", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every command and every long option that `--help` shows is in the description of the command line.
#[test]
fn the_command_line_is_described_completely() {
    let text = std::fs::read_to_string(root().join("docs/cli.md")).unwrap();
    let help = |args: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_splitreel")).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let overview = help(&["--help"]);
    let commands: Vec<&str> = overview
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 11, "{commands:?}");
    let mut missing = Vec::new();
    for command in commands {
        if !text.contains(&format!("## `splitreel {command}")) {
            missing.push(command.to_owned());
        }
        let shown = help(&[command, "--help"]);
        for option in
            shown.split(|c: char| c.is_whitespace() || c == '=' || c == ',').filter(|word| word.starts_with("--"))
        {
            let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if !text.contains(&format!("`{option}")) && option != "--" && !option.is_empty() {
                missing.push(format!("{command} {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/cli.md does not describe: {}", missing.join(", "));
}

#[test]
fn the_drawn_states_are_those_of_jobs_and_tasks() {
    use splitreel_core::job::JobState;
    use splitreel_core::task::TaskState;
    use std::collections::BTreeSet;
    let text = std::fs::read_to_string(root().join("docs/jobs.md")).unwrap();
    let drawn = |title: &str| -> BTreeSet<String> {
        let diagram = text.split(&format!("## {title}\n")).nth(1).unwrap().split("```").nth(1).unwrap();
        let arrows = diagram.lines().filter_map(|line| line.split(" : ").next()?.trim().split_once(" --> "));
        arrows.flat_map(|(from, to)| [from, to]).filter(|state| *state != "[*]").map(str::to_owned).collect()
    };
    let jobs = drawn("Job");
    assert!(jobs.len() >= 6 && jobs.iter().all(|state| JobState::parse(state).is_some()), "{jobs:?}");
    let tasks = drawn("Task");
    assert!(tasks.len() >= 5 && tasks.iter().all(|state| TaskState::parse(state).is_some()), "{tasks:?}");
}

/// Field and default of each row of the tables in the description of profiles, by the table of the profile file.
fn described_fields(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut tables = Vec::new();
    for section in text.split("\n## Fields\n").nth(1).unwrap().split("\n### ") {
        // The rows before the first heading describe the root.
        let heading = section.lines().next().unwrap();
        let name = heading.trim_matches(|c| matches!(c, '`' | '[' | ']')).to_owned();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.trim_matches('`').to_owned()))
        });
        tables.push((name, rows.collect()));
    }
    tables
}

/// Every field of a profile is described, in the order of the type, with the default that the type has.
#[test]
fn the_described_profile_is_that_of_the_code() {
    use serde_json::{Value, json};
    use splitreel_core::profile::{Profile, Rung, RungHeight};
    let text = std::fs::read_to_string(root().join("docs/profiles.md")).unwrap();
    let profile: Profile = serde_json::from_value(json!({ "name": "x" })).unwrap();
    let rung = Rung::of(RungHeight::Pixels(720), 22.0, None);
    let settings = profile.video.settings(&rung);
    let written = serde_json::to_value(&profile).unwrap();
    // What a rung has besides is either required, absent, or that of `[video]`.
    let rung = json!({ "fps": settings.fps });
    let described = described_fields(&text);
    let tables: Vec<&str> = described.iter().map(|(table, _)| table.as_str()).collect();
    assert_eq!(tables, Profile::tables().map(|(table, _)| table));
    for ((table, rows), (_, fields)) in described.iter().zip(Profile::tables()) {
        let named: Vec<&str> = rows.iter().map(|(field, _)| field.as_str()).filter(|f| fields.contains(f)).collect();
        assert_eq!(rows.len(), named.len(), "docs/profiles.md, [{table}]: a field that does not exist, in {rows:?}");
        let tables = ["source", "video", "audio", "packaging", "split"];
        let wanted: Vec<&str> =
            fields.iter().copied().filter(|field| !table.is_empty() || !tables.contains(field)).collect();
        assert_eq!(named, wanted, "docs/profiles.md, [{table}]");
        let defaults = match table.as_str() {
            "" => &written,
            "video.rungs" => &rung,
            name => &written[name],
        };
        for (field, stated) in rows {
            let default = &defaults[field];
            let has_literal = !(default.is_null() || default.is_array() || (table.is_empty() && field == "name"));
            let literal = serde_json::from_str::<Value>(stated).ok();
            let is_same = match (&literal, default) {
                (Some(Value::Number(a)), Value::Number(b)) => a.as_f64() == b.as_f64(),
                (Some(literal), default) => literal == default,
                (None, _) => false,
            };
            assert!(
                if has_literal { is_same } else { literal.is_none() },
                "docs/profiles.md, [{table}]: the default of {field} is {default}, not {stated}"
            );
        }
    }
}

/// The ladder of profiles without `rungs` is described in a sentence.
#[test]
fn the_described_ladder_is_that_of_the_code() {
    use splitreel_core::profile::{RungHeight, VideoProfile};
    let text = std::fs::read_to_string(root().join("docs/profiles.md")).unwrap();
    let listed = |values: Vec<String>| {
        let (last, first) = values.split_last().unwrap();
        format!("{} and {last}", first.join(", "))
    };
    let rungs = VideoProfile::default().rungs;
    let heights = rungs.iter().map(|rung| match rung.height {
        RungHeight::Pixels(height) => height.to_string(),
        RungHeight::Named(_) => "source".to_owned(),
    });
    let heights = listed(heights.collect());
    let crf = rungs[0].crf.unwrap();
    assert!(rungs.iter().all(|rung| (rung.crf, rung.max_kbps) == (Some(crf), Some(0))));
    let follow = "with caps that follow the source (`max_kbps = 0`).";
    let sentence = format!("Without `rungs` the ladder is {heights} at crf {crf} {follow}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&sentence), "docs/profiles.md does not say: {sentence}");
}
