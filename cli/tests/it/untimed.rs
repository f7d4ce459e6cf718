//! Sources whose presentation times are missing, repeat or run back: every frame comes out once, in order, with its own pixels.

use crate::clips;
use crate::decoded::{self, pixels};
use crate::output::Output;
use crate::reel::Reel;
use std::path::Path;

const NUM_FRAMES: usize = 300;

/// The frames of `file` are those of the source, evenly spaced.
#[track_caller]
fn assert_same_pictures(what: &str, truth: &[String], file: &Path) {
    let found = pixels(file);
    let differ = found.iter().zip(truth).position(|(a, b)| a != b);
    assert_eq!((found.len(), differ), (truth.len(), None), "{what}: frames, first frame whose pixels differ");
    let frames = decoded::frames(file).unwrap();
    let step = frames.ticks[1] - frames.ticks[0];
    assert!(step > 0 && frames.ticks.windows(2).all(|pair| pair[1] - pair[0] == step), "{what}: {:?}", frames.ticks);
    assert_eq!(step * 25 * frames.tick.num, frames.tick.den, "{what}: 25 frames per second");
}

#[track_caller]
fn holds_for(source: &Path) {
    let reel = Reel::new();
    let truth = pixels(source);
    assert_eq!(truth.len(), NUM_FRAMES, "{}", source.display());
    for (parts, every) in [(1, "3600"), (3, "4.01"), (12, "1")] {
        let out = reel.path(format!("out-{parts}"));
        reel.run_lossless(source, &out, every).done();
        let output = Output::open(&out);
        assert_eq!(output.num_segments(), parts, "segments of {}", source.display());
        assert_same_pictures("mp4", &truth, &output.mp4().unwrap());
        for playlist in &output.playlists("v") {
            playlist.assert_whole();
            assert_same_pictures("playlist", &truth, &output.join(playlist, &reel.path("")));
        }
        let video = &output.report()["certificate"]["video"][0];
        assert_eq!((video["frames_in"].as_u64(), video["frames_out"].as_u64()), (Some(300), Some(300)), "{video}");
    }
}

#[test]
fn avi_with_h264_b_frames() {
    holds_for(&clips::avi_h264());
}

#[test]
fn avi_with_mpeg4_b_frames() {
    holds_for(&clips::avi_mpeg4());
}

#[test]
fn program_stream_with_sparse_times() {
    holds_for(&clips::sparse_mpg());
}

#[test]
fn raw_stream() {
    holds_for(&clips::raw_h264());
}

#[test]
fn recording_that_repeats_times() {
    holds_for(&clips::equal_times());
}

#[test]
fn mp4_that_stores_decode_times_only() {
    holds_for(&clips::decode_times());
}

#[test]
fn a_recording_that_starts_between_keyframes_is_not_copied() {
    let reel = Reel::new();
    let out = reel.path("out");
    let ended = reel.run(&clips::cut_ts(), &out, &["--profile", "passthrough"]);
    ended.refused(3, &["show no frame", "--profile universal"]);
    assert!(!out.exists());
}

#[test]
fn packets_without_times_are_not_copied() {
    let reel = Reel::new();
    let out = reel.path("out");
    let ended = reel.run(&clips::avi_h264(), &out, &["--profile", "passthrough"]);
    ended.refused(3, &["no presentation times", "--profile universal"]);
    assert!(!out.exists());
}
