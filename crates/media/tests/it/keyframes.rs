//! Keyframes that are none: pieces are exact at the first attempt, because the probe knows where decoding can start.

use crate::clips::{self, Dir, make, probe_with};
use crate::pieces::assert_exact_at_once;
use crate::planning::{plan, rendition};
use splitreel_core::source::{FrameIndex, IndexEvidence};
use splitreel_media::ProbeOptions;
use std::path::{Path, PathBuf};

const PICTURE: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=6";
/// Pictures are renewed column by column: one IDR, then recovery points (ITU-T H.264 D.2.8).
const REFRESH: &str = "-c:v libx264 -preset veryfast -bf 0 -x264-params intra-refresh=1:keyint=20:ref=1";
const CUTS: &[usize] = &[20, 41, 80, 99, 120];

/// A source whose frames are listed by decoding, and the same one with frames listed by its container.
fn ways() -> [ProbeOptions; 2] {
    let listed = ProbeOptions { scan_pixels: 0, mild_doubt_factor: 0, ..ProbeOptions::default() };
    [ProbeOptions::default(), listed]
}

async fn holds(path: &Path, dir: &Dir, options: ProbeOptions) -> FrameIndex {
    let info = probe_with(path, dir.path(), options).await.unwrap().info;
    assert_exact_at_once(path, &info, plan(&info, CUTS, vec![rendition("a", 160, 120)]), &dir.sub("work")).await;
    info.video.unwrap().frames
}

#[tokio::test]
async fn recovery_points_are_reached_from_the_one_before() {
    let dir = Dir::new();
    for name in ["refresh.mp4", "refresh.mkv", "refresh.ts"] {
        let path = dir.file(name);
        make(&path, &format!("{PICTURE} {REFRESH}"));
        for options in ways() {
            let frames = holds(&path, &dir, options).await;
            assert!(frames.needs_run_in && frames.is_seekable, "{name}");
            assert!(frames.keyframes.len() >= 7, "{name}: {:?}", frames.keyframes);
        }
    }
}

/// An MP4 whose muxer calls every sample a sync sample: it has no `stss`.
fn all_sync(dir: &Dir) -> PathBuf {
    let path = dir.file("all-sync.mp4");
    make(&path, &format!("{PICTURE} -c:v libx264 -preset veryfast -bf 0 -g 40 -sc_threshold 0"));
    let mut data = std::fs::read(&path).unwrap();
    let at = data.windows(4).rposition(|word| word == b"stss").unwrap();
    data[at..at + 4].copy_from_slice(b"free");
    std::fs::write(&path, data).unwrap();
    path
}

#[tokio::test]
async fn samples_that_are_all_called_keyframes_are_not_believed() {
    let dir = Dir::new();
    let path = all_sync(&dir);
    for options in ways() {
        let frames = holds(&path, &dir, options).await;
        assert_eq!((frames.keyframes.len(), frames.needs_run_in, frames.is_seekable), (4, false, true));
        assert_eq!(frames.evidence, IndexEvidence::DecodeScan);
    }
}

#[tokio::test]
async fn keyframes_that_all_are_need_no_decode() {
    let dir = Dir::new();
    let [_, listed] = ways();
    let intra = dir.file("intra.mp4");
    make(&intra, &format!("{PICTURE} -c:v libx264 -preset veryfast -g 1"));
    for path in [intra, clips::cfr_mp4(&dir)] {
        let frames = probe_with(&path, dir.path(), listed.clone()).await.unwrap().info.video.unwrap().frames;
        assert_eq!((frames.evidence, frames.needs_run_in), (IndexEvidence::Moov, false), "{}", path.display());
    }
}
