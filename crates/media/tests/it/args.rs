//! The exact command lines, for both spellings.

use crate::planning::{audio as audio_media, copied, encoding, rendition, sound, video as video_media};
use splitreel_core::plan::{
    Coding, FrameList, FrameRule, GridSegment, KeyframeGrid, MediaSegmentPlan, PLAN_VERSION, Packaging, Plan, Segment,
    SegmentFrames, Timeline, TrackPlan, VideoRate,
};
use splitreel_core::profile::{AudioCodec, VideoCodec};
use splitreel_core::source::{AudioTrack, Color, IndexEvidence};
use splitreel_core::time::{OutputTicks, SourceTicks};
use splitreel_core::{MediaTime, Rational};
use splitreel_media::{ArgsError, AudioTuning, Spelling, Version, Written, audio_args, video_args};
use std::ffi::{OsStr, OsString};

/// Two segments of 4 s at 25 frames/s.
fn timeline() -> (Timeline, FrameList, KeyframeGrid) {
    const LENGTH: i64 = 51_200;
    let at = |index: u32| i64::from(index) * LENGTH;
    let segment = |index: u32, end: Option<i64>, seek: Vec<i64>| Segment {
        index,
        start: SourceTicks(at(index)),
        end: end.map(SourceTicks),
        output_start: OutputTicks(at(index)),
        output_end: OutputTicks(at(index + 1)),
        seek: seek.into_iter().map(SourceTicks).collect(),
        seek_limit: None,
    };
    let grid = |index: u32| GridSegment {
        keyframes: vec![OutputTicks(at(index)), OutputTicks(at(index) + LENGTH / 2)],
        media_segments: vec![MediaSegmentPlan {
            number: index + 1,
            start: OutputTicks(at(index)),
            duration: OutputTicks(LENGTH),
        }],
    };
    let timeline = Timeline {
        stream: 1,
        evidence: IndexEvidence::Moov,
        source_timebase: Rational::new(1, 12_800).unwrap(),
        clock: None,
        stamping: Default::default(),
        assumed_matrix: String::new(),
        decoder: String::new(),
        stated: None,
        timescale: 12_800,
        first: SourceTicks(0),
        output_start: OutputTicks(0),
        held: OutputTicks(0),
        output_end: OutputTicks(2 * LENGTH),
        segments: vec![segment(0, Some(LENGTH), vec![]), segment(1, None, vec![48_640, 38_400])],
    };
    let frames = SegmentFrames { num_frames: 100, pts_sha256: String::new() };
    (
        timeline,
        FrameList {
            rule: FrameRule::All,
            rate: Rational::whole(25),
            peak_rate: None,
            num_source: 0,
            num_lost: 0,
            segments: vec![frames.clone(), frames],
        },
        KeyframeGrid { gop: OutputTicks(LENGTH / 2), starts_open: false, segments: vec![grid(0), grid(1)] },
    )
}

fn sample_video(mut track: TrackPlan) -> TrackPlan {
    (track.source_stream, track.timescale, track.delay) = (1, 12_800, OutputTicks(1024));
    encoding(&mut track).preset = "veryfast".into();
    let tag = || "bt709".to_owned();
    video_media(&mut track).color = Color { range: "tv".into(), space: tag(), transfer: tag(), primaries: tag() };
    track
}

