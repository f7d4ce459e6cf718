//! What cannot be done is refused with the right exit code and with words that a person can act on.

use crate::clips;
use crate::full_disk;
use crate::output::Output;
use crate::reel::{Ended, Reel, bare, finish, lossless};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const USAGE: i32 = 2;
const SOURCE: i32 = 3;
const FAILED: i32 = 4;

/// Runs `input`; nothing may appear under the output's name.
#[track_caller]
fn refuse(reel: &Reel, input: &Path, code: i32, words: &[&str]) -> Ended {
    let out = reel.path("out");
    let ended = reel.run(input, &out, &[]).refused(code, words);
    assert!(!out.exists(), "an output for what was refused");
    assert!(ended.wall.as_secs() < 60, "refused only after {:?}", ended.wall);
    ended
}

fn profile(reel: &Reel, text: &str) -> String {
    reel.file("profile.toml", text).to_str().unwrap().to_owned()
}

#[test]
fn a_missing_file() {
    let reel = Reel::new();
    refuse(&reel, &reel.path("nowhere.mp4"), SOURCE, &["nowhere.mp4", "no such file"]);
}

#[test]
fn a_directory() {
    let reel = Reel::new();
    let dir = reel.path("film.mp4");
    std::fs::create_dir(&dir).unwrap();
    refuse(&reel, &dir, SOURCE, &["film.mp4", "directory"]);
}

#[test]
fn an_empty_file() {
    let reel = Reel::new();
    refuse(&reel, &reel.file("empty.mp4", ""), SOURCE, &["empty.mp4", "empty"]);
}

#[test]
fn a_text_file() {
    let reel = Reel::new();
    let text = reel.file("notes.mp4", "Dear diary, today I transcoded nothing at all.\n".repeat(50));
    refuse(&reel, &text, SOURCE, &["notes.mp4"]);
}

#[test]
fn a_playlist_that_calls_itself_mp4() {
    let reel = Reel::new();
    let secret = clips::cfr();
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\n{}\n#EXT-X-ENDLIST\n", secret.display());
    refuse(&reel, &reel.file("film.mp4", playlist), SOURCE, &["film.mp4", "playlist"]);
    let script = format!("ffconcat version 1.0\nfile '{}'\n", secret.display());
    refuse(&reel, &reel.file("other.mp4", script), SOURCE, &["other.mp4"]);
}

#[test]
fn a_recording_that_was_cut_off() {
    let reel = Reel::new();
    let whole = std::fs::read(clips::busy()).unwrap();
    let cut = reel.file("cut.mp4", &whole[..whole.len() / 2]);
    refuse(&reel, &cut, SOURCE, &["cut.mp4", "truncated"]);
}

#[test]
fn names_that_look_like_something_else() {
    let source = clips::tenth();
    let names: [&[u8]; 7] = [
        b"-i.mp4",
        b"two words.mp4",
        b"it's \"quoted\".mp4",
        b"line\nbreak.mp4",
        b"%d %s.mp4",
        b"file:x.mp4",
        "été.mp4".as_bytes(),
    ];
    for name in names {
        let reel = Reel::new();
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        std::fs::copy(&source, reel.path(name)).unwrap();
        let mut run = reel.command("run");
        // The bare name, as a shell in that directory would give it.
        run.current_dir(reel.path("")).arg("-o").arg("out").arg("--").arg(name);
        finish(&mut run).done();
        let output = Output::open(&reel.path("out"));
        assert!(output.mp4().is_some(), "no MP4 for {name:?}");
        for playlist in output.playlists("v") {
            playlist.assert_whole();
        }
    }
}

/// A run whose state directory has room for files of `room` bytes, with results that are larger.
fn run_on_a_full_disk(room: u64, words: &[&str]) {
    let reel = Reel::new();
    let small = reel.path("small");
    std::fs::create_dir(&small).unwrap();
    let mut run = bare();
    run.envs(full_disk::settings(&small, room)).arg("run").arg("--state").arg(small.join("state"));
    run.arg("--profile").arg(lossless()).arg("-o").arg(reel.path("out")).arg("--").arg(clips::cfr());
    let ended = finish(&mut run).refused(FAILED, words);
    assert!(!reel.path("out").exists());
    assert!(ended.wall.as_secs() < 90, "given up only after {:?}", ended.wall);
}

#[test]
fn no_space_left() {
    run_on_a_full_disk(3 << 20, &["no space left", "free some space"]);
}

#[test]
fn no_space_left_for_the_records_of_the_job() {
    run_on_a_full_disk(512 << 10, &["records cannot be written", "disk is full", "space left"]);
}

#[test]
fn an_output_that_cannot_be_written() {
    let reel = Reel::new();
    let file = reel.file("file", "not a directory");
    for out in [file.join("out"), Path::new("/proc/nowhere/out").to_owned()] {
        reel.run(&clips::tenth(), &out, &[]).refused(USAGE, &["output"]);
    }
    reel.run(&clips::tenth(), &file, &[]).refused(USAGE, &["file"]);
}

