//! Commands on recorded jobs: status, list, cancel, migrate.

use crate::config::Config;
use crate::engine::open_store;
use crate::exit::{Exit, Problem, printable};
use crate::roles::settings::{Upstream, secret};
use crate::state;
use clap::Args;
use serde_json::json;
use splitreel_backend::store::JobFilter;
use splitreel_backend::{JobStore, StoreError};
use splitreel_core::job::{Job, JobState};
use splitreel_core::task::{Task, TaskState};
use splitreel_telemetry::redact::Secret;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Job id, or its beginning; the newest job when left out. Of a server's job: the whole id.
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub upstream: Upstream,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Maximum number of jobs to list, newest first.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub upstream: Upstream,
}

/// Arguments that name one job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Job id, or its beginning (of a server's job: the whole id).
    #[arg(value_name = "JOB")]
    pub job: String,
    #[command(flatten)]
    pub upstream: Upstream,
}

pub(super) fn store_problem(e: &StoreError) -> Problem {
    Problem::because("the database does not answer", e)
}

/// The store, if the state directory has one.
pub(super) async fn existing_store(config: &Config) -> Result<Arc<dyn JobStore>, Problem> {
    let db = state::database(&config.state);
    if !db.is_file() {
        return Err(Problem::usage(format!(
            "there are no jobs in {}: give the right --state, or run something first",
            config.state.display()
        )));
    }
    Ok(Arc::new(open_store(&db).await?))
}

/// Finds a job by its id or the beginning of it.
pub(super) async fn find(store: &dyn JobStore, wanted: &str) -> Result<Job, Problem> {
    let jobs = store.jobs(JobFilter { limit: 10_000, ..JobFilter::default() }).await.map_err(|e| store_problem(&e))?;
    let mut hits = jobs.into_iter().filter(|j| j.id.to_string().starts_with(wanted));
    match (hits.next(), hits.next()) {
        (Some(job), None) => Ok(job),
        (None, _) => Err(Problem::usage(format!("there is no job {wanted:?}: see splitreel list"))),
        (Some(_), Some(_)) => {
            Err(Problem::usage(format!("{wanted:?} is the beginning of several jobs: give more of it")))
        }
    }
}

/// `status`.
pub async fn status(config: &Config, args: StatusArgs) -> Result<Exit, Problem> {
    let store = existing_store(config).await?;
    let job = match &args.job {
        Some(id) => find(store.as_ref(), id).await?,
        None => {
            let newest =
                store.jobs(JobFilter { limit: 1, ..JobFilter::default() }).await.map_err(|e| store_problem(&e))?;
            newest.into_iter().next().ok_or_else(|| Problem::usage("there are no jobs yet"))?
        }
    };
    let tasks = store.tasks(job.id).await.map_err(|e| store_problem(&e))?;
    if args.json {
        let events = store.events(Some(job.id), 0, 100_000).await.map_err(|e| store_problem(&e))?;
        say!("{:#}", json!({ "job": job, "tasks": tasks.iter().map(brief).collect::<Vec<_>>(), "events": events }));
        return Ok(Exit::Done);
    }
    say!("job       {}", job.id);
    say!("state     {}", job.state.as_str());
    say!("source    {}", printable(&job.request.source.locator));
    say!("profile   {}", job.request.profile.name);
    say!("output    {}", job.request.output.as_deref().map_or_else(|| "-".into(), printable));
    say!("progress  {:.0} %", progress(tasks.iter().filter(|task| job.owns(task))));
    say!("age       {}", ago(job.created_ms));
    if let Some(f) = job.replanned.as_ref().map(|replanned| &replanned.failure) {
        say!("replanned {} ({})", printable(&f.message), f.code);
    }
    if let Some(f) = &job.failure {
        say!("failure   {} ({})", printable(&f.message), f.code);
        for line in &f.evidence {
            say!("          {}", printable(line));
        }
    }
    say!("");
    for line in table(&job, &tasks) {
        say!("{line}");
    }
    Ok(Exit::Done)
}

