//! Video pieces: every frame of the source in exactly one piece, at its exact time.

use crate::clips::{self, Dir, ffmpeg};
use crate::planning::{copied, encoding, plan, rendition};
use splitreel_core::FailureClass;
use splitreel_core::plan::Plan;
use splitreel_core::profile::VideoCodec;
use splitreel_core::source::SourceInfo;
use splitreel_core::time::SourceTicks;
use splitreel_media::{Limits, VideoFiles, VideoRequest};
use splitreel_packaging::movie::Movie;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Frame times of a plain MP4 in its track's ticks, through the edit list; and which of them are keyframes.
pub fn times(path: &Path) -> (Vec<i64>, Vec<i64>, u32) {
    let data = std::fs::read(path).unwrap();
    let at = data.windows(4).position(|word| word == b"moov").unwrap() - 4;
    let movie = Movie::parse(&data[at..], at as u64).unwrap();
    let track = &movie.tracks[0];
    let map = track.presentation(movie.timescale);
    let mut all: Vec<(i64, bool)> = track
        .samples
        .iter()
        .map(|sample| (map.present(sample.pts()).expect("every frame is shown"), sample.is_sync))
        .collect();
    all.sort_unstable();
    let keys = all.iter().filter(|(_, is_key)| *is_key).map(|(time, _)| *time).collect();
    (all.into_iter().map(|(time, _)| time).collect(), keys, track.timescale)
}

pub async fn encode(source: &Path, plan: &Arc<Plan>, segment: u32, look_back: u32, dir: &Path) -> VideoFiles {
    let out_dir = dir.join(format!("out-{segment}-{look_back}"));
    std::fs::create_dir_all(&out_dir).unwrap();
    let request = VideoRequest {
        source: source.to_owned(),
        plan: Arc::clone(plan),
        segment,
        look_back,
        out_dir,
        scratch: dir.to_owned(),
        limits: Limits::default(),
    };
    ffmpeg().await.encode_video(request, Arc::new(|_| {}), CancellationToken::new()).await.unwrap()
}

/// Encodes all segments and compares every file's times with the plan's.
pub async fn assert_exact(source: &Path, info: &SourceInfo, plan: Plan, dir: &Path) {
    assert_exact_within(source, info, plan, dir, 3).await;
}

/// The same with first attempts only.
pub async fn assert_exact_at_once(source: &Path, info: &SourceInfo, plan: Plan, dir: &Path) {
    assert_exact_within(source, info, plan, dir, 0).await;
}

async fn assert_exact_within(source: &Path, info: &SourceInfo, plan: Plan, dir: &Path, max_level: u32) {
    let plan = Arc::new(plan);
    let track = info.video.as_ref().unwrap();
    let timeline = plan.timeline.as_ref().unwrap();
    let ticks: Vec<SourceTicks> = track.frames.pts.iter().map(SourceTicks).collect();
    for segment in &timeline.segments {
        let is_inside = |tick: &SourceTicks| *tick >= segment.start && segment.end.is_none_or(|end| *tick < end);
        let parts = plan.parts_of(segment.index).unwrap();
        let wanted: Vec<Vec<i64>> = parts
            .iter()
            .map(|part| {
                let chosen = plan.frame_list(part.track).unwrap().rule.choose(&ticks, track.timebase);
                let inside = chosen.into_iter().map(|at| ticks[at]).filter(is_inside);
                inside.map(|tick| (timeline.output(tick) - segment.output_start).get()).collect()
            })
            .collect();
        let mut level = 0;
        loop {
            let made = encode(source, &plan, segment.index, level, dir).await;
            let found: Vec<_> = made.files.iter().map(|file| times(file)).collect();
            assert_eq!(found.len(), parts.len());
            if level < max_level && found.iter().zip(&wanted).any(|((times, ..), wanted)| times != wanted) {
                // What a worker does: look further back.
                level += 1;
                continue;
            }
            for (((times, keys, timescale), wanted), part) in found.into_iter().zip(&wanted).zip(&parts) {
                assert_eq!(timescale, timeline.timescale);
                let place = format!("{} segment {} level {level}", source.display(), segment.index);
                assert_eq!(times, *wanted, "{place}: {:?}", made.stderr_tail);
                for key in &part.grid.keyframes {
                    assert!(keys.contains(&(*key - segment.output_start).get()), "keyframe {key} of {keys:?}");
                }
            }
            break;
        }
    }
}

async fn check(make: fn(&Dir) -> PathBuf, cuts: &[usize]) {
    let dir = Dir::new();
    let source = make(&dir);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let track = info.video.as_ref().unwrap();
    assert_eq!(track.frames.pts.iter().collect::<Vec<_>>(), clips::decoded_times(&source, track.stream));
    assert!(track.frames.is_seekable);
    let renditions = vec![rendition("a", 160, 120), rendition("b", 80, 60)];
    assert_exact(&source, &info, plan(&info, cuts, renditions), &dir.sub("work")).await;
}

