//! Behaviours of an output store.

use super::OutputHarness;
use super::fixture::{job_id, request};
use bytes::Bytes;
use splitreel_core::digest::sha256_hex;
use splitreel_core::job::Job;
use splitreel_core::part::{PresentationFile, StoredObject};

/// Paths in order, media last: a store that copied in this order would show manifests too early.
const PATHS: [&str; 6] =
    ["report.json", "manifest.mpd", "master.m3u8", "v/720p/playlist.m3u8", "v/720p/init.mp4", "v/720p/seg-00001.m4s"];
const MEDIA: &str = "v/720p/seg-00001.m4s";

fn job(n: u128) -> Job {
    let mut request = request("t", &n.to_string());
    request.base = format!("film-{n}");
    request.source.locator = format!("/media/film-{n}.mkv");
    Job::new(job_id(n), request, 0).0
}

fn content(job: &Job, path: &str) -> Bytes {
    if path == "report.json" {
        return format!(r#"{{"run": {{"job": "{}"}}}}"#, job.id).into();
    }
    format!("{path} of {}", job.id).into()
}

fn files(job: &Job) -> Vec<PresentationFile> {
    let file = |path: &&str| {
        let bytes = content(job, path);
        let object = StoredObject {
            key: format!("jobs/{}/9/1-x/{path}", job.id),
            bytes: bytes.len() as u64,
            sha256: sha256_hex(&bytes),
        };
        PresentationFile { path: (*path).to_owned(), object }
    };
    PATHS.iter().map(file).collect()
}

/// Stores the objects behind the files but that of `missing`.
async fn store(harness: &dyn OutputHarness, job: &Job, missing: Option<&str>) {
    let blobs = harness.blobs().await;
    for file in files(job).iter().filter(|file| Some(file.path.as_str()) != missing) {
        blobs.put(&file.object.key, content(job, &file.path)).await.unwrap();
    }
}

async fn assert_copied(harness: &dyn OutputHarness, job: &Job) {
    for path in PATHS {
        assert_eq!(harness.content(job, path).await, Some(content(job, path)), "{path}");
    }
}

/// Every file arrives under its path.
pub async fn every_file_is_copied(harness: &dyn OutputHarness) {
    let job = job(1);
    store(harness, &job, None).await;
    harness.open().await.copy(&job, &files(&job), &harness.location()).await.unwrap();
    assert_copied(harness, &job).await;
}

/// A coordinator whose copy was cut off, or another one, copies again with the same result.
pub async fn a_copy_can_be_repeated(harness: &dyn OutputHarness) {
    let job = job(1);
    store(harness, &job, None).await;
    for _ in 0..2 {
        harness.open().await.copy(&job, &files(&job), &harness.location()).await.unwrap();
        assert_copied(harness, &job).await;
    }
}

/// As long as media is missing, no manifest names it: the copy fails, shows no manifest, and succeeds later.
pub async fn manifests_wait_for_the_media_they_name(harness: &dyn OutputHarness) {
    let job = job(1);
    store(harness, &job, Some(MEDIA)).await;
    let failed = harness.open().await.copy(&job, &files(&job), &harness.location()).await;
    assert_eq!(failed.unwrap_err().location, harness.location());
    for manifest in PATHS.iter().filter(|path| !path.starts_with("v/720p/init") && **path != MEDIA) {
        assert_eq!(harness.content(&job, manifest).await, None, "{manifest}");
    }
    store(harness, &job, None).await;
    harness.open().await.copy(&job, &files(&job), &harness.location()).await.unwrap();
    assert_copied(harness, &job).await;
}

/// Two jobs with one destination do not overwrite each other.
pub async fn jobs_at_one_location_do_not_mix(harness: &dyn OutputHarness) {
    let (first, second) = (job(1), job(2));
    for job in [&first, &second] {
        store(harness, job, None).await;
        harness.open().await.copy(job, &files(job), &harness.location()).await.unwrap();
    }
    assert_copied(harness, &first).await;
    assert_copied(harness, &second).await;
}

/// A location that cannot be written to is an error that names it.
pub async fn an_unusable_location_is_an_error(harness: &dyn OutputHarness) {
    let job = job(1);
    store(harness, &job, None).await;
    let location = harness.unusable_location();
    let failed = harness.open().await.copy(&job, &files(&job), &location).await;
    assert_eq!(failed.unwrap_err().location, location);
}
