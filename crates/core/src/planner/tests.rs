//! Planner behaviour by example and property.

use super::*;
use crate::plan::{Cut, KeyframeGrid, pts_fingerprint};
use crate::profile::Profile;
use crate::source::*;
use crate::time::{OutputTicks, SourceTicks};
use proptest::prelude::*;

fn source(pts: Vec<i64>, tb: (i64, i64), gop: usize) -> SourceInfo {
    let keyframes = pts.iter().step_by(gop).map(|p| Keyframe { pts: *p, position: None }).collect();
    let frames = FrameIndex {
        last_duration: if pts.len() > 1 { pts[1] - pts[0] } else { 1 },
        pts: PtsList::from_sorted(pts).unwrap(),
        keyframes,
        evidence: IndexEvidence::Moov,
        is_seekable: true,
        needs_run_in: false,
        has_repeats: false,
    };
    SourceInfo {
        container: Container::Mov,
        demuxer: "mov".into(),
        bytes: 1,
        fragmented: false,
        video: Some(VideoTrack {
            stream: 0,
            codec: "h264".into(),
            profile: String::new(),
            width: 1280,
            height: 720,
            sar: Rational::ONE,
            pix_fmt: "yuv420p".into(),
            bit_depth: 8,
            color: Color::default(),
            rotation: 0,
            interlaced: false,
            timebase: Rational::new(tb.0, tb.1).unwrap(),
            frame_rate: Rational::ZERO,
            bits_per_second: 0,
            frames,
        }),
        audio: vec![],
        unused: vec![],
        byte_index: None,
        warnings: vec![],
    }
}

fn audio(first: i64, tb: i64) -> AudioTrack {
    AudioTrack {
        stream: 1,
        codec: "mp3".into(),
        profile: String::new(),
        sample_rate: 48_000,
        channels: 2,
        layout: "stereo".into(),
        language: "eng".into(),
        title: String::new(),
        is_default: true,
        first_pts: MediaTime::new(first, Rational::new(1, tb).unwrap()),
        priming: None,
        duration: None,
        bits_per_second: 0,
    }
}

fn profile(seconds: f64) -> Profile {
    let mut p = Profile::built_in("universal").unwrap();
    p.split.segment_seconds = seconds;
    p
}

fn timeline(plan: &Plan) -> &Timeline {
    plan.timeline.as_ref().unwrap()
}

fn audio_cut(plan: &Plan) -> (i64, u32) {
    let Cut::Whole { start, first_number, .. } = &plan.whole_track(0).unwrap().cut else { panic!() };
    (start.get(), *first_number)
}

/// What every plan must hold, whatever the source.
fn assert_partition(info: &SourceInfo, plan: &Plan) {
    let track = info.video.as_ref().unwrap();
    let frames: Vec<SourceTicks> = track.frames.pts.iter().map(SourceTicks).collect();
    let t = timeline(plan);
    assert_eq!(t.segments[0].start, frames[0]);
    assert_eq!(t.segments.last().unwrap().end, None);
    let mut at = t.output_start;
    for (i, s) in t.segments.iter().enumerate() {
        assert_eq!((s.index as usize, s.output_start), (i, at));
        assert!(frames.binary_search(&s.start).is_ok());
        assert!(s.seek.iter().all(|k| *k <= s.start));
        at = s.output_end;
    }
    assert_eq!(at, t.output_end);
    for list in &plan.frames {
        let chosen: Vec<SourceTicks> =
            list.rule.choose(&frames, track.timebase).into_iter().map(|at| frames[at]).collect();
        assert_eq!(chosen[0], frames[0]);
        assert_eq!(list.segments.len(), t.segments.len());
        assert_eq!(list.segments.iter().map(|s| s.num_frames).sum::<u64>(), chosen.len() as u64);
        for (s, planned) in t.segments.iter().zip(&list.segments) {
            assert!(chosen.binary_search(&s.start).is_ok(), "a segment starts with a frame of every list");
            let inside = chosen.iter().filter(|p| **p >= s.start && s.end.is_none_or(|e| **p < e));
            let inside: Vec<OutputTicks> = inside.map(|p| t.output(*p)).collect();
            assert_eq!(inside.len() as u64, planned.num_frames);
            assert_eq!(pts_fingerprint(inside), planned.pts_sha256);
        }
    }
    for grid in &plan.grids {
        assert_grid(plan, grid, &frames);
    }
}

fn assert_grid(plan: &Plan, grid: &KeyframeGrid, frames: &[SourceTicks]) {
    let (t, mut number) = (timeline(plan), 1);
    let rule = plan.frames[grid.frames as usize].rule;
    let chosen = rule.choose(frames, t.source_timebase);
    let shown: Vec<OutputTicks> = chosen.into_iter().map(|at| t.output(frames[at])).collect();
    assert_eq!(grid.segments.len(), t.segments.len());
    for (s, g) in t.segments.iter().zip(&grid.segments) {
        assert_eq!(g.keyframes[0], s.output_start);
        assert!(g.keyframes.iter().all(|k| shown.binary_search(k).is_ok()));
        let mut at = s.output_start;
        for m in &g.media_segments {
            assert_eq!((m.number, m.start), (number, at));
            assert!(m.duration > OutputTicks::ZERO && g.keyframes.contains(&m.start));
            at += m.duration;
            number += 1;
        }
        assert_eq!(at, s.output_end);
    }
}

