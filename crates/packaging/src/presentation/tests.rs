//! Tests of the presentation model.

use proptest::prelude::*;

use super::samples::{audio, full, partial, track};
use super::*;

#[test]
fn uris_lead_from_folder_to_file() {
    assert_eq!(relative_uri("v/1080p", "v/1080p/seg-00001.m4s"), "seg-00001.m4s");
    assert_eq!(relative_uri("", "v/1080p/playlist.m3u8"), "v/1080p/playlist.m3u8");
    assert_eq!(relative_uri("v/1080p", "a/en/x.m4s"), "../../a/en/x.m4s");
    assert_eq!(relative_uri("v/a", "v/a"), "../a");
    assert_eq!(relative_uri("v", "v/a b:\u{e9}#?.m4s"), "a%20b%3A%C3%A9%23%3F.m4s");
}

#[test]
fn names_are_clean_and_unique() {
    let named = |n: &str| audio("x", "und", n, false);
    let names = audio_names(&[named("A\"B\n"), named("A'B"), named("A'B 2"), named("\u{1}"), named("A'B")]);
    assert_eq!(names, ["A'B", "A'B 2", "A'B 2 2", "und", "A'B 3"]);
}

#[test]
fn playlist_sits_beside_init() {
    let mut t = track(TrackKind::Video, "720p", "avc1.64001f", 25, 0, 0, &[(50, 1)]);
    assert_eq!(t.playlist_path(), "v/720p/playlist.m3u8");
    t.init = "init.mp4".to_owned();
    assert_eq!(t.playlist_path(), "playlist.m3u8");
}

#[test]
fn available_run_stops_at_the_first_hole() {
    let mut t = partial(full(), 3).video.remove(0).track;
    assert_eq!(t.first_available_run().len(), 3);
    t.segments[0].available = false;
    let numbers: Vec<_> = t.first_available_run().iter().map(|s| s.number).collect();
    assert_eq!(numbers, [2, 3]);
    t.segments.iter_mut().for_each(|s| s.available = false);
    assert!(t.first_available_run().is_empty());
}

#[test]
fn model_survives_json() {
    let text = serde_json::to_string(&full()).unwrap();
    assert_eq!(serde_json::from_str::<Presentation>(&text).unwrap(), full());
}

proptest! {
    #[test]
    fn lengths_add_up_to_the_exact_total(
        durations in prop::collection::vec(1_u64..10_000_000, 1..200),
        timescale in 1_u32..200_000,
    ) {
        let parts: Vec<_> = durations.iter().map(|&d| (d, 1)).collect();
        let t = track(TrackKind::Audio, "a", "opus", timescale, 0, 0, &parts);
        let total: u64 = durations.iter().sum();
        let span = Span { ticks: total, timescale };
        prop_assert_eq!(t.segment_micros().iter().sum::<u64>(), span.micros());
        for (got, ticks) in t.segment_micros().into_iter().zip(durations) {
            let exact = micros(i128::from(ticks), timescale);
            prop_assert!((i128::from(got) - exact).abs() <= 1);
        }
    }

    #[test]
    fn encoded_paths_are_plain_ascii(path in "\\PC{0,40}") {
        let uri = percent_encode(&path);
        prop_assert!(uri.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/%".contains(&b)));
    }
}
