//! Parts made from fetched ranges equal those made from the whole file, for few more bytes than the source has.

use crate::clips::{self, remux};
use crate::server::Server;
use crate::station::{Source, Station, fast, hashes, planned};
use splitreel_backend::lease::{Work, WorkOrder};
use splitreel_core::part::{Cost, TaskResult};
use splitreel_core::ranges::MAX_REQUESTS;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::Progress;
use splitreel_media::ProbeOptions;
use splitreel_worker::source::{HttpSources, SourceAccess, Sources, need};
use std::path::Path;
use tokio::sync::watch;

const MAX_AMPLIFICATION: f64 = 1.05;
/// Without anything kept from one segment to the next: the tables weigh much beside pictures this small.
const MAX_COLD_AMPLIFICATION: f64 = 1.2;

/// Bytes that are read for an order.
async fn read(sources: &HttpSources, order: &WorkOrder) -> u64 {
    let (need, progress) = (need(order), watch::Sender::new(Progress::default()));
    let (source, grant, lease) = (&order.source, order.grant.as_ref(), order.lease);
    let local = sources.local(&SourceAccess { source, grant, lease, need: &need, progress: &progress }).await.unwrap();
    assert!(!local.is_complete() && local.requests() as usize <= MAX_REQUESTS, "{} requests", local.requests());
    local.bytes_read()
}

/// Makes all segments from the local file and over HTTP, and compares.
async fn check(path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = std::fs::metadata(path).unwrap().len();
    let server = Server::start(std::fs::read(path).unwrap()).await;
    let (here, there) = (Source { path, server: None }, Source { path, server: Some(&server) });
    let station = Station::open(ProbeOptions::default()).await;
    let (info, _) = station.probe(&here).await;
    assert!(info.byte_index.is_some(), "{name} has no byte index");
    let plan = planned(&info, 30.0);
    let timeline = plan.timeline.as_ref().unwrap();
    assert_eq!(timeline.segments.len(), 4);
    let keys = &info.video.as_ref().unwrap().frames.keyframes;
    assert!(timeline.segments.iter().all(|s| s.index == 0 || keys.iter().any(|k| k.pts == s.start.get())));
    let (mut warm, mut cold) = (0, 0);
    let dir = tempfile::tempdir().unwrap();
    let keeping = HttpSources::new(fast(dir.path())).unwrap();
    for segment in 0..4 {
        let order = there.order(Work::Video { plan: plan.clone(), segment });
        // A worker that has worked on the source, and one that has seen nothing of it yet.
        warm += read(&keeping, &order).await;
        cold += read(&HttpSources::new(fast(dir.path())).unwrap(), &order).await;
    }
    assert_eq!(server.take_counts().1, warm + cold);
    let (warm, cold) = (warm as f64 / bytes as f64, cold as f64 / bytes as f64);
    println!("{name}: {bytes} bytes, read {warm:.4} times by one worker, {cold:.4} by one worker per segment");
    assert!(warm <= MAX_AMPLIFICATION, "{name}: {warm}");
    assert!(cold <= MAX_COLD_AMPLIFICATION, "{name}: {cold}");
    // The second one as a retry, which reads from further back.
    for (segment, media_failures) in [(1, 0), (2, 1), (3, 0)] {
        let local = station.video(&here, &plan, segment, media_failures).await;
        let fetched = station.video(&there, &plan, segment, media_failures).await;
        assert_eq!(hashes(&fetched), hashes(&local), "{name} segment {segment}");
        let (requests, sent) = server.take_counts();
        assert_eq!((fetched.cost.requests as usize, fetched.cost.bytes_read), (requests, sent), "{name}");
        assert!(sent < bytes / 2, "{name} segment {segment} was not made from ranges");
        assert_eq!((local.cost.requests, station.left_over()), (0, 0));
    }
    assert!(server.conditions().iter().all(|condition| condition.as_deref() == Some("\"v1\"")));
}

/// At a usual bit rate the tables weigh little, even when each segment is read by a worker that has seen nothing of the
/// source.
async fn check_cold(path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = std::fs::metadata(path).unwrap().len();
    assert!(bytes * 8 / 120 > 2_000_000, "{bytes} bytes");
    let server = Server::start(std::fs::read(path).unwrap()).await;
    let there = Source { path, server: Some(&server) };
    let (info, _) = Station::open(ProbeOptions::default()).await.probe(&Source { path, server: None }).await;
    let (plan, dir) = (planned(&info, 30.0), tempfile::tempdir().unwrap());
    let mut cold = 0;
    for segment in 0..4 {
        let order = there.order(Work::Video { plan: plan.clone(), segment });
        cold += read(&HttpSources::new(fast(dir.path())).unwrap(), &order).await;
    }
    assert_eq!(server.take_counts().1, cold);
    let cold = cold as f64 / bytes as f64;
    println!("{name}: {bytes} bytes, read {cold:.4} times by one worker per segment");
    assert!(cold <= MAX_AMPLIFICATION, "{name}: {cold}");
}

