//! `splitreel worker`: fetches, encodes and uploads what the coordinator gives it. Holds no credentials but its token
//! and the broker's address.

use super::connect;
use super::lifecycle::Process;
use super::servers;
use super::settings::{Hands, Listen, Servers, Upstream};
use crate::config::Config;
use crate::engine;
use crate::exit::{Exit, Problem};
use crate::state::State;
use clap::Args;
use splitreel_backend::World;
use splitreel_backend_cluster::amqp::AmqpDoorbell;
use splitreel_client::types::{FILTER_WORD, PROTOCOL, Presence as Hello};
use splitreel_client::{RemoteLeases, SessionTimes};
use splitreel_core::WorkerId;
use splitreel_core::planner::FILTERS;
use splitreel_media::{Ffmpeg, FfmpegToolkit, Limits, ProbeOptions};
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use splitreel_worker::Worker;
use splitreel_worker::source::{HttpOptions, HttpSources};
use std::sync::Arc;

/// Arguments of `worker`.
#[derive(Clone, Debug, Default, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    upstream: Upstream,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    hands: Hands,
}

/// The name of this incarnation: what it was given, or the host's, and a part that no other has.
pub fn incarnation(name: Option<&str>) -> WorkerId {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.unwrap_or(host.trim());
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(60).collect();
    WorkerId(format!("{name}-{}", uuid::Uuid::now_v7().simple()))
}

/// Serves the work queue until SIGTERM or SIGINT.
pub async fn worker(config: &Config, args: WorkerArgs, log_json: bool) -> Result<Exit, Problem> {
    let tables = &config.file;
    let listen = args.listen.or(&tables.listen);
    let hands = args.hands.or(&tables.hands);
    let slots = config.workers(hands.slots)?;
    let process = Process::begin("worker", &[Role::Worker], &listen, log_json)?;
    let ffmpeg = engine::detect().await?;
    let client = connect::api(&args.upstream.or(&tables.upstream))?;
    let id = incarnation(hands.name.as_deref());
    let link = servers::broker(&args.servers.or(&tables.servers), &id.0)?;
    let state = State::open(&hands.scratch.unwrap_or_else(|| config.state.clone()), &id.0)?;
    for dead in &state.dead {
        state.bury(dead);
    }

    let leases = RemoteLeases::new(client.clone(), SessionTimes::default());
    let blobs = leases.blobs().map_err(|e| Problem::because("objects cannot be stored", &e))?;
    let bell = Arc::new(AmqpDoorbell::new(link.clone(), u16::try_from(slots).unwrap_or(u16::MAX)));
    let mut http = HttpOptions { scratch: state.scratch(), ..HttpOptions::default() };
    if let Some(mb) = hands.scratch_mb {
        http.scratch_bytes = mb.saturating_mul(1 << 20);
    }
    let sources = HttpSources::new(http).map_err(|e| Problem::because("sources cannot be fetched", &e))?;
    let toolkit = FfmpegToolkit::new(Arc::clone(&ffmpeg), state.scratch(), Limits::default(), ProbeOptions::default());
    let role = Worker::new(
        splitreel_worker::Config { id: id.clone(), slots },
        Arc::new(leases.clone()),
        Arc::clone(&bell) as Arc<_>,
        Arc::new(blobs),
        Arc::new(sources),
        Arc::new(toolkit),
        World::machine().ids,
    );

    process.serve_ops(servers::check_broker(Checks::default(), &link)).await?;
    let hello = Hello {
        worker: id.0.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
        labels: Default::default(),
        capabilities: capabilities(&ffmpeg),
    };
    let presence = servers::Presence::hold(client, hello, &leases, &process);
    process.ready(format_args!("worker {} with {slots} slots", id.0));
    role.run(process.drain.clone(), process.stop.clone()).await;
    let ended = presence.end().await;
    bell.close().await;
    link.close().await;
    ended.map(|()| Exit::Done)
}

/// What plans may count on: the filters that they make a difference by, and encoders, as many as a coordinator takes.
fn capabilities(ffmpeg: &Ffmpeg) -> Vec<String> {
    const MOST: usize = 256;
    let filters = FILTERS.iter().filter(|name| ffmpeg.filters.contains(**name));
    let filters = filters.map(|name| format!("{FILTER_WORD}{name}"));
    filters.chain(ffmpeg.encoders.iter().cloned()).take(MOST).collect()
}
