//! Tests of the playlist writer.

use proptest::prelude::*;

use super::*;
use splitreel_core::{MediaKind, MediaTime, Rational};

use crate::presentation::samples::{audio, full, hdr_and_sdr, mixed, partial, track, video_format};
use crate::presentation::{Presentation, TargetDuration};

fn all(presentation: &Presentation, form: Form) -> String {
    let playlists = playlists(&presentation.check(form).unwrap());
    playlists.iter().map(|p| format!("== {}\n{}", p.path, p.text)).collect()
}

#[test]
fn video_and_audio() {
    insta::assert_snapshot!(all(&full(), Form::Final));
}

#[test]
fn preview_marks_gaps() {
    let mut p = partial(full(), 2);
    p.tracks.retain(|t| ["1080p", "en"].contains(&t.id.as_str()));
    insta::assert_snapshot!(all(&p, Form::Preview));
}

#[test]
fn a_mixed_ladder() {
    insta::assert_snapshot!(all(&mixed(), Form::Final));
}

/// The attribute lists of the variants, each with its playlist.
fn variants(p: &Presentation) -> Vec<(String, String)> {
    let text = multivariant_playlist(&p.check(Form::Final).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.windows(2).filter(|w| w[0].starts_with("#EXT-X-STREAM-INF:"));
    pairs.map(|w| (w[0].to_owned(), w[1].to_owned())).collect()
}

#[test]
fn every_variant_of_a_ladder_with_hdr_states_its_range_and_sdr_comes_first() {
    let found = variants(&hdr_and_sdr());
    let order: Vec<&str> = found.iter().map(|(_, uri)| uri.as_str()).collect();
    assert_eq!(order, ["v/360p/playlist.m3u8", "v/1080p/playlist.m3u8", "v/720p/playlist.m3u8"]);
    for ((attributes, _), range) in found.iter().zip(["SDR", "PQ", "PQ"]) {
        assert!(attributes.contains(&format!(",VIDEO-RANGE={range},")), "{attributes}");
    }
    let mut p = hdr_and_sdr();
    p.video_format_mut("720p").color.transfer = Some(18);
    let ranges: Vec<bool> = variants(&p).iter().map(|(a, _)| a.contains("VIDEO-RANGE=HLG")).collect();
    assert_eq!(ranges, [false, false, true]);
}

#[test]
fn the_frame_rate_of_uneven_frames_is_the_highest() {
    let mut p = full();
    p.video_format_mut("720p").peak_frame_rate = Some(Rational::new(60_000, 1_001).unwrap());
    let found = variants(&p);
    let rate = |id: &str| {
        let (attributes, _) = found.iter().find(|(_, uri)| uri.contains(id)).unwrap();
        attributes.contains("FRAME-RATE=59.940")
    };
    assert_eq!([rate("1080p"), rate("720p"), rate("360p")], [false, true, false]);
    let mpd = crate::dash::mpd(&p.check(Form::Final).unwrap()).unwrap();
    assert_eq!(mpd.matches("frameRate=\"30000/1001\"").count(), 3, "DASH announces the average: {mpd}");
}

#[test]
fn a_ladder_in_sdr_only_states_no_range() {
    let mut p = hdr_and_sdr();
    p.tracks.retain(|track| track.id != "1080p" && track.id != "720p");
    assert!(variants(&p).iter().all(|(attributes, _)| !attributes.contains("VIDEO-RANGE")));
    let mut p = hdr_and_sdr();
    p.tracks.retain(|track| track.id != "360p");
    assert!(variants(&p).iter().all(|(attributes, _)| attributes.contains("VIDEO-RANGE=PQ")));
}

#[test]
fn audio_only() {
    let mut p = full();
    p.retain_kind(MediaKind::Audio);
    insta::assert_snapshot!(all(&p, Form::Final));
}

#[test]
fn video_only_with_wide_pixels() {
    let mut p = full();
    p.tracks.truncate(1);
    let format = p.video_format_mut("1080p");
    (format.width, format.height) = (720, 576);
    format.sar = Rational::new(16, 15).unwrap();
    format.frame_rate = Rational::whole(25);
    let text = multivariant_playlist(&p.check(Form::Final).unwrap());
    insta::assert_snapshot!(text);
}

#[test]
fn the_planned_form_has_no_gaps_and_the_final_text() {
    let planned = partial(full(), 1);
    let (planned, finished) = (planned.check(Form::Planned).unwrap(), full());
    let finished = finished.check(Form::Final).unwrap();
    let media = |checked: &Checked<'_>| -> Vec<String> {
        checked.presentation().listed().map(|track| media_playlist(checked, track)).collect()
    };
    assert_eq!(media(&planned), media(&finished));
}

#[test]
fn planned_rates_follow_the_cap_and_never_fall_below_what_is_measured() {
    let mut p = partial(full(), 1);
    p.retain_kind(MediaKind::Video);
    p.track_mut("1080p").cap_bits_per_second = Some(8_000_000);
    p.track_mut("720p").cap_bits_per_second = Some(100_000);
    p.track_mut("360p").codec = None;
    let text = multivariant_playlist(&p.check(Form::Planned).unwrap());
    // The first segment: 1,400,000 and 420,000 bytes in 2.002 s; the lowest is guessed.
    assert!(text.contains("BANDWIDTH=8800000,AVERAGE-BANDWIDTH=8800000,CODECS=\"avc1.64001f\""), "{text}");
    assert!(text.contains("BANDWIDTH=1678322,AVERAGE-BANDWIDTH=1678322,"), "{text}");
    assert!(text.contains("BANDWIDTH=690509,AVERAGE-BANDWIDTH=690509,RESOLUTION=640x360"), "{text}");
}

