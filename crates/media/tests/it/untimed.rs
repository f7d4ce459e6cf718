//! Sources whose packets or last frames have no presentation time, or one that repeats or runs back: the probe lists every
//! frame, and pieces hold them.

use crate::clips::{self, Dir, make};
use crate::pieces::assert_exact;
use crate::planning::{plan, rendition};
use splitreel_core::source::SourceInfo;
use splitreel_core::stamping::Stamping;
use std::path::{Path, PathBuf};
use std::process::Command;

const NUM_FRAMES: u64 = 75;
const H264: &str = "-c:v libx264 -preset veryfast -bf 3 -g 20";
const HEVC: &str = "-c:v libx265 -preset ultrafast -x265-params log-level=error:bframes=3 -g 20";
const MPEG4: &str = "-c:v mpeg4 -bf 2 -g 20";
const MPEG2: &str = "-c:v mpeg2video -bf 2 -g 20";

fn source(dir: &Dir, name: &str, codec: &str) -> PathBuf {
    let path = dir.file(name);
    make(&path, &format!("{} {codec}", clips::PICTURE));
    path
}

/// Takes the timestamps out of the PES headers of a transport stream's video: all but those of random-access points
/// and of every `kept`th picture. Stuffing takes their place (ISO/IEC 13818-1 §2.4.3.7).
fn without_most_times(path: &Path, kept: usize) {
    const PACKET: usize = 188;
    let mut data = std::fs::read(path).unwrap();
    let mut pictures = 0;
    for packet in data.chunks_exact_mut(PACKET) {
        let (starts_unit, has_adaptation) = (packet[1] & 0x40 != 0, packet[3] & 0x20 != 0);
        let adaptation = usize::from(packet[4]);
        let is_random_access = has_adaptation && adaptation > 0 && packet[5] & 0x40 != 0;
        let header = &mut packet[if has_adaptation { 5 + adaptation } else { 4 }..];
        if !starts_unit || header.len() < 19 || header[..3] != [0, 0, 1] || header[3] & 0xf0 != 0xe0 {
            continue;
        }
        pictures += 1;
        if is_random_access || pictures % kept == 0 {
            continue;
        }
        let length = match header[7] >> 6 {
            0 => 0,
            3 => 10,
            _ => 5,
        };
        header[7] &= 0x3f;
        header[9..9 + length].fill(0xff);
    }
    std::fs::write(path, data).unwrap();
}

/// Frames of a passthrough decode.
fn num_decoded(path: &Path) -> u64 {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count() as u64
}

/// Probes a source of constant frame rate and encodes it in one, three and ten pieces.
async fn check(dir: &Dir, path: &Path) -> SourceInfo {
    let info = clips::probe(path, dir.path()).await.unwrap().info;
    let track = info.video.as_ref().unwrap();
    assert_eq!((track.frames.pts.len(), num_decoded(path)), (NUM_FRAMES, NUM_FRAMES), "{}", path.display());
    let times: Vec<i64> = track.frames.pts.iter().collect();
    let step = track.frames.pts.nominal_delta().unwrap();
    let odd = times.windows(2).filter(|pair| pair[1] - pair[0] != step).count();
    assert_eq!(odd, 0, "{}: {times:?}", path.display());
    let per_second = splitreel_core::MediaTime::new(step * 25, track.timebase).seconds();
    assert!((per_second - 1.0).abs() < 0.001, "{}: 25 frames last {per_second} s", path.display());
    for cuts in [&[][..], &[20, 47], &[3, 9, 20, 21, 33, 40, 55, 61, 72]] {
        let work = dir.sub(&format!("work-{}", cuts.len()));
        assert_exact(path, &info, plan(&info, cuts, vec![rendition("a", 160, 120)]), &work).await;
    }
    info
}

fn stamping(info: &SourceInfo) -> &Stamping {
    &info.video.as_ref().unwrap().frames.stamping
}

#[tokio::test]
async fn avi_with_b_frames_keeps_its_last_frames_and_is_sought() {
    let dir = Dir::new();
    for (name, codec) in [("h264.avi", H264), ("mpeg4.avi", MPEG4), ("mpeg2.avi", MPEG2)] {
        let info = check(&dir, &source(&dir, name, codec)).await;
        assert!(matches!(stamping(&info), Stamping::Tail(_)), "{name}: {:?}", stamping(&info));
        let frames = &info.video.as_ref().unwrap().frames;
        assert!(frames.is_seekable && frames.keyframes.len() >= 3, "{name}: {:?}", frames.keyframes);
    }
}

