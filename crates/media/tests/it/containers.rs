//! Containers beyond the common ones: every frame and every sample of each comes out.

use crate::clips::{self, Dir, PICTURE, TONE, decoded_times, make};
use crate::pieces::assert_exact;
use crate::planning::{plan, rendition};
use splitreel_core::source::Container;
use std::path::{Path, PathBuf};

/// Probes, compares with a plain decode, and encodes in one piece and in three.
async fn holds(dir: &Dir, path: &Path, demuxer: &str) {
    let info = clips::probe(path, dir.path()).await.unwrap().info;
    assert_eq!((info.container, info.demuxer.as_str()), (Container::Other, demuxer));
    let track = info.video.as_ref().unwrap();
    let decoded = decoded_times(path, track.stream);
    assert_eq!(track.frames.pts.len(), decoded.len() as u64, "{demuxer}");
    // Left to itself, ffprobe counts the frames of Motion JPEG in another timebase.
    if demuxer != "mjpeg" {
        assert_eq!(track.frames.pts.iter().collect::<Vec<_>>(), decoded, "{demuxer}");
    }
    for cuts in [&[][..], &[9, 21]] {
        let work = dir.sub(&format!("{demuxer}-{}", cuts.len()));
        assert_exact(path, &info, plan(&info, cuts, vec![rendition("a", 160, 120)]), &work).await;
    }
}

fn made(dir: &Dir, name: &str, args: &str) -> PathBuf {
    let path = dir.file(name);
    make(&path, args);
    path
}

#[tokio::test]
async fn animations_keep_every_picture_and_its_delay() {
    let dir = Dir::new();
    let uneven = r"-vf setpts=PTS+mod(N\,3)*0.02/TB -fps_mode vfr";
    let gif = made(&dir, "a.gif", &format!("{PICTURE} {uneven}"));
    let delays: Vec<i64> = decoded_times(&gif, 0).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
    holds(&dir, &gif, "gif").await;
    holds(&dir, &made(&dir, "a.apng", &format!("{PICTURE} -plays 0")), "apng").await;
}

#[tokio::test]
async fn recordings_of_receivers_and_cameras() {
    let dir = Dir::new();
    let small = "-s 176x144 -q:v 4";
    for (name, demuxer, codecs) in [
        ("a.rm", "rm", "-c:v rv20 -c:a ac3"),
        ("a.mpjpeg", "mpjpeg", "-an -c:v mjpeg -f mpjpeg"),
        ("a.mjpeg", "mjpeg", "-an -c:v mjpeg"),
        ("a.h261", "h261", "-an -c:v h261"),
        ("a.swf", "swf", "-c:v flv -c:a mp3"),
    ] {
        holds(&dir, &made(&dir, name, &format!("{PICTURE} {TONE} {small} {codecs}")), demuxer).await;
    }
}

/// A surveillance recorder's file: each access unit of an H.264 stream in a frame of its own, with a clock in seconds and
/// one in milliseconds.
fn dhav(dir: &Dir) -> PathBuf {
    let raw = made(dir, "a.h264", &format!("{PICTURE} -c:v libx264 -preset veryfast -bf 0 -g 25 -x264-params aud=1"));
    let stream = std::fs::read(&raw).unwrap();
    let delimiter = [0, 0, 0, 1, 9];
    let starts: Vec<usize> = stream.windows(5).enumerate().filter(|(_, w)| *w == delimiter).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let mut data = Vec::new();
    for ((number, start), end) in (0u32..).zip(&starts).zip(ends) {
        let unit = &stream[*start..end];
        let (ms, is_key) = (number * 40, number % 25 == 0);
        let date = 26 << 26 | 1 << 22 | 1 << 17 | 12 << 12 | (ms / 1000);
        let extension = [0x82, 0, 0, 0, 160, 0, 120, 0, 0x81, 0, 2, 25];
        let size = u32::try_from(24 + extension.len() + unit.len() + 8).unwrap();
        data.extend(b"DHAV");
        data.extend([if is_key { 0xfd } else { 0xfc }, 0, 1, 0]);
        data.extend([number + 1, size, date].iter().flat_map(|word: &u32| word.to_le_bytes()));
        data.extend(u16::try_from(ms).unwrap().to_le_bytes());
        data.extend([u8::try_from(extension.len()).unwrap(), 0]);
        data.extend(extension);
        data.extend(unit);
        data.extend(b"dhav");
        data.extend(size.to_le_bytes());
    }
    let path = dir.file("a.dav");
    std::fs::write(&path, data).unwrap();
    path
}

#[tokio::test]
async fn surveillance_recorders() {
    let dir = Dir::new();
    let path = dhav(&dir);
    holds(&dir, &path, "dhav").await;
    assert_eq!(clips::probe(&path, dir.path()).await.unwrap().info.video.unwrap().frames.pts.len(), 75);
}

#[tokio::test]
async fn sound_alone() {
    let dir = Dir::new();
    for (name, demuxer, codec) in [
        ("a.wv", "wv", "-c:a wavpack"),
        ("a.tta", "tta", "-c:a tta"),
        ("a.au", "au", "-c:a pcm_s16be"),
        ("a.voc", "voc", "-c:a pcm_u8"),
        ("a.loas", "loas", "-c:a aac -f latm"),
    ] {
        let info = clips::probe(&made(&dir, name, &format!("{TONE} {codec}")), dir.path()).await.unwrap().info;
        assert_eq!((info.demuxer.as_str(), info.audio.len()), (demuxer, 1));
    }
}

#[tokio::test]
async fn a_container_that_may_not_be_opened_is_named() {
    let dir = Dir::new();
    // Four bytes make a file of the game format that ffmpeg calls "roq".
    let path = dir.file("a.roq");
    let mut data = vec![0x84, 0x10, 0xff, 0xff, 0xff, 0xff, 0x1e, 0x00];
    data.resize(4096, 0);
    std::fs::write(&path, data).unwrap();
    let failure = clips::probe(&path, dir.path()).await.unwrap_err();
    assert_eq!(failure.code.as_str(), "unsupported_container", "{failure:?}");
    assert!(failure.message.contains("the container roq is not supported"), "{}", failure.message);
    let photo = made(&dir, "photo.jpg", &format!("{PICTURE} -frames:v 1"));
    let failure = clips::probe(&photo, dir.path()).await.unwrap_err();
    assert_eq!(failure.code.as_str(), "unsupported_container", "{failure:?}");
}
