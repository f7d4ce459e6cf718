//! The shape of the workspace: which crate may depend on which, what stays pure, how files are laid out. Reads manifests
//! and sources as text; runs nothing of the program.

mod circles;
mod source;
mod wording;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may use of the others: arrows point down only. Test code may use [`FOR_TESTS`] too. A place is
/// kept for `delivery`.
const ARROWS: [(&str, &[&str]); 16] = [
    ("splitreel-core", &[]),
    ("splitreel-packaging", &["splitreel-core"]),
    ("splitreel-presentation", &["splitreel-core", "splitreel-packaging"]),
    ("splitreel-backend", &["splitreel-core", "splitreel-telemetry"]),
    ("splitreel-backend-embedded", &["splitreel-backend", "splitreel-core"]),
    ("splitreel-backend-cluster", &["splitreel-backend", "splitreel-core", "splitreel-telemetry"]),
    ("splitreel-client", &["splitreel-backend", "splitreel-core", "splitreel-telemetry"]),
    ("splitreel-runner", &["splitreel-backend", "splitreel-core", "splitreel-telemetry"]),
    ("splitreel-telemetry", &["splitreel-core"]),
    ("splitreel-media", &["splitreel-core", "splitreel-packaging", "splitreel-telemetry"]),
    (
        "splitreel-coordinator",
        &[
            "splitreel-backend",
            "splitreel-client",
            "splitreel-core",
            "splitreel-packaging",
            "splitreel-presentation",
            "splitreel-telemetry",
        ],
    ),
    (
        "splitreel-worker",
        &[
            "splitreel-backend",
            "splitreel-core",
            "splitreel-media",
            "splitreel-packaging",
            "splitreel-runner",
            "splitreel-telemetry",
        ],
    ),
    (
        "splitreel-assembler",
        &[
            "splitreel-backend",
            "splitreel-core",
            "splitreel-packaging",
            "splitreel-presentation",
            "splitreel-runner",
            "splitreel-telemetry",
        ],
    ),
    (
        "splitreel-delivery",
        &[
            "splitreel-backend",
            "splitreel-core",
            "splitreel-packaging",
            "splitreel-presentation",
            "splitreel-telemetry",
        ],
    ),
    (
        "splitreel",
        &[
            "splitreel-assembler",
            "splitreel-backend",
            "splitreel-backend-cluster",
            "splitreel-backend-embedded",
            "splitreel-client",
            "splitreel-coordinator",
            "splitreel-core",
            "splitreel-delivery",
            "splitreel-media",
            "splitreel-packaging",
            "splitreel-presentation",
            "splitreel-runner",
            "splitreel-telemetry",
            "splitreel-worker",
        ],
    ),
    (
        "splitreel-testkit",
        &[
            "splitreel-assembler",
            "splitreel-backend",
            "splitreel-coordinator",
            "splitreel-core",
            "splitreel-media",
            "splitreel-packaging",
            "splitreel-presentation",
            "splitreel-worker",
        ],
    ),
];

/// What any test may use besides: the test kit, and the backend of one machine as the simplest real one.
const FOR_TESTS: [&str; 2] = ["splitreel-testkit", "splitreel-backend-embedded"];

/// Crates of the outside that only some may use: the beginning of their name, the beginning of the users' names.
const CONFINED: [(&str, &[&str]); 6] = [
    ("sqlx", &["splitreel-backend-"]),
    ("lapin", &["splitreel-backend-"]),
    ("aws-", &["splitreel-backend-"]),
    ("ffmpeg-sidecar", &["splitreel-media"]),
    ("landlock", &["splitreel-media"]),
    ("anyhow", &["splitreel"]),
];

const PURE: [&str; 3] = ["splitreel-core", "splitreel-packaging", "splitreel-presentation"];
/// What brings a runtime, a clock or chance with it.
const IMPURE_CRATES: [&str; 12] = [
    "tokio",
    "tokio-util",
    "futures",
    "async-trait",
    "async-std",
    "smol",
    "rand",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
    "tempfile",
];
/// The same, and the outside world, in sources.
const IMPURE_WORDS: [&str; 14] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "tokio",
    "async fn",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "rand::",
    "println!",
    "eprintln!",
];
/// Clock and ids reach the roles through `World`, or time could not be made virtual.
const ROLES: [&str; 3] = ["coordinator", "worker", "assembler"];
const AMBIENT_WORDS: [&str; 4] = ["SystemTime::now", "std::time::Instant", "Uuid::new_v4", "Uuid::now_v7"];
/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "shared", "stuff"];
/// Crates with unsafe code: system calls that no safe crate offers.
const UNSAFE: [&str; 2] = ["splitreel-media", "splitreel-assembler"];
const MAX_LINES: usize = 700;
/// Longest function.
const MAX_FUNCTION_LINES: usize = 80;
/// Longer functions, by file. This list may only become shorter.
const LONG_FUNCTIONS: [(&str, &str); 0] = [];
/// Files that need each other in a circle, by crate and module. This list may only become shorter; a circle that stays
/// has an ADR.
const CIRCLES: [(&str, &str); 0] = [];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files under a folder of the repository, build output left out, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