fn sample() -> Plan {
    let (timeline, list, grid) = timeline();
    let (mut capped, mut exact) = (rendition("720p", 1280, 720), rendition("360p", 640, 360));
    encoding(&mut capped).rate = VideoRate::Quality { crf: 30.0, max_kbps: Some(3000) };
    (encoding(&mut exact).rate, encoding(&mut exact).level) = (VideoRate::Quantiser { qp: 0 }, String::new());
    let source = AudioTrack {
        stream: 2,
        codec: "aac".into(),
        profile: String::new(),
        sample_rate: 44_100,
        channels: 2,
        layout: String::new(),
        language: "eng".into(),
        title: String::new(),
        is_default: true,
        first_pts: MediaTime::new(-441, Rational::new(1, 44_100).unwrap()),
        priming: None,
        duration: None,
        bits_per_second: 0,
    };
    Plan {
        version: PLAN_VERSION,
        demuxer: "mov".into(),
        timeline: Some(timeline),
        frames: vec![list],
        grids: vec![grid],
        tracks: vec![sample_video(capped), sample_video(exact), sound("0".into(), &source, 128)],
        packaging: Packaging { media_segment_seconds: 4.0, progressive: true, chunk_mb: 0 },
        decisions: vec![],
        reads: None,
    }
}

fn text(args: &[OsString]) -> String {
    args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join("\n").replace("\n-", "\n  -")
}

fn url(written: Written) -> OsString {
    format!("file:/out/{}", written.file_name()).into()
}

fn video(plan: &Plan, major: u32, minor: u32, segment: u32, look_back: u32) -> String {
    let spelling = Spelling::of(Version { major, minor });
    text(&video_args(spelling, plan, segment, look_back, OsStr::new("file:/scratch/input"), &url).unwrap())
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
        plan.tracks.truncate(1);
        if codec == VideoCodec::Copy {
            copied(&mut plan.tracks[0]);
        } else {
            let settings = encoding(&mut plan.tracks[0]);
            (settings.codec, settings.encoder, settings.preset) = (codec, encoder.into(), preset.into());
        }
        let spelling = Spelling::of(Version { major: 8, minor: 0 });
        let args = video_args(spelling, &plan, 0, 0, OsStr::new("file:/scratch/input"), &url).unwrap();
        all.push_str(&format!("== {encoder} {}\n{}\n", codec.as_str(), text(&args)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn audio() {
    let mut plan = sample();
    let mut all = String::new();
    for codec in [AudioCodec::Aac, AudioCodec::Opus, AudioCodec::Copy] {
        match &mut audio_media(&mut plan.tracks[2]).coding {
            Coding::Encode(encoding) if codec != AudioCodec::Copy => encoding.codec = codec,
            _ => copied(&mut plan.tracks[2]),
        }
        let args = audio_args(
            &plan,
            0,
            AudioTuning::default(),
            OsStr::new("file:/scratch/input"),
            OsStr::new("file:/out/audio-0.mp4"),
        )
        .unwrap();
        let decode = args.decode.map(|decode| format!("-- decode\n{}\n-- encode\n", text(&decode)));
        all.push_str(&format!("== {}\n{}{}\n", codec.as_str(), decode.unwrap_or_default(), text(&args.write)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_cannot_be_expressed_is_an_error() {
    let mut plan = sample();
    let spelling = Spelling::of(Version { major: 7, minor: 1 });
    let input = OsStr::new("file:x");
    let missing = video_args(spelling, &plan, 7, 0, input, &url);
    assert_eq!(missing, Err(ArgsError::NoSuchTask { what: "video segment", index: 7 }));
    assert_eq!(
        audio_args(&plan, 1, AudioTuning::default(), input, input),
        Err(ArgsError::NoSuchTask { what: "audio track", index: 1 })
    );
    let starts = || (0..30_000).map(|n| OutputTicks(n * 512));
    let crowd =
        (1..).zip(starts()).map(|(number, start)| MediaSegmentPlan { number, start, duration: OutputTicks(512) });
    plan.grids[0].segments[0].media_segments = crowd.collect();
    plan.grids[0].segments[0].keyframes = starts().collect();
    let crowded = video_args(spelling, &plan, 0, 0, input, &url);
    assert_eq!(crowded, Err(ArgsError::TooManyKeyframes { count: 30_000 }));
    encoding(&mut plan.tracks[0]).encoder = "magic".into();
    assert!(matches!(video_args(spelling, &plan, 1, 0, input, &url), Err(ArgsError::UnknownEncoder { .. })));
}
