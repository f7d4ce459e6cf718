//! The exact command lines, for both spellings.

use crate::planning::rendition;
use splitreel_core::Rational;
use splitreel_core::plan::{AudioPlan, MediaSegmentPlan, Plan, Segment, VideoPlan};
use splitreel_core::profile::{AudioCodec, VideoCodec};
use splitreel_core::source::Color;
use splitreel_media::{ArgsError, Spelling, Version, audio_args, video_args};
use std::ffi::{OsStr, OsString};

fn sample() -> Plan {
    let segment = |index: u32, start: i64, end: Option<i64>, seek: Vec<i64>| Segment {
        index,
        start,
        end,
        output_start: i64::from(index) * 51_200,
        output_end: i64::from(index + 1) * 51_200,
        seek,
        seek_limit: None,
        num_frames: 100,
        pts_sha256: String::new(),
        keyframes: vec![i64::from(index) * 51_200, i64::from(index) * 51_200 + 25_600],
        media_segments: vec![MediaSegmentPlan {
            number: index + 1,
            start: i64::from(index) * 51_200,
            duration: 51_200,
        }],
    };
    let mut capped = rendition("720p", 1280, 720);
    capped.max_kbps = Some(3000);
    let mut exact = rendition("360p", 640, 360);
    (exact.crf, exact.qp, exact.level) = (None, Some(0), String::new());
    Plan {
        version: 1,
        demuxer: "mov".into(),
        video: Some(VideoPlan {
            evidence: splitreel_core::source::IndexEvidence::Moov,
            stream: 1,
            source_timebase: Rational::new(1, 12_800).unwrap(),
            timescale: 12_800,
            first_pts: 0,
            first_output: 0,
            end_output: 102_400,
            delay: 1024,
            frame_rate: Rational::whole(25),
            codec: VideoCodec::H264,
            encoder: "libx264".into(),
            preset: "veryfast".into(),
            threads: 1,
            filters: vec!["yadif=mode=send_frame".into(), "format=yuv420p".into()],
            pix_fmt: "yuv420p".into(),
            color: Color {
                range: "tv".into(),
                space: "bt709".into(),
                transfer: "bt709".into(),
                primaries: "bt709".into(),
            },
            renditions: vec![capped, exact],
            segments: vec![segment(0, 0, Some(51_200), vec![]), segment(1, 51_200, None, vec![48_640, 38_400])],
        }),
        audio: vec![AudioPlan {
            id: "0".into(),
            stream: 2,
            codec: AudioCodec::Aac,
            sample_rate: 48_000,
            channels: 2,
            layout: String::new(),
            kbps: 128,
            frame_samples: 1024,
            start: 0,
            source_first_pts: -441,
            source_timebase: Rational::new(1, 44_100).unwrap(),
            boundaries: vec![0],
            first_number: 1,
            language: "eng".into(),
            name: "English".into(),
            is_default: true,
        }],
        media_segment_seconds: 4.0,
        progressive: true,
        chunk_mb: 0,
        keep_full: false,
        decisions: vec![],
        reads: None,
    }
}

fn text(args: &[OsString]) -> String {
    args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join("\n").replace("\n-", "\n  -")
}

fn video(plan: &Plan, major: u32, minor: u32, segment: u32, seek_back: u32) -> String {
    let spelling = Spelling::of(Version { major, minor });
    let outputs: Vec<OsString> = (0..2).map(|n| format!("file:/out/video-{n}.mp4").into()).collect();
    text(&video_args(spelling, plan, segment, seek_back, OsStr::new("file:/scratch/input"), &outputs).unwrap())
}

#[test]
fn video_5_1() {
    insta::assert_snapshot!(video(&sample(), 5, 1, 1, 0));
}

#[test]
fn video_7_0_further_back() {
    insta::assert_snapshot!(video(&sample(), 7, 0, 1, 1));
}

#[test]
fn the_plan_of_one_segment_makes_the_same_command() {
    let plan = sample();
    for segment in 0..2 {
        let part = plan.for_segment(segment).unwrap();
        assert_eq!(video(&part, 7, 0, segment, 1), video(&plan, 7, 0, segment, 1));
    }
}

#[test]
fn video_encoders() {
    let mut all = String::new();
    for (codec, encoder, preset) in [
        (VideoCodec::Hevc, "libx265", "fast"),
        (VideoCodec::Vp9, "libvpx-vp9", "4"),
        (VideoCodec::Av1, "libsvtav1", "8"),
        (VideoCodec::Av1, "libaom-av1", ""),
        (VideoCodec::Copy, "", ""),
    ] {
        let mut plan = sample();
        let video_plan = plan.video.as_mut().unwrap();
        (video_plan.codec, video_plan.encoder, video_plan.preset) = (codec, encoder.into(), preset.into());
        video_plan.renditions.truncate(1);
        video_plan.segments.truncate(1);
        let outputs = [OsString::from("file:/out/video-0.mp4")];
        let spelling = Spelling::of(Version { major: 8, minor: 0 });
        let args = video_args(spelling, &plan, 0, 0, OsStr::new("file:/scratch/input"), &outputs).unwrap();
        all.push_str(&format!("== {encoder} {}\n{}\n", codec.as_str(), text(&args)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn audio() {
    let mut plan = sample();
    let mut all = String::new();
    for codec in [AudioCodec::Aac, AudioCodec::Opus, AudioCodec::Copy] {
        plan.audio[0].codec = codec;
        let args =
            audio_args(&plan, 0, OsStr::new("file:/scratch/input"), OsStr::new("file:/out/audio-0.mp4")).unwrap();
        all.push_str(&format!("== {}\n{}\n", codec.as_str(), text(&args)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_cannot_be_expressed_is_an_error() {
    let mut plan = sample();
    let spelling = Spelling::of(Version { major: 7, minor: 1 });
    let input = OsStr::new("file:x");
    let missing = video_args(spelling, &plan, 7, 0, input, &[]);
    assert_eq!(missing, Err(ArgsError::NoSuchTask { what: "video segment", index: 7 }));
    assert_eq!(audio_args(&plan, 1, input, input), Err(ArgsError::NoSuchTask { what: "audio track", index: 1 }));
    let outputs = [OsString::from("a"), OsString::from("b")];
    let video_plan = plan.video.as_mut().unwrap();
    video_plan.segments[0].media_segments =
        (0..30_000).map(|n| MediaSegmentPlan { number: n + 1, start: i64::from(n) * 512, duration: 512 }).collect();
    video_plan.segments[0].keyframes = (0..30_000).map(|n| n * 512).collect();
    let crowded = video_args(spelling, &plan, 0, 0, input, &outputs);
    assert_eq!(crowded, Err(ArgsError::TooManyKeyframes { count: 30_000 }));
    plan.video.as_mut().unwrap().encoder = "magic".into();
    assert!(matches!(video_args(spelling, &plan, 1, 0, input, &outputs), Err(ArgsError::UnknownEncoder { .. })));
}