/// The tasks that count, and how many do not.
fn table(job: &Job, tasks: &[Task]) -> Vec<String> {
    let (owned, dropped): (Vec<&Task>, Vec<&Task>) = tasks.iter().partition(|task| job.owns(task));
    let head = " task  kind      index  state      attempt  by / why".to_owned();
    let rows = owned.into_iter().map(|t| {
        let why = match (&t.lease, &t.failure) {
            (Some(l), _) => format!("{}, {} %", l.worker, l.progress.done_per_mille / 10),
            (None, Some(f)) => format!("{}: {}", f.code, printable(&f.message)),
            (None, None) => waits(t, job),
        };
        format!(
            "{:>5}  {:<9} {:>5}  {:<10} {:>6}  {why}",
            t.spec.number,
            t.spec.kind.as_str(),
            t.spec.index,
            t.state.as_str(),
            t.attempt
        )
    });
    std::iter::once(head).chain(rows).chain(dropped_tasks(dropped.len())).collect()
}

/// The line about tasks that the table leaves out, if any.
pub(super) fn dropped_tasks(num: usize) -> Option<String> {
    let tasks = match num {
        0 => return None,
        1 => "1 task was".to_owned(),
        _ => format!("{num} tasks were"),
    };
    Some(format!("{tasks} dropped with the earlier plan (--json lists all)"))
}

fn waits(t: &Task, job: &Job) -> String {
    match (t.state, job.state) {
        (TaskState::Ready, s) if !s.is_ended() => {
            "waits for a free slot; run or retry the job when no process serves it".into()
        }
        _ => String::new(),
    }
}

fn brief(t: &Task) -> serde_json::Value {
    json!({
        "number": t.spec.number, "generation": t.generation, "kind": t.spec.kind, "index": t.spec.index,
        "state": t.state, "attempt": t.attempt,
        "media_failures": t.media_failures, "infra_failures": t.infra_failures, "lease": t.lease, "failure": t.failure,
    })
}

fn progress<'a>(tasks: impl Iterator<Item = &'a Task> + Clone) -> f64 {
    let total: u64 = tasks.clone().map(|t| t.spec.expected_cost).sum();
    let done: f64 = tasks
        .map(|t| match (&t.lease, t.state) {
            (_, TaskState::Done) => t.spec.expected_cost as f64,
            (Some(l), _) => t.spec.expected_cost as f64 * f64::from(l.progress.done_per_mille) / 1000.0,
            _ => 0.0,
        })
        .sum();
    100.0 * done / total.max(1) as f64
}

