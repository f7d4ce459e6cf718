//! A directory of real files, where there is one: `SPLITREEL_MEDIA_DIR=… cargo test -p splitreel-media -- --ignored`.

use crate::clips::{Dir, probe};
use crate::pieces::assert_exact;
use crate::planning::{plan, rendition};
use crate::sound;
use std::sync::Arc;

#[tokio::test]
#[ignore = "needs a directory of media files in SPLITREEL_MEDIA_DIR"]
async fn every_usable_file_is_cut_exactly() {
    let corpus = std::env::var_os("SPLITREEL_MEDIA_DIR").expect("SPLITREEL_MEDIA_DIR is set");
    let only = std::env::var("SPLITREEL_MEDIA_ONLY").unwrap_or_default();
    let mut failed = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files.into_iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let dir = Dir::new();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let info = match probe(&path, dir.path()).await {
            Ok(found) => found.info,
            Err(failure) => {
                println!("{name}: {}", failure.code);
                continue;
            }
        };
        let frames = info.video.as_ref().map_or(0, |video| video.frames.pts.len() as usize);
        println!("{name}: {frames} frames, {} sounds", info.audio.len());
        let mut made = plan(&info, &[frames / 3, frames * 2 / 3], vec![rendition("a", 160, 90)]);
        if let Some(video) = made.video.as_mut() {
            video.renditions[0].level = String::new();
        }
        let work = dir.sub("work");
        let shared = Arc::new(made.clone());
        for track in 0..info.audio.len().min(2) {
            let out = sound::encode(&path, &shared, track as u32, &work).await;
            println!("   sound {track}: {:?} of {} Hz", out.facts, info.audio[track].sample_rate);
        }
        if made.video.is_some() {
            let task = tokio::spawn(async move { assert_exact(&path, &info, made, &work).await });
            if let Err(error) = task.await {
                failed.push(format!("{name}: {error}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