struct Package {
    name: String,
    folder: PathBuf,
    /// Name and kind (`None`, `dev`, `build`) of each dependency.
    dependencies: Vec<(String, Option<String>)>,
    /// Dependencies that only a feature brings in.
    optional: Vec<String>,
    /// Features that the program itself asks of other crates, as `crate/feature`.
    features: Vec<String>,
}

impl Package {
    /// What the program itself is built with.
    fn shipped(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|(_, kind)| kind.as_deref() != Some("dev")).map(|(name, _)| name.as_str())
    }
}

fn packages() -> Vec<Package> {
    // Without the resolved graph cargo needs neither network nor the crates of other platforms.
    let done = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let metadata: Value = serde_json::from_slice(&done.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: Vec<Package> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            folder: Path::new(&text(&package["manifest_path"])).parent().unwrap().to_owned(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| (text(&d["name"]), d["kind"].as_str().map(str::to_owned)))
                .collect(),
            optional: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|d| d["optional"] == true)
                .map(|d| text(&d["name"]))
                .collect(),
            features: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|d| d["kind"].is_null())
                .flat_map(|d| {
                    d["features"].as_array().unwrap().iter().map(|f| format!("{}/{}", text(&d["name"]), text(f)))
                })
                .collect(),
        })
        .collect();
    assert!(found.len() >= 13, "cargo names {} packages", found.len());
    found
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn arrows_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for package in packages() {
        let Some(below) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{} has no place among the arrows yet: give it one in ARROWS", package.name));
            continue;
        };
        for (name, kind) in package.dependencies.iter().filter(|(name, _)| name.starts_with("splitreel")) {
            let is_for_tests =
                kind.as_deref() == Some("dev") && (FOR_TESTS.contains(&name.as_str()) || *name == package.name);
            if !below.contains(&name.as_str()) && !is_for_tests {
                wrong.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn shipped_crates_are_built_without_test_code() {
    let test_code = ["splitreel-backend/testing", "splitreel-backend/memory"];
    let found: Vec<String> = packages()
        .iter()
        .filter(|package| package.name != "splitreel-testkit")
        .flat_map(|package| {
            let asked = package.features.iter().filter(|feature| test_code.contains(&feature.as_str()));
            asked.map(|feature| format!("{} must not ask for {feature}", package.name))
        })
        .collect();
    assert_none(&found);
}

#[test]
fn only_the_client_asks_the_domain_for_openapi_shapes() {
    let packages = packages();
    let core = packages.iter().find(|package| package.name == "splitreel-core").unwrap();
    assert!(core.optional.iter().any(|name| name == "utoipa"), "splitreel-core must not need utoipa");
    let asks = |package: &&Package| package.features.iter().any(|feature| feature == "splitreel-core/schema");
    let users: Vec<&str> = packages.iter().filter(asks).map(|package| package.name.as_str()).collect();
    assert_eq!(users, ["splitreel-client"]);
}

#[test]
fn databases_brokers_stores_and_ffmpeg_stay_in_their_crates() {
    let mut wrong = Vec::new();
    for package in packages() {
        for name in package.shipped() {
            for (confined, users) in CONFINED {
                let is_user = users.iter().any(|user| match user.strip_suffix('-') {
                    Some(_) => package.name.starts_with(user),
                    None => package.name == *user,
                });
                let is_it = if confined.ends_with('-') { name.starts_with(confined) } else { name == confined };
                if is_it && !is_user {
                    wrong.push(format!("{} must not depend on {name}: only {} may", package.name, users.join(", ")));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn pure_crates_have_no_runtime_clock_chance_or_files() {
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|p| PURE.contains(&p.name.as_str())) {
        for name in package.shipped().filter(|name| IMPURE_CRATES.contains(name)) {
            wrong.push(format!("{} must stay pure: it depends on {name}", package.name));
        }
        wrong.extend(words_in(&package.folder.join("src"), &IMPURE_WORDS));
    }
    assert_none(&wrong);
}

#[test]
fn roles_get_clock_and_ids_from_outside() {
    let found: Vec<String> =
        ROLES.iter().flat_map(|role| words_in(&root().join(role).join("src"), &AMBIENT_WORDS)).collect();
    assert_none(&found);
}

#[test]
fn only_media_starts_programs() {
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|p| p.name != "splitreel-media") {
        wrong.extend(words_in(&package.folder.join("src"), &["process::Command", "Command::new"]));
    }
    assert_none(&wrong);
}

#[test]
fn only_the_http_room_of_the_coordinator_names_the_web_framework() {
    let source = root().join("coordinator/src");
    let rooms = ["coordinator/src/api/", "coordinator/src/delivery/routes"].map(|room| root().join(room));
    let is_http = |line: &String| rooms.iter().any(|room| line.starts_with(&*room.to_string_lossy()));
    let found = words_in(&source, &["axum"]);
    assert!(found.iter().any(is_http), "no handler names axum: the rule looks in the wrong place");
    assert_none(&found.into_iter().filter(|line| !is_http(line)).collect::<Vec<_>>());
}

/// Lines of sources that hold one of the words, comments left out.
fn words_in(folder: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(folder).iter().filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word}", path.display(), at + 1));
            }
        }
    }
    found
}

/// All Rust files of the workspace, those of tests and examples included.
fn sources() -> Vec<PathBuf> {
    let found: Vec<PathBuf> = packages()
        .iter()
        .flat_map(|p| ["src", "tests", "examples"].map(|folder| p.folder.join(folder)))
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| files(&folder))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect();
    assert!(found.len() > 100, "{} sources", found.len());
    found
}

