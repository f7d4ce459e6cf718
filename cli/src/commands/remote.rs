//! Commands that talk to a server: watch, fetch, cancel, pause, resume, retry, list, workers, token.

use super::watch::without_name;
use crate::config::Config;
use crate::exit::{Exit, Problem, printable};
use crate::roles::settings::Upstream;
use crate::roles::{connect, local_server};
use clap::{Args, Subcommand};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use splitreel_client::problem::Code;
use splitreel_client::types::{JobProgress, JobView, Scope, TaskCounts, TaskList, TokenCreate};
use splitreel_client::{Client, ClientError, JobQuery, Told};
use splitreel_core::JobId;
use splitreel_core::event::EventKind;
use splitreel_core::job::JobState;
use splitreel_core::plan::hex;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// Files fetched at the same time.
const PARALLEL: usize = 8;

/// A job of a server.
#[derive(Clone, Debug, Args)]
pub struct RemoteJobArgs {
    /// Job id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    upstream: Upstream,
}

impl RemoteJobArgs {
    /// For commands that also know jobs of this machine.
    pub fn of(job: &str, upstream: Upstream) -> Result<Self, Problem> {
        let job = job.parse().map_err(|_| Problem::usage(format!("{job:?}: give the whole id of a server's job")))?;
        Ok(RemoteJobArgs { job, json: false, upstream })
    }

    /// Sets how the answer is shown.
    pub fn with_json(self, json: bool) -> Self {
        RemoteJobArgs { json, ..self }
    }
}

/// Arguments of `fetch`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// Job id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Directory to make.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    upstream: Upstream,
}

/// Arguments of `workers`.
#[derive(Clone, Debug, Args)]
pub struct WorkersArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    upstream: Upstream,
}

/// What `tokens` does.
#[derive(Clone, Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token; its secret is shown this once.
    Create {
        /// What it is for.
        name: String,
        /// Whose jobs it sees [default: the caller's].
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// What it may do, separated by commas: jobs.read, jobs.write, profiles.write, uploads.write, tokens.write,
        /// work, ingest, admin.
        #[arg(long, value_name = "SCOPE,…", value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        #[command(flatten)]
        upstream: Upstream,
    },
    /// List tokens.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        upstream: Upstream,
    },
    /// Revoke a token.
    Revoke {
        /// Its id.
        id: String,
        #[command(flatten)]
        upstream: Upstream,
    },
}

pub(super) fn refused(what: &str, error: &ClientError) -> Problem {
    let mut problem = Problem::because(what, error);
    if let Some(p) = error.problem() {
        problem.exit = if p.status < 500 { Exit::Usage } else { Exit::Failed };
        if p.code == Code::Unauthenticated.as_str() {
            problem = problem.line("SPLITREEL_TOKEN, or the file that SPLITREEL_TOKEN_FILE names, has to hold one");
        }
        for mistake in &p.errors {
            problem = problem.line(format!("{}: {}", mistake.pointer, mistake.message));
        }
    }
    problem
}

/// A client of the server that is named, or of the one that runs on this machine's state.
pub(super) fn client(config: &Config, upstream: Upstream) -> Result<Client, Problem> {
    let upstream = upstream.or(&config.file.upstream);
    match local_server(config) {
        Some((address, token)) if upstream.server.as_ref().is_none_or(|named| *named == address) => {
            connect::local_api(address, &token)
        }
        _ => connect::api(&upstream),
    }
}

pub(super) fn print_json(value: &impl serde::Serialize) {
    say!("{:#}", serde_json::json!(value));
}

/// `watch`.
pub async fn watch(config: &Config, args: RemoteJobArgs) -> Result<Exit, Problem> {
    follow(&client(config, args.upstream)?, args.job, None, args.json).await
}

/// Prints the events of a job until it has ended. `name`: name of its source, where its locator has none.
pub(super) async fn follow(client: &Client, id: JobId, name: Option<&str>, json: bool) -> Result<Exit, Problem> {
    let lost = |e: ClientError| refused("the event stream of the server ended", &e);
    let mut events = client.events(Some(id), 0);
    let mut told = 0;
    loop {
        match events.next().await.map_err(lost)? {
            Told::Progress(progress) if !json => told = tell_progress(&progress, told),
            Told::Progress(_) => {}
            Told::Event(event) => {
                if json {
                    say!("{}", serde_json::json!(event));
                }
                let ended = match event.what {
                    EventKind::Published => true,
                    EventKind::Failed { .. } | EventKind::Cancelled => {
                        // An old one, when the job was retried since.
                        client.job(id).await.map_err(lost)?.state.is_ended()
                    }
                    _ => false,
                };
                if ended {
                    return Ok(end_of(&client.job(id).await.map_err(lost)?, name, json));
                }
            }
        }
    }
}

/// One line for each tenth.
fn tell_progress(progress: &JobProgress, told: u32) -> u32 {
    let tenth = (progress.percent / 10.0) as u32;
    if tenth > told {
        let eta = progress.eta_seconds.map(|s| format!(", {s:.0} s to go")).unwrap_or_default();
        eprintln!("{:.0} %{eta}", progress.percent);
    }
    tenth.max(told)
}

