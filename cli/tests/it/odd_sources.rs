//! Very short and very long sources.

use crate::clips;
use crate::decoded;
use crate::gate;
use crate::output::Output;
use crate::reel::{Reel, finish};
use serde_json::Value;
use splitreel_core::job::JobState;
use std::path::Path;

#[test]
fn a_single_frame() {
    let reel = Reel::new();
    let out = reel.path("out");
    reel.run(&clips::one_frame(), &out, &[]).done();
    let mp4 = Output::open(&out).mp4().unwrap();
    assert_eq!(decoded::frames(&mp4).unwrap().ticks.len(), 1);
}

#[test]
fn a_tenth_of_a_second() {
    let reel = Reel::new();
    let out = reel.path("out");
    let source = clips::tenth();
    reel.run(&source, &out, &["--segment-seconds", "0.5"]).done();
    let mp4 = Output::open(&out).mp4().unwrap();
    let (want, got) = (decoded::frames(&source).unwrap(), decoded::frames(&mp4).unwrap());
    decoded::assert_same_times("mp4", &want, &got);
    decoded::assert_same_samples("mp4", &decoded::sound(&source, 0).unwrap(), &decoded::sound(&mp4, 0).unwrap());
}

#[test]
fn ten_hours_are_planned_in_a_moment() {
    let source = clips::ten_hours();
    let planned = finish(Reel::new().command("plan").arg("--json").arg("--").arg(&source)).done();
    // The promise is 5 s; the test machine may be busy with other tests.
    assert!(planned.wall.as_secs() < 20, "{:?}", planned.wall);
    let plan: Value = serde_json::from_str(&planned.stdout).unwrap();
    let segments = plan["plan"]["frames"][0]["segments"].as_array().unwrap();
    let frames: u64 = segments.iter().map(|s| s["num_frames"].as_u64().unwrap()).sum();
    assert_eq!(frames, 36_000);
    assert!(segments.len() > 1_000, "{} segments", segments.len());
}

#[test]
fn a_wrong_index_is_replaced_by_decoding_once() {
    let reel = Reel::new();
    let (source, out) = (clips::lying_index(), reel.path("out"));
    let ended = reel.run_lossless(&source, &out, "5").done();
    assert!(ended.stderr.contains("list of frames may be wrong"), "{}", ended.stderr);
    let mp4 = Output::open(&out).mp4().unwrap();
    let (want, got) = (decoded::frames(&source).unwrap(), decoded::frames(&mp4).unwrap());
    assert_eq!(want.ticks.len(), 249);
    decoded::assert_same_times("mp4", &want, &got);
    let again = reel.run_lossless(&source, &out, "5").done();
    assert!(again.stderr.contains("up to date"), "{}", again.stderr);
    let run = &Output::open(&out).report()["run"];
    assert_eq!(run["generation"], 2, "{run}");
    assert!(["frames_differ", "times_differ"].contains(&run["replanned"]["code"].as_str().unwrap()), "{run}");
}

/// Every frame with the source's pixels, and no attempt that fails.
#[track_caller]
fn holds_at_once(source: &Path) {
    let (reel, truth) = (Reel::new(), decoded::pixels(source));
    for every in ["1", "2.5"] {
        let out = reel.path(every);
        reel.run_lossless(source, &out, every).done();
        let output = Output::open(&out);
        assert_eq!(decoded::pixels(&output.mp4().unwrap()), truth, "{} at {every} s", source.display());
        assert_eq!(output.report()["run"]["extra_attempts"], 0, "{} at {every} s", source.display());
    }
}

/// Two recordings of 3 s with clocks of their own, one behind the other.
#[track_caller]
fn clock_jump_is_closed(name: &str, starts: [&str; 2]) {
    let (reel, source) = (Reel::new(), clips::two_clocks(name, starts));
    let truth = decoded::pixels(&source);
    assert_eq!(truth.len(), 150);
    for every in ["3600", "1"] {
        let out = reel.path(every);
        let ended = reel.run_lossless(&source, &out, every).done();
        let output = Output::open(&out);
        let mp4 = output.mp4().unwrap();
        assert_eq!(decoded::pixels(&mp4), truth, "{name} at {every} s");
        let frames = decoded::frames(&mp4).unwrap();
        assert!((frames.span() - 149.0 / 25.0).abs() < 0.001, "{name}: {} s; {}", frames.span(), ended.stderr);
        let sound = decoded::sound(&mp4, 0).unwrap();
        assert!((sound.samples - 6 * 48_000).abs() < 4 * 1024, "{name}: {} samples", sound.samples);
        let decisions = output.report()["decisions"].to_string();
        assert!(decisions.contains("the jump is closed for all tracks alike"), "{name}: {decisions}");
    }
    // Behind the jump a tone and a white picture start at the same time, at 1 s of the second recording.
    let mp4 = Output::open(&reel.path("1")).mp4().unwrap();
    let (at, first) = (decoded::onsets(&mp4), decoded::frames(&mp4).unwrap().first().to_f64());
    assert!((at.0 - at.1).abs() < 0.045, "{name}: picture at {} s, sound at {} s", at.0, at.1);
    assert!((at.0 - first - 4.0).abs() < 0.001, "{name}: picture at {} s, the first one at {first} s", at.0);
    let ended = reel.run(&source, &reel.path("copy"), &["--profile", "passthrough"]);
    ended.refused(3, &["the clock of the source jumps", "--profile universal"]);
}

#[test]
fn clock_that_runs_back() {
    clock_jump_is_closed("back", ["140", "3"]);
}

#[test]
fn clock_that_starts_anew() {
    clock_jump_is_closed("anew", ["3", "3"]);
}

#[test]
fn clock_that_runs_ahead() {
    clock_jump_is_closed("ahead", ["140", "5000"]);
}

#[test]
fn gradual_refresh_in_place_of_keyframes() {
    holds_at_once(&clips::intra_refresh());
}

#[test]
fn samples_that_are_all_called_keyframes() {
    holds_at_once(&clips::all_sync());
}

#[tokio::test]
async fn a_server_replaces_a_wrong_index_too() {
    let job = gate::ended(&clips::lying_index(), None).await;
    assert_eq!((job.state, job.generation, job.deep_probe), (JobState::Published, 2, true), "{:?}", job.failure);
    assert!(job.replanned.is_some_and(|replanned| replanned.failure.may_be_of_the_frame_list()));
}