#[tokio::test]
async fn cfr_with_b_frames() {
    check(clips::cfr_mp4, &[20, 33, 61]).await;
}

#[tokio::test]
async fn vfr_matroska() {
    check(clips::vfr_mkv, &[15, 31, 32]).await;
}

#[tokio::test]
async fn transport_stream_that_starts_late() {
    check(clips::late_ts, &[20, 47]).await;
}

#[tokio::test]
async fn avi() {
    check(clips::plain_avi, &[12, 50]).await;
}

#[tokio::test]
async fn edit_list() {
    check(clips::edited_mp4, &[8, 30]).await;
}

#[tokio::test]
async fn other_encoders_place_their_keyframes_too() {
    let dir = Dir::new();
    let source = clips::cfr_mp4(&dir);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    for (codec, encoder, preset) in [
        (VideoCodec::Hevc, "libx265", "ultrafast"),
        (VideoCodec::Vp9, "libvpx-vp9", "8"),
        (VideoCodec::Av1, "libsvtav1", "12"),
    ] {
        if !ffmpeg().await.encoders.contains(encoder) {
            continue;
        }
        let mut made = plan(&info, &[20, 60], vec![rendition("a", 160, 120)]);
        let settings = encoding(&mut made.tracks[0]);
        (settings.codec, settings.encoder, settings.preset) = (codec, encoder.into(), preset.into());
        settings.level = if codec == VideoCodec::Hevc { "4.0".into() } else { String::new() };
        assert_exact(&source, &info, made, &dir.sub(encoder)).await;
    }
}

#[tokio::test]
async fn copies_keep_packets_and_times() {
    let dir = Dir::new();
    for (make, name) in
        [(clips::cfr_mp4 as fn(&Dir) -> PathBuf, "mp4"), (clips::vfr_mkv, "mkv"), (clips::late_ts, "ts")]
    {
        let source = make(&dir);
        let info = clips::probe(&source, dir.path()).await.unwrap().info;
        let mut made = plan(&info, &[], vec![rendition("source", 160, 120)]);
        copied(&mut made.tracks[0]);
        made.grids[0].segments[0].keyframes.truncate(1);
        assert_exact(&source, &info, made, &dir.sub(name)).await;
    }
}

#[tokio::test]
async fn rotated_sources_come_out_upright() {
    let dir = Dir::new();
    let (whole, rotated) = (clips::cfr_mp4(&dir), dir.file("rotated.mp4"));
    clips::make(&rotated, &format!("-i {} -c copy -metadata:s:v rotate=90", whole.display()));
    let info = clips::probe(&rotated, dir.path()).await.unwrap().info;
    let track = info.video.as_ref().unwrap();
    assert!(matches!(track.rotation, 90 | 270));
    assert_eq!((track.width, track.height), (160, 120));
    let made = Arc::new(plan(&info, &[], vec![rendition("a", 120, 160)]));
    let turned = encode(&rotated, &made, 0, 0, dir.path()).await;
    // The same picture turned by hand, against the same picture left as it is.
    let turn = if track.rotation == 90 { "clock" } else { "cclock" };
    let psnr = |reference: &str| {
        let output = std::process::Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-i"])
            .arg(&turned.files[0])
            .arg("-i")
            .arg(&whole)
            .args(["-lavfi", &format!("[1:v]{reference}[r];[0:v][r]psnr"), "-f", "null", "-"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let value = text
            .split("average:")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("{text}"));
        value.parse::<f64>().unwrap()
    };
    let (upright, fallen) = (psnr(&format!("transpose={turn}")), psnr("scale=120:160"));
    assert!(upright > 25.0 && fallen < upright - 5.0, "turned {upright} dB, not turned {fallen} dB");
}

#[tokio::test]
async fn an_encoder_that_is_not_there_is_named() {
    let dir = Dir::new();
    let source = clips::cfr_mp4(&dir);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let mut made = plan(&info, &[], vec![rendition("a", 160, 120)]);
    encoding(&mut made.tracks[0]).encoder = "libx999".into();
    let request = VideoRequest {
        source,
        plan: Arc::new(made),
        segment: 0,
        look_back: 0,
        out_dir: dir.path().to_owned(),
        scratch: dir.path().to_owned(),
        limits: Limits::default(),
    };
    let failure = ffmpeg().await.encode_video(request, Arc::new(|_| {}), CancellationToken::new()).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Permanent, "encoder_unknown"));
    assert!(failure.message.contains("libx999"), "{}", failure.message);
}