fn end_of(job: &JobView, name: Option<&str>, json: bool) -> Exit {
    match job.state {
        JobState::Published => {
            if !json {
                say!("{} published", job.id);
            }
            Exit::Done
        }
        JobState::Cancelled => {
            eprintln!("{} cancelled", job.id);
            Exit::Failed
        }
        _ => {
            if let Some(f) = &job.failure {
                let locator = &job.source.locator;
                eprintln!("{}: {}", printable(name.unwrap_or(locator)), printable(without_name(&f.message, locator)));
                if !f.hint.is_empty() {
                    eprintln!("{}", f.hint);
                }
            }
            match job.failure.as_ref().map(|f| f.class) {
                Some(splitreel_core::FailureClass::Source) => Exit::Source,
                _ => Exit::Failed,
            }
        }
    }
}

/// What can be done to a job.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Cancel it.
    Cancel,
    /// Start no more of its tasks.
    Pause,
    /// Start them again.
    Resume,
    /// Run what failed or was cancelled again.
    Retry,
}

/// `pause`, `resume`, and `cancel` and `retry` of a server's job.
pub async fn act(config: &Config, args: RemoteJobArgs, act: Act) -> Result<Exit, Problem> {
    let client = client(config, args.upstream)?;
    let answer = match act {
        Act::Cancel => client.cancel_job(args.job).await,
        Act::Pause => client.pause_job(args.job).await,
        Act::Resume => client.resume_job(args.job).await,
        Act::Retry => client.retry_job(args.job).await,
    };
    let job = answer.map_err(|e| refused(&format!("job {}", args.job), &e))?;
    if args.json {
        print_json(&job);
    } else {
        say!("{} {}{}", job.id, job.state.as_str(), if job.is_paused { ", paused" } else { "" });
    }
    Ok(Exit::Done)
}

/// A server's job and its tasks.
pub async fn status(config: &Config, args: RemoteJobArgs) -> Result<Exit, Problem> {
    let client = client(config, args.upstream)?;
    let no = |e: ClientError| refused(&format!("job {}", args.job), &e);
    let job = client.job(args.job).await.map_err(no)?;
    let TaskList { mut tasks, mut next } = client.tasks(args.job, None, None).await.map_err(no)?;
    if args.json {
        // A program wants all of them.
        while let Some(after) = next {
            let page = client.tasks(args.job, Some(after), None).await.map_err(no)?;
            tasks.extend(page.tasks);
            next = page.next;
        }
        print_json(&serde_json::json!({ "job": job, "tasks": tasks }));
        return Ok(Exit::Done);
    }
    say!("job       {}", job.id);
    say!("source    {}", printable(&job.source.locator));
    say!("profile   {}", job.profile);
    say!("state     {}{}", job.state.as_str(), if job.is_paused { ", paused" } else { "" });
    say!("progress  {:.0} %", job.progress.percent);
    if let Some(waiting) = &job.waiting {
        say!("waits     {}", waiting.message);
    }
    if let Some(output) = &job.output {
        let state = match (output.is_done, output.is_given_up) {
            (true, _) => "there",
            (_, true) => "given up",
            _ => "to come",
        };
        say!("output    {} ({state})", printable(&output.location));
    }
    if let Some(f) = &job.failure {
        say!("failure   {}", printable(&f.message));
    }
    for t in tasks {
        let lease = t.lease.map(|l| format!(" on {}", printable(&l.worker))).unwrap_or_default();
        say!(
            "{:>6}  {:<9} {:>5}  {:<10} attempt {}{lease}",
            t.number,
            t.kind.as_str(),
            t.index,
            t.state.as_str(),
            t.attempt
        );
    }
    if next.is_some() {
        say!("and more (--json lists all)");
    }
    if let Some(TaskCounts { ready, leased, done, ended }) = job.progress.tasks {
        say!("tasks     {ready} wait, {leased} run, {done} are done, {ended} failed or were cancelled");
    }
    Ok(Exit::Done)
}

/// The server's jobs, newest first.
pub async fn list(config: &Config, upstream: Upstream, limit: usize, json: bool) -> Result<Exit, Problem> {
    let client = client(config, upstream)?;
    let query = JobQuery { limit: Some(limit), ..JobQuery::default() };
    let jobs = client.jobs(&query).await.map_err(|e| refused("the jobs cannot be listed", &e))?.jobs;
    if json {
        print_json(&jobs);
        return Ok(Exit::Done);
    }
    say!("{:<36}  {:<10} {:>5}  {:<12} source", "job", "state", "%", "profile");
    for j in jobs {
        let state = if j.is_paused { "paused" } else { j.state.as_str() };
        say!("{}  {state:<10} {:>5.0}  {:<12} {}", j.id, j.progress.percent, j.profile, printable(&j.source.locator));
    }
    Ok(Exit::Done)
}