#[tokio::test]
async fn other_containers_keep_their_last_frames() {
    let dir = Dir::new();
    for (name, codec) in [("mpeg4.asf", MPEG4), ("mpeg2.mpg", MPEG2), ("mpeg2.m2v", MPEG2)] {
        let info = check(&dir, &source(&dir, name, codec)).await;
        assert!(!stamping(&info).is_own(), "{name}");
    }
}

#[tokio::test]
async fn raw_streams_without_any_time_are_counted() {
    let dir = Dir::new();
    for (name, codec) in [("raw.264", H264), ("raw.265", HEVC)] {
        let info = check(&dir, &source(&dir, name, codec)).await;
        assert!(matches!(stamping(&info), Stamping::Counted(_)), "{name}: {:?}", stamping(&info));
        assert_eq!(info.video.as_ref().unwrap().frames.pts.first(), Some(0));
    }
}

#[tokio::test]
async fn frames_between_sparse_times_are_counted() {
    let dir = Dir::new();
    check(&dir, &source(&dir, "h264.mpg", &format!("{H264} -f mpeg"))).await;
    for (name, codec) in [("h264", H264), ("hevc", HEVC)] {
        for kept in [5, usize::MAX] {
            let whole = source(&dir, &format!("{name}-{kept}.ts"), codec);
            let first = clips::decoded_times(&whole, 0)[0];
            without_most_times(&whole, kept);
            let info = check(&dir, &whole).await;
            assert!(matches!(stamping(&info), Stamping::Counted(_)), "{name} {kept}: {:?}", stamping(&info));
            assert_eq!(info.video.as_ref().unwrap().frames.pts.first(), Some(first));
        }
    }
}

/// Renames a box, so that it is skipped.
fn without_box(path: &Path, kind: &[u8; 4]) {
    let mut data = std::fs::read(path).unwrap();
    let at = data.windows(4).rposition(|word| word == kind).unwrap();
    data[at..at + 4].copy_from_slice(b"free");
    std::fs::write(path, data).unwrap();
}

#[tokio::test]
async fn frames_with_the_time_of_their_predecessor_are_placed_behind_it() {
    const REPEAT: &str =
        r"-bsf:v setts=pts=if(eq(mod(N\,10)\,9)\,PREV_OUTPTS\,PTS):dts=if(eq(mod(N\,10)\,9)\,PREV_OUTDTS\,DTS)";
    let dir = Dir::new();
    let codec = "-c:v libx264 -preset veryfast -bf 0 -g 20";
    for (name, is_seekable) in [("equal.flv", false), ("equal.mkv", true)] {
        let info = check(&dir, &source(&dir, name, &format!("{codec} {REPEAT}"))).await;
        assert!(matches!(stamping(&info), Stamping::Spaced(_)), "{name}: {:?}", stamping(&info));
        assert_eq!(info.video.as_ref().unwrap().frames.is_seekable, is_seekable, "{name}");
        assert!(
            info.warnings.iter().any(|warning| warning.contains("between their neighbours")),
            "{:?}",
            info.warnings
        );
    }
}

#[tokio::test]
async fn decode_times_in_place_of_presentation_times_are_sorted() {
    let dir = Dir::new();
    let boxed = source(&dir, "decode-times.mp4", &format!("{H264} -use_editlist 0"));
    without_box(&boxed, b"ctts");
    let cases = [
        boxed,
        source(&dir, "decode-times.mkv", &format!("{H264} -bsf:v setts=pts=DTS")),
        source(&dir, "decode-times.flv", &format!("{H264} -bsf:v setts=pts=DTS")),
    ];
    for path in cases {
        let info = check(&dir, &path).await;
        assert!(matches!(stamping(&info), Stamping::Counted(_)), "{}: {:?}", path.display(), stamping(&info));
    }
}

#[tokio::test]
async fn a_source_in_which_every_frame_has_a_time_keeps_them() {
    let dir = Dir::new();
    for path in [clips::cfr_mp4(&dir), clips::vfr_mkv(&dir), clips::late_ts(&dir), clips::plain_avi(&dir)] {
        let info = clips::probe(&path, dir.path()).await.unwrap().info;
        assert!(stamping(&info).is_own(), "{}", path.display());
        let stored = serde_json::to_string(&info).unwrap();
        assert!(!stored.contains("stamping"), "{stored}");
    }
}
