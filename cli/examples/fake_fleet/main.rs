//! The load of `scripts/bench cluster`: workers that wait instead of encoding, driven against running coordinators,
//! and the clock beside them. Prints one JSON object per scenario. No part of the program.

#![allow(unsafe_code, reason = "asks for the clock ticks by a system call")]

mod fleet;
mod measure;
mod scenarios;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use fleet::Cluster;
use measure::Watched;
use splitreel_client::{Client, ClientConfig, Token};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// As many segments as go through.
    Throughput,
    /// Tasks of a fixed length on many slots.
    Efficiency,
    /// A job on idle workers.
    Latency,
    /// A job of one tenant beside the many of another.
    Fairness,
    /// Claims and cancels in front of a million waiting segments.
    Backlog,
}

#[derive(Parser)]
struct Args {
    scenario: Scenario,
    /// Slots of the fleet.
    #[arg(long, default_value_t = 64)]
    slots: u32,
    /// Segments, of all jobs together.
    #[arg(long, default_value_t = 20_000)]
    segments: u32,
    /// Length of a task.
    #[arg(long, default_value_t = 0)]
    task_ms: u64,
    /// Processes whose CPU time is reported per segment: name=PID,PID.
    #[arg(long)]
    watch: Vec<Watched>,
    /// Where the API is.
    #[arg(long, env = "SPLITREEL_SERVER")]
    server: String,
    #[arg(long, env = "SPLITREEL_ADMIN_TOKEN")]
    admin_token: String,
    #[arg(long, env = "SPLITREEL_WORK_TOKEN")]
    work_token: String,
    #[arg(long, env = "AMQP_URL")]
    amqp_url: String,
    #[arg(long, env = "SPLITREEL_QUEUE_PREFIX")]
    queue_prefix: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let base: url::Url = args.server.parse().context("the server's address")?;
    let client = |token: &str| Client::new(ClientConfig::new(base.clone(), Some(Token(token.to_owned()))));
    let stage = scenarios::Stage {
        admin: client(&args.admin_token)?,
        base: base.clone(),
        cluster: Cluster {
            client: client(&args.work_token)?,
            amqp_url: args.amqp_url,
            queue_prefix: args.queue_prefix,
        },
        slots: args.slots,
        segments: args.segments,
        task: std::time::Duration::from_millis(args.task_ms),
        watched: args.watch.into_iter().chain([Watched::fleet()?]).collect(),
    };
    stage.unlimited("default").await?;
    let figures = match args.scenario {
        Scenario::Throughput => stage.throughput().await?,
        Scenario::Efficiency => stage.efficiency().await?,
        Scenario::Latency => stage.latency().await?,
        Scenario::Fairness => stage.fairness().await?,
        Scenario::Backlog => stage.backlog().await?,
    };
    println!("{figures}");
    Ok(())
}
