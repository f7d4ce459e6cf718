//! Small plans for tests: what the planner would make, without its policy.

use splitreel_core::Rational;
use splitreel_core::plan::{
    AudioEncoding, AudioMedia, AudioOp, Coding, Cut, FrameList, FrameRule, GridSegment, KeyframeGrid, Label, Levels,
    Media, MediaSegmentPlan, PLAN_VERSION, Packaging, Plan, Protection, Segment, SegmentFrames, Timeline,
    TrackContainer, TrackPlan, VideoEncoding, VideoMedia, VideoOp, VideoRate, pts_fingerprint,
};
use splitreel_core::profile::{AudioCodec, VideoCodec};
use splitreel_core::source::{AudioTrack, Color, Container, SourceInfo, VideoTrack};
use splitreel_core::time::{OutputTicks, SourceTicks};

/// Output ticks per second that source times survive.
pub fn timescale(video: &VideoTrack) -> u32 {
    let base = video.timebase;
    match (base.num(), base.den()) {
        (1, 1000) => 90_000,
        (1, den) if den >= 1000 => u32::try_from(den).unwrap(),
        (_, den) => u32::try_from(den * (10_000 / den).max(1)).unwrap(),
    }
}

/// A rendition in H.264; its track refers to the first frame list and grid.
pub fn rendition(id: &str, width: u32, height: u32) -> TrackPlan {
    let ops = vec![
        VideoOp::Scale { width, height, from: Levels::default(), to: Levels::default() },
        VideoOp::Format { pixel_format: "yuv420p".into() },
        VideoOp::SampleAspect { sar: Rational::ONE },
    ];
    let encoding = VideoEncoding {
        codec: VideoCodec::H264,
        encoder: "libx264".into(),
        preset: "ultrafast".into(),
        threads: 1,
        rate: VideoRate::Quality { crf: 30.0, max_kbps: None },
        level: "4.0".into(),
    };
    TrackPlan {
        id: id.into(),
        source_stream: 0,
        timescale: 0,
        delay: OutputTicks(0),
        container: TrackContainer::Fmp4,
        protection: Protection::Clear,
        label: Label { language: "und".into(), name: String::new(), is_default: true },
        cut: Cut::Timeline { frames: 0, grid: 0 },
        media: Media::Video(VideoMedia {
            width,
            height,
            sar: Rational::ONE,
            pixel_format: "yuv420p".into(),
            color: Color::default(),
            side_data: Default::default(),
            ops,
            coding: Coding::Encode(encoding),
        }),
    }
}

/// The settings of a video track, to be changed.
pub fn video(track: &mut TrackPlan) -> &mut VideoMedia {
    match &mut track.media {
        Media::Video(video) => video,
        other => panic!("{other:?}"),
    }
}

/// The encoder's settings of a video track, to be changed.
pub fn encoding(track: &mut TrackPlan) -> &mut VideoEncoding {
    match &mut video(track).coding {
        Coding::Encode(encoding) => encoding,
        Coding::Copy => panic!("a copy"),
    }
}

/// An audio track in AAC.
pub fn sound(id: String, source: &AudioTrack, kbps: u32) -> TrackPlan {
    let channels = source.channels.min(2);
    TrackPlan {
        id,
        source_stream: source.stream,
        timescale: 48_000,
        delay: OutputTicks(0),
        container: TrackContainer::Fmp4,
        protection: Protection::Clear,
        label: Label { language: "und".into(), name: String::new(), is_default: true },
        cut: Cut::Whole { start: OutputTicks(0), boundaries: vec![], first_number: 1 },
        media: Media::Audio(AudioMedia {
            channels,
            frame_samples: 1024,
            source_start: source.first_pts,
            clock: None,
            lead_silence: OutputTicks(0),
            fill_until: None,
            ops: vec![AudioOp::Resample { sample_rate: 48_000 }, AudioOp::Remix { layout: String::new(), channels }],
            coding: Coding::Encode(AudioEncoding { codec: AudioCodec::Aac, kbps }),
        }),
    }
}

/// The settings of an audio track, to be changed.
pub fn audio(track: &mut TrackPlan) -> &mut AudioMedia {
    match &mut track.media {
        Media::Audio(audio) => audio,
        other => panic!("{other:?}"),
    }
}