#[test]
fn a_rendition_without_segments_yet_has_a_guess() {
    let p = partial(full(), 0);
    let text = multivariant_playlist(&p.check(Form::Preview).unwrap());
    assert!(text.contains("BANDWIDTH=6342585,AVERAGE-BANDWIDTH=6342585,"), "{text}");
}

fn order(p: &Presentation) -> Vec<String> {
    let text = multivariant_playlist(&p.check(Form::Final).unwrap());
    text.lines().filter(|l| l.starts_with("v/")).map(str::to_owned).collect()
}

#[test]
fn a_modest_variant_comes_first() {
    let names = |ids: [&str; 3]| ids.map(|id| format!("v/{id}/playlist.m3u8"));
    assert_eq!(order(&full()), names(["720p", "1080p", "360p"]));
    let mut p = full();
    for segment in p.of_kind(MediaKind::Video).into_iter().flat_map(|t| &mut t.segments) {
        segment.bytes *= 100;
    }
    assert_eq!(order(&p), names(["360p", "1080p", "720p"]));
}

#[test]
fn one_rendition_per_language_is_chosen_automatically() {
    let mut p = full();
    p.retain_kind(MediaKind::Video);
    p.tracks.extend([
        audio("en-2", "en", "English", false),
        audio("en-d", "EN", "English description", true),
        audio("fr", "fr", "French", false),
        audio("fr-d", "fr", "French", false),
    ]);
    let text = multivariant_playlist(&p.check(Form::Final).unwrap());
    let flags: Vec<_> = text
        .lines()
        .filter(|l| l.starts_with("#EXT-X-MEDIA"))
        .map(|l| (l.contains("DEFAULT=YES"), l.contains("AUTOSELECT=YES")))
        .collect();
    assert_eq!(flags, [(false, false), (true, true), (false, true), (false, false)]);
    assert!(text.contains("NAME=\"French 2\""));
}

#[test]
fn the_highest_audio_is_added_and_all_codecs_are_listed() {
    let mut p = full();
    p.track_mut("fr").codec = Some("opus".into());
    for segment in &mut p.track_mut("fr").segments {
        segment.bytes *= 4;
    }
    let text = multivariant_playlist(&p.check(Form::Final).unwrap());
    let mut alone = full();
    alone.retain_kind(MediaKind::Video);
    let without = multivariant_playlist(&alone.check(Form::Final).unwrap());
    let bandwidths = |t: &str| -> Vec<u64> {
        let values = t.lines().filter_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:BANDWIDTH="));
        let mut found: Vec<u64> = values.map(|l| l.split(',').next().unwrap().parse().unwrap()).collect();
        found.sort_unstable();
        found
    };
    let loudest = peak(&available_runs(p.track_mut("fr")), 4).unwrap();
    let (with, without) = (bandwidths(&text), bandwidths(&without));
    let differences: Vec<_> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
    assert_eq!(differences, [loudest; 3]);
    assert!(text.contains("CODECS=\"avc1.64001f,mp4a.40.2,opus\""), "{text}");
}

#[test]
fn odd_paths_are_encoded() {
    let mut p = full();
    p.retain_kind(MediaKind::Video);
    p.tracks.truncate(1);
    p.tracks[0].init = Some("v x/\u{fc}/init.mp4".into());
    let checked = p.check(Form::Final).unwrap();
    let text = media_playlist(&checked, &p.tracks[0]);
    assert!(text.contains("#EXT-X-MAP:URI=\"init.mp4\"\n"));
    assert!(text.contains("\n../../v/1080p/seg-00001.m4s\n"), "{text}");
    assert!(multivariant_playlist(&checked).contains("\nv%20x/%C3%BC/playlist.m3u8\n"));
}

proptest! {
    #[test]
    fn extinf_keeps_the_timeline_and_the_target(
        durations in prop::collection::vec(1_u64..400_000, 1..120),
        timescale in 1_000_u32..100_000,
    ) {
        let parts: Vec<_> = durations.iter().map(|&d| (d, 10)).collect();
        let ticks: u64 = durations.iter().sum();
        let timebase = Rational::new(1, timescale.into()).unwrap();
        let p = Presentation {
            duration: MediaTime::new(ticks.try_into().unwrap(), timebase),
            tracks: vec![track(video_format(16, 16), "x", "avc1.64001f", timescale, 0, 0, &parts)],
            target_duration: TargetDuration::Measured,
        };
        let checked = p.check(Form::Final).unwrap();
        let text = media_playlist(&checked, &p.tracks[0]);
        let values: Vec<u64> = text
            .lines()
            .filter_map(|l| l.strip_prefix("#EXTINF:")?.strip_suffix(','))
            .map(|l| l.replace('.', "").parse().unwrap())
            .collect();
        prop_assert_eq!(i64::try_from(values.iter().sum::<u64>()).unwrap(), p.duration.micros());
        let target = u64::from(checked.target_seconds());
        prop_assert!(values.iter().all(|v| (v + 500_000) / 1_000_000 <= target));
    }

    #[test]
    fn hostile_names_stay_inside_their_attribute(name in any::<String>()) {
        let mut p = full();
        p.audio_format_mut("fr").name = name;
        let text = multivariant_playlist(&p.check(Form::Final).unwrap());
        let clean = multivariant_playlist(&full().check(Form::Final).unwrap());
        prop_assert_eq!(text.lines().count(), clean.lines().count());
        prop_assert_eq!(text.matches('"').count(), clean.matches('"').count());
        prop_assert!(!text.contains('\r'));
    }
}
