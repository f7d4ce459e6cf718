//! While a job runs, a directory beside the output holds playlists of the full length that can be played already.

use crate::clips;
use crate::output::MediaPlaylist;
use crate::reel::Reel;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Media playlists that a preview's multivariant playlist names.
fn listed(dir: &Path) -> Vec<MediaPlaylist> {
    let master = std::fs::read_to_string(dir.join("master.m3u8")).unwrap();
    let variants = master.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let media = master
        .lines()
        .filter(|l| l.starts_with("#EXT-X-MEDIA:"))
        .filter_map(|l| l.split("URI=\"").nth(1)?.split('"').next());
    variants.chain(media).map(|uri| MediaPlaylist::read(&dir.join(uri))).collect()
}

#[test]
fn a_running_job_can_be_played_at_full_length() {
    let reel = Reel::new();
    let out = reel.path("out");
    let preview = reel.path("out.partial");
    let mut run = reel.command("run");
    run.args(["--segment-seconds", "2", "--workers", "1", "--json", "-o"]).arg(&out).arg("--").arg(clips::busy());
    let mut child = run.spawn().unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        line.unwrap();
        if out.exists() || !preview.join("master.m3u8").exists() {
            continue;
        }
        // The job may publish, and remove the preview, between two looks: only a whole look counts.
        let Ok(playlists) = std::panic::catch_unwind(|| listed(&preview)) else { continue };
        for playlist in &playlists {
            assert!(
                (playlist.seconds() - 20.0).abs() < 0.5,
                "{} lists {} s",
                playlist.path.display(),
                playlist.seconds()
            );
            assert!(playlist.lines.iter().any(|l| l == "#EXT-X-ENDLIST"), "{} looks live", playlist.path.display());
            let first = &playlist.segments[0];
            assert!(
                (playlist.init.exists() && first.exists()) || out.exists(),
                "{} is not playable from its start",
                playlist.path.display()
            );
        }
        seen += 1;
    }
    assert!(child.wait().unwrap().success());
    assert!(seen > 0, "no preview before the end");
    assert!(!preview.exists(), "the preview is left over");
    assert!(out.join("master.m3u8").exists());
}
