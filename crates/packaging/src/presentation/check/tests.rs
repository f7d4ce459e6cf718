//! Tests of the rules of a presentation.

use super::*;
use splitreel_core::{MediaTime, Rational};

use crate::presentation::samples::{full, mixed, partial};

fn defects(presentation: &Presentation, form: Form) -> Vec<Defect> {
    presentation.check(form).err().map(|e| e.defects).unwrap_or_default()
}

#[test]
fn a_good_presentation_passes() {
    assert_eq!(defects(&full(), Form::Final), []);
    assert_eq!(full().check(Form::Final).unwrap().target_seconds(), 4);
    let mut wide = full();
    wide.target_duration = TargetDuration::AtLeast { seconds: 6 };
    assert_eq!(wide.check(Form::Final).unwrap().target_seconds(), 6);
}

#[test]
fn a_preview_may_have_holes_and_a_final_may_not() {
    let p = partial(full(), 3);
    assert_eq!(defects(&p, Form::Preview), []);
    let missing = defects(&p, Form::Final);
    assert_eq!(missing.len(), 5);
    assert_eq!(missing[0], Defect::NotAvailable { track: "1080p".into(), number: 4 });
}

#[test]
fn only_the_planned_form_goes_without_codec_strings() {
    let mut p = partial(full(), 0);
    p.track_mut("720p").codec = None;
    assert_eq!(defects(&p, Form::Planned), []);
    let expected = [Defect::InvalidCodec { track: "720p".into(), codec: String::new() }];
    assert_eq!(defects(&p, Form::Preview), expected);
}

#[test]
fn a_gap_is_reported_once() {
    let mut p = full();
    for segment in p.track_mut("en").segments.iter_mut().skip(2) {
        segment.start += 7;
    }
    let expected = i128::from(p.track_mut("en").segments[2].start) - 7;
    assert_eq!(
        defects(&p, Form::Final),
        [Defect::NotContiguous {
            track: "en".into(),
            number: 3,
            expected,
            actual: p.track_mut("en").segments[2].start,
        }]
    );
}

#[test]
fn video_tracks_may_be_cut_differently_but_cover_the_same_time() {
    assert_eq!(defects(&mixed(), Form::Final), []);
    let mut p = full();
    p.track_mut("720p").segments.pop();
    let found = defects(&p, Form::Final);
    let [Defect::CoverageDiffers { track, reference, expected_micros, actual_micros }] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((track.as_str(), reference.as_str()), ("720p", "1080p"));
    assert_eq!((*expected_micros, *actual_micros), ((0, 11_511_500), (0, 10_010_000)));
}

#[test]
fn video_tracks_end_at_exactly_the_same_time() {
    let mut p = full();
    p.track_mut("720p").segments[3].duration += 1;
    assert!(matches!(&defects(&p, Form::Final)[..], [Defect::CoverageDiffers { track, .. }] if track == "720p"));
    let mut p = full();
    for segment in &mut p.track_mut("360p").segments {
        segment.start += 1;
    }
    assert!(matches!(&defects(&p, Form::Final)[..], [Defect::CoverageDiffers { track, .. }] if track == "360p"));
}

#[test]
fn tracks_of_one_grid_agree_segment_by_segment() {
    let grids = |p: &mut Presentation| {
        for (id, grid) in [("1080p", 0), ("720p", 1), ("360p", 0)] {
            p.track_mut(id).grid = Some(grid);
        }
    };
    let mut p = full();
    grids(&mut p);
    assert_eq!(defects(&p, Form::Final), []);
    // The same place may be cut otherwise by another grid, but not by the same one.
    let move_cut = |p: &mut Presentation, id: &str| {
        let segments = &mut p.track_mut(id).segments;
        segments[1].duration -= 1;
        segments[2].start -= 1;
        segments[2].duration += 1;
    };
    move_cut(&mut p, "720p");
    assert_eq!(defects(&p, Form::Final), []);
    move_cut(&mut p, "360p");
    let differs = |number| Defect::SegmentsDiffer { track: "360p".into(), reference: "1080p".into(), number };
    assert_eq!(defects(&p, Form::Final), [differs(2)]);
    let mut p = full();
    grids(&mut p);
    let last = p.track_mut("360p").segments.pop().unwrap();
    p.track_mut("360p").segments[2].duration += last.duration;
    assert_eq!(defects(&p, Form::Final), [differs(3)]);
}

