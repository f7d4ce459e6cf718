//! Commands that talk to a server, and how they find it.

pub mod fetch;
pub mod follow;
pub mod jobs;
pub mod tokens;
pub mod workers;

use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::roles::settings::Upstream;
use crate::roles::{connect, local_server};
use clap::Args;
use splitreel_client::problem::Code;
use splitreel_client::{Client, ClientError};
use splitreel_core::JobId;

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

pub(in crate::commands) fn refused(what: &str, error: &ClientError) -> Problem {
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
pub(in crate::commands) fn client(config: &Config, upstream: Upstream) -> Result<Client, Problem> {
    let upstream = upstream.or(&config.file.upstream);
    match local_server(config) {
        Some((address, token)) if upstream.server.as_ref().is_none_or(|named| *named == address) => {
            connect::local_api(address, &token)
        }
        _ => connect::api(&upstream),
    }
}

pub(in crate::commands) fn print_json(value: &impl serde::Serialize) {
    say!("{:#}", serde_json::json!(value));
}
