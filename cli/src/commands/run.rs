//! `run`, `repackage` and `retry`: submit or take up jobs, serve them until they end, lay out the results.

use super::jobs::{existing_store, find, store_problem};
use super::target::{Destination, Holds, Output, base_of, pin_source};
use super::watch::{Served, Watch};
use crate::config::{Config, EncodeArgs};
use crate::display::{Display, OutputArgs};
use crate::engine::{self, Backends, Terms};
use crate::exit::{Exit, Problem};
use crate::roles::settings::Upstream;
use crate::state::{State, process_name};
use clap::Args;
use sha2::{Digest, Sha256};
use splitreel_backend::grants::{file_locator, local_path};
use splitreel_backend::store::{JobFilter, Submitted};
use splitreel_core::JobId;
use splitreel_core::job::{Job, JobRequest, JobState};
use splitreel_core::plan::hex;
use splitreel_core::profile::Profile;
use splitreel_media::Ffmpeg;
use splitreel_telemetry::trace::{self, Parent};
use std::path::PathBuf;
use std::sync::Arc;
use tracing::Instrument;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Files to transcode.
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Output directory (default: the input's name without extension plus .streams, in the current directory).
    /// With several inputs each gets a directory of its own inside.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub encode: EncodeArgs,
    /// Attempts at the same time (default: one per core).
    #[arg(long, env = "SPLITREEL_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Start over, and replace whatever the output directory holds.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub show: OutputArgs,
}

/// Arguments of `repackage`.
#[derive(Debug, Args)]
pub struct RepackageArgs {
    /// File to package.
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Output directory.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Also make a chunk set with chunks of this size in MiB (16 to 128; 0 = none).
    #[arg(long, env = "SPLITREEL_CHUNK_MB", value_name = "N")]
    pub chunk_mb: Option<u32>,
    /// Keep the single MP4 beside the chunk set.
    #[arg(long)]
    pub keep_full: bool,
    /// Number of the programme of a multiplex [default: that of the default or largest picture].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub programme: Option<u32>,
    /// Start over, and replace whatever the output directory holds.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub show: OutputArgs,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Job id, or its beginning.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Attempts at the same time (default: one per core).
    #[arg(long, env = "SPLITREEL_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    #[command(flatten)]
    pub show: OutputArgs,
    #[command(flatten)]
    pub upstream: Upstream,
}

/// The one tenant of a laptop.
const TENANT: &str = "local";

/// `run`.
pub async fn run(config: &Config, args: RunArgs) -> Result<Exit, Problem> {
    let profile = config.profile(&args.encode)?;
    let slots = config.workers(args.workers)?;
    let inputs = pinned(&args.inputs, &profile)?;
    let destination = Destination::of(args.output, inputs.len());
    carry_out(config, inputs, &destination, slots, args.force, args.show).await
}

/// `repackage`.
pub async fn repackage(config: &Config, args: RepackageArgs) -> Result<Exit, Problem> {
    let encode = EncodeArgs {
        profile: Some("passthrough".into()),
        segment_seconds: None,
        chunk_mb: args.chunk_mb,
        keep_full: args.keep_full,
        programme: args.programme,
    };
    let profile = config.profile(&encode)?;
    let inputs = pinned(&[args.input], &profile)?;
    carry_out(config, inputs, &Destination::Exactly(args.output), 2, args.force, args.show).await
}

/// An input and what is to be made of it, without a place for it yet.
struct Input {
    path: PathBuf,
    request: JobRequest,
}

fn pinned(inputs: &[PathBuf], profile: &Profile) -> Result<Vec<Input>, Problem> {
    let mut pinned: Vec<Input> = Vec::new();
    for path in inputs {
        let source = pin_source(path)?;
        if pinned.iter().any(|other| other.request.source == source) {
            return Err(Problem::usage(format!("{}: this file is given twice", path.display())));
        }
        let request = JobRequest {
            tenant: TENANT.into(),
            idempotency_key: String::new(),
            base: base_of(path),
            priority: Default::default(),
            profile: profile.clone(),
            deep_probe: false,
            output: None,
            trace: Default::default(),
            source,
        };
        pinned.push(Input { path: path.clone(), request });
    }
    Ok(pinned)
}

/// One input and where its presentation goes.
struct Wanted {
    request: JobRequest,
    output: Output,
}

