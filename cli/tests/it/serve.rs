//! `splitreel serve` as a new user meets it: an empty home, no setting, and the commands beside it.

use crate::clips;
use crate::reel::hashes;
use crate::reel::{Reel, bare, finish};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A profile that cuts every two seconds.
const CUT: &str = "segment_seconds = 2.0";

/// A home of its own.
struct Home {
    reel: Reel,
    profile: PathBuf,
}

/// A running server; killed when it is dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: no memory is involved; the child was not waited for, so its id is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Home {
    fn new() -> Self {
        let reel = Reel::new();
        let text = finish(bare().args(["profiles", "universal"])).done().stdout;
        let line = text.lines().find(|l| l.starts_with("segment_seconds")).unwrap();
        let profile = reel.file("short.toml", text.replace(line, CUT));
        Home { reel, profile }
    }

    fn command(&self) -> Command {
        let mut it = bare();
        for name in ["XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            it.env_remove(name);
        }
        it.env("HOME", self.reel.path("home"));
        it
    }

    fn state(&self) -> PathBuf {
        self.reel.path("home/.local/state/splitreel/serve")
    }

    /// Starts a server and waits until it says where it is.
    fn serve(&self, more: &[&str]) -> Serving {
        let log = std::fs::File::options().create(true).append(true).open(self.reel.path("serve.log")).unwrap();
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--workers", "2"]).args(more);
        let mut child = command.stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("serves at http://127.0.0.1:"), "{line}{}", self.log());
        Serving(child)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.reel.path("serve.log")).unwrap_or_default()
    }

    /// A command beside the server, which it finds by itself.
    #[track_caller]
    fn ask(&self, args: &[&str]) -> String {
        let ended = finish(self.command().args(args));
        assert_eq!(ended.code, 0, "{args:?}: {}\n{}", ended.stderr, self.log());
        ended.stdout.trim().to_owned()
    }

    fn api(&self, path: &str) -> (u16, String) {
        let address = std::fs::read_to_string(self.state().join("address")).unwrap();
        let token = std::fs::read_to_string(self.state().join("token")).unwrap();
        let authority = address.trim().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(authority).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let token = token.trim();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// What `splitreel run` makes of a file.
    fn run_alone(&self, source: &Path) -> std::collections::BTreeMap<String, String> {
        let out = self.reel.path("alone");
        let mut command = self.command();
        command.args(["run", "--quiet", "--workers", "2", "--profile"]).arg(&self.profile).arg("-o").arg(&out);
        finish(command.arg(source)).done();
        hashes(&out)
    }
}

