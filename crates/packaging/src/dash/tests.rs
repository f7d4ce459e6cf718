//! Tests of the MPD writer.

use proptest::prelude::*;

use super::*;
use splitreel_core::MediaKind;

use crate::presentation::samples::{audio_format, full, hdr_and_sdr, mixed, partial, track, video_format};
use crate::presentation::{Form, MediaFormat, Presentation};

fn written(presentation: &Presentation, form: Form) -> String {
    mpd(&presentation.check(form).unwrap()).unwrap()
}

#[test]
fn video_and_audio() {
    insta::assert_snapshot!(written(&full(), Form::Final));
}

#[test]
fn preview_lists_the_first_run() {
    let mut p = partial(full(), 3);
    for track in p.of_kind(MediaKind::Video) {
        track.segments[0].available = false;
    }
    p.track_mut("fr").segments.iter_mut().for_each(|s| s.available = false);
    insta::assert_snapshot!(written(&p, Form::Preview));
}

#[test]
fn nothing_available_is_an_error() {
    let p = partial(full(), 0);
    let result = mpd(&p.check(Form::Preview).unwrap());
    assert!(matches!(result, Err(DashError::NothingAvailable)));
}

#[test]
fn codec_families_and_uneven_tracks_are_kept_apart() {
    let mut p = full();
    p.retain_kind(MediaKind::Video);
    p.track_mut("1080p").codec = Some("hvc1.1.6.L120.90".into());
    let slow = p.track_mut("360p");
    slow.timescale = 90_000;
    for segment in &mut slow.segments {
        segment.start *= 3;
        segment.duration *= 3;
    }
    let text = written(&p, Form::Final);
    assert_eq!(text.matches("<AdaptationSet").count(), 2);
    assert_eq!(text.matches("<SegmentTemplate").count(), 3);
}

#[test]
fn a_mixed_ladder() {
    insta::assert_snapshot!(written(&mixed(), Form::Final));
}

#[test]
fn one_codec_with_two_segmentations_makes_two_sets() {
    let mut p = mixed();
    for track in p.of_kind(MediaKind::Video) {
        track.codec = Some("avc1.64001f".into());
    }
    let text = written(&p, Form::Final);
    assert_eq!(text.matches("contentType=\"video\"").count(), 2);
    let (first, rest) = text.split_once("</AdaptationSet>").unwrap();
    assert!(first.contains("id=\"1080p\"") && first.contains("id=\"360p\""), "{first}");
    assert!(rest.contains("id=\"720p\""), "{rest}");
}

/// The video AdaptationSets of an MPD.
fn video_sets(text: &str) -> Vec<&str> {
    text.split("<AdaptationSet").filter(|set| set.contains("contentType=\"video\"")).collect()
}

fn property(element: &str, what: &str, value: u8) -> String {
    format!("<{element} schemeIdUri=\"urn:mpeg:mpegB:cicp:{what}\" value=\"{value}\"/>")
}

#[test]
fn hdr_and_sdr_are_never_in_one_set() {
    let text = written(&hdr_and_sdr(), Form::Final);
    let sets = video_sets(&text);
    assert_eq!(sets.len(), 2, "{text}");
    assert!(sets[0].contains("id=\"1080p\"") && sets[0].contains("id=\"720p\"") && !sets[0].contains("id=\"360p\""));
    assert!(sets[1].contains("id=\"360p\""));
    let essential = property("EssentialProperty", "TransferCharacteristics", 16);
    let rest = [("ColourPrimaries", 9), ("MatrixCoefficients", 9)].map(|(w, v)| property("SupplementalProperty", w, v));
    let at = sets[0].find(&essential).expect("an old client must not take the HDR set");
    assert!(rest.iter().all(|p| sets[0].find(p).is_some_and(|found| found > at)), "{}", sets[0]);
    assert!(sets[0].find("<SegmentTemplate").unwrap() > at, "properties come first in the schema");
    for what in ["TransferCharacteristics", "ColourPrimaries", "MatrixCoefficients"] {
        assert!(sets[1].contains(&property("SupplementalProperty", what, 1)), "{}", sets[1]);
    }
    assert!(!sets[1].contains("EssentialProperty"));
}