#[tokio::test]
async fn cold_workers_read_little_more_of_a_usual_mp4() {
    check_cold(&clips::HEAVY).await;
}

#[tokio::test]
async fn cold_workers_read_little_more_of_a_usual_matroska() {
    check_cold(&remux(&clips::HEAVY, "heavy.mkv", "")).await;
}

#[tokio::test]
async fn cold_workers_read_little_more_of_a_usual_transport_stream() {
    check_cold(&remux(&clips::HEAVY, "heavy.ts", "")).await;
}

#[tokio::test]
async fn mp4_with_its_tables_last() {
    check(&clips::CLOSED).await;
}

#[tokio::test]
async fn mp4_with_its_tables_first() {
    check(&remux(&clips::CLOSED, "first.mp4", "-movflags +faststart")).await;
}

#[tokio::test]
async fn matroska() {
    check(&remux(&clips::CLOSED, "closed.mkv", "")).await;
}

/// ffmpeg finds the frame rate in the packets then, and looks at more of them.
#[tokio::test]
async fn matroska_that_does_not_tell_its_frame_rate() {
    let path = clips::without_frame_duration(&remux(&clips::CLOSED, "closed.mkv", ""), "untold.mkv");
    check(&path).await;
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn matroska_with_open_groups() {
    check(&clips::OPEN).await;
}

#[tokio::test]
async fn matroska_at_29_97() {
    check(&clips::NTSC).await;
}

#[tokio::test]
async fn transport_stream() {
    check(&remux(&clips::CLOSED, "closed.ts", "")).await;
}

#[tokio::test]
async fn transport_stream_that_starts_late_with_open_groups() {
    check(&remux(&clips::OPEN, "late.ts", "-output_ts_offset 95000")).await;
}

#[tokio::test]
async fn mp4_at_29_97_with_open_groups() {
    check(&remux(&clips::NTSC, "ntsc.mp4", "")).await;
    check(&remux(&clips::OPEN, "open.mp4", "")).await;
}

#[tokio::test]
async fn cuts_between_keyframes() {
    for name in ["between.mp4", "between.mkv", "between.ts"] {
        let path = remux(&clips::OPEN, name, "");
        let server = Server::start(std::fs::read(&path).unwrap()).await;
        let (here, there) = (Source { path: &path, server: None }, Source { path: &path, server: Some(&server) });
        let station = Station::open(ProbeOptions::default()).await;
        let (info, _) = station.probe(&here).await;
        let plan = planned(&info, 1.5);
        let timeline = plan.timeline.as_ref().unwrap();
        for index in [1, 21, timeline.segments.len() - 1] {
            let (segment, at) = (&timeline.segments[index], index as u32);
            assert_ne!(segment.seek.first(), Some(&segment.start));
            let local = station.video(&here, &plan, at, 0).await;
            let fetched = station.video(&there, &plan, at, 0).await;
            assert_eq!(hashes(&fetched), hashes(&local), "{name} segment {index}");
            assert!(fetched.cost.bytes_read < info.bytes / 8);
        }
    }
}

/// Makes the sound from the local file and over HTTP; answers what the latter cost.
async fn sound(path: &Path) -> (SourceInfo, Cost) {
    let server = Server::start(std::fs::read(path).unwrap()).await;
    let (here, there) = (Source { path, server: None }, Source { path, server: Some(&server) });
    let station = Station::open(ProbeOptions::default()).await;
    let (info, _) = station.probe(&here).await;
    let plan = planned(&info, 30.0);
    let mut made = Vec::new();
    for source in [&here, &there] {
        match station.run(source.order(Work::Audio { plan: plan.clone(), index: 0 })).await.unwrap() {
            TaskResult::Audio(part) => made.push(part),
            other => panic!("{other:?}"),
        }
    }
    let hashes = |at: usize| made[at].stored.segments.iter().map(|s| s.object.sha256.clone()).collect::<Vec<_>>();
    assert!(!hashes(0).is_empty());
    assert_eq!(hashes(0), hashes(1));
    (info, made[1].cost)
}

#[tokio::test]
async fn sound_among_the_pictures_takes_the_whole_source() {
    let (info, cost) = sound(&clips::CLOSED).await;
    assert_eq!((cost.requests, cost.bytes_read), (1, info.bytes));
}

#[tokio::test]
async fn sound_behind_the_pictures_is_read_alone() {
    let path = clips::apart("apart.mp4");
    let (info, cost) = sound(&path).await;
    assert!(cost.bytes_read < info.bytes / 2, "{cost:?} of {}", info.bytes);
    assert!(cost.requests as usize <= MAX_REQUESTS);
}
