//! Watches jobs while the engine runs them: progress, preview, results, failures, Ctrl-C.

use super::jobs::store_problem;
use super::target::Output;
use crate::display::{Display, Snapshot};
use crate::engine::{Backends, Engine};
use crate::exit::{Exit, Problem};
use crate::observe::{Seen, label};
use splitreel_assembler::export::{ExportError, export};
use splitreel_assembler::output::Permit;
use splitreel_assembler::preview::{self, PreviewDir};
use splitreel_backend::StoreError;
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::{AudioPart, Presentation, TaskResult, VideoPart};
use splitreel_core::plan::{Plan, Timeline};
use splitreel_core::task::{Progress, Task, TaskKind};
use splitreel_core::{Failure, FailureClass, JobId, LeaseId, TaskId};
use splitreel_presentation::{Preview, Rows};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;

/// How often the display is brought up to date and the job rows are looked at.
const TICK: Duration = Duration::from_millis(150);
/// Milliseconds after which a state directory that cannot be written ends the run.
const PATIENCE_MS: i64 = 10_000;

/// Lines of ffmpeg's own words that are shown; all of them are in `splitreel status`.
const EVIDENCE_LINES: usize = 5;

/// A job to be served.
pub struct Served {
    /// Its row.
    pub job: Job,
    /// Where it is laid out.
    pub output: Option<Output>,
    /// Tasks that were done before.
    pub num_reused: usize,
}

/// The presentation that a job's assemble task published.
pub fn presentation_of(tasks: &[Task]) -> Option<Presentation> {
    tasks.iter().find_map(|t| match &t.result {
        Some(TaskResult::Assemble(p)) => Some(p.clone()),
        _ => None,
    })
}

/// A failure for people: the file, what is wrong, and ffmpeg's last words.
pub fn failed(locator: &str, f: &Failure) -> Problem {
    let mut lines = vec![format!("{locator}: {}", without_name(&f.message, locator))];
    let skip = f.evidence.len().saturating_sub(EVIDENCE_LINES);
    lines.extend(f.evidence.iter().skip(skip).map(|l| format!("ffmpeg: {l}")));
    Problem { exit: Exit::of_failure(f), lines }
}

/// A failure's message without the name of the source that it begins with: what people call the source goes there.
pub fn without_name<'m>(message: &'m str, locator: &str) -> &'m str {
    let name = Path::new(locator).file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    message.strip_prefix(&format!("{name:?}: ")).unwrap_or(message)
}

/// What is running now.
struct Running {
    task: TaskId,
    label: String,
    progress: Option<watch::Receiver<Progress>>,
}

/// One watched job.
struct Watched {
    served: Served,
    name: String,
    plan: Option<Arc<Plan>>,
    /// Generation of the job that is watched.
    generation: u32,
    costs: BTreeMap<u32, u64>,
    total_cost: u64,
    done_cost: u64,
    num_tasks: usize,
    num_done: usize,
    video: Vec<VideoPart>,
    audio: Vec<Option<AudioPart>>,
    preview: Option<PreviewDir>,
    is_previewed: bool,
    last_event: i64,
    exit: Option<Exit>,
    started: Instant,
    cost_at_start: u64,
}

/// Watches a set of jobs.
pub struct Watch<'a> {
    backends: &'a Backends,
    jobs: BTreeMap<JobId, Watched>,
    running: BTreeMap<LeaseId, Running>,
}

impl<'a> Watch<'a> {
    /// Watches the jobs, from where they are.
    pub fn new(backends: &'a Backends, jobs: Vec<Served>) -> Self {
        let watched = jobs.into_iter().map(|served| {
            let name = Path::new(&served.job.request.source.locator)
                .file_name()
                .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            let w = Watched {
                name,
                plan: None,
                generation: served.job.generation,
                costs: BTreeMap::new(),
                total_cost: 0,
                done_cost: 0,
                num_tasks: 0,
                num_done: 0,
                video: Vec::new(),
                audio: Vec::new(),
                preview: None,
                is_previewed: false,
                last_event: 0,
                exit: None,
                started: Instant::now(),
                cost_at_start: 0,
                served,
            };
            (w.served.job.id, w)
        });
        Watch { backends, jobs: watched.collect(), running: BTreeMap::new() }
    }

