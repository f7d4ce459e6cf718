//! `splitreel submit`: names a source that the server reads, or sends it one, and asks for a job.

use super::sending::{Sending, Source};
use super::server::follow::follow;
use super::server::{client, print_json, refused};
use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::profile_file;
use crate::roles::settings::Upstream;
use clap::{Args, ValueEnum};
use splitreel_client::types::{JobCreate, ProfileChoice};
use splitreel_core::fair::Priority;
use std::path::Path;

/// How urgent a job is among its tenant's.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Urgency {
    /// When nothing else waits.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl From<Urgency> for Priority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Low => Priority::Low,
            Urgency::Normal => Priority::Normal,
            Urgency::High => Priority::High,
        }
    }
}

/// Arguments of `submit`.
#[derive(Clone, Debug, Args)]
pub struct SubmitArgs {
    /// A file or an http(s) address, which is sent to the server, or s3://bucket/key, which the server reads.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// SOURCE is a path on the server: it reads the file where it is.
    #[arg(long)]
    on_server: bool,
    /// A profile that the server knows, or a profile file ending in .toml.
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Name of output files [default: that of the source].
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// How urgent it is among the tenant's jobs.
    #[arg(long, value_enum, default_value_t)]
    priority: Urgency,
    /// Decode the whole source once to list its frames, whatever its container says of them.
    #[arg(long)]
    deep_probe: bool,
    /// Number of the programme of a multiplex [default: the profile's, else that of the default or largest picture].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    programme: Option<u32>,
    /// Key under which the same request makes the same job, however often it is sent.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Wait until the job has ended; the exit code is the job's.
    #[arg(long)]
    wait: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    upstream: Upstream,
}

/// `submit`.
pub async fn submit(config: &Config, args: SubmitArgs) -> Result<Exit, Problem> {
    let profile = match args.profile {
        Some(name) if Path::new(&name).extension().is_some_and(|e| e == "toml") => {
            Some(ProfileChoice::Inline(Box::new(profile_file::resolve(&name)?)))
        }
        name => name.map(ProfileChoice::Name),
    };
    let client = client(config, args.upstream)?;
    let mut job = JobCreate {
        profile,
        priority: args.priority.into(),
        base: args.base,
        deep_probe: args.deep_probe,
        programme: args.programme,
        ..JobCreate::default()
    };
    let mut sent = None;
    if args.on_server || args.source.starts_with("s3://") {
        job.source = Some(args.source.clone());
    } else {
        let source = Source::open(&args.source).await?;
        let sending = Sending::send(config, &client, source, !args.json).await?;
        job.upload = Some(sending.id.to_string());
        sent = Some(sending);
    }
    // An upload makes one job, however often this is repeated.
    let key = args.key.or_else(|| sent.as_ref().map(|sending| format!("upload-{}", sending.id)));
    let made = client
        .create_job(&job, key.as_deref())
        .await
        .map_err(|e| refused(&format!("{}: not accepted", args.source), &e))?;
    if let Some(sending) = sent {
        sending.forget();
    }
    let job = made.value;
    if args.wait {
        if !args.json {
            eprintln!("job {}", job.id);
        }
        return follow(&client, job.id, Some(&args.source), args.json).await;
    }
    if args.json {
        print_json(&job)
    } else {
        say!("{}", job.id)
    }
    Ok(Exit::Done)
}
