//! Planner behaviour by example and property.

use super::*;
use crate::plan::pts_fingerprint;
use crate::profile::Profile;
use crate::source::*;
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

/// What every plan must hold, whatever the source.
fn assert_partition(info: &SourceInfo, plan: &Plan) {
    let (track, v) = (info.video.as_ref().unwrap(), plan.video.as_ref().unwrap());
    let frames: Vec<i64> = track.frames.pts.iter().collect();
    assert_eq!(v.segments.iter().map(|s| s.num_frames).sum::<u64>(), frames.len() as u64);
    assert_eq!(v.segments[0].start, frames[0]);
    assert_eq!(v.segments.last().unwrap().end, None);
    let mut number = 1;
    let mut at = v.first_output;
    for (i, s) in v.segments.iter().enumerate() {
        assert_eq!(s.index as usize, i);
        assert_eq!(s.output_start, at);
        assert!(frames.binary_search(&s.start).is_ok());
        assert!(s.seek.iter().all(|k| *k <= s.start));
        let inside = frames.iter().filter(|p| **p >= s.start && s.end.is_none_or(|e| **p < e)).count();
        assert_eq!(inside as u64, s.num_frames);
        assert_eq!(s.keyframes[0], s.output_start);
        let mut m_at = s.output_start;
        for m in &s.media_segments {
            assert_eq!((m.number, m.start), (number, m_at));
            assert!(m.duration > 0 && s.keyframes.contains(&m.start));
            m_at += m.duration;
            number += 1;
        }
        assert_eq!(m_at, s.output_end);
        at = s.output_end;
    }
    assert_eq!(at, v.end_output);
}

#[test]
fn chosen_segment_lengths_give_the_expected_number_of_segments() {
    let info = source((0..1440).map(|i| i * 512).collect(), (1, 12_288), 48);
    for n in [1usize, 2, 3, 7, 50] {
        let p = plan(&info, &profile(60.0 / n as f64), &Capabilities::default()).unwrap();
        assert_eq!(p.video.as_ref().unwrap().segments.len(), n);
        assert_partition(&info, &p);
    }
}

#[test]
fn half_second_segments_are_cut_though_no_frame_lies_on_the_half_second() {
    let info = source((0..625).map(|i| i * 512).collect(), (1, 12_800), 50);
    let p = plan(&info, &profile(0.5), &Capabilities::default()).unwrap();
    // 50, less the last 0.48 s, which are a tail.
    assert_eq!(p.video.as_ref().unwrap().segments.len(), 49);
    assert_partition(&info, &p);
}

#[test]
fn short_sources_run_whole_and_say_why() {
    let info = source((0..240).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(p.video.as_ref().unwrap().segments.len(), 1);
    let split = p.decisions.iter().find(|d| d.subject == "split").unwrap();
    assert_eq!((split.choice.as_str(), split.reason.as_str()), ("whole", "the source lasts 10.0 s, less than 30 s"));
}

#[test]
fn auto_mode_starts_with_short_segments_and_cuts_on_keyframes() {
    let info = source((0..2880).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    let v = p.video.as_ref().unwrap();
    assert_partition(&info, &p);
    assert_eq!(v.segments[0].num_frames, 48);
    assert!(v.segments.iter().all(|s| s.start % (48 * 512) == 0));
    assert!(v.segments[1..].iter().all(|s| s.seek.first() == Some(&s.start)));
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
    let v = p.video.as_ref().unwrap();
    assert_eq!(v.timescale, 90_000);
    assert_eq!(v.frame_rate, Rational::new(30_000, 1001).unwrap());
    let s = &v.segments[1];
    let inside = pts.iter().filter(|t| **t >= s.start && s.end.is_none_or(|e| **t < e)).map(|t| t * 90);
    assert_eq!(s.pts_sha256, pts_fingerprint(inside));
}

#[test]
fn late_audio_and_late_video_keep_their_distance() {
    let mut info = source((0..300).map(|i| i * 512 + 24_576).collect(), (1, 12_288), 48);
    info.audio.push(audio(1000, 1000));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(p.video.as_ref().unwrap().first_output, 12_288);
    assert_eq!(p.audio[0].start, 0);
    info.audio[0].first_pts = MediaTime::new(5000, Rational::new(1, 1000).unwrap());
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!((p.video.as_ref().unwrap().first_output, p.audio[0].start), (0, 144_000));
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
    assert!(p.video.as_ref().unwrap().segments.len() > 3000);
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
        let cuts = cut_audio(&p.audio[0], packets, 1024, priming, 4.0);
        prop_assert_eq!(cuts.iter().map(|c| c.num_packets).sum::<u64>(), packets);
        let mut at = 0;
        for (i, c) in cuts.iter().enumerate() {
            prop_assert_eq!(c.first_packet, at);
            prop_assert_eq!(c.number, p.audio[0].first_number + i as u32);
            at += c.num_packets;
        }
    }
}