/// Finds and locks an output directory for every input.
async fn placed(
    backends: &Backends,
    inputs: Vec<Input>,
    destination: &Destination,
    force: bool,
) -> Result<Vec<Wanted>, Problem> {
    let open = unfinished(backends).await?;
    let places = open.iter().filter_map(|job| {
        let place = local_path(job.request.output.as_deref()?)?;
        Some((place, job.request.source.locator.clone()))
    });
    let reserved: Vec<(PathBuf, String)> = places.collect();
    let (mut wanted, mut taken): (Vec<Wanted>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for Input { path, mut request } in inputs {
        let output = destination.claim(&path, &request.source.locator, &taken, &reserved, force)?;
        taken.push(output.dir().to_owned());
        request.output = Some(file_locator(output.dir()));
        wanted.push(Wanted { request, output });
    }
    Ok(wanted)
}

impl Wanted {
    /// Same source version, settings, output and tools: same job.
    fn key(&mut self, ffmpeg: &Ffmpeg) {
        let mut hash = Sha256::new();
        for part in [&self.request.source.locator, &self.request.source.version, &ffmpeg.build_id] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(self.request.source.bytes.to_le_bytes());
        hash.update(serde_json::to_vec(&self.request.profile).unwrap_or_default());
        hash.update(self.request.output.as_deref().unwrap_or_default());
        hash.update([u8::from(self.request.deep_probe)]);
        self.request.idempotency_key = hex(&hash.finalize());
    }
}

async fn carry_out(
    config: &Config,
    inputs: Vec<Input>,
    destination: &Destination,
    slots: usize,
    force: bool,
    show: OutputArgs,
) -> Result<Exit, Problem> {
    let ffmpeg = engine::detect().await?;
    let state = State::open(&config.state, &process_name())?;
    let backends = engine::open(&state).await?;
    engine::forget_old(&backends).await;
    let mut display = Display::new(show.json, show.quiet);
    let mut served = Vec::new();
    for mut w in placed(&backends, inputs, destination, force).await? {
        w.key(&ffmpeg);
        if let Some((job, num_reused)) = accept(&backends, &w, force, &mut display).await? {
            served.push(Served { job, output: Some(w.output), num_reused });
        }
    }
    let exit = serve(&state, &backends, &ffmpeg, served, slots, &mut display).await?;
    display.finish();
    Ok(exit)
}

/// Submits, or takes up what is there. Answers the job and how many of its tasks are done; `None`: nothing to do.
async fn accept(
    backends: &Backends,
    w: &Wanted,
    force: bool,
    display: &mut Display,
) -> Result<Option<(Job, usize)>, Problem> {
    let now = || backends.world.clock.now_ms();
    let store = &backends.store;
    let mut notice = None;
    let mut tried = 0;
    let job = loop {
        tried += 1;
        let id = JobId(backends.world.ids.fresh());
        let submitted = match held_job(backends, w).await? {
            Some(job) if tried == 1 => Submitted::Existing(job),
            _ => {
                let span = trace::job(id, &w.request.tenant);
                let request = JobRequest { trace: Parent::of(&span).kept(), ..w.request.clone() };
                store.submit(id, request, now()).instrument(span).await.map_err(|e| store_problem(&e))?
            }
        };
        match submitted {
            Submitted::Created(job) => break job,
            // The key is a hash of the request: another one under it is a relic of an older version.
            Submitted::KeyReused(old) if tried < 3 => discard(backends, old).await?,
            Submitted::KeyReused(old) => {
                return Err(Problem::failed(format!("job {old} cannot be replaced: use another --state")));
            }
            Submitted::Existing(job) if force && tried < 3 => discard(backends, job.id).await?,
            Submitted::Existing(job) => match job.state {
                JobState::Published if w.output.holds.is_of(job.id) => {
                    display.say(format!(
                        "{}: up to date (job {}); --force starts over",
                        w.output.dir().display(),
                        job.id
                    ));
                    return Ok(None);
                }
                // Published, but its directory is gone: its objects may be gone too.
                JobState::Published if !has_presentation(backends, &job).await && tried < 3 => {
                    discard(backends, job.id).await?
                }
                JobState::Failed | JobState::Cancelled => {
                    store.retry(job.id, now()).await.map_err(|e| store_problem(&e))?;
                    notice = Some("retrying");
                    break store.job(job.id).await.map_err(|e| store_problem(&e))?.unwrap_or(job);
                }
                _ => {
                    notice = Some("resuming");
                    break job;
                }
            },
        }
    };
    match &w.output.holds {
        Holds::Nothing => {}
        _ if force => {}
        holds if holds.is_of(job.id) => {}
        holds => {
            if notice.is_none() {
                discard(backends, job.id).await?;
            }
            let refusal = holds.refusal(w.output.dir());
            return Err(refusal.line("give another with -o, or --force to replace it"));
        }
    }
    supersede(backends, &job).await?;
    let mut tasks = store.tasks(job.id).await.map_err(|e| store_problem(&e))?;
    tasks.retain(|task| job.owns(task));
    let done = tasks.iter().filter(|t| t.result.is_some()).count();
    if let Some(word) = notice {
        display.say(format!("{word} job {}: {done} of {} known tasks are done and kept", job.id, tasks.len()));
    }
    Ok(Some((job, done)))
}

/// The job whose presentation the output directory holds, when it is one of an older version for the same request: a
/// deep probe that became necessary made another job then.
async fn held_job(backends: &Backends, w: &Wanted) -> Result<Option<Job>, Problem> {
    let Holds::Presentation { job, .. } = &w.output.holds else { return Ok(None) };
    let Ok(id) = job.parse() else { return Ok(None) };
    let held = backends.store.job(id).await.map_err(|e| store_problem(&e))?;
    Ok(held.filter(|j| {
        let alike = JobRequest { deep_probe: false, idempotency_key: String::new(), ..j.request.clone() };
        j.request.deep_probe && alike == JobRequest { idempotency_key: String::new(), ..w.request.clone() }
    }))
}

/// Whether the objects of a published job are still there to be laid out.
async fn has_presentation(backends: &Backends, job: &Job) -> bool {
    let tasks = backends.store.tasks(job.id).await.unwrap_or_default();
    let Some(p) = super::watch::presentation_of(&tasks) else { return false };
    splitreel_assembler::export::catalogue(&*backends.blobs, &p).await.is_ok()
}

/// Forgets a job and deletes its objects.
async fn discard(backends: &Backends, job: JobId) -> Result<(), Problem> {
    let now = backends.world.clock.now_ms();
    backends.store.cancel(job, now).await.map_err(|e| store_problem(&e))?;
    let caretaker = backends.coordinator(Vec::new(), Default::default(), 1);
    caretaker.release_objects(job).await.map_err(|e| Problem::because("old objects cannot be deleted", &e))?;
    backends.store.forget(job).await.map_err(|e| store_problem(&e))?;
    Ok(())
}

/// Jobs that have not ended.
async fn unfinished(backends: &Backends) -> Result<Vec<Job>, Problem> {
    let open = JobFilter {
        states: vec![JobState::Probing, JobState::Planning, JobState::Running],
        limit: 10_000,
        ..JobFilter::default()
    };
    backends.store.jobs(open).await.map_err(|e| store_problem(&e))
}

/// Unfinished jobs for the same directory, of other settings or an older source, will never be finished.
async fn supersede(backends: &Backends, job: &Job) -> Result<(), Problem> {
    for other in unfinished(backends).await? {
        if other.id != job.id && other.request.output == job.request.output {
            discard(backends, other.id).await?;
        }
    }
    Ok(())
}

/// `retry`.
pub async fn retry(config: &Config, args: RetryArgs) -> Result<Exit, Problem> {
    let slots = config.workers(args.workers)?;
    let found = find(existing_store(config).await?.as_ref(), &args.job).await?;
    let ffmpeg = engine::detect().await?;
    let state = State::open(&config.state, &process_name())?;
    let backends = engine::open(&state).await?;
    engine::forget_old(&backends).await;
    let store = &backends.store;
    store.retry(found.id, backends.world.clock.now_ms()).await.map_err(|e| store_problem(&e))?;
    let job = store.job(found.id).await.map_err(|e| store_problem(&e))?.unwrap_or(found);
    let mut display = Display::new(args.show.json, args.show.quiet);
    let dir = job.request.output.as_deref().and_then(local_path);
    if job.state == JobState::Published && dir.as_ref().is_some_and(|d| d.join("report.json").is_file()) {
        display.say(format!("job {} is done: nothing to retry", job.id));
        return Ok(Exit::Done);
    }
    let output = dir.map(|dir| Output::claim(&dir, &job.request.source.locator, false)).transpose()?;
    if let Some(Output { holds, lock, .. }) = &output
        && !matches!(holds, Holds::Nothing)
        && !holds.is_of(job.id)
    {
        let advice = "move it away, or use splitreel run with another -o, or with --force to replace it";
        return Err(holds.refusal(lock.dir()).line(advice));
    }
    let mut tasks = store.tasks(job.id).await.map_err(|e| store_problem(&e))?;
    tasks.retain(|task| job.owns(task));
    let num_reused = tasks.iter().filter(|t| t.result.is_some()).count();
    display.say(format!("retrying job {}: {num_reused} of {} known tasks are done and kept", job.id, tasks.len()));
    let exit = serve(&state, &backends, &ffmpeg, vec![Served { job, output, num_reused }], slots, &mut display).await?;
    display.finish();
    Ok(exit)
}

/// Runs the services until all jobs have ended or the user interrupts.
async fn serve(
    state: &State,
    backends: &Backends,
    ffmpeg: &Arc<Ffmpeg>,
    jobs: Vec<Served>,
    slots: usize,
    display: &mut Display,
) -> Result<Exit, Problem> {
    if jobs.is_empty() {
        return Ok(Exit::Done);
    }
    let ids = jobs.iter().map(|j| j.job.id).collect();
    let mut engine = backends.start(state, ffmpeg, Terms::of_one_person(ids, slots));
    let mut watch = Watch::new(backends, jobs);
    let outcome = watch.until_ended(&mut engine, display).await;
    engine.stop().await;
    outcome
}