    /// Serves until every job has ended, or Ctrl-C.
    pub async fn until_ended(&mut self, engine: &mut Engine, display: &mut Display) -> Result<Exit, Problem> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Registered once: a signal that comes while something else is looked at must not be lost.
        let listen =
            |kind| tokio::signal::unix::signal(kind).map_err(|e| Problem::because("signals cannot be caught", &e));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(self.interrupted(display)),
                _ = terminate.recv() => return Ok(self.interrupted(display)),
                Some(seen) = engine.seen.recv() => self.note(seen, display).await?,
                _ = tick.tick() => {
                    if let Some(exit) = self.look(engine, display).await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    fn interrupted(&self, display: &mut Display) -> Exit {
        display.say("interrupted: what is done is kept; run the same command again to resume".into());
        Exit::Interrupted
    }

    async fn note(&mut self, seen: Seen, display: &mut Display) -> Result<(), Problem> {
        match seen {
            Seen::Claimed { order } => {
                self.running
                    .insert(order.lease, Running { task: order.task, label: label(&order.work), progress: None });
            }
            Seen::Progress { lease, progress } => {
                if let Some(r) = self.running.get_mut(&lease) {
                    r.progress = Some(progress);
                }
            }
            Seen::Failed { task, lease, failure } => {
                let what = self.running.remove(&lease).map_or_else(|| task.to_string(), |r| r.label);
                // A failure that ends the job is shown when the job has ended.
                if matches!(failure.class, FailureClass::Media | FailureClass::Infra) {
                    display.detail(format!("{what}: {} ({}), trying again", failure.message, failure.code));
                }
            }
            Seen::Done { task, lease, result } => {
                let done = self.running.remove(&lease);
                if let Some(w) = self.jobs.get_mut(&task.job).filter(|w| w.counts(task, &result)) {
                    w.num_done += 1;
                    w.done_cost += w.cost(task);
                    if let Some(r) = done {
                        display.task_done(&w.name, &r.label);
                    }
                    w.take(*result);
                    w.update_preview(display).await;
                }
            }
        }
        Ok(())
    }

    /// Looks at the rows; answers the exit code when all jobs have ended.
    async fn look(&mut self, engine: &Engine, display: &mut Display) -> Result<Option<Exit>, Problem> {
        for w in self.jobs.values_mut().filter(|w| w.exit.is_none()) {
            w.look(self.backends, engine, display).await?;
        }
        self.show(display);
        if self.jobs.values().all(|w| w.exit.is_some()) {
            return Ok(self.jobs.values().filter_map(|w| w.exit).max());
        }
        match engine.coordinator.stalled() {
            Some(held) if self.backends.world.clock.now_ms() - held.since_ms > PATIENCE_MS => {
                Err(Problem::because("the job's records cannot be written", held.error.as_ref())
                    .line("what is done is kept; is there space left on the disk of the state directory?")
                    .line("once it can be written, run the same command again to resume"))
            }
            _ => Ok(None),
        }
    }

    fn show(&self, display: &mut Display) {
        let open = self.jobs.values().filter(|w| w.exit.is_none());
        let snapshots: Vec<Snapshot> = open
            .map(|w| {
                let mine: Vec<&Running> = self.running.values().filter(|r| r.task.job == w.served.job.id).collect();
                let partial: f64 = mine.iter().map(|r| w.cost(r.task) as f64 * r.share()).sum();
                let done = w.done_cost as f64 + partial;
                let elapsed = w.started.elapsed().as_secs_f64();
                let fresh = done - w.cost_at_start as f64;
                let rate = if elapsed > 0.5 { fresh / elapsed } else { 0.0 };
                let media_seconds = w.plan.as_ref().and_then(|p| p.timeline.as_ref()).map(Timeline::seconds);
                let total = (w.total_cost as f64).max(1.0);
                Snapshot {
                    job: w.served.job.id.to_string(),
                    name: w.name.clone(),
                    is_planned: w.plan.is_some(),
                    share: (done / total).min(1.0),
                    eta_seconds: (rate > 0.0 && w.plan.is_some()).then(|| ((total - done) / rate).max(0.0)),
                    speed: media_seconds.map(|s| s * rate / total),
                    num_done: w.num_done,
                    num_tasks: w.num_tasks,
                    running: mine.iter().map(|r| (r.label.clone(), r.share(), r.speed())).collect(),
                }
            })
            .collect();
        display.update(&snapshots);
    }
}

impl Running {
    fn share(&self) -> f64 {
        self.progress.as_ref().map_or(0.0, |p| f64::from(p.borrow().done_per_mille) / 1000.0)
    }

