//! Small plans for tests: what the planner would make, without its policy.

use splitreel_core::Rational;
use splitreel_core::plan::{AudioPlan, MediaSegmentPlan, Plan, Rendition, Segment, VideoPlan, pts_fingerprint};
use splitreel_core::profile::{AudioCodec, VideoCodec};
use splitreel_core::source::{Color, Container, SourceInfo, VideoTrack};
use splitreel_core::time::rescale;

/// Output ticks per second that source times survive.
pub fn timescale(video: &VideoTrack) -> u32 {
    let base = video.timebase;
    match (base.num(), base.den()) {
        (1, 1000) => 90_000,
        (1, den) if den >= 1000 => u32::try_from(den).unwrap(),
        (_, den) => u32::try_from(den * (10_000 / den).max(1)).unwrap(),
    }
}

pub fn rendition(id: &str, width: u32, height: u32) -> Rendition {
    Rendition {
        id: id.into(),
        width,
        height,
        sar: Rational::ONE,
        crf: Some(30.0),
        qp: None,
        max_kbps: None,
        level: "4.0".into(),
    }
}

/// A plan that cuts the video in front of the frames numbered in `cuts`.
pub fn plan(info: &SourceInfo, cuts: &[usize], renditions: Vec<Rendition>) -> Plan {
    let video = info.video.as_ref().map(|video| video_plan(info, video, cuts, renditions));
    let audio = info
        .audio
        .iter()
        .enumerate()
        .map(|(number, track)| AudioPlan {
            id: format!("{number}"),
            stream: track.stream,
            codec: AudioCodec::Aac,
            sample_rate: 48_000,
            channels: track.channels.min(2),
            layout: String::new(),
            kbps: 96,
            frame_samples: 1024,
            start: 0,
            source_first_pts: track.first_pts.ticks,
            source_timebase: track.first_pts.timebase,
            boundaries: vec![0],
            first_number: 1,
            language: "und".into(),
            name: String::new(),
            is_default: number == 0,
        })
        .collect();
    Plan {
        version: 1,
        demuxer: info.demuxer.clone(),
        video,
        audio,
        media_segment_seconds: 2.0,
        progressive: false,
        chunk_mb: 0,
        keep_full: false,
        decisions: vec![],
        reads: None,
    }
}

fn video_plan(info: &SourceInfo, video: &VideoTrack, cuts: &[usize], renditions: Vec<Rendition>) -> VideoPlan {
    let scale = timescale(video);
    let out_base = Rational::new(1, i64::from(scale)).unwrap();
    let pts: Vec<i64> = video.frames.pts.iter().collect();
    let first = pts[0];
    let output = |tick: i64| rescale(tick - first, video.timebase, out_base);
    let end = pts[pts.len() - 1] + video.frames.last_duration;
    let mut edges: Vec<usize> = cuts.iter().copied().filter(|cut| *cut > 0 && *cut < pts.len()).collect();
    edges.insert(0, 0);
    edges.push(pts.len());
    let segments = edges
        .windows(2)
        .enumerate()
        .map(|(index, edge)| {
            let frames = &pts[edge[0]..edge[1]];
            let next = pts.get(edge[1]).copied();
            let output_end = output(next.unwrap_or(end));
            let middle = frames[frames.len() / 2];
            let mut keyframes = vec![output(frames[0]), output(middle)];
            keyframes.dedup();
            let may_seek = index > 0 && video.frames.is_seekable && info.container != Container::Other;
            let mut seek: Vec<i64> =
                video.frames.keyframes.iter().map(|key| key.pts).filter(|key| may_seek && *key <= frames[0]).collect();
            seek.reverse();
            seek.truncate(3);
            Segment {
                index: index as u32,
                start: frames[0],
                end: next,
                output_start: output(frames[0]),
                output_end,
                seek_limit: seek.first().and_then(|key| {
                    let keys = &video.frames.keyframes;
                    keys.get(keys.partition_point(|k| k.pts <= *key)).map(|k| k.pts)
                }),
                seek,
                num_frames: frames.len() as u64,
                pts_sha256: pts_fingerprint(frames.iter().map(|tick| output(*tick))),
                keyframes,
                media_segments: vec![MediaSegmentPlan {
                    number: index as u32 + 1,
                    start: output(frames[0]),
                    duration: output_end - output(frames[0]),
                }],
            }
        })
        .collect();
    VideoPlan {
        evidence: splitreel_core::source::IndexEvidence::Moov,
        stream: video.stream,
        source_timebase: video.timebase,
        timescale: scale,
        first_pts: first,
        first_output: 0,
        end_output: output(end),
        delay: 0,
        frame_rate: video.frame_rate,
        codec: VideoCodec::H264,
        encoder: "libx264".into(),
        preset: "ultrafast".into(),
        threads: 1,
        filters: vec![],
        pix_fmt: "yuv420p".into(),
        color: Color::default(),
        renditions,
        segments,
    }
}
