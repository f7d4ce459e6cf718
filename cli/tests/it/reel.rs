//! Runs the built binary: each test has a directory, and with it a state, of its own.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The lossless profile that is shipped with the examples.
pub fn lossless() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/profiles/lossless.toml")
}

/// A directory with room for sources, outputs and one state; removed with the value.
pub struct Reel {
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Wall time.
    pub wall: Duration,
}

impl Ended {
    /// The run was good; otherwise the test fails with what the program said.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "stderr: {}\nstdout: {}", self.stderr, self.stdout);
        self
    }

    /// The run ended with `code`, and its message holds all of `words` (any case).
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "stderr: {}\nstdout: {}", self.stderr, self.stdout);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "nothing about {word:?} in: {}", self.stderr);
        }
        self
    }
}

/// SHA-256 of every file but the report, which has times, by path.
pub fn hashes(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if entry.file_name() != "report.json" {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                let hash = Sha256::digest(std::fs::read(&path).unwrap());
                found.insert(name, hash.iter().map(|b| format!("{b:02x}")).collect());
            }
        }
    }
    found
}

impl Reel {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("reel-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Reel { dir }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A file with the given content.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `splitreel COMMAND --state STATE`, ready for more arguments.
    pub fn command(&self, command: &str) -> Command {
        let mut it = bare();
        it.arg(command).arg("--state").arg(self.state());
        it
    }

    /// `splitreel run INPUT -o OUT ARGS…` to its end.
    pub fn run(&self, input: &Path, out: &Path, args: &[&str]) -> Ended {
        finish(self.command("run").args(args).arg("-o").arg(out).arg("--").arg(input))
    }

    /// Lossless, cut every `seconds`.
    pub fn run_lossless(&self, input: &Path, out: &Path, seconds: &str) -> Ended {
        let profile = lossless();
        let mut it = self.command("run");
        it.args(["--segment-seconds", seconds, "--profile"]).arg(profile);
        finish(it.arg("-o").arg(out).arg("--").arg(input))
    }
}

/// The binary, with none of its variables set.
pub fn bare() -> Command {
    let mut it = Command::new(env!("CARGO_BIN_EXE_splitreel"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("SPLITREEL_")
            && key != OsStr::new("SPLITREEL_FFMPEG")
            && key != OsStr::new("SPLITREEL_FFPROBE")
        {
            it.env_remove(key);
        }
    }
    it.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    it
}

/// Waits for a command.
pub fn finish(command: &mut Command) -> Ended {
    let began = Instant::now();
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        wall: began.elapsed(),
    }
}