/// Makes a track a copy.
pub fn copied(track: &mut TrackPlan) {
    match &mut track.media {
        Media::Video(video) => (video.coding, video.ops) = (Coding::Copy, vec![]),
        Media::Audio(audio) => (audio.coding, audio.ops) = (Coding::Copy, vec![]),
        other => panic!("{other:?}"),
    }
}

/// A plan that cuts the video in front of the frames numbered in `cuts`.
pub fn plan(info: &SourceInfo, cuts: &[usize], mut renditions: Vec<TrackPlan>) -> Plan {
    let (mut timeline, mut frames, mut grids) = (None, vec![], vec![]);
    if let Some(video) = &info.video {
        let (line, list, grid) = cut_video(info, video, cuts);
        for rendition in &mut renditions {
            (rendition.source_stream, rendition.timescale) = (video.stream, line.timescale);
        }
        (timeline, frames, grids) = (Some(line), vec![list], vec![grid]);
    }
    let audio = info.audio.iter().enumerate().map(|(number, track)| sound(format!("{number}"), track, 96));
    Plan {
        version: PLAN_VERSION,
        demuxer: info.demuxer.clone(),
        timeline,
        frames,
        grids,
        tracks: renditions.into_iter().chain(audio).collect(),
        packaging: Packaging { media_segment_seconds: 2.0, progressive: false, chunk_mb: 0 },
        decisions: vec![],
        reads: None,
    }
}

fn cut_video(info: &SourceInfo, video: &VideoTrack, cuts: &[usize]) -> (Timeline, FrameList, KeyframeGrid) {
    let pts: Vec<SourceTicks> = video.frames.pts.iter().map(SourceTicks).collect();
    let mut timeline = Timeline {
        stream: video.stream,
        evidence: splitreel_core::source::IndexEvidence::Moov,
        source_timebase: video.timebase,
        clock: info.clocks.get(&video.stream).cloned(),
        stamping: video.frames.stamping.clone(),
        assumed_matrix: String::new(),
        decoder: String::new(),
        stated: None,
        timescale: timescale(video),
        first: pts[0],
        output_start: OutputTicks(0),
        held: OutputTicks(0),
        output_end: OutputTicks(0),
        segments: vec![],
    };
    timeline.output_end = timeline.output(pts[pts.len() - 1] + SourceTicks(video.frames.last_duration));
    let mut list = FrameList {
        rule: FrameRule::All,
        rate: video.frame_rate,
        peak_rate: None,
        num_source: 0,
        num_lost: 0,
        segments: vec![],
    };
    let mut grid = KeyframeGrid { gop: OutputTicks(0), starts_open: false, segments: vec![] };
    let mut edges: Vec<usize> = cuts.iter().copied().filter(|cut| *cut > 0 && *cut < pts.len()).collect();
    edges.insert(0, 0);
    edges.push(pts.len());
    for (index, edge) in (0..).zip(edges.windows(2)) {
        let frames = &pts[edge[0]..edge[1]];
        let next = pts.get(edge[1]).copied();
        let output_start = timeline.output(frames[0]);
        let output_end = next.map_or(timeline.output_end, |next| timeline.output(next));
        let mut keyframes = vec![output_start, timeline.output(frames[frames.len() / 2])];
        keyframes.dedup();
        let may_seek = index > 0 && video.frames.is_seekable && info.container != Container::Other;
        let keys: Vec<SourceTicks> = video.frames.keyframes.iter().map(|key| SourceTicks(key.pts)).collect();
        let before = keys.iter().rev().copied().filter(|key| may_seek && *key <= frames[0]);
        let seek: Vec<SourceTicks> = before.skip(usize::from(video.frames.needs_run_in)).take(3).collect();
        let seek_limit = seek.first().and_then(|key| keys.get(keys.partition_point(|k| k <= key))).copied();
        timeline.segments.push(Segment {
            index,
            start: frames[0],
            end: next,
            output_start,
            output_end,
            seek,
            seek_limit,
        });
        let pts_sha256 = pts_fingerprint(frames.iter().map(|tick| timeline.output(*tick)));
        list.segments.push(SegmentFrames { num_frames: frames.len() as u64, pts_sha256 });
        let duration = output_end - output_start;
        let media_segments = vec![MediaSegmentPlan { number: index + 1, start: output_start, duration }];
        grid.segments.push(GridSegment { keyframes, media_segments });
    }
    (timeline, list, grid)
}