#[track_caller]
fn until(what: &str, home: &Home, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not happen: {}", home.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_is_sent_survives_a_kill_and_becomes_the_bytes_of_a_run() {
    let home = Home::new();
    let clip = clips::cfr();
    let serving = home.serve(&[]);
    for secret in ["token", "signing-key"] {
        let mode = std::fs::metadata(home.state().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let token = std::fs::read_to_string(home.state().join("token")).unwrap();
    let profile = home.profile.to_str().unwrap();
    let job = home.ask(&["submit", clip.to_str().unwrap(), "--profile", profile]);
    let done = || {
        let (_, tasks) = home.api(&format!("/v1/jobs/{job}/tasks"));
        let tasks: serde_json::Value = serde_json::from_str(&tasks).unwrap_or_default();
        let tasks = tasks["tasks"].as_array().cloned().unwrap_or_default();
        tasks.iter().filter(|t| t["kind"] == "segment" && t["state"] == "done").count()
    };
    until("a first segment", &home, || done() >= 1);
    serving.signal(libc::SIGKILL);
    drop(serving);
    let serving = home.serve(&[]);
    assert_eq!(std::fs::read_to_string(home.state().join("token")).unwrap(), token, "the token changed");
    assert!(done() >= 1, "what was done is not kept");
    home.ask(&["watch", &job]);
    let out = home.reel.path("fetched");
    home.ask(&["fetch", &job, "-o", out.to_str().unwrap()]);
    let (fetched, alone) = (hashes(&out), home.run_alone(&clip));
    assert!(alone.len() > 10, "{alone:?}");
    assert_eq!(fetched, alone);
    // Ranges and playlists for players.
    let (status, playlist) = home.api(&format!("/v1/jobs/{job}/files/master.m3u8"));
    assert!(status == 200 && playlist.starts_with("#EXTM3U"), "{status} {playlist}");
    // Only uploads and folders that were named are sources.
    let refused = finish(home.command().args(["submit", "--on-server", clip.to_str().unwrap()]));
    refused.refused(2, &["not accepted"]);
    // A file that is no film is called what its sender calls it.
    let letter = home.reel.file("letter.mp4", "Dear all,");
    let told = finish(home.command().args(["submit", letter.to_str().unwrap(), "--wait"]));
    assert!(!told.stderr.contains(".upload"), "{}", told.stderr);
    told.refused(3, &["letter.mp4: this is a text file"]);
    serving.signal(libc::SIGTERM);
    let mut serving = serving;
    assert!(serving.0.wait().unwrap().success(), "{}", home.log());
    assert!(!home.state().join("address").exists());
}

#[test]
fn a_source_without_timestamps_becomes_the_bytes_of_a_run() {
    let home = Home::new();
    let clip = clips::avi_h264();
    let serving = home.serve(&[]);
    let profile = home.profile.to_str().unwrap();
    let job = home.ask(&["submit", clip.to_str().unwrap(), "--profile", profile]);
    home.ask(&["watch", &job]);
    let out = home.reel.path("fetched");
    home.ask(&["fetch", &job, "-o", out.to_str().unwrap()]);
    assert_eq!(hashes(&out), home.run_alone(&clip));
    serving.signal(libc::SIGTERM);
}

#[test]
fn a_watch_folder_takes_a_file_when_it_is_whole_and_once() {
    let home = Home::new();
    let (folder, out) = (home.reel.path("in"), home.reel.path("out"));
    std::fs::create_dir(&folder).unwrap();
    let content = std::fs::read(clips::tenth()).unwrap();
    let watch = ["--watch", folder.to_str().unwrap(), "--watch-output", out.to_str().unwrap()];
    let serving = home.serve(&watch);
    let mut writer = std::fs::File::create(folder.join("slow.mp4")).unwrap();
    for piece in content.chunks(content.len().div_ceil(4)) {
        writer.write_all(piece).unwrap();
        writer.sync_all().unwrap();
        // Longer than a look, and no stop that a writer could not make.
        std::thread::sleep(Duration::from_millis(1_100));
        let (_, jobs) = home.api("/v1/jobs");
        assert!(jobs.contains("\"jobs\":[]"), "taken while it was written: {jobs}");
    }
    drop(writer);
    until("the presentation", &home, || out.join("slow.mp4.streams/report.json").exists());
    assert!(out.join("slow.mp4.streams/master.m3u8").exists());
    drop(serving);
    let _serving = home.serve(&watch);
    std::fs::write(folder.join("second.mp4"), &content).unwrap();
    until("the second presentation", &home, || out.join("second.mp4.streams/report.json").exists());
    let (_, jobs) = home.api("/v1/jobs");
    let jobs: serde_json::Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
}

#[test]
fn an_address_that_breaks_off_is_read_on_where_it_stopped() {
    let home = Home::new();
    let content = std::fs::read(clips::tenth()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/films/tenth.mp4?key=1", listener.local_addr().unwrap());
    let (bytes, asked) = (content.clone(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let seen = std::sync::Arc::clone(&asked);
    // Ends with the test's process; it owns nothing.
    std::thread::spawn(move || {
        for stream in listener.incoming().take(10) {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let range = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
            let start: usize = range.map_or(0, |start| start.parse().unwrap());
            seen.lock().unwrap().push(start);
            let (status, end) = if start == 0 { ("200 OK", bytes.len() / 2) } else { ("206 Partial", bytes.len()) };
            let head = "etag: \"v1\"\r\naccept-ranges: bytes\r\nconnection: close";
            let length = bytes.len() - start;
            write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n").unwrap();
            let _ = stream.write_all(&bytes[start..end]);
        }
    });
    let _serving = home.serve(&[]);
    let job = home.ask(&["submit", &url, "--wait", "--json"]);
    assert!(!job.is_empty());
    assert_eq!(*asked.lock().unwrap(), [0, content.len() / 2]);
    let stored: Vec<PathBuf> =
        std::fs::read_dir(home.state().join("uploads")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert!(std::fs::read(&stored[0]).unwrap() == content, "the bytes differ");
    let (_, jobs) = home.api("/v1/jobs");
    assert!(jobs.contains("\"base\":\"tenth\""), "{jobs}");
}

#[test]
fn an_address_that_others_reach_needs_secrets_of_ones_own() {
    let home = Home::new();
    let serve = |envs: &[(&str, &str)]| {
        let mut command = home.command();
        command.args(["serve", "--listen", "0.0.0.0:0", "--ops-listen", "127.0.0.1:0"]).envs(envs.iter().copied());
        finish(command.stdout(Stdio::null()))
    };
    let long = "0123456789abcdef0123456789abcdef";
    serve(&[]).refused(2, &["SPLITREEL_ADMIN_TOKEN"]);
    serve(&[("SPLITREEL_ADMIN_TOKEN", long)]).refused(2, &["SPLITREEL_SIGNING_KEY"]);
    serve(&[("SPLITREEL_ADMIN_TOKEN", "short"), ("SPLITREEL_SIGNING_KEY", long)]).refused(2, &["too few"]);
    let example = "change-me-change-me-change-me-change-me";
    serve(&[("SPLITREEL_ADMIN_TOKEN", long), ("SPLITREEL_SIGNING_KEY", example)]).refused(2, &["example"]);
    let _serving = home.serve(&[]);
    let second = finish(home.command().args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]));
    second.refused(2, &["another splitreel serve"]);
}
