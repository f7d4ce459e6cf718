//! A cluster of a coordinator, three workers and an assembler gives the same bytes as one command on one machine.

use super::stack::{BUCKET, Stack};
use crate::clips;
use crate::reel::hashes;
use splitreel_testkit::proxy::Fault;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A profile that cuts every two seconds.
pub fn short_segments(stack: &Stack) -> String {
    let path = stack.dir.path().join("short.toml");
    let shown = stack.ask(&["profiles", "universal"]);
    assert!(shown.status.success());
    let text = String::from_utf8(shown.stdout).unwrap();
    let cut: Vec<String> = text
        .lines()
        .map(|l| if l.starts_with("segment_seconds") { "segment_seconds = 2.0".to_owned() } else { l.to_owned() })
        .map(|l| if l.starts_with("name") { "name = \"short\"".to_owned() } else { l })
        .collect();
    assert!(cut.iter().any(|l| l == "segment_seconds = 2.0"), "{text}");
    std::fs::write(&path, cut.join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What `splitreel run` makes of a file.
pub fn run_alone(stack: &Stack, source: &Path, profile: &str, name: &str) -> BTreeMap<String, String> {
    let out = stack.dir.path().join(format!("alone-{name}"));
    let done = Command::new(env!("CARGO_BIN_EXE_splitreel"))
        .args(["run", "--quiet", "--profile", profile, "--workers", "2"])
        .args([Path::new("-o"), &out, Path::new("--state"), &stack.dir.path().join("state"), source])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    hashes(&out)
}

#[test]
fn three_workers_over_s3_make_the_bytes_of_one_machine() {
    let stack = Stack::start();
    let profile = short_segments(&stack);
    let _coordinator = stack.coordinator();
    let _workers = ["one", "two", "three"].map(|name| stack.worker(name));
    let _assembler = stack.assembler();
    for (name, clip) in [("cfr.mp4", clips::cfr()), ("hour.ts", clips::ts_from_an_hour()), ("plain.mkv", clips::mkv())]
    {
        stack.upload(name, &clip);
        let job = stack.transcode(name, Some(&profile));
        let out = stack.dir.path().join(format!("cluster-{name}"));
        stack.fetch(&job, &out);
        let (alone, cluster) = (run_alone(&stack, &clip, &profile, name), hashes(&out));
        assert!(alone.len() > 10, "{alone:?}");
        assert_eq!(cluster, alone, "{name}");
    }
}

/// Bytes in front of the payload of a media segment's `mdat` (ISO/IEC 14496-12, 4.2: size, then type).
fn header_bytes(segment: &[u8]) -> u64 {
    let mut at = 0;
    loop {
        let size = u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        if &segment[at + 4..at + 8] == b"mdat" {
            return at as u64 + 8;
        }
        at += size as usize;
    }
}

/// The last byte that a range from the first byte asks for.
fn last_of(range: Option<&str>) -> Option<u64> {
    range?.strip_prefix("bytes=0-")?.parse().ok()
}

#[test]
fn the_assembler_reads_no_byte_of_media_for_hls_and_dash() {
    let stack = Stack::start();
    let short = std::fs::read_to_string(short_segments(&stack)).unwrap();
    let adaptive = stack.dir.path().join("adaptive.toml");
    assert!(short.contains("progressive = true"));
    std::fs::write(&adaptive, short.replace("progressive = true", "progressive = false")).unwrap();
    let s3 = stack.proxy(vec![stack.s3().address()]);
    let read = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&read);
    s3.set_rule(move |request| {
        let is_object = request.method != "HEAD" && request.path.ends_with(".m4s");
        if is_object {
            let range = request.header("range").map(str::to_owned);
            log.lock().unwrap().push((request.method.clone(), request.path.clone(), range));
        }
        Fault::None
    });
    let _coordinator = stack.coordinator();
    let _worker = stack.worker("one");
    let _assembler = stack.role("assembler", &[("AWS_ENDPOINT_URL_S3", s3.endpoint())]);
    stack.upload("cfr.mp4", &clips::cfr());
    stack.transcode("cfr.mp4", adaptive.to_str());
    let read = std::mem::take(&mut *read.lock().unwrap());
    assert!(read.len() > 10, "{read:?}");
    for (method, path, range) in read {
        let key = path.split_once(BUCKET).unwrap().1.trim_start_matches('/');
        let stored = std::fs::read(stack.dir.path().join("s3").join(BUCKET).join(key)).unwrap();
        assert_eq!((method.as_str(), last_of(range.as_deref())), ("GET", Some(header_bytes(&stored) - 1)), "{path}");
    }
}
