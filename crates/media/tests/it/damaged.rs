//! Sources that decode otherwise behind a seek than as a whole: pieces show what the whole shows.

use crate::clips::{self, Dir, ffmpeg, frames, make};
use splitreel_core::plan::Plan;
use splitreel_core::planner::{Capabilities, plan};
use splitreel_core::profile::{Profile, Rung, RungHeight};
use splitreel_media::piece::Payload;
use splitreel_media::{FfmpegToolkit, Limits, ProbeOptions, Request, Toolkit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// NAL units of an Annex B stream, without start codes.
fn nal_units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([stream.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &stream[*start..end];
        let len = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &unit[..len]
    };
    starts.iter().zip(ends).map(unit).collect()
}

/// The second half has other parameter sets under the same ids, stated once at its start: keyframes behind it cannot be
/// decoded alone.
fn parameter_sets_stated_once(dir: &Dir) -> PathBuf {
    let mut stream = Vec::new();
    for (half, cabac) in [("a.h264", 1), ("b.h264", 0)] {
        let path = dir.file(half);
        let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=3";
        let settings = format!("-qp 30 -g 25 -bf 0 -x264-params cabac={cabac}:ref=1");
        make(&path, &format!("{source} -pix_fmt yuv420p -c:v libx264 -preset veryfast {settings} -f h264"));
        let bytes = std::fs::read(&path).unwrap();
        let mut has_keyframe = false;
        for unit in nal_units(&bytes) {
            let kind = unit[0] & 31;
            if half == "b.h264" && matches!(kind, 7 | 8) && has_keyframe {
                continue;
            }
            has_keyframe |= kind == 5;
            stream.extend([0, 0, 0, 1]);
            stream.extend(unit);
        }
    }
    let joined = dir.file("joined.h264");
    std::fs::write(&joined, stream).unwrap();
    let path = dir.file("once.mkv");
    make(&path, &format!("-f h264 -r 25 -i {} -c copy", joined.display()));
    path
}

async fn encoded(source: &Path, plan: &Arc<Plan>, segment: u32, dir: &Path) -> Vec<String> {
    let toolkit = FfmpegToolkit::new(ffmpeg().await, dir.join("scratch"), Limits::default(), ProbeOptions::default());
    let request = Request {
        lease: format!("00000000-0000-4000-8000-{segment:012}").parse().unwrap(),
        name: "source".into(),
        source: source.to_owned(),
        is_complete: true,
        progress: tokio::sync::watch::channel(Default::default()).0,
        cancel: CancellationToken::new(),
    };
    let encoded = toolkit.encode_video(request, Arc::clone(plan), segment, 0).await.unwrap();
    assert!(encoded.content.iter().all(Option::is_some));
    match &encoded.tracks[0].payload {
        Payload::File(path) => frames(path),
        Payload::Memory(_) => panic!("an encoder's output is a file"),
    }
}

#[tokio::test]
async fn segments_behind_parameter_sets_that_are_stated_once_show_the_pictures_of_the_whole() {
    let dir = Dir::new();
    let source = parameter_sets_stated_once(&dir);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let mut profile = Profile::built_in("universal").unwrap();
    profile.video.rungs = vec![Rung { crf: None, qp: Some(0), ..Rung::of(RungHeight::Pixels(90), 0.0, None) }];
    profile.split.segment_seconds = 1.0;
    let plan = Arc::new(plan(&info, &profile, &Capabilities::default()).unwrap());
    assert_eq!(plan.num_segments(), 6);
    let mut pieces = Vec::new();
    for segment in 0..6 {
        pieces.extend(encoded(&source, &plan, segment, dir.path()).await);
    }
    let whole = frames(&source);
    assert_eq!(whole.len(), 150);
    assert_eq!(pieces, whole);
}