/// `workers`.
pub async fn workers(config: &Config, args: WorkersArgs) -> Result<Exit, Problem> {
    let client = client(config, args.upstream)?;
    let workers = client.workers().await.map_err(|e| refused("the workers cannot be listed", &e))?.workers;
    if args.json {
        print_json(&workers);
        return Ok(Exit::Done);
    }
    if workers.is_empty() {
        say!("no workers or assemblers are connected (those of splitreel serve work in its own process)");
        return Ok(Exit::Done);
    }
    let width = workers.iter().map(|w| w.worker.chars().count()).max().unwrap_or(0);
    say!("{:<width$}  {:>5}  {:<9}  {:<8}  labels", "worker", "slots", "state", "version");
    for w in workers {
        let state = match (w.is_live, w.is_draining) {
            (false, _) => "gone",
            (true, true) => "draining",
            (true, false) => "live",
        };
        let labels: Vec<String> = w.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (name, labels) = (printable(&w.worker), labels.join(" "));
        say!("{name:<width$}  {:>5}  {state:<9}  {:<8}  {}", w.slots, printable(&w.version), printable(&labels));
    }
    Ok(Exit::Done)
}

/// `tokens`.
pub async fn tokens(config: &Config, command: TokensCommand) -> Result<Exit, Problem> {
    match command {
        TokensCommand::Create { name, tenant, scopes, upstream } => {
            let client = client(config, upstream)?;
            let mut wanted = Vec::new();
            for word in &scopes {
                wanted.push(Scope::parse(word).ok_or_else(|| Problem::usage(format!("{word}: no scope")))?);
            }
            let scopes = wanted.into_iter().collect();
            let token = TokenCreate { name, tenant, scopes, expires_in_seconds: None };
            let made = client.create_token(&token).await.map_err(|e| refused("no token was made", &e))?;
            print_json(&made);
        }
        TokensCommand::List { json, upstream } => {
            let client = client(config, upstream)?;
            let tokens = client.tokens(None).await.map_err(|e| refused("the tokens cannot be listed", &e))?.tokens;
            if json {
                print_json(&tokens);
                return Ok(Exit::Done);
            }
            say!("{:<32}  {:<20}  {:<16}  scopes", "token", "name", "tenant");
            for t in tokens {
                let scopes: Vec<&str> = t.scopes.iter().map(|scope| scope.as_str()).collect();
                say!("{:<32}  {:<20}  {:<16}  {}", t.id, printable(&t.name), t.tenant, scopes.join(","));
            }
        }
        TokensCommand::Revoke { id, upstream } => {
            let client = client(config, upstream)?;
            client.revoke_token(&id).await.map_err(|e| refused("the token was not revoked", &e))?;
        }
    }
    Ok(Exit::Done)
}

/// `fetch`: the files of a published presentation, checked against their hashes, as one directory that appears whole.
pub async fn fetch(config: &Config, args: FetchArgs) -> Result<Exit, Problem> {
    let client = client(config, args.upstream)?;
    let output = &args.output;
    if output.exists() {
        return Err(Problem::usage(format!("{}: exists already: give another with -o", output.display())));
    }
    let files = client.files(args.job).await.map_err(|e| refused(&format!("job {}", args.job), &e))?.files;
    let draft = output.with_file_name(format!(
        "{}.fetching",
        output.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    ));
    let failed = |path: &Path, e: std::io::Error| Problem::failed(format!("{}: {e}", path.display()));
    match std::fs::remove_dir_all(&draft) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&draft, e)),
        _ => {}
    }
    std::fs::create_dir_all(&draft).map_err(|e| failed(&draft, e))?;
    let fetches = files.iter().map(|file| {
        let (client, draft) = (&client, &draft);
        async move {
            let to = place(draft, &file.path)?;
            if let Some(dir) = to.parent() {
                tokio::fs::create_dir_all(dir).await.map_err(|e| failed(dir, e))?;
            }
            let response = client.file(args.job, &file.path, None).await.map_err(|e| refused(&file.path, &e))?;
            let mut body = response.bytes_stream();
            let mut out = tokio::fs::File::create(&to).await.map_err(|e| failed(&to, e))?;
            let mut hash = Sha256::new();
            while let Some(bytes) = body.next().await {
                let bytes = bytes.map_err(|e| Problem::because(&file.path, &e))?;
                hash.update(&bytes);
                out.write_all(&bytes).await.map_err(|e| failed(&to, e))?;
            }
            out.flush().await.map_err(|e| failed(&to, e))?;
            if hex(&hash.finalize()) != file.sha256 {
                return Err(Problem::failed(format!("{}: arrived damaged: fetch again", file.path)));
            }
            Ok(())
        }
    });
    let mut fetching = futures::stream::iter(fetches).buffer_unordered(PARALLEL);
    while let Some(fetched) = fetching.next().await {
        fetched?;
    }
    std::fs::rename(&draft, output).map_err(|e| failed(output, e))?;
    say!("{}: {} files", output.display(), files.len());
    Ok(Exit::Done)
}

/// The server's word for where a file goes is not taken for more than a name below the directory.
fn place(dir: &Path, path: &str) -> Result<PathBuf, Problem> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    if path.split('/').all(is_plain) {
        Ok(dir.join(path))
    } else {
        Err(Problem::failed(format!("{path:?}: the server names a file that would lie elsewhere")))
    }
}
