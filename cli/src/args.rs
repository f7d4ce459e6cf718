//! Command-line arguments.

use crate::commands::remote::{FetchArgs, RemoteJobArgs, TokensCommand, WorkersArgs};
use crate::commands::submit::SubmitArgs;
use crate::commands::triggers::TriggersCommand;
use crate::features;
use crate::roles::settings::Upstream;
use crate::roles::{AssemblerArgs, CoordinatorArgs, ServeArgs, WorkerArgs};
use clap::{Args, Parser, Subcommand};
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
    /// Show what would be done, and why, without doing it.
    Plan(PlanArgs),
    /// Show a job, its tasks and attempts.
    Status(StatusArgs),
    /// List jobs, newest first.
    List(ListArgs),
    /// Cancel a job; a running ffmpeg is killed within seconds.
    Cancel(JobArgs),
    /// Start no more tasks of a server's job; running ones go on.
    Pause(RemoteJobArgs),
    /// Go on with a paused job.
    Resume(RemoteJobArgs),
    /// Run what failed or was cancelled again; what is done is kept.
    Retry(RetryArgs),
    /// List profiles, or show one as a file to start from.
    Profiles(ProfilesArgs),
    /// Show what was found on this machine, and what is missing.
    Doctor(JsonArgs),
    /// Print a shell completion script.
    Completions(CompletionsArgs),
    /// Bring the database up to date (DATABASE_URL, or the state's).
    Migrate,
    /// Have a server transcode a file, an address or an object.
    Submit(SubmitArgs),
    /// Tell what happens to a server's job until it has ended.
    Watch(RemoteJobArgs),
    /// Download a published presentation from a server.
    Fetch(FetchArgs),
    /// List a server's workers and assemblers.
    Workers(WorkersArgs),
    /// Rules by which uploads to buckets become jobs of a server.
    #[command(subcommand)]
    Triggers(TriggersCommand),
    /// Make, list and revoke a server's tokens.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Serve the API and do all the work, on this machine alone.
    Serve(ServeArgs),
    /// Serve the API, plan, hand out work (Postgres, RabbitMQ, S3).
    #[cfg_attr(not(feature = "cluster"), command(about = "Not in this build: serves the API, plans, hands out work"))]
    Coordinator(CoordinatorArgs),
    /// Work for a coordinator.
    #[cfg_attr(not(feature = "cluster"), command(about = "Not in this build: works for a coordinator"))]
    Worker(WorkerArgs),
    /// Package for a coordinator.
    #[cfg_attr(not(feature = "cluster"), command(about = "Not in this build: packages for a coordinator"))]
    Assembler(AssemblerArgs),
}

impl Command {
    /// A server role: it logs by its own settings.
    pub fn is_role(&self) -> bool {
        matches!(self, Command::Serve(_) | Command::Coordinator(_) | Command::Worker(_) | Command::Assembler(_))
    }
}

/// Settings of an encode, shared by `run` and `plan`.
#[derive(Clone, Debug, Default, Args)]
pub struct EncodeArgs {
    /// universal, efficiency, passthrough, or a profile file ending in .toml.
    #[arg(long, env = "SPLITREEL_PROFILE", value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// Seconds per segment, or auto.
    #[arg(long, env = "SPLITREEL_SEGMENT_SECONDS", value_name = "S|auto")]
    pub segment_seconds: Option<String>,
    /// Also make a chunk set with chunks of this size in MiB (16 to 128; 0 = none).
    #[arg(long, env = "SPLITREEL_CHUNK_MB", value_name = "N")]
    pub chunk_mb: Option<u32>,
    /// Keep the single MP4 beside the chunk set.
    #[arg(long, env = "SPLITREEL_KEEP_FULL")]
    pub keep_full: bool,
}

/// How to show progress.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Events as JSON lines on standard output.
    #[arg(long)]
    pub json: bool,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

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
    /// Start over, and replace whatever the output directory holds.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub show: OutputArgs,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// File to plan for.
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    #[command(flatten)]
    pub encode: EncodeArgs,
    /// The whole plan as JSON.
    #[arg(long)]
    pub json: bool,
}

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

/// Arguments of `profiles`.
#[derive(Debug, Args)]
pub struct ProfilesArgs {
    /// Show this profile (a name, or a file to check) as TOML.
    #[arg(value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Only `--json`.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