#[test]
fn functions_fit_a_screen() {
    let mut wrong = Vec::new();
    let mut long = BTreeSet::new();
    for path in sources() {
        let text = source::blanked(&std::fs::read_to_string(&path).unwrap());
        let place = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        for (name, lines) in source::functions(&text).into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION_LINES) {
            if !LONG_FUNCTIONS.contains(&(place.as_str(), name.as_str())) {
                wrong.push(format!("{place}: {name} has {lines} lines, more than {MAX_FUNCTION_LINES}: split it"));
            }
            long.insert((place.clone(), name));
        }
    }
    for (place, name) in LONG_FUNCTIONS {
        if !long.contains(&(place.to_owned(), name.to_owned())) {
            wrong.push(format!("{place}: {name} is not too long any more: take it off LONG_FUNCTIONS"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_of_a_crate_do_not_need_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<(&str, &str)> = CIRCLES.into();
    for package in packages() {
        let folder = package.folder.join("src");
        let files: Vec<PathBuf> =
            files(&folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
        let place = package.folder.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        for circle in circles::circles(&folder, &files) {
            let is_part =
                |known: &str| circle.iter().all(|module| known.split_whitespace().any(|other| other == module));
            match CIRCLES.iter().find(|(of, known)| *of == place && is_part(known)) {
                Some(old) => {
                    known.remove(old);
                }
                None => wrong.push(format!("{place}: these files need each other in a circle: {}", circle.join(", "))),
            }
        }
    }
    wrong.extend(
        known.iter().map(|(place, circle)| format!("{place}: {circle}: is no circle now, take it off CIRCLES")),
    );
    assert_none(&wrong);
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for package in packages() {
        let code = |folders: &[&str]| -> String {
            let folders = folders.iter().map(|folder| package.folder.join(folder)).filter(|folder| folder.is_dir());
            let paths = folders.flat_map(|folder| files(&folder)).filter(|p| p.extension().is_some_and(|e| e == "rs"));
            paths.map(|path| source::blanked(&std::fs::read_to_string(path).unwrap())).collect()
        };
        let (shipped, all) = (code(&["src"]), code(&["src", "tests", "examples"]));
        for (name, kind) in &package.dependencies {
            let code = if kind.is_some() { &all } else { &shipped };
            let word = name.replace('-', "_");
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if !words.any(|other| other == word) {
                unused.push(format!("{}: {name} is not used: take it out of Cargo.toml", package.name));
            }
        }
    }
    assert_none(&unused);
}

#[test]
fn only_crates_that_call_the_system_have_unsafe_code() {
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|p| !UNSAFE.contains(&p.name.as_str())) {
        let root =
            ["src/lib.rs", "src/main.rs"].map(|file| package.folder.join(file)).into_iter().find(|p| p.is_file());
        let text = std::fs::read_to_string(root.unwrap()).unwrap();
        if !text.contains("\n#![forbid(unsafe_code)]\n") {
            wrong.push(format!("{} does not forbid unsafe code", package.name));
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_say_what_they_own_and_keep_a_readable_size() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            wrong.push(format!("{}: opens without saying what it owns (//!)", path.display()));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines, split it by idea", path.display()));
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            wrong.push(format!("{}: the name says nothing about what is in it", path.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_metric_is_recorded_somewhere() {
    let record = std::fs::read_to_string(root().join("crates/telemetry/src/record.rs")).unwrap();
    let declared =
        record.lines().filter_map(|line| line.strip_prefix("pub fn ").or(line.strip_prefix("pub async fn ")));
    let names: Vec<&str> = declared.map(|rest| rest.split(['(', '<']).next().unwrap()).collect();
    assert!(names.len() >= 25, "{names:?}");
    let mut callers = String::new();
    for package in packages().iter().filter(|p| p.name != "splitreel-telemetry") {
        for path in files(&package.folder.join("src")) {
            callers.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
    }
    let silent: Vec<&str> = names.into_iter().filter(|name| !callers.contains(&format!("record::{name}("))).collect();
    assert_eq!(silent, Vec::<&str>::new(), "recorded by nobody");
}
