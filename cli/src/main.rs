//! `splitreel`: arguments, configuration, wiring and terminal output. The only place where adapters meet roles.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, reason = "it panics when nobody reads on: use say!")]

#[macro_use]
mod stdout;

mod args;
mod commands;
mod config;
mod display;
mod engine;
mod exit;
mod features;
mod observe;
mod profile_file;
mod roles;
mod state;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use commands::server::jobs::Act;
use commands::server::{self, RemoteJobArgs};
use exit::Exit;
use splitreel_telemetry::{Format, Guard, Logs, Traces};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Both of the HTTP clients in here take the process's one; it is installed once and before any of them is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Roles begin theirs by themselves. Kept to the end: what was not exported yet leaves then.
    let _telemetry = if cli.command.is_role() { None } else { init_telemetry(&cli) };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("splitreel: the runtime cannot be started: {e}");
            return Exit::Failed.into();
        }
    };
    let outcome = runtime.block_on(dispatch(cli));
    // Background tasks hold nothing that matters any more; do not wait for a stuck one.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(exit) => exit.into(),
        Err(problem) => {
            problem.print();
            problem.exit.into()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, exit::Problem> {
    let config = config::load(cli.config.as_deref(), cli.state.as_deref())?;
    let log_json = cli.log_json;
    match cli.command {
        Command::Run(args) => commands::run::run(&config, args).await,
        Command::Repackage(args) => commands::run::repackage(&config, args).await,
        Command::Plan(args) => commands::plan::plan(&config, args).await,
        Command::Status(args) if args.upstream.server.is_some() => {
            let job = args.job.ok_or_else(|| exit::Problem::usage("give the id of a server's job"))?;
            server::jobs::status(&config, RemoteJobArgs::of(&job, args.upstream)?.with_json(args.json)).await
        }
        Command::Status(args) => commands::jobs::status(&config, args).await,
        Command::List(args) if args.upstream.server.is_some() => {
            server::jobs::list(&config, args.upstream, args.limit, args.json).await
        }
        Command::List(args) => commands::jobs::list(&config, args).await,
        Command::Cancel(args) if args.upstream.server.is_some() => {
            server::jobs::act(&config, RemoteJobArgs::of(&args.job, args.upstream)?, Act::Cancel).await
        }
        Command::Cancel(args) => commands::jobs::cancel(&config, args).await,
        Command::Retry(args) if args.upstream.server.is_some() => {
            server::jobs::act(&config, RemoteJobArgs::of(&args.job, args.upstream)?, Act::Retry).await
        }
        Command::Retry(args) => commands::run::retry(&config, args).await,
        Command::Profiles(args) => commands::profiles::profiles(&args),
        Command::Doctor(args) => commands::doctor::doctor(&config, args).await,
        Command::Completions(args) => {
            commands::completions::completions(Cli::command(), &args);
            Ok(Exit::Done)
        }
        Command::Migrate => commands::jobs::migrate(&config).await,
        Command::Pause(args) => server::jobs::act(&config, args, Act::Pause).await,
        Command::Resume(args) => server::jobs::act(&config, args, Act::Resume).await,
        Command::Submit(args) => Box::pin(commands::submit::submit(&config, args)).await,
        Command::Watch(args) => server::follow::watch(&config, args).await,
        Command::Fetch(args) => server::fetch::fetch(&config, args).await,
        Command::Workers(args) => server::workers::workers(&config, args).await,
        Command::Triggers(command) => commands::triggers::triggers(&config, command).await,
        Command::Tokens(command) => server::tokens::tokens(&config, command).await,
        Command::Serve(args) => Box::pin(roles::serve(&config, args, log_json)).await,
        Command::Coordinator(args) => Box::pin(roles::coordinator(&config, args, log_json)).await,
        Command::Worker(args) => Box::pin(roles::worker(&config, args, log_json)).await,
        Command::Assembler(args) => Box::pin(roles::assembler(&config, args, log_json)).await,
    }
}

fn init_telemetry(cli: &Cli) -> Option<Guard> {
    let default = match cli.verbose {
        0 => "off",
        1 => {
            "splitreel=info,splitreel_coordinator=info,splitreel_worker=info,splitreel_assembler=info,splitreel_backend=info,warn"
        }
        _ => "debug,sqlx=info",
    };
    let is_chosen = std::env::var("RUST_LOG").is_ok_and(|filter| !filter.trim().is_empty());
    let logs = Logs {
        format: if cli.log_json { Format::Json } else { Format::Pretty },
        filter: (!is_chosen).then(|| default.to_owned()),
    };
    let traces = Traces { endpoint: None, service_name: "splitreel".to_owned() };
    // A command works without telling how; only a wrong filter or address comes this way.
    splitreel_telemetry::init(&logs, &traces).inspect_err(|e| eprintln!("splitreel: no logs and traces: {e}")).ok()
}
