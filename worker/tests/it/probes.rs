//! Probing over HTTP finds what probing the file finds.

use crate::clips::{self, remux};
use crate::server::Server;
use crate::station::{Source, Station};
use splitreel_media::ProbeOptions;

/// As for sources that are too long to be decoded.
fn quick() -> ProbeOptions {
    ProbeOptions { scan_pixels: 0, mild_doubt_factor: 0, ..ProbeOptions::default() }
}

#[tokio::test]
async fn the_tables_of_an_mp4_are_enough() {
    let first = remux(&clips::CLOSED, "quick-first.mp4", "-movflags +faststart");
    for path in [&*clips::CLOSED, &first] {
        let bytes = std::fs::metadata(path).unwrap().len();
        let server = Server::start(std::fs::read(path).unwrap()).await;
        let station = Station::open(quick()).await;
        let (local, _) = station.probe(&Source { path, server: None }).await;
        let (found, cost) = station.probe(&Source { path, server: Some(&server) }).await;
        assert_eq!(found, local);
        assert!(found.byte_index.is_some() && found.video.is_some() && found.audio.len() == 1);
        assert!(cost.bytes_read < bytes / 5 && cost.requests <= 5, "{cost:?} of {bytes}");
        assert_eq!(station.left_over(), 0);
    }
}

#[tokio::test]
async fn what_tables_do_not_tell_is_read_whole() {
    // A file that is decoded once to be certain, one without tables, and one in fragments.
    let fragments = remux(&clips::CLOSED, "fragments.mp4", "-movflags +frag_keyframe+empty_moov");
    let stream = remux(&clips::CLOSED, "probed.ts", "");
    for (path, options) in [(&*clips::CLOSED, ProbeOptions::default()), (&stream, quick()), (&fragments, quick())] {
        let bytes = std::fs::metadata(path).unwrap().len();
        let server = Server::start(std::fs::read(path).unwrap()).await;
        let station = Station::open(options).await;
        let (local, _) = station.probe(&Source { path, server: None }).await;
        let (found, cost) = station.probe(&Source { path, server: Some(&server) }).await;
        assert_eq!(found, local);
        assert!((bytes..bytes * 2).contains(&cost.bytes_read), "{cost:?} of {bytes}");
        assert_eq!(station.left_over(), 0);
    }
}
