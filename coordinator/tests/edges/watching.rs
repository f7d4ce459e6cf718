//! The watch folder: files become jobs when they rest, once, also across restarts.

use crate::fixture::Deployment;
use splitreel_coordinator::accept::Target;
use splitreel_coordinator::triggers::{FolderWatch, Outcome, WatchConfig, WatchError};
use splitreel_core::fair::Priority;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

fn target(output: Option<&Path>) -> Target {
    Target {
        tenant: "local".into(),
        profile: "universal".into(),
        output: output.map(|path| path.to_str().unwrap().to_owned()),
        priority: Priority::Normal,
    }
}

fn watch(here: &Deployment, folder: &Path, subfolders: bool) -> FolderWatch {
    let config = WatchConfig {
        subfolders,
        suffixes: vec![".mp4".into(), ".MKV".into()],
        ..WatchConfig::new(folder.to_owned(), target(None))
    };
    FolderWatch::new(config, here.records.clone(), here.intake.clone(), here.world.clone()).unwrap()
}

#[tokio::test]
async fn a_file_is_taken_when_its_writer_is_done_and_only_then() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    let mut watch = watch(&here, folder.path(), false);
    let path = folder.path().join("Film one.mp4");
    let mut writer = std::fs::File::create(&path).unwrap();
    for _ in 0..5 {
        writer.write_all(b"more").unwrap();
        assert!(watch.look().await.unwrap().is_empty());
        here.clock.advance(10_000);
    }
    // It rests, but somebody still has it open for writing.
    for _ in 0..3 {
        assert!(watch.look().await.unwrap().is_empty());
        here.clock.advance(10_000);
    }
    drop(writer);
    assert!(matches!(watch.look().await.unwrap()[..], [Outcome::Started(_)]));
    here.clock.advance(10_000);
    assert!(watch.look().await.unwrap().is_empty());
    let jobs = here.jobs().await;
    assert_eq!((jobs.len(), jobs[0].request.base.as_str(), jobs[0].request.source.bytes), (1, "Film_one", 20));
}

#[tokio::test]
async fn files_wait_in_the_folder_for_room_in_the_quota() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    here.save_quota("local", Some(1)).await;
    for name in ["a.mp4", "b.mp4"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let mut watch = watch(&here, folder.path(), false);
    let mut taken = 0;
    for _ in 0..5 {
        taken += watch.look().await.unwrap().len();
        here.clock.advance(10_000);
    }
    assert_eq!((taken, here.jobs().await.len()), (1, 1));
    here.cancel_all().await;
    assert!(matches!(watch.look().await.unwrap()[..], [Outcome::Started(_)]));
    assert_eq!(here.jobs().await.len(), 2);
}

#[tokio::test]
async fn a_restart_takes_nothing_twice_even_when_the_job_is_forgotten() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.mp4"), b"one").unwrap();
    let looks = async |watch: &mut FolderWatch| {
        watch.look().await.unwrap();
        here.clock.advance(10_000);
        watch.look().await.unwrap()
    };
    assert!(matches!(looks(&mut watch(&here, folder.path(), false)).await[..], [Outcome::Started(_)]));
    assert_eq!(looks(&mut watch(&here, folder.path(), false)).await, [Outcome::NoRule]);
    std::fs::write(folder.path().join("a.mp4"), b"another").unwrap();
    assert!(matches!(looks(&mut watch(&here, folder.path(), false)).await[..], [Outcome::Started(_)]));
    assert_eq!(here.jobs().await.len(), 2);
}

#[tokio::test]
async fn only_wanted_files_of_wanted_folders_are_taken() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for name in ["a.MP4", "b.mkv", "c.txt", ".d.mp4", "e.mp4.part", "sub/f.mp4"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    std::fs::write(folder.path().join("empty.mp4"), b"").unwrap();
    for (subfolders, expected) in [(false, 2), (true, 3)] {
        let mut watch = watch(&here, folder.path(), subfolders);
        watch.look().await.unwrap();
        here.clock.advance(10_000);
        watch.look().await.unwrap();
        assert_eq!(here.jobs().await.len(), expected);
    }
}

#[tokio::test]
async fn a_failure_of_storage_is_tried_again() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.mp4"), b"one").unwrap();
    let mut watch = watch(&here, folder.path(), false);
    watch.look().await.unwrap();
    here.clock.advance(10_000);
    here.grants.is_down.store(true, Ordering::SeqCst);
    assert!(watch.look().await.unwrap().is_empty());
    here.grants.is_down.store(false, Ordering::SeqCst);
    assert!(matches!(watch.look().await.unwrap()[..], [Outcome::Started(_)]));
}

#[tokio::test]
async fn an_output_inside_the_folder_is_refused() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    let make = |output: &Path| {
        let config = WatchConfig::new(folder.path().to_owned(), target(Some(output)));
        FolderWatch::new(config, here.records.clone(), here.intake.clone(), here.world.clone()).map(|_| ())
    };
    assert!(matches!(make(&folder.path().join("out/new")), Err(WatchError::OutputInside { .. })));
    assert!(matches!(make(folder.path()), Err(WatchError::OutputInside { .. })));
    let beside = tempfile::tempdir().unwrap();
    assert!(make(&beside.path().join("out")).is_ok());
    std::os::unix::fs::symlink(folder.path(), beside.path().join("link")).unwrap();
    assert!(matches!(make(&beside.path().join("link/out")), Err(WatchError::OutputInside { .. })));
    let config = WatchConfig::new(folder.path().join("none"), target(None));
    let missing = FolderWatch::new(config, here.records.clone(), here.intake.clone(), here.world.clone());
    assert!(matches!(missing.map(|_| ()), Err(WatchError::Folder { .. })));
}

#[tokio::test]
async fn it_runs_until_it_is_stopped() {
    let here = Deployment::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.mp4"), b"one").unwrap();
    let mut config = WatchConfig::new(folder.path().to_owned(), target(None));
    config.every = std::time::Duration::from_millis(5);
    config.settle_ms = 0;
    let mut watch = FolderWatch::new(config, here.records.clone(), here.intake.clone(), here.world.clone()).unwrap();
    let stop = CancellationToken::new();
    let waits = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        for _ in 0..2000 {
            tick.tick().await;
            if here.jobs().await.len() == 1 {
                break;
            }
        }
        stop.cancel();
    };
    tokio::join!(watch.run(&stop), waits);
    assert_eq!(here.jobs().await.len(), 1);
}