#[test]
fn hdr_without_an_alternative_is_open_to_every_client() {
    let mut p = hdr_and_sdr();
    p.tracks.retain(|track| track.id != "360p");
    let text = written(&p, Form::Final);
    assert_eq!(video_sets(&text).len(), 1);
    assert!(text.contains(&property("SupplementalProperty", "TransferCharacteristics", 16)), "{text}");
    assert!(!text.contains("EssentialProperty"));
}

#[test]
fn a_ladder_in_sdr_only_states_no_colour() {
    let mut p = hdr_and_sdr();
    p.tracks.retain(|track| track.id != "1080p" && track.id != "720p");
    assert!(!written(&p, Form::Final).contains("cicp:TransferCharacteristics"));
}

#[test]
fn paths_outside_the_layout_are_templated_or_refused() {
    let mut p = full();
    p.tracks.truncate(1);
    for segment in &mut p.tracks[0].segments {
        segment.path = format!("x $/1080p/{:05}/00001 b.m4s", segment.number);
    }
    let refused = mpd(&p.check(Form::Final).unwrap());
    assert!(matches!(refused, Err(DashError::NotTemplated { number: 2, .. })));
    for segment in &mut p.tracks[0].segments {
        segment.path = format!("x $/1080p/{:05} b.m4s", segment.number);
    }
    let text = written(&p, Form::Final);
    assert!(text.contains("media=\"x%20%24/$RepresentationID$/$Number%05d$%20b.m4s\""), "{text}");
}

#[test]
fn the_planned_form_lists_every_segment() {
    let written_with = |from| {
        let mut p = partial(full(), from);
        p.of_kind(MediaKind::Video).into_iter().for_each(|t| t.cap_bits_per_second = Some(6_000_000));
        written(&p, Form::Planned)
    };
    let (nothing, half) = (written_with(0), written_with(2));
    let timeline = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("<S ")).map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(timeline(&nothing), timeline(&written(&full(), Form::Final)));
    assert_eq!(timeline(&half), timeline(&nothing));
    assert_eq!(nothing.matches("bandwidth=\"6600000\"").count(), 3, "{nothing}");
}

#[test]
fn durations_are_short_and_exact() {
    assert_eq!(seconds(11_511_500), "PT11.5115S");
    assert_eq!(seconds(60_000_000), "PT60S");
    assert_eq!(seconds(0), "PT0S");
    assert_eq!(seconds(1), "PT0.000001S");
}

#[test]
fn priming_is_cut_from_the_first_segment() {
    let t = track(
        MediaFormat::Audio(audio_format("en", "English", true)),
        "en",
        "mp4a.40.2",
        48_000,
        1_024,
        -1_024,
        &[(2_048, 1), (1_024, 1), (1_024, 1)],
    );
    assert_eq!(runs(&t.segments), [Run { time: 0, duration: 1_024, count: 3 }]);
}

proptest! {
    #[test]
    fn runs_expand_to_the_segments(
        durations in prop::collection::vec(prop::sample::select(vec![5_u64, 6, 7]), 1..60),
        first in 0_i64..1_000,
    ) {
        let parts: Vec<_> = durations.iter().map(|&d| (d, 1)).collect();
        let t = track(video_format(16, 16), "x", "avc1.64001f", 25, 0, first, &parts);
        let got = runs(&t.segments);
        let expanded: Vec<_> = got.iter().flat_map(|r| (0..r.count).map(|i| (r.time + i * r.duration, r.duration))).collect();
        let wanted: Vec<_> = t.segments.iter().map(|s| (u64::try_from(s.start).unwrap(), s.duration)).collect();
        prop_assert_eq!(expanded, wanted);
        prop_assert!(got.windows(2).all(|w| w[0].duration != w[1].duration));
    }

    #[test]
    fn hostile_names_stay_text(name in any::<String>()) {
        let mut p = full();
        p.audio_format_mut("fr").name = name;
        let text = written(&p, Form::Final);
        let mut reader = quick_xml::Reader::from_str(&text);
        let mut elements = 0;
        loop {
            match reader.read_event() {
                Ok(Event::Eof) => break,
                Ok(Event::Start(_) | Event::Empty(_)) => elements += 1,
                Ok(_) => {}
                Err(e) => prop_assert!(false, "{}", e),
            }
        }
        let clean = written(&full(), Form::Final);
        prop_assert_eq!(elements, clean.matches('<').count() - clean.matches("</").count() - 1);
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
}
