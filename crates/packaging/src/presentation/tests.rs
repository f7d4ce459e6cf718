//! Tests of the presentation model.

use proptest::prelude::*;

use splitreel_core::MediaKind;

use super::samples::{audio_format, full, mixed, partial, seconds, track, video_format};
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
    let named = ["A\"B\n", "A'B", "A'B 2", "\u{1}", "A'B"].map(|n| audio_format("und", n, false));
    let names = menu_names(&named);
    assert_eq!(names, ["A'B", "A'B 2", "A'B 2 2", "und", "A'B 3"]);
}

#[test]
fn playlist_sits_beside_init() {
    let mut t = track(video_format(16, 16), "720p", "avc1.64001f", 25, 0, 0, &[(50, 1)]);
    assert_eq!(t.playlist_path(), "v/720p/playlist.m3u8");
    t.init = Some("init.mp4".to_owned());
    assert_eq!(t.playlist_path(), "playlist.m3u8");
}

#[test]
fn available_run_stops_at_the_first_hole() {
    let mut t = partial(full(), 3).tracks.remove(0);
    assert_eq!(t.first_available_run().len(), 3);
    t.segments[0].available = false;
    let numbers: Vec<_> = t.first_available_run().iter().map(|s| s.number).collect();
    assert_eq!(numbers, [2, 3]);
    t.segments.iter_mut().for_each(|s| s.available = false);
    assert!(t.first_available_run().is_empty());
}

/// A kind of media without rules for manifests: no init segment, no codec string, files of its own.
fn storyboard() -> MediaTrack {
    let mut t = track(MediaFormat::Images, "storyboard", "", 1, 0, 0, &[(100, 5_000)]);
    t.init = None;
    t.segments[0].path = "i/storyboard/sheet-00001.jpg".into();
    t
}

fn captions() -> MediaTrack {
    track(MediaFormat::Text, "en-captions", "wvtt", 1_000, 0, 0, &[(6_000, 300), (5_511, 200)])
}

#[test]
fn kinds_without_manifest_rules_pass_the_checks_and_are_listed_nowhere() {
    let mut p = full();
    p.tracks.insert(1, captions());
    p.tracks.push(storyboard());
    let (with, without) = (p.check(Form::Final).unwrap(), full());
    let without = without.check(Form::Final).unwrap();
    assert_eq!(crate::hls::playlists(&with), crate::hls::playlists(&without));
    assert_eq!(crate::dash::mpd(&with).unwrap(), crate::dash::mpd(&without).unwrap());
    let files: Vec<&str> = p.tracks.iter().filter(|t| !t.is_listed()).flat_map(MediaTrack::media_paths).collect();
    assert_eq!(
        files,
        [
            "t/en-captions/init.mp4",
            "t/en-captions/seg-00001.m4s",
            "t/en-captions/seg-00002.m4s",
            "i/storyboard/sheet-00001.jpg"
        ]
    );
    assert_eq!(storyboard().format.kind(), MediaKind::Images);
}

#[test]
fn kinds_without_manifest_rules_are_checked_like_any_other() {
    let mut p = full();
    p.tracks.push(storyboard());
    p.track_mut("storyboard").segments[0].bytes = 0;
    let defects = p.check(Form::Final).unwrap_err().defects;
    assert_eq!(defects, [Defect::EmptyFile { track: "storyboard".into(), number: 1 }]);
    let only = Presentation { tracks: vec![captions()], duration: seconds(11_511, 1_000), ..full() };
    assert_eq!(only.check(Form::Final).unwrap_err().defects, [Defect::NothingToPlay]);
}

#[test]
fn switching_sets_follow_codec_and_segmentation() {
    let ids = |p: &Presentation| -> Vec<Vec<String>> {
        switching_sets(p).into_iter().map(|set| set.iter().map(|(t, _)| t.id.clone()).collect()).collect()
    };
    assert_eq!(ids(&full()), [["1080p", "720p", "360p"]]);
    let mut p = mixed();
    assert_eq!(ids(&p), [["1080p"], ["720p"], ["360p"]]);
    for track in p.of_kind(MediaKind::Video) {
        track.codec = Some("avc1.64001f".into());
    }
    assert_eq!(ids(&p), [vec!["1080p", "360p"], vec!["720p"]]);
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
        let t = track(MediaFormat::Audio(audio_format("en", "", true)), "a", "opus", timescale, 0, 0, &parts);
        let total: u64 = durations.iter().sum();
        let exact = micros(total.into(), timescale);
        prop_assert_eq!(i128::from(t.segment_micros().iter().sum::<u64>()), exact);
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
