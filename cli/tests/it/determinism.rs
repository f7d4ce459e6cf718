//! The output depends on source, settings and ffmpeg only: not on the run, not on the number of workers.

use crate::clips;
use crate::output::Output;
use crate::reel::Reel;
use std::collections::BTreeMap;

#[track_caller]
pub fn assert_identical(want: &BTreeMap<String, Vec<u8>>, got: &BTreeMap<String, Vec<u8>>) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(want), names(got));
    let differ: Vec<_> = want.iter().filter(|(name, bytes)| got[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differ.is_empty(), "files that differ: {differ:?}");
}

#[test]
fn runs_and_numbers_of_workers_make_no_difference() {
    let source = clips::cfr();
    let runs: Vec<_> = ["1", "2", "2"]
        .iter()
        .map(|workers| {
            let reel = Reel::new();
            let out = reel.path("out");
            reel.run(
                &source,
                &out,
                &["--segment-seconds", "2", "--workers", workers, "--chunk-mb", "16", "--keep-full"],
            )
            .done();
            Output::open(&out).files()
        })
        .collect();
    assert!(runs[0].keys().any(|name| name.ends_with(".wp.chunks/manifest.json")), "{:?}", runs[0].keys());
    assert_identical(&runs[0], &runs[1]);
    assert_identical(&runs[1], &runs[2]);
}

/// With frame threads and a cap on the bit rate, x264 made other bytes in about one of ten runs.
#[test]
fn a_source_that_is_not_split_gives_the_same_bytes_each_time() {
    let source = clips::cfr();
    let runs: Vec<_> = (0..6)
        .map(|_| {
            let reel = Reel::new();
            let out = reel.path("out");
            reel.run(&source, &out, &[]).done();
            Output::open(&out).files()
        })
        .collect();
    for run in &runs[1..] {
        assert_identical(&runs[0], run);
    }
}
