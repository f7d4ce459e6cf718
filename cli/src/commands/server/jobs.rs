//! `splitreel status`, `list`, `cancel`, `pause`, `resume` and `retry` for the jobs of a server.

use super::{RemoteJobArgs, client, print_json, refused};
use crate::config::Config;
use crate::exit::{Exit, Problem, printable};
use crate::roles::settings::Upstream;
use splitreel_client::types::{TaskCounts, TaskList};
use splitreel_client::{ClientError, JobQuery};

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
    if let Some(f) = &job.replanned {
        say!("replanned {}", printable(&f.message));
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