    fn speed(&self) -> Option<f64> {
        self.progress.as_ref().map(|p| f64::from(p.borrow().speed_milli) / 1000.0).filter(|s| *s > 0.0)
    }
}

impl Watched {
    /// Expected cost of a task; 1 for a task without a weight in the plan.
    fn cost(&self, task: TaskId) -> u64 {
        self.costs.get(&task.number).copied().unwrap_or(1)
    }

    /// Whether a result is one of the plan that is watched.
    fn counts(&self, task: TaskId, result: &TaskResult) -> bool {
        let is_part = matches!(result, TaskResult::Video(_) | TaskResult::Audio(_));
        !is_part || self.costs.contains_key(&task.number)
    }

    fn take(&mut self, result: TaskResult) {
        match result {
            TaskResult::Video(v) => self.video.push(v),
            TaskResult::Audio(a) => {
                let at = self.plan.as_ref().and_then(|p| p.whole_tracks().position(|x| x.id == a.stored.track));
                if let Some(slot) = at.and_then(|i| self.audio.get_mut(i)) {
                    *slot = Some(a);
                }
            }
            TaskResult::Probe(_) | TaskResult::Assemble(_) => {}
        }
    }

    async fn look(&mut self, backends: &Backends, engine: &Engine, display: &mut Display) -> Result<(), Problem> {
        let id = self.served.job.id;
        let Some(job) = backends.store.job(id).await.map_err(|e| store_problem(&e))? else {
            display.problem(format!("{}: the job was forgotten by another process", self.name));
            self.exit = Some(Exit::Failed);
            return Ok(());
        };
        if display.wants_events() {
            for event in backends.store.events(Some(id), self.last_event, 1000).await.map_err(|e| store_problem(&e))? {
                self.last_event = event.seq;
                display.event(&event);
            }
        }
        if job.generation > self.generation {
            self.next_generation(&job, display).await;
        }
        if self.plan.is_none() && job.is_planned() {
            self.learn_plan(&job, backends, display).await?;
        }
        match job.state {
            JobState::Probing | JobState::Planning | JobState::Running => {}
            JobState::Published => self.lay_out(backends, engine, display).await?,
            JobState::Cancelled => {
                self.drop_preview().await;
                display.problem(format!("{}: cancelled; splitreel retry {id} takes it up again", self.name));
                self.exit = Some(Exit::Failed);
            }
            JobState::Failed => {
                self.drop_preview().await;
                if let Some(f) = &job.failure {
                    let Problem { exit, mut lines } = failed(&self.served.job.request.source.locator, f);
                    if exit == Exit::Failed {
                        lines.push(format!("parts that are done are kept; splitreel retry {id} runs the rest again"));
                    }
                    Problem { exit, lines }.print_above(display);
                    self.exit = Some(exit);
                } else {
                    self.exit = Some(Exit::Failed);
                }
            }
        }
        Ok(())
    }

    /// Drops the weights, parts and preview of the plan before, once the job is planned again, and says why it is.
    async fn next_generation(&mut self, job: &Job, display: &mut Display) {
        let is_first = self.generation == 0 && job.generation == 1;
        self.generation = job.generation;
        if is_first {
            return;
        }
        self.drop_preview().await;
        self.is_previewed = false;
        self.plan = None;
        self.video.clear();
        self.audio.clear();
        self.costs.clear();
        (self.total_cost, self.done_cost, self.num_tasks, self.num_done) = (0, 0, 0, 0);
        let locator = &self.served.job.request.source.locator;
        match job.replanned.as_ref().map(|replanned| &replanned.failure) {
            Some(reason) if reason.may_be_of_the_frame_list() => display.say(format!(
                "{locator}: the container's list of frames may be wrong; decoding the source once to list its frames"
            )),
            Some(reason) => display.say(format!("{locator}: planning again: {}", reason.message)),
            None => {}
        }
    }

