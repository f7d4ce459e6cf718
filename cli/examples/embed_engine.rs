//! Runs the engine inside another program: SQLite and a directory for the state, no server, no second process but
//! ffmpeg.
//!
//! ```text
//! cargo run -p splitreel --example embed_engine -- film.mp4 film.streams
//! ```

use anyhow::{Context, bail};
use splitreel_assembler::Assembler;
use splitreel_assembler::export::export;
use splitreel_assembler::output::{OutputLock, Permit, Whose};
use splitreel_backend::channel::ChannelDoorbell;
use splitreel_backend::grants::pin_file;
use splitreel_backend::store::Submitted;
use splitreel_backend::{BlobStore, Doorbell, JobStore, Leases, World};
use splitreel_backend_embedded::{LocalBlobs, SqliteStore};
use splitreel_coordinator::Coordinator;
use splitreel_core::WorkerId;
use splitreel_core::job::{Job, JobRequest};
use splitreel_core::names::output_base;
use splitreel_core::part::{Presentation, TaskResult};
use splitreel_core::planner::Capabilities;
use splitreel_core::profile::Profile;
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions, ToolPaths};
use splitreel_worker::Worker;
use splitreel_worker::source::LocalSources;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(output)) = (args.next(), args.next()) else { bail!("usage: embed_engine FILE OUTPUT") };
    let state = tempfile::tempdir()?;
    // The seams: where jobs and objects live. A cluster has Postgres and S3 in their place.
    let store: Arc<dyn JobStore> = Arc::new(SqliteStore::open(&state.path().join("jobs.db")).await?);
    let blobs: Arc<dyn BlobStore> = Arc::new(LocalBlobs::open(state.path().join("objects")).await?);
    let stop = CancellationToken::new();
    let (coordinator, running) = start(&store, &blobs, &state.path().join("scratch"), &stop).await?;

    let (job, presentation) = transcode(&coordinator, store.as_ref(), &file).await?;
    // The presentation lists every file; the export puts them into a directory that appears whole. The lock keeps other
    // processes away from the directory, the permit says what of it may be replaced.
    let lock = OutputLock::acquire(&std::path::absolute(&output)?, "")?;
    let permit = Permit { job: job.id.to_string(), base: job.request.base, whose: Whose::Job };
    export(&*blobs, &presentation, &lock, &permit).await?;
    println!("{output}/master.m3u8");
    stop.cancel();
    running.await?;
    Ok(())
}

/// Starts the three roles. All work reaches them through the doorbell; what is true is in the store.
async fn start(
    store: &Arc<dyn JobStore>,
    blobs: &Arc<dyn BlobStore>,
    scratch: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<(Coordinator, JoinHandle<()>)> {
    let (doorbell, world): (Arc<dyn Doorbell>, _) = (Arc::new(ChannelDoorbell::default()), World::machine());
    let ffmpeg = Arc::new(Ffmpeg::detect(&ToolPaths::from_env()).await?);
    let config = splitreel_coordinator::Config {
        capabilities: Capabilities {
            encoders: ffmpeg.encoders.iter().cloned().collect(),
            filters: ffmpeg.filters.iter().cloned().collect(),
        },
        pump_every: Duration::from_millis(200),
        ..splitreel_coordinator::Config::default()
    };
    let coordinator =
        Coordinator::new(Arc::clone(store), Arc::clone(blobs), Arc::clone(&doorbell), world.clone(), config);
    let leases: Arc<dyn Leases> = Arc::new(coordinator.clone());
    let id = WorkerId("embedded".to_owned());
    let tools = FfmpegToolkit::new(ffmpeg, scratch.to_owned(), Limits::default(), ProbeOptions::default());
    let worker = Worker::new(
        splitreel_worker::Config { id: id.clone(), slots: 2 },
        Arc::clone(&leases),
        Arc::clone(&doorbell),
        Arc::clone(blobs) as _,
        Arc::new(LocalSources),
        Arc::new(tools),
        Arc::clone(&world.ids),
    );
    let config = splitreel_assembler::Config { id, slots: 1 };
    let assembler = Assembler::new(config, leases, doorbell, Arc::clone(blobs), Arc::clone(&world.ids));
    let (engine, stop) = (coordinator.clone(), stop.clone());
    let running = tokio::spawn(async move {
        let (drain, more) = (stop.clone(), stop.clone());
        tokio::join!(engine.run(stop.clone()), worker.run(drain.clone(), stop), assembler.run(drain, more));
    });
    Ok((coordinator, running))
}

/// Submits a file and waits for its presentation. A job is a pinned source and a profile: plan and output follow from
/// the two.
async fn transcode(coordinator: &Coordinator, store: &dyn JobStore, file: &str) -> anyhow::Result<(Job, Presentation)> {
    let request = JobRequest {
        tenant: "local".to_owned(),
        idempotency_key: "first".to_owned(),
        base: output_base(file),
        source: pin_file(Path::new(file)).with_context(|| file.to_owned())?,
        profile: Profile::built_in("universal").context("no such profile")?,
        priority: Default::default(),
        deep_probe: false,
        output: None,
        trace: Default::default(),
    };
    let Submitted::Created(job) = coordinator.submit(request).await? else { bail!("the key was used before") };
    let ended = loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let job = store.job(job.id).await?.context("the job is gone")?;
        if job.state.is_ended() {
            break job;
        }
    };
    if let Some(failure) = &ended.failure {
        bail!("{}: {}", failure.code, failure.message);
    }
    let mut results = store.tasks(job.id).await?.into_iter().filter_map(|task| task.result);
    let published = results.find_map(|result| if let TaskResult::Assemble(p) = result { Some(p) } else { None });
    Ok((ended, published.context("nothing was published")?))
}
