//! Opens the cluster's servers from settings: Postgres, RabbitMQ, S3. Also holds the control stream by which a worker or
//! an assembler is known to its coordinator.

use super::connect::unusable;
use super::lifecycle::Process;
use super::settings::{Servers, Storage, required, required_secret};
use crate::exit::{Exit, Problem};
use splitreel_backend::StoreError;
use splitreel_backend_cluster::amqp::{AmqpLink, AmqpOptions, Health};
use splitreel_backend_cluster::postgres::{PgConfig, PgOpenError, PgStore};
use splitreel_backend_cluster::s3::{S3Connection, S3Options};
use splitreel_client::types::Presence as Hello;
use splitreel_client::{Client, PresenceEnd, RemoteLeases};
use splitreel_telemetry::checks::Checks;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a server is tried that is not there yet.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The database, after its migrations. Waits for a server that is not there yet.
pub async fn database(servers: &Servers, drain: &CancellationToken) -> Result<PgStore, Problem> {
    let url = required_secret("DATABASE_URL", "the database's address")?;
    let mut config = PgConfig::default();
    if let Some(n) = servers.database_connections {
        config.max_connections = n;
    }
    loop {
        let opened = match PgStore::migrate(url.expose()).await {
            Ok(_) => PgStore::open(url.expose(), &config).await,
            Err(error) => Err(error),
        };
        match opened {
            Err(PgOpenError::Store(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(%error, "database unavailable; retrying");
                if drain.run_until_cancelled(tokio::time::sleep(TRY_EVERY)).await.is_none() {
                    return Err(unusable("the database is not there", &error));
                }
            }
            other => return other.map_err(|e| unusable("the database cannot be used", &e)),
        }
    }
}

/// Makes the work bucket where it is missing. Waits for a server that is not there yet.
pub async fn bucket(connection: &S3Connection, drain: &CancellationToken) -> Result<(), Problem> {
    while let Err(error) = connection.create_bucket().await {
        tracing::warn!(%error, "bucket unavailable; retrying");
        if drain.run_until_cancelled(tokio::time::sleep(TRY_EVERY)).await.is_none() {
            return Err(unusable("the bucket is not there", &error));
        }
    }
    Ok(())
}

/// The broker. Connects in the background, for ever.
pub fn broker(servers: &Servers, name: &str) -> Result<AmqpLink, Problem> {
    let url = required_secret("AMQP_URL", "the broker's address")?;
    let mut options = AmqpOptions::new(url.expose().as_str());
    if let Some(prefix) = &servers.queue_prefix {
        options.prefix.clone_from(prefix);
    }
    options.connection_name = name.to_owned();
    AmqpLink::open(options).map_err(|e| unusable("the broker cannot be used", &e))
}

/// Object storage. `public`: sign for the address that workers use.
pub async fn storage(storage: &Storage, public: bool) -> Result<S3Connection, Problem> {
    let bucket = required(
        storage.s3_bucket.clone(),
        "the bucket of parts and presentations",
        "give --s3-bucket, SPLITREEL_S3_BUCKET or s3_bucket in [storage] of the configuration file",
    )?;
    let mut options = S3Options::new(bucket);
    let endpoint = storage.s3_endpoint.clone().or_else(|| std::env::var("AWS_ENDPOINT_URL").ok());
    options.endpoint = if public { storage.s3_public_endpoint.clone().or(endpoint) } else { endpoint };
    // Servers of one's own have no wildcard names, as a rule; AWS wants them.
    options.path_style = options.endpoint.is_some();
    if let Some(region) = &storage.s3_region {
        options.region.clone_from(region);
    }
    if let Some(prefix) = &storage.s3_prefix {
        options.key_prefix.clone_from(prefix);
    }
    S3Connection::open(options).await.map_err(|e| unusable("the object storage cannot be used", &e))
}

/// Adds the broker to the readiness checks.
pub fn check_broker(checks: Checks, link: &AmqpLink) -> Checks {
    let link = link.clone();
    checks.with("broker", move || {
        let health = link.health();
        async move {
            match health {
                Health::Connected => Ok(()),
                Health::Blocked => Err("takes no messages for lack of memory or disk space".to_owned()),
                Health::Closed => Err("closed".to_owned()),
                Health::Down { last_error } => Err(last_error.unwrap_or_else(|| "not connected yet".to_owned())),
            }
        }
    })
}

/// Adds object storage to the readiness checks.
pub fn check_storage(checks: Checks, connection: &S3Connection) -> Checks {
    let connection = connection.clone();
    checks.with("storage", move || {
        let connection = connection.clone();
        async move { connection.check().await }
    })
}

/// Adds the database to the readiness checks.
pub fn check_database(checks: Checks, store: &PgStore) -> Checks {
    let store = store.clone();
    checks.with("database", move || {
        let store = store.clone();
        async move { store.ping().await }
    })
}

/// Holds a control stream to the coordinator for as long as the process lives. When the coordinator does not take this
/// process, that is its end.
pub struct Presence {
    held: tokio::task::JoinHandle<PresenceEnd>,
    stop: CancellationToken,
}

impl Presence {
    /// Says hello, and again whenever the stream breaks.
    pub fn hold(client: Client, hello: Hello, leases: &RemoteLeases, process: &Process) -> Self {
        let (leases, drain, stop) = (leases.clone(), process.drain.clone(), process.stop.clone());
        let held = tokio::spawn(async move {
            let end = client.hold_presence(&hello, &leases, &drain, &stop).await;
            stop.cancel();
            end
        });
        Presence { held, stop: process.stop.clone() }
    }

    /// Ends the stream, after the role has ended.
    pub async fn end(self) -> Result<(), Problem> {
        self.stop.cancel();
        match self.held.await {
            Ok(PresenceEnd::Refused(error)) => Err(unusable("the coordinator does not take this process", &error)),
            Ok(PresenceEnd::Outdated) => {
                let mut problem = Problem::failed("this program is older than the coordinator accepts");
                problem.exit = Exit::Outdated;
                Err(problem.line("start the coordinator's version of it; what it had was finished or handed back"))
            }
            Ok(PresenceEnd::Shutdown) | Err(_) => Ok(()),
        }
    }
}