#[test]
fn another_timescale_can_be_aligned() {
    let mut p = full();
    let track = p.track_mut("720p");
    track.timescale = 90_000;
    for segment in &mut track.segments {
        segment.start *= 3;
        segment.duration *= 3;
    }
    assert_eq!(defects(&p, Form::Final), []);
    assert!(p.tracks[0].is_aligned_with(&p.tracks[1]));
}

#[test]
fn numbers_increase_by_one_from_any_positive_number() {
    let mut p = full();
    p.tracks.truncate(1);
    for (segment, number) in p.tracks[0].segments.iter_mut().zip(5..) {
        segment.number = number;
    }
    assert_eq!(defects(&p, Form::Final), []);
    p.tracks[0].segments[2].number = 6;
    let numbering = |expected, actual| Defect::Numbering { track: "1080p".into(), expected, actual };
    assert_eq!(defects(&p, Form::Final), [numbering(7, 6), numbering(7, 8)]);
    for (segment, number) in p.tracks[0].segments.iter_mut().zip(0..) {
        segment.number = number;
    }
    assert_eq!(defects(&p, Form::Final), [numbering(1, 0)]);
}

#[test]
fn ids_and_paths_are_safe_and_unique() {
    let mut p = full();
    p.track_mut("720p").id = "Bad Id".into();
    p.track_mut("en").id = "1080p".into();
    p.track_mut("fr").init = Some("../init.mp4".into());
    let found = defects(&p, Form::Final);
    assert!(found.contains(&Defect::UnsafeId { id: "Bad Id".into() }));
    assert!(found.contains(&Defect::DuplicateId { id: "1080p".into() }));
    assert!(found.contains(&Defect::UnsafePath { track: "fr".into(), path: "../init.mp4".into() }));
    let mut p = full();
    let path = p.tracks[0].segments[0].path.clone();
    p.track_mut("720p").segments[0].path.clone_from(&path);
    assert_eq!(defects(&p, Form::Final), [Defect::DuplicatePath { track: "720p".into(), path }]);
    for bad in ["", "/a", "a//b", "a/./b", "a/..", "a\nb", "a\\b", "a/"] {
        assert!(!is_safe_path(bad), "{bad:?}");
    }
}

#[test]
fn single_fields_are_checked() {
    let mut p = full();
    p.video_format_mut("1080p").width = 0;
    p.video_format_mut("1080p").sar = Rational::ZERO;
    p.track_mut("1080p").codec = Some("avc1\"".into());
    p.audio_format_mut("en").channels = 0;
    p.audio_format_mut("en").language = "en_US".into();
    p.audio_format_mut("fr").is_default = true;
    p.track_mut("fr").segments[1].bytes = 0;
    let found = defects(&p, Form::Final);
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.contains(&Defect::SeveralDefaults { first: "en".into(), second: "fr".into() }));
    assert!(found.contains(&Defect::EmptyFile { track: "fr".into(), number: 2 }));
    let mut p = full();
    p.track_mut("en").delay = 1_000;
    assert_eq!(
        defects(&p, Form::Final),
        [Defect::NegativeMediaTime { track: "en".into(), start: -1_024, delay: 1_000 }]
    );
}

#[test]
fn a_lost_tail_is_noticed() {
    let mut p = full();
    for track in &mut p.tracks {
        track.segments.pop();
    }
    assert!(matches!(defects(&p, Form::Final)[..], [Defect::EndDiffers { .. }]));
    p.duration = MediaTime::new(0, Rational::ONE);
    assert_eq!(defects(&p, Form::Final), [Defect::NoDuration]);
    let empty = Presentation { tracks: vec![], ..full() };
    assert_eq!(defects(&empty, Form::Final), [Defect::NothingToPlay]);
}
