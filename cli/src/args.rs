//! The command line as a whole: global options and the list of commands. Each command owns its arguments.

use crate::commands::completions::CompletionsArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::jobs::{JobArgs, ListArgs, StatusArgs};
use crate::commands::plan::PlanArgs;
use crate::commands::profiles::ProfilesArgs;
use crate::commands::run::{RepackageArgs, RetryArgs, RunArgs};
use crate::commands::server::RemoteJobArgs;
use crate::commands::server::fetch::FetchArgs;
use crate::commands::server::tokens::TokensCommand;
use crate::commands::server::workers::WorkersArgs;
use crate::commands::submit::SubmitArgs;
use crate::commands::triggers::TriggersCommand;
use crate::features;
use crate::roles::{AssemblerArgs, CoordinatorArgs, ServeArgs, WorkerArgs};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Transcode video on all cores with exact joints: HLS, DASH and MP4 from one command.
#[derive(Debug, Parser)]
#[command(
    name = "splitreel",
    version = features::VERSION,
    about,
    after_help = "Exit codes: 0 done; 2 usage or configuration; 3 the source cannot be used; 4 processing failed for good; 130 interrupted, resumable.\n\
Settings come from, in rising precedence: defaults, the configuration file, SPLITREEL_* environment variables, flags."
)]
#[cfg_attr(not(feature = "cluster"), command(before_help = features::WITHOUT_CLUSTER))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Configuration file (default: $XDG_CONFIG_HOME/splitreel/config.toml, where it exists).
    #[arg(long, global = true, env = "SPLITREEL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where jobs, parts and scratch files are kept (default: $XDG_STATE_HOME/splitreel).
    #[arg(long, global = true, env = "SPLITREEL_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Log to standard error; twice for more. RUST_LOG overrides.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log as JSON lines.
    #[arg(long, global = true)]
    pub log_json: bool,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Transcode files; run the same command again to resume.
    Run(RunArgs),
    /// Package a file as HLS, DASH, MP4 and chunks without re-encoding.
    Repackage(RepackageArgs),
    /// Show segments, renditions and decisions without running anything.
    Plan(PlanArgs),
    /// Show a job, its tasks and attempts.
    Status(StatusArgs),
    /// List jobs, newest first.
    List(ListArgs),
    /// Cancel a job; a running ffmpeg is killed within seconds.
    Cancel(JobArgs),
    /// Start no more tasks of a server's job; running tasks finish.
    Pause(RemoteJobArgs),
    /// Continue a paused job.
    Resume(RemoteJobArgs),
    /// Run failed or cancelled tasks again; finished ones are kept.
    Retry(RetryArgs),
    /// List profiles, or show one as a file to start from.
    Profiles(ProfilesArgs),
    /// Show which tools and features this machine has.
    Doctor(DoctorArgs),
    /// Print a shell completion script.
    Completions(CompletionsArgs),
    /// Migrate the database to this version (DATABASE_URL, or the state's).
    Migrate,
    /// Submit a file, a URL or an object to a server.
    Submit(SubmitArgs),
    /// Follow a server's job until it has ended.
    Watch(RemoteJobArgs),
    /// Download a published presentation from a server.
    Fetch(FetchArgs),
    /// List a server's workers and assemblers.
    Workers(WorkersArgs),
    /// Manage the rules that turn uploads to buckets into jobs.
    #[command(subcommand)]
    Triggers(TriggersCommand),
    /// Create, list and revoke a server's tokens.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Serve the API and run all roles on this machine.
    Serve(ServeArgs),
    /// Run a coordinator: API, planning, dispatch (Postgres, RabbitMQ, S3).
    #[cfg_attr(not(feature = "cluster"), command(about = "Not in this build: the coordinator of a cluster"))]
    Coordinator(CoordinatorArgs),
    /// Run a worker of a coordinator.
    #[cfg_attr(not(feature = "cluster"), command(about = "Not in this build: the worker of a cluster"))]
    Worker(WorkerArgs),
    /// Run an assembler of a coordinator.
    #[cfg_attr(not(feature = "cluster"), command(about = "Not in this build: the assembler of a cluster"))]
    Assembler(AssemblerArgs),
}

impl Command {
    /// A server role: it logs by its own settings.
    pub fn is_role(&self) -> bool {
        matches!(self, Command::Serve(_) | Command::Coordinator(_) | Command::Worker(_) | Command::Assembler(_))
    }
}