#[test]
fn chosen_segment_lengths_give_the_expected_number_of_segments() {
    let info = source((0..1440).map(|i| i * 512).collect(), (1, 12_288), 48);
    for n in [1usize, 2, 3, 7, 50] {
        let p = plan(&info, &profile(60.0 / n as f64), &Capabilities::default()).unwrap();
        assert_eq!(p.num_segments(), n);
        assert_partition(&info, &p);
    }
}

#[test]
fn half_second_segments_are_cut_though_no_frame_lies_on_the_half_second() {
    let info = source((0..625).map(|i| i * 512).collect(), (1, 12_800), 50);
    let p = plan(&info, &profile(0.5), &Capabilities::default()).unwrap();
    // 50, less the last 0.48 s, which are a tail.
    assert_eq!(p.num_segments(), 49);
    assert_partition(&info, &p);
}

#[test]
fn short_sources_run_whole_and_say_why() {
    let info = source((0..240).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(p.num_segments(), 1);
    let split = p.decisions.iter().find(|d| d.subject == "split").unwrap();
    assert_eq!((split.choice.as_str(), split.reason.as_str()), ("whole", "the source lasts 10.0 s, less than 30 s"));
}

#[test]
fn auto_mode_starts_with_short_segments_and_cuts_on_keyframes() {
    let info = source((0..2880).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    let t = timeline(&p);
    assert_partition(&info, &p);
    assert_eq!(p.frames[0].segments[0].num_frames, 48);
    assert!(t.segments.iter().all(|s| s.start.get() % (48 * 512) == 0));
    assert!(t.segments[1..].iter().all(|s| s.seek.first() == Some(&s.start)));
}

#[test]
fn one_frame_and_a_tenth_of_a_second_are_planned() {
    for n in [1, 3] {
        let info = source((0..n).collect(), (1, 30), 10);
        let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
        assert_partition(&info, &p);
    }
}

#[test]
fn matroska_milliseconds_are_kept_exactly_and_told_as_the_common_rate() {
    let pts: Vec<i64> = (0..1000).map(|i| (f64::from(i) * 1001.0 / 30.0).round() as i64).collect();
    let info = source(pts.clone(), (1, 1000), 30);
    let p = plan(&info, &profile(5.0), &Capabilities::default()).unwrap();
    assert_eq!(timeline(&p).timescale, 90_000);
    assert_eq!(p.frames[0].rate, Rational::new(30_000, 1001).unwrap());
    let s = &timeline(&p).segments[1];
    let inside = pts.iter().filter(|t| **t >= s.start.get() && s.end.is_none_or(|e| **t < e.get()));
    assert_eq!(p.frames[0].segments[1].pts_sha256, pts_fingerprint(inside.map(|t| OutputTicks(t * 90))));
}

#[test]
fn late_audio_and_late_video_keep_their_distance() {
    let mut info = source((0..300).map(|i| i * 512 + 24_576).collect(), (1, 12_288), 48);
    info.audio.push(audio(1000, 1000));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(timeline(&p).output_start, OutputTicks(12_288));
    assert_eq!(audio_cut(&p).0, 0);
    info.audio[0].first_pts = MediaTime::new(5000, Rational::new(1, 1000).unwrap());
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!((timeline(&p).output_start.get(), audio_cut(&p).0), (0, 144_000));
}

#[test]
fn an_unknown_encoder_is_named() {
    let info = source((0..10).collect(), (1, 30), 10);
    let caps = Capabilities { encoders: vec!["libx264".into()], filters: vec![] };
    let mut p = profile(0.0);
    p.video.encoder = "libfoo".into();
    let f = plan(&info, &p, &caps).unwrap_err();
    assert_eq!(f.code, "encoder_unknown");
    assert!(f.message.contains("libfoo"));
}

#[test]
fn ten_hours_plan_quickly_enough_to_be_a_unit_test() {
    let info = source((0..1_080_000).map(|i| i * 512).collect(), (1, 15_360), 60);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert!(p.num_segments() > 3000);
}

proptest! {
    #[test]
    fn any_frame_list_is_partitioned(first in -100_000i64..100_000, deltas in prop::collection::vec(1i64..4000, 0..600), gop in 1usize..90, s in prop::sample::select(vec![0.0, 0.5, 1.0, 2.0, 7.3]), den in prop::sample::select(vec![1000i64, 90_000, 12_288, 30])) {
        let mut pts = vec![first];
        for d in &deltas { pts.push(pts[pts.len() - 1] + d); }
        let info = source(pts, (1, den), gop);
        let p = plan(&info, &profile(s), &Capabilities::default()).unwrap();
        assert_partition(&info, &p);
        prop_assert_eq!(p.hash(), plan(&info, &profile(s), &Capabilities::default()).unwrap().hash());
    }

    #[test]
    fn audio_cuts_cover_every_packet_once(packets in 0u64..5000, priming in prop::sample::select(vec![0u32, 312, 1024, 2048]), start in 0i64..200_000) {
        let mut info = source((0..1200).map(|i| i * 512).collect(), (1, 12_288), 48);
        info.audio.push(audio(start, 48_000));
        let p = plan(&info, &profile(3.0), &Capabilities::default()).unwrap();
        let cuts = cut_audio(p.whole_track(0).unwrap(), packets, 1024, priming, 4.0);
        prop_assert_eq!(cuts.iter().map(|c| c.num_packets).sum::<u64>(), packets);
        let mut at = 0;
        for (i, c) in cuts.iter().enumerate() {
            prop_assert_eq!(c.first_packet, at);
            prop_assert_eq!(c.number, audio_cut(&p).1 + i as u32);
            at += c.num_packets;
        }
    }
}
