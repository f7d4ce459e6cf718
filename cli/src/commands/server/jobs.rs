//! `splitreel status`, `list`, `cancel`, `pause`, `resume` and `retry` for the jobs of a server.

use super::{RemoteJobArgs, client, print_json, refused};
use crate::commands::jobs::dropped_tasks;
use crate::config::Config;
use crate::exit::{Exit, Problem, printable};
use crate::roles::settings::Upstream;
use splitreel_client::types::{JobView, TaskCounts, TaskList, TaskView};
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
    // A program gets all pages; a person gets the first one that has tasks of the current plan.
    while let Some(after) = next
        && (args.json || tasks.last().is_some_and(|task| !job.owns(task)))
    {
        let page = client.tasks(args.job, Some(after), None).await.map_err(no)?;
        tasks.extend(page.tasks);
        next = page.next;
    }
    if args.json {
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
    for line in table(&job, &tasks, next.is_some()) {
        say!("{line}");
    }
    if let Some(TaskCounts { ready, leased, done, ended }) = job.progress.tasks {
        say!("tasks     {ready} wait, {leased} run, {done} are done, {ended} failed or were cancelled");
    }
    Ok(Exit::Done)
}

/// The tasks that count, whether more follow, and how many do not count.
fn table(job: &JobView, tasks: &[TaskView], has_more: bool) -> Vec<String> {
    let (owned, dropped): (Vec<&TaskView>, Vec<&TaskView>) = tasks.iter().partition(|task| job.owns(task));
    let rows = owned.into_iter().map(|t| {
        let lease = t.lease.as_ref().map(|l| format!(" on {}", printable(&l.worker))).unwrap_or_default();
        let (kind, state) = (t.kind.as_str(), t.state.as_str());
        format!("{:>6}  {kind:<9} {:>5}  {state:<10} attempt {}{lease}", t.number, t.index, t.attempt)
    });
    let more = has_more.then(|| "and more (--json lists all)".to_owned());
    rows.chain(more).chain(dropped_tasks(dropped.len())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(generation: u32) -> JobView {
        let job = json!({
            "id": "00000000-0000-0000-0000-000000000007", "tenant": "t", "state": "running", "is_paused": false,
            "priority": "normal", "source": {"locator": "s3://b/k", "bytes": 1, "version": "v"}, "profile": "universal",
            "base": "k", "progress": {"percent": 0.0, "remaining": 1}, "generation": generation, "created_ms": 0,
        });
        serde_json::from_value(job).unwrap()
    }

    fn task(number: u32, generation: u32) -> TaskView {
        let task = json!({
            "number": number, "generation": generation, "kind": "segment", "index": 0, "state": "ready", "attempt": 1,
            "media_failures": 0, "infra_failures": 0, "attempts": [],
        });
        serde_json::from_value(task).unwrap()
    }

    #[test]
    fn the_table_leaves_out_tasks_of_a_dropped_plan_and_counts_them() {
        let tasks = [task(0, 0), task(1, 1), task(2, 2)];
        assert_eq!(table(&job(1), &tasks, false).len(), 3);
        let lines = table(&job(2), &tasks, true);
        let [row, more, dropped] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(row.starts_with("     2  segment"), "{row}");
        assert_eq!(more, "and more (--json lists all)");
        assert_eq!(dropped, "2 tasks were dropped with the earlier plan (--json lists all)");
    }
}