#[test]
fn an_output_directory_that_holds_something_else() {
    let reel = Reel::new();
    let out = reel.path("holiday");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("photo.jpg"), "precious").unwrap();
    reel.run(&clips::tenth(), &out, &[]).refused(USAGE, &["holiday", "--force"]);
    assert_eq!(std::fs::read(out.join("photo.jpg")).unwrap(), b"precious");
}

#[test]
fn no_ffmpeg() {
    let reel = Reel::new();
    let mut run = reel.command("run");
    run.env("PATH", reel.path("")).env_remove("SPLITREEL_FFMPEG").env_remove("SPLITREEL_FFPROBE");
    run.arg("-o").arg(reel.path("out")).arg("--").arg(clips::tenth());
    finish(&mut run).refused(USAGE, &["ffmpeg", "not found", "install"]);
}

#[test]
fn an_ffmpeg_that_is_too_old() {
    let reel = Reel::new();
    let old = reel.file(
        "ffmpeg",
        "#!/bin/sh\necho 'ffmpeg version 4.3.9-0+deb11u2 Copyright (c) 2000-2021 the FFmpeg developers'\n",
    );
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = reel.command("run");
    run.env("SPLITREEL_FFMPEG", &old).env("SPLITREEL_FFPROBE", &old);
    run.arg("-o").arg(reel.path("out")).arg("--").arg(clips::tenth());
    finish(&mut run).refused(USAGE, &["4.3", "older than 5.1", "upgrade"]);
}

#[test]
fn an_encoder_that_does_not_exist() {
    let reel = Reel::new();
    let profile = profile(&reel, "name = \"x\"\n[video]\nencoder = \"libnonsense\"\n");
    reel.run(&clips::tenth(), &reel.path("out"), &["--profile", &profile]).refused(USAGE, &["libnonsense", "encoder"]);
}

#[test]
fn a_profile_with_several_mistakes() {
    let reel = Reel::new();
    let text = "name = \"x\"\ncolour = 1\n[video]\ncodec = \"h265\"\n[[video.rungs]]\nheight = 720\ncrf = 22\nqp = 0\n[packaging]\nchunk_mb = 4\n";
    let profile = profile(&reel, text);
    let words = [
        "4 mistakes",
        "line 2: colour",
        "line 4: video.codec",
        "line 7: video.rungs[0].crf",
        "line 10: packaging.chunk_mb",
        "use 16 to 128",
    ];
    reel.run(&clips::tenth(), &reel.path("out"), &["--profile", &profile]).refused(USAGE, &words);
}

#[test]
fn a_profile_that_is_not_toml_or_not_there() {
    let reel = Reel::new();
    let broken = profile(&reel, "name = \"x\"\n[video\n");
    reel.run(&clips::tenth(), &reel.path("out"), &["--profile", &broken]).refused(USAGE, &["line 2"]);
    reel.run(&clips::tenth(), &reel.path("out"), &["--profile", "nowhere.toml"]).refused(USAGE, &["nowhere.toml"]);
    reel.run(&clips::tenth(), &reel.path("out"), &["--profile", "universe"]).refused(USAGE, &["universe", "universal"]);
}

#[test]
fn transport_streams_cannot_hold_the_newer_codecs() {
    let reel = Reel::new();
    for codec in ["vp9", "av1"] {
        let profile = profile(
            &reel,
            &format!("name = \"x\"\n[video]\ncodec = \"{codec}\"\n[packaging]\ncontainer = \"mpegts\"\n"),
        );
        reel.run(&clips::tenth(), &reel.path("out"), &["--profile", &profile])
            .refused(USAGE, &["MPEG-TS", codec, "need fMP4"]);
    }
    let profile = profile(&reel, "name = \"x\"\n[audio]\ncodec = \"opus\"\n[packaging]\ncontainer = \"mpegts\"\n");
    reel.run(&clips::tenth(), &reel.path("out"), &["--profile", &profile])
        .refused(USAGE, &["MPEG-TS", "opus", "needs fMP4"]);
}

#[test]
fn options_out_of_range() {
    let reel = Reel::new();
    let out = reel.path("out");
    for args in [
        ["--segment-seconds", "-1"],
        ["--segment-seconds", "soon"],
        ["--segment-seconds", "nan"],
        ["--workers", "0"],
        ["--chunk-mb", "8"],
    ] {
        let joined = format!("{}={}", args[0], args[1]);
        let ended = reel.run(&clips::tenth(), &out, &[&joined]);
        assert_eq!(ended.code, USAGE, "{joined}: {}", ended.stderr);
        assert!(ended.stderr.contains(args[1].trim_start_matches('-')), "{joined}: {}", ended.stderr);
    }
    assert_eq!(finish(bare().arg("run")).code, USAGE);
    assert_eq!(finish(bare().arg("transmogrify")).code, USAGE);
}

/// `splitreel … | head`, when head is already gone.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let state = tempfile::tempdir().unwrap();
    for words in [&["profiles"][..], &["list"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_splitreel"));
        command.args(words).env("SPLITREEL_STATE", state.path()).stdout(writer);
        let done = command.output().unwrap();
        assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""), "{words:?}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_splitreel"));
    let done = command.arg("profiles").stdout(full).output().unwrap();
    let message = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(4) && message.contains("standard output cannot be written"), "{message}");
}
