//! Sources that are sent to a cluster, and presentations that it copies to where a rule wants them.

use super::same_bytes::run_alone;
use super::stack::{ADMIN, SOURCES, Stack};
use crate::clips;
use crate::reel::hashes;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Sends a request by hand; `cut`: hangs up after this number of bytes of the body.
fn ask(
    stack: &Stack,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    cut: Option<usize>,
) -> (u16, BTreeMap<String, String>, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", stack.api)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\n");
    head.push_str(&format!("tus-resumable: 1.0.0\r\ncontent-length: {}\r\n", body.len()));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(&body[..cut.unwrap_or(body.len())]).unwrap();
    if cut.is_some() {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    (status, headers.map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect(), body.to_owned())
}

const PIECE: (&str, &str) = ("content-type", "application/offset+octet-stream");

#[test]
fn an_upload_in_pieces_over_a_broken_line_becomes_the_bytes_of_a_run() {
    let stack = Stack::start();
    let _coordinator = stack.coordinator();
    let _worker = stack.worker("one");
    let _assembler = stack.assembler();
    let clip = clips::cfr();
    let content = std::fs::read(&clip).unwrap();
    let third = content.len() / 3;
    let (status, headers, _) = ask(&stack, "OPTIONS /v1/uploads", &[], b"", None);
    assert_eq!((status, headers["tus-version"].as_str()), (204, "1.0.0"));
    // "cfr.mp4" and "universal" in base64.
    let metadata = ("upload-metadata", "filename Y2ZyLm1wNA==,profile dW5pdmVyc2Fs");
    let length = content.len().to_string();
    let made = ask(&stack, "POST /v1/uploads", &[("upload-length", &length), metadata], b"", None);
    assert_eq!(made.0, 201, "{}", made.2);
    let place = &made.1["location"];
    let patch = format!("PATCH {place}");
    let first = ask(&stack, &patch, &[PIECE, ("upload-offset", "0")], &content[..third], None);
    assert_eq!((first.0, &first.1["upload-offset"]), (204, &third.to_string()), "{}", first.2);
    let at = third.to_string();
    // Hangs up within the second piece.
    ask(&stack, &patch, &[PIECE, ("upload-offset", &at)], &content[third..], Some(third));
    let deadline = Instant::now() + Duration::from_secs(30);
    let at = loop {
        let (status, headers, _) = ask(&stack, &format!("HEAD {place}"), &[], b"", None);
        assert_eq!(status, 200);
        let at: usize = headers["upload-offset"].parse().unwrap();
        if at > third {
            break at;
        }
        assert!(Instant::now() < deadline, "nothing of the broken piece was kept: {}", stack.logs());
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(at <= 2 * third);
    let offset = at.to_string();
    // The checksum of nothing.
    let wrong = ("upload-checksum", "sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    let refused = ask(&stack, &patch, &[PIECE, ("upload-offset", &offset), wrong], &content[at..], None);
    assert_eq!(refused.0, 460, "{}", refused.2);
    let rest = ask(&stack, &patch, &[PIECE, ("upload-offset", &offset)], &content[at..], None);
    assert_eq!((rest.0, &rest.1["upload-offset"]), (204, &length), "{}", rest.2);
    let (_, _, upload) = ask(&stack, &format!("GET {place}"), &[], b"", None);
    let upload: serde_json::Value = serde_json::from_str(&upload).unwrap();
    let job = upload["job"].as_str().unwrap().to_owned();
    let watched = stack.ask(&["watch", &job]);
    assert!(watched.status.success(), "{}\n{}", String::from_utf8_lossy(&watched.stderr), stack.logs());
    let out = stack.dir.path().join("out");
    stack.fetch(&job, &out);
    let alone = run_alone(&stack, &clip, "universal", "cfr");
    assert_eq!(hashes(&out), alone);
    // The command sends a file the same way; nothing of an unfinished upload is left.
    let sent = stack.ask(&["submit", clip.to_str().unwrap(), "--wait"]);
    assert!(sent.status.success(), "{}\n{}", String::from_utf8_lossy(&sent.stderr), stack.logs());
    let left = stack.dir.path().join("s3/work/uploads-open");
    assert_eq!(std::fs::read_dir(left).map_or(0, Iterator::count), 0);
    // Nobody names an upload by its place.
    let named = format!("s3://work/uploads/{}", upload["id"].as_str().unwrap().replace('-', ""));
    assert!(!stack.ask(&["submit", &named]).status.success());
}

/// Files below a folder of the S3 server, by path.
fn stored(stack: &Stack, below: &str) -> BTreeMap<String, String> {
    let root = stack.dir.path().join("s3").join(SOURCES).join(below);
    if root.is_dir() { hashes(&root) } else { BTreeMap::new() }
}

#[test]
fn a_rule_copies_presentations_whole_and_never_starts_by_its_own_output() {
    let stack = Stack::start();
    let _coordinator = stack.coordinator();
    let _worker = stack.worker("one");
    let _assembler = stack.assembler();
    let told = |args: &[&str]| {
        let done = stack.ask(args);
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let (place, output) = (format!("s3://{SOURCES}/in/"), format!("s3://{SOURCES}/out/"));
    let more = ["--suffixes", ".mp4,.m4s", "--poll-seconds", "1", "--output", &output];
    let rule = told(&[&["triggers", "add", &place], &more[..]].concat());
    // Takes everything, but for what the other rule writes.
    let all = told(&["triggers", "add", &format!("s3://{SOURCES}/"), "--suffixes", ".mp4", "--poll-seconds", "1"]);
    assert!(told(&["triggers", "list"]).contains(&rule) && told(&["triggers", "show", &rule]).contains("poll_seconds"));
    let test = |object: &str| told(&["triggers", "test", &format!("s3://{SOURCES}/{object}")]);
    assert!(test("in/a.mp4").contains(&format!("taken by rule {rule}")), "{}", test("in/a.mp4"));
    assert!(test("a.mp4").contains(&format!("taken by rule {all}")));
    assert!(test("a.avi").contains("no rule takes it"));
    assert!(test("out/a.mp4").contains("never starts a job"));
    std::fs::create_dir_all(stack.dir.path().join("s3").join(SOURCES).join("in")).unwrap();
    stack.upload("in/tenth.mp4", &clips::tenth());
    let deadline = Instant::now() + Duration::from_secs(120);
    let is_there = |files: &BTreeMap<String, String>| files.keys().any(|path| path.ends_with("/master.m3u8"));
    while !is_there(&stored(&stack, "out")) {
        assert!(Instant::now() < deadline, "nothing was copied: {}", stack.logs());
        // Media first: once a manifest exists, everything it names exists.
        std::thread::sleep(Duration::from_millis(100));
    }
    let jobs: serde_json::Value = serde_json::from_str(&told(&["list", "--json"])).unwrap();
    let job = jobs[0]["id"].as_str().unwrap().to_owned();
    let fetched = stack.dir.path().join("fetched");
    stack.fetch(&job, &fetched);
    let wanted = hashes(&fetched);
    let below = format!("out/tenth/{job}");
    while stored(&stack, &below) != wanted {
        assert!(Instant::now() < deadline, "{:?} is not {wanted:?}: {}", stored(&stack, &below), stack.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    let status: serde_json::Value = serde_json::from_str(&told(&["status", &job, "--json"])).unwrap();
    let output = &status["job"]["output"];
    assert_eq!(output["location"], format!("s3://{SOURCES}/{below}/"), "{status}");
    // An event about the copy is answered, and starts nothing; neither do the pollers.
    let key = format!("{SOURCES}/{below}/tenth.mp4");
    assert!(Path::new(&stack.dir.path().join("s3").join(&key)).exists(), "{wanted:?}");
    let event = format!(r#"{{"EventName":"s3:ObjectCreated:Put","Key":"{key}"}}"#);
    let answer = ask(&stack, "POST /v1/events/s3", &[("content-type", "application/json")], event.as_bytes(), None);
    assert!(answer.0 == 200 && answer.2.contains("own_output"), "{answer:?}");
    // Objects are listed in the order of their keys: a poller that finds this one has passed the copy.
    stack.upload("z.mp4", &clips::tenth());
    let sources = || {
        let jobs: Vec<serde_json::Value> = serde_json::from_str(&told(&["list", "--json"])).unwrap();
        let mut all: Vec<_> = jobs.iter().map(|j| j["source"]["locator"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    while sources().len() < 2 {
        assert!(Instant::now() < deadline, "the last file was not taken: {}", stack.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(sources(), ["in/tenth.mp4", "z.mp4"].map(|key| format!("s3://{SOURCES}/{key}")));
    told(&["triggers", "remove", &rule]);
}