fn ago(ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let s = (now - ms).max(0) / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// `list`.
pub async fn list(config: &Config, args: ListArgs) -> Result<Exit, Problem> {
    let jobs = if state::database(&config.state).is_file() {
        let store = existing_store(config).await?;
        store.jobs(JobFilter { limit: args.limit, ..JobFilter::default() }).await.map_err(|e| store_problem(&e))?
    } else {
        Vec::new()
    };
    if args.json {
        say!("{:#}", json!(jobs));
        return Ok(Exit::Done);
    }
    if jobs.is_empty() {
        say!("no jobs yet: splitreel run VIDEO");
        return Ok(Exit::Done);
    }
    say!("{:<36}  {:<10} {:>6}  {:<12} source", "job", "state", "age", "profile");
    for j in jobs {
        say!(
            "{}  {:<10} {:>6}  {:<12} {}",
            j.id,
            j.state.as_str(),
            ago(j.created_ms),
            j.request.profile.name,
            printable(&j.request.source.locator)
        );
    }
    Ok(Exit::Done)
}

/// `cancel`.
pub async fn cancel(config: &Config, args: JobArgs) -> Result<Exit, Problem> {
    let store = existing_store(config).await?;
    let job = find(store.as_ref(), &args.job).await?;
    let now = splitreel_backend::World::machine().clock.now_ms();
    if store.cancel(job.id, now).await.map_err(|e| store_problem(&e))? {
        say!("cancelled {}; splitreel retry {} takes it up again", job.id, job.id);
        return Ok(Exit::Done);
    }
    let job = store.job(job.id).await.map_err(|e| store_problem(&e))?.unwrap_or(job);
    match job.state {
        JobState::Cancelled => {
            say!("{} was cancelled before", job.id);
            Ok(Exit::Done)
        }
        s => Err(Problem::failed(format!("{} has ended already: {}", job.id, s.as_str()))),
    }
}

/// `migrate`.
pub async fn migrate(config: &Config) -> Result<Exit, Problem> {
    if let Some(url) = secret("DATABASE_URL")? {
        return migrate_postgres(&url).await;
    }
    let db = state::database(&config.state);
    std::fs::create_dir_all(&config.state)
        .map_err(|e| Problem::usage(format!("the state directory {} cannot be made: {e}", config.state.display())))?;
    let version = splitreel_backend_embedded::migrate(&db)
        .await
        .map_err(|e| Problem::because(format!("the database {} cannot be migrated", db.display()), &e))?;
    say!("{} is at version {version}", db.display());
    Ok(Exit::Done)
}

#[cfg(feature = "cluster")]
async fn migrate_postgres(url: &Secret<String>) -> Result<Exit, Problem> {
    let version = splitreel_backend_cluster::postgres::PgStore::migrate(url.expose())
        .await
        .map_err(|e| Problem::because("the database cannot be migrated", &e))?;
    say!("{} is at version {version}", splitreel_telemetry::redact::without_credentials(url.expose()));
    Ok(Exit::Done)
}

#[cfg(not(feature = "cluster"))]
async fn migrate_postgres(_: &Secret<String>) -> Result<Exit, Problem> {
    Err(crate::features::needs_cluster("migration of a Postgres database (DATABASE_URL)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::job::JobRequest;
    use splitreel_core::profile::Profile;
    use splitreel_core::source::SourceRef;
    use splitreel_core::task::{TaskKind, TaskSpec};
    use splitreel_core::{Failure, FailureCode, JobId, TaskId};

    fn job() -> Job {
        let request = JobRequest {
            tenant: "t".into(),
            idempotency_key: "k".into(),
            source: SourceRef { locator: "/film".into(), version: "1".into(), bytes: 1 },
            base: "film".into(),
            profile: Profile::built_in("universal").unwrap(),
            priority: Default::default(),
            deep_probe: false,
            output: None,
            trace: Default::default(),
        };
        let mut job = Job::new(JobId(uuid::Uuid::nil()), request, 0).0;
        job.task_done(TaskKind::Probe, 0);
        assert!(job.planned("first".into(), 2, false));
        job
    }

    fn task(number: u32, generation: u32) -> Task {
        let spec = TaskSpec { number, kind: TaskKind::Segment, index: number, expected_cost: 1 };
        Task::new(TaskId { job: JobId(uuid::Uuid::nil()), number }, generation, spec, TaskState::Done)
    }

    #[test]
    fn the_table_leaves_out_tasks_of_a_dropped_plan_and_counts_them() {
        let (mut job, mut tasks) = (job(), vec![task(0, 0), task(1, 1), task(2, 1)]);
        assert_eq!(table(&job, &tasks).len(), 4, "a plan and its probe");
        job.replan(Failure::of(FailureCode::TimesDiffer, "other times"), true, 1).unwrap();
        tasks.push(task(3, 2));
        let lines = table(&job, &tasks);
        let [_, row, note] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(row.starts_with("    3  segment"), "{row}");
        assert_eq!(note, "3 tasks were dropped with the earlier plan (--json lists all)");
        assert_eq!(tasks.iter().map(|t| brief(t)["generation"].clone()).collect::<Vec<_>>(), [0, 1, 1, 2]);
    }
}
