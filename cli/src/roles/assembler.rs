//! `splitreel assembler`: packages and publishes. Has the bucket, but no database.

use super::connect;
use super::lifecycle::Process;
use super::servers;
use super::settings::{Hands, Listen, Servers, Storage, Upstream};
use super::worker::incarnation;
use crate::config::Config;
use crate::exit::{Exit, Problem};
use clap::Args;
use splitreel_assembler::Assembler;
use splitreel_backend::World;
use splitreel_backend_cluster::amqp::AmqpDoorbell;
use splitreel_backend_cluster::s3::S3Blobs;
use splitreel_client::types::{PROTOCOL, Presence as Hello};
use splitreel_client::{RemoteLeases, SessionTimes};
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use std::sync::Arc;

/// Arguments of `assembler`.
#[derive(Clone, Debug, Default, Args)]
pub struct AssemblerArgs {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    upstream: Upstream,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    hands: Hands,
}

/// Serves the assemble queue until SIGTERM or SIGINT.
pub async fn assembler(config: &Config, args: AssemblerArgs, log_json: bool) -> Result<Exit, Problem> {
    let tables = &config.file;
    let listen = args.listen.or(&tables.listen);
    let hands = args.hands.or(&tables.hands);
    let slots = hands.slots.unwrap_or(1).clamp(1, 1024);
    let process = Process::begin("assembler", &[Role::Assembler], &listen, log_json)?;
    let client = connect::api(&args.upstream.or(&tables.upstream))?;
    let id = incarnation(hands.name.as_deref());
    let link = servers::broker(&args.servers.or(&tables.servers), &id.0)?;
    let connection = servers::storage(&args.storage.or(&tables.storage), false).await?;

    let leases = RemoteLeases::new(client.clone(), SessionTimes::default());
    let bell = Arc::new(AmqpDoorbell::new(link.clone(), u16::try_from(slots).unwrap_or(u16::MAX)));
    let role = Assembler::new(
        splitreel_assembler::Config { id: id.clone(), slots },
        Arc::new(leases.clone()),
        Arc::clone(&bell) as Arc<_>,
        Arc::new(S3Blobs::new(connection.clone())),
        World::machine().ids,
    );
    let checks = servers::check_storage(servers::check_broker(Checks::default(), &link), &connection);
    process.serve_ops(checks).await?;
    let hello = Hello {
        worker: id.0.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
        labels: Default::default(),
        capabilities: Vec::new(),
    };
    let presence = servers::Presence::hold(client, hello, &leases, &process);
    process.ready(format_args!("assembler {} with {slots} slots", id.0));
    role.run(process.drain.clone(), process.stop.clone()).await;
    let ended = presence.end().await;
    bell.close().await;
    link.close().await;
    ended.map(|()| Exit::Done)
}
