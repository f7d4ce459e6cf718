//! Tests of the rules of a presentation.

use super::*;
use crate::presentation::samples::{full, partial};
use crate::presentation::{Ratio, Span};

fn violations(presentation: &Presentation, form: Form) -> Vec<Violation> {
    presentation.check(form).err().map(|e| e.violations).unwrap_or_default()
}

#[test]
fn a_good_presentation_passes() {
    assert_eq!(violations(&full(), Form::Final), []);
    assert_eq!(full().check(Form::Final).unwrap().target_seconds(), 4);
    let mut wide = full();
    wide.target_duration = TargetDuration::AtLeast { seconds: 6 };
    assert_eq!(wide.check(Form::Final).unwrap().target_seconds(), 6);
}

#[test]
fn a_preview_may_have_holes_and_a_final_may_not() {
    let p = partial(full(), 3);
    assert_eq!(violations(&p, Form::Preview), []);
    let missing = violations(&p, Form::Final);
    assert_eq!(missing.len(), 5);
    assert_eq!(missing[0], Violation::NotAvailable { rendition: "1080p".into(), number: 4 });
}

#[test]
fn a_gap_is_told_once() {
    let mut p = full();
    for segment in p.audio[0].track.segments.iter_mut().skip(2) {
        segment.start += 7;
    }
    let expected = i128::from(p.audio[0].track.segments[2].start) - 7;
    assert_eq!(
        violations(&p, Form::Final),
        [Violation::NotContiguous {
            rendition: "en".into(),
            number: 3,
            expected,
            actual: p.audio[0].track.segments[2].start,
        }]
    );
}

#[test]
fn video_renditions_must_agree() {
    let mut p = full();
    p.video[1].track.segments.pop();
    p.video[2].track.segments[1].duration -= 1;
    p.video[2].track.segments[2].start -= 1;
    p.video[2].track.segments[2].duration += 1;
    let not_aligned = |number| Violation::NotAligned { rendition: "360p".into(), reference: "1080p".into(), number };
    assert_eq!(
        violations(&p, Form::Final),
        [
            Violation::CountDiffers { rendition: "720p".into(), reference: "1080p".into(), expected: 4, actual: 3 },
            not_aligned(2),
            not_aligned(3),
        ]
    );
}

#[test]
fn another_timescale_can_be_aligned() {
    let mut p = full();
    let track = &mut p.video[1].track;
    track.timescale = 90_000;
    for segment in &mut track.segments {
        segment.start *= 3;
        segment.duration *= 3;
    }
    assert_eq!(violations(&p, Form::Final), []);
}

#[test]
fn numbers_increase_by_one_from_any_positive_number() {
    let mut p = full();
    p.video.truncate(1);
    for (segment, number) in p.video[0].track.segments.iter_mut().zip(5..) {
        segment.number = number;
    }
    assert_eq!(violations(&p, Form::Final), []);
    p.video[0].track.segments[2].number = 6;
    let numbering = |expected, actual| Violation::Numbering { rendition: "1080p".into(), expected, actual };
    assert_eq!(violations(&p, Form::Final), [numbering(7, 6), numbering(7, 8)]);
    for (segment, number) in p.video[0].track.segments.iter_mut().zip(0..) {
        segment.number = number;
    }
    assert_eq!(violations(&p, Form::Final), [numbering(1, 0)]);
}

#[test]
fn ids_and_paths_are_safe_and_unique() {
    let mut p = full();
    p.video[1].track.id = "Bad Id".into();
    p.audio[0].track.id = "1080p".into();
    p.audio[1].track.init = "../init.mp4".into();
    let found = violations(&p, Form::Final);
    assert!(found.contains(&Violation::UnsafeId { id: "Bad Id".into() }));
    assert!(found.contains(&Violation::DuplicateId { id: "1080p".into() }));
    assert!(found.contains(&Violation::UnsafePath { rendition: "fr".into(), path: "../init.mp4".into() }));
    let mut p = full();
    let path = p.video[0].track.segments[0].path.clone();
    p.video[1].track.segments[0].path.clone_from(&path);
    assert_eq!(violations(&p, Form::Final), [Violation::DuplicatePath { rendition: "720p".into(), path }]);
    for bad in ["", "/a", "a//b", "a/./b", "a/..", "a\nb", "a\\b", "a/"] {
        assert!(!is_safe_path(bad), "{bad:?}");
    }
}

#[test]
fn single_fields_are_checked() {
    let mut p = full();
    p.video[0].width = 0;
    p.video[0].sar = Ratio { num: 1, den: 0 };
    p.video[0].track.codec = "avc1\"".into();
    p.audio[0].channels = 0;
    p.audio[0].language = "en_US".into();
    p.audio[1].is_default = true;
    p.audio[1].track.segments[1].bytes = 0;
    let found = violations(&p, Form::Final);
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.contains(&Violation::SeveralDefaults { first: "en".into(), second: "fr".into() }));
    assert!(found.contains(&Violation::EmptyFile { rendition: "fr".into(), number: 2 }));
    let mut p = full();
    p.audio[0].track.delay = 1_000;
    assert_eq!(
        violations(&p, Form::Final),
        [Violation::NegativeMediaTime { rendition: "en".into(), start: -1_024, delay: 1_000 }]
    );
}

#[test]
fn a_lost_tail_is_noticed() {
    let mut p = full();
    for track in p.video.iter_mut().map(|v| &mut v.track) {
        track.segments.pop();
    }
    for track in p.audio.iter_mut().map(|a| &mut a.track) {
        track.segments.pop();
    }
    assert!(matches!(violations(&p, Form::Final)[..], [Violation::EndDiffers { .. }]));
    p.duration = Span { ticks: 0, timescale: 1 };
    assert_eq!(violations(&p, Form::Final), [Violation::NoDuration]);
    let empty = Presentation { video: vec![], audio: vec![], ..full() };
    assert_eq!(violations(&empty, Form::Final), [Violation::NoRenditions]);
}