    /// The plan has become known: weights for progress, parts of an earlier run for the preview.
    async fn learn_plan(&mut self, job: &Job, backends: &Backends, display: &mut Display) -> Result<(), Problem> {
        let id = self.served.job.id;
        let plan = match backends.store.plan(id).await {
            Ok(Some(plan)) => Arc::new(plan),
            // Made by another version: the job will be planned again.
            Ok(None) | Err(StoreError::PlanVersion { .. }) => return Ok(()),
            Err(error) => return Err(store_problem(&error)),
        };
        self.audio = vec![None; plan.whole_tracks().count()];
        let mut tasks = backends.store.tasks(id).await.map_err(|e| store_problem(&e))?;
        tasks.retain(|task| job.owns(task));
        let parts = tasks.iter().filter(|t| !matches!(t.spec.kind, TaskKind::Probe | TaskKind::Assemble));
        self.costs = parts.map(|t| (t.id.number, t.spec.expected_cost)).collect();
        self.num_tasks = self.costs.len() + 2;
        self.total_cost = self.costs.values().sum::<u64>() + 2;
        self.plan = Some(Arc::clone(&plan));
        self.video.clear();
        (self.done_cost, self.num_done) = (0, 0);
        for t in tasks {
            if let Some(result) = t.result {
                self.done_cost += t.spec.expected_cost;
                self.num_done += 1;
                self.take(result);
            }
        }
        self.started = Instant::now();
        self.cost_at_start = self.done_cost;
        if let Some(output) = &self.served.output {
            let started = PreviewDir::start(Arc::clone(&backends.blobs) as _, &output.lock, &job.request.base).await;
            let started = started.map_err(|e| Problem::because(output.dir().display(), &e));
            self.preview = Some(started?);
        }
        self.update_preview(display).await;
        Ok(())
    }

    async fn update_preview(&mut self, display: &mut Display) {
        let (Some(dir), Some(plan)) = (&mut self.preview, &self.plan) else { return };
        let rows = Rows::of_parts(plan, &self.video, self.audio.iter().flatten());
        let preview = match Preview::of(&rows) {
            Ok(Some(preview)) => preview,
            Ok(None) => return,
            // A preview is a convenience: the job does not depend on it.
            Err(error) => return tracing::warn!(%error, "preview cannot be rendered; keeping the previous one"),
        };
        match dir.show(&preview).await {
            Ok(()) if !self.is_previewed => {
                self.is_previewed = true;
                if let Some(dir) = dir.path() {
                    display.detail(format!("playable now: {}", dir.join("master.m3u8").display()));
                }
            }
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "preview not updated; keeping the previous one"),
        }
    }

    async fn drop_preview(&mut self) {
        if let Some(p) = self.preview.take()
            && let Err(error) = p.remove().await
        {
            tracing::warn!(%error, "preview directory not removed");
        }
    }

    async fn lay_out(&mut self, backends: &Backends, engine: &Engine, display: &mut Display) -> Result<(), Problem> {
        let id = self.served.job.id;
        let tasks = backends.store.tasks(id).await.map_err(|e| store_problem(&e))?;
        let Some(presentation) = presentation_of(&tasks) else {
            return Err(Problem::failed(format!("job {id} is published without a presentation")));
        };
        if let Some(output) = &self.served.output {
            let dir = output.dir().to_owned();
            let base = self.served.job.request.base.clone();
            let permit = Permit { job: id.to_string(), base: base.clone(), whose: output.whose.clone() };
            match export(&*backends.blobs, &presentation, &output.lock, &permit).await {
                Ok(()) => {}
                Err(error @ ExportError::Holds { .. }) => {
                    let refused = Problem { exit: Exit::Usage, ..Problem::because(&self.name, &error) };
                    let refused =
                        refused.line("move that away and run the same command again: nothing is encoded twice");
                    refused.print_above(display);
                    self.exit = Some(Exit::Usage);
                    return Ok(());
                }
                Err(error) => {
                    let what = format!("{}: the presentation cannot be laid out", dir.display());
                    return Err(Problem::because(what, &error));
                }
            }
            if let Err(error) = preview::clear(&output.lock, &base).await {
                tracing::warn!(%error, "preview directory not removed");
            }
            self.preview = None;
            // The directory holds everything now.
            if let Err(error) = engine.coordinator.release_objects(id).await {
                tracing::warn!(%error, "could not delete objects; the next clean-up will");
            }
            display.done(
                &self.name,
                &dir,
                &presentation,
                self.plan.as_deref(),
                self.started.elapsed(),
                self.served.num_reused,
            );
        }
        self.exit = Some(Exit::Done);
        Ok(())
    }
}
