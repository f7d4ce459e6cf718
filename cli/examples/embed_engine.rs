//! Runs the engine inside another program: SQLite and a directory for the state, no server, no second process but
//! ffmpeg.
//!
//! ```text
//! cargo run -p splitreel --example embed_engine -- film.mp4 film.streams
//! ```

use anyhow::{Context, bail};
use splitreel_assembler::Assembler;
use splitreel_assembler::export::export;
use splitreel_backend::memory::ChannelDoorbell;
use splitreel_backend::store::Submitted;
use splitreel_backend::{BlobStore, Doorbell, JobStore, Leases, World};
use splitreel_backend_embedded::{LocalBlobs, SqliteStore};
use splitreel_coordinator::Coordinator;
use splitreel_core::WorkerId;
use splitreel_core::job::{JobRequest, output_base};
use splitreel_core::part::TaskResult;
use splitreel_core::planner::Capabilities;
use splitreel_core::profile::Profile;
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions, ToolPaths};
use splitreel_worker::Worker;
use splitreel_worker::ffmpeg::FfmpegTools;
use splitreel_worker::source::{LocalSources, pin};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(output)) = (args.next(), args.next()) else { bail!("usage: embed_engine FILE OUTPUT") };
    let state = tempfile::tempdir()?;

    // The seams: where jobs, objects and notifications live. A cluster has Postgres, S3 and RabbitMQ in their place.
    let store: Arc<dyn JobStore> = Arc::new(SqliteStore::open(&state.path().join("jobs.db")).await?);
    let blobs: Arc<dyn BlobStore> = Arc::new(LocalBlobs::open(state.path().join("objects")).await?);
    let doorbell: Arc<dyn Doorbell> = Arc::new(ChannelDoorbell::default());
    let world = World::machine();

    // The three roles. All work arrives through the doorbell; what is true is in the store.
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
        Coordinator::new(Arc::clone(&store), Arc::clone(&blobs), Arc::clone(&doorbell), world.clone(), config);
    let leases: Arc<dyn Leases> = Arc::new(coordinator.clone());
    let id = WorkerId("embedded".to_owned());
    let tools = FfmpegTools::new(
        FfmpegToolkit::new(ffmpeg),
        state.path().join("scratch"),
        Limits::default(),
        ProbeOptions::default(),
    );
    let worker = Worker::new(
        splitreel_worker::Config { id: id.clone(), slots: 2 },
        Arc::clone(&leases),
        Arc::clone(&doorbell),
        Arc::clone(&blobs),
        Arc::new(LocalSources),
        Arc::new(tools),
        Arc::clone(&world.ids),
    );
    let assembler = Assembler::new(
        splitreel_assembler::Config { id, slots: 1 },
        leases,
        doorbell,
        Arc::clone(&blobs),
        Arc::clone(&world.ids),
    );
    let stop = CancellationToken::new();
    let (c, w, a, s) = (coordinator.clone(), worker, assembler, stop.clone());
    let running = tokio::spawn(async move { tokio::join!(c.run(s.clone()), w.run(s.clone(), s.clone()), a.run(s.clone(), s)) });

    // A job is a pinned source and a profile. The plan, and with it every output byte, follows from the two.
    let source = pin(Path::new(&file)).context(file.clone())?;
    let request = JobRequest {
        tenant: "local".to_owned(),
        idempotency_key: world.ids.fresh().to_string(),
        base: output_base(&file),
        source,
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
    if let Some(failure) = ended.failure {
        bail!("{}: {}", failure.code, failure.message);
    }

    // The assemble task's result lists every file; exporting puts them into a directory that appears whole.
    let results = store.tasks(job.id).await?.into_iter().filter_map(|task| task.result);
    let presentation = results.filter_map(|r| if let TaskResult::Assemble(p) = r { Some(p) } else { None }).next();
    export(blobs.as_ref(), &presentation.context("nothing was published")?, Path::new(&output)).await?;
    println!("{output}/master.m3u8");
    stop.cancel();
    running.await?;
    Ok(())
}
