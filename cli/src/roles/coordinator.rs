//! `splitreel coordinator`: API, planning, dispatch, leases, triggers, webhooks. Several may run on one database.

use super::bridge::{Exchange, Inbox, S3Buckets};
use super::bucket_outputs::S3Outputs;
use super::http_service::{HttpService, Seams, Settings};
use super::keys::Keys;
use super::lifecycle::{API_PORT, Process, bind, local};
use super::servers;
use super::settings::{Listen, Servers, Storage};
use super::uploads::BucketUploads;
use crate::config::Config;
use crate::exit::{Exit, Problem};
use clap::Args;
use splitreel_backend::{BlobStore, JobStore, Records, World};
use splitreel_backend_cluster::amqp::{AmqpDoorbell, AmqpEvents, AmqpInbox, Binding, InboxOptions};
use splitreel_backend_cluster::s3::{
    OPEN_UPLOADS_PREFIX, S3Blobs, S3Grants, S3Sources, S3Uploads, SourceScope, UPLOADS_PREFIX,
};
use splitreel_coordinator::Coordinator;
use splitreel_coordinator::triggers::{Place, PollConfig, Poller, listen as listen_to};
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Maximum interval between searches for unreferenced objects and abandoned uploads.
const GARBAGE_EVERY: Duration = Duration::from_secs(300);
/// Age after which a multipart upload counts as abandoned, in multiples of the grace period of objects.
const UPLOAD_GRACES: u32 = 6;
/// Longest upload of a client.
const LONGEST_UPLOAD: Duration = Duration::from_secs(14 * 24 * 3600);
/// Interval between searches for stragglers.
const SPECULATE_EVERY: Duration = Duration::from_secs(2);

/// Arguments of `coordinator`.
#[derive(Clone, Debug, Default, Args)]
pub struct CoordinatorArgs {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    storage: Storage,
    /// Maximum number of task notifications in flight per queue [default: a quarter of all slots, 4 to 256; for
    /// workers also one for each free slot].
    #[arg(long, env = "SPLITREEL_WINDOW", value_name = "N")]
    window: Option<usize>,
    /// Lease length in seconds; a worker that does not renew in time loses the task [default: 15].
    #[arg(long, env = "SPLITREEL_LEASE_SECONDS", value_name = "S", value_parser = clap::value_parser!(u32).range(2..=600))]
    lease_seconds: Option<u32>,
    /// Seconds after the end of a job until the objects of its failed attempts are deleted, and a sixth of the age at
    /// which a multipart upload counts as abandoned; no assembly may take this long [default: 3600].
    #[arg(long, env = "SPLITREEL_GARBAGE_SECONDS", value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    garbage_seconds: Option<u32>,
    /// Oldest worker protocol to accept; workers with an older one drain and exit [default: 1].
    #[arg(long, env = "SPLITREEL_OLDEST_PROTOCOL", value_name = "N")]
    oldest_protocol: Option<u32>,
    /// Queue of upload events, filled by a storage server [default: no queue is read].
    #[arg(long, env = "SPLITREEL_EVENTS_QUEUE", value_name = "NAME")]
    events_queue: Option<String>,
    /// Exchange that the queue of upload events is bound to.
    #[arg(long, env = "SPLITREEL_EVENTS_EXCHANGE", value_name = "NAME", requires = "events_queue")]
    events_exchange: Option<String>,
    /// Buckets and prefixes that sources may be read from, as bucket/prefix [default: all that the credentials can read].
    #[arg(long, env = "SPLITREEL_SOURCES", value_name = "BUCKET/PREFIX,…", value_delimiter = ',')]
    sources: Vec<String>,
    /// Networks that webhooks may reach in addition to public addresses, for example 10.1.0.0/16.
    #[arg(long, env = "SPLITREEL_WEBHOOK_NETWORKS", value_name = "CIDR,…", value_delimiter = ',')]
    webhook_networks: Vec<String>,
    /// Origins whose pages may use the API; * = all.
    #[arg(long, env = "SPLITREEL_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    cors_origins: Vec<String>,
}

fn places(texts: &[String]) -> Option<Vec<(String, String)>> {
    let split = |text: &String| {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        (bucket.to_owned(), prefix.to_owned())
    };
    (!texts.is_empty()).then(|| texts.iter().map(split).collect())
}

/// Aborts abandoned multipart uploads: their parts cost money and appear in no listing.
async fn abort_uploads(blobs: &S3Blobs, grace: Duration, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(grace.min(GARBAGE_EVERY));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        for (prefix, age) in [("jobs/", grace.saturating_mul(UPLOAD_GRACES)), (UPLOADS_PREFIX, LONGEST_UPLOAD)] {
            if let Err(error) = blobs.abort_uploads(prefix, age).await {
                tracing::warn!(%error, "could not abort abandoned uploads; retrying");
            }
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn coordinator(config: &Config, args: CoordinatorArgs, log_json: bool) -> Result<Exit, Problem> {
    let file = &config.file;
    let listen = args.listen.or(&file.listen);
    let address = listen.listen.unwrap_or(local(API_PORT));
    let keys = Keys::read(address)?;
    let process = Process::begin("coordinator", &[Role::Coordinator], &listen, log_json)?;
    let tables = args.servers.or(&file.servers);
    let storage = args.storage.or(&file.storage);
    let listener = bind(address, "--listen").await?;
    let connection = servers::storage(&storage, false).await?;
    let public = servers::storage(&storage, true).await?;
    let link = servers::broker(&tables, "coordinator")?;
    let database = servers::database(&tables, &process.drain).await?;
    servers::bucket(&connection, &process.drain).await?;

    let store: Arc<dyn JobStore> = Arc::new(database.clone());
    let records: Arc<dyn Records> = Arc::new(database.clone());
    let blobs = S3Blobs::new(connection.clone());
    let sources = S3Sources::new(connection.clone());
    let bucket = connection.options().bucket.clone();
    let below = |prefix: &str| format!("{}{prefix}", connection.options().key_prefix);
    let mut allowed = places(&args.sources);
    if let Some(places) = &mut allowed {
        places.push((bucket.clone(), below(UPLOADS_PREFIX)));
    }
    let own = [below("jobs/"), below(OPEN_UPLOADS_PREFIX)];
    let scope = SourceScope { allowed, denied: own.iter().map(|prefix| (bucket.clone(), prefix.clone())).collect() };
    let world = World::machine();
    let bell = Arc::new(AmqpDoorbell::new(link.clone(), 1));
    let mut settings = splitreel_coordinator::Config {
        in_flight: args.window.map_or(splitreel_coordinator::in_flight_limit(0), |most| most.max(1).into()),
        pump_every: Duration::from_millis(250),
        speculate_every: Some(SPECULATE_EVERY),
        garbage_every: GARBAGE_EVERY,
        ..splitreel_coordinator::Config::default()
    };
    if let Some(seconds) = args.lease_seconds {
        settings.retry.lease_ttl_ms = i64::from(seconds) * 1000;
    }
    if let Some(seconds) = args.garbage_seconds {
        settings.garbage_grace_ms = i64::from(seconds) * 1000;
        settings.garbage_every = GARBAGE_EVERY.min(Duration::from_secs(seconds.into()));
    }
    let grace = Duration::from_millis(u64::try_from(settings.garbage_grace_ms).unwrap_or(0));
    let objects: Arc<dyn BlobStore> = Arc::new(blobs.clone());
    let core = Coordinator::new(
        Arc::clone(&store),
        Arc::clone(&objects),
        Arc::clone(&bell) as Arc<_>,
        world.clone(),
        settings,
    );
    let seams = Seams {
        core: core.clone(),
        store,
        records: Arc::clone(&records),
        blobs: objects,
        grants: Arc::new(S3Grants::new(public.clone(), scope)),
        uploads: Arc::new(BucketUploads(S3Uploads::new(connection.clone(), public))),
        outputs: Arc::new(S3Outputs { blobs: blobs.clone(), sources: sources.clone() }),
        world: world.clone(),
    };
    let settings = Settings {
        keys,
        public_url: listen.public_url,
        cors_origins: args.cors_origins,
        webhook_networks: args.webhook_networks,
        local_slots: 0,
        oldest_protocol: args.oldest_protocol,
        follows_slots: args.window.is_none(),
        reserved_sources: vec![format!("s3://{bucket}/{}", below(UPLOADS_PREFIX))],
        own: own.map(|prefix| Place { bucket: bucket.clone(), prefix }).into(),
    };
    let http = HttpService::new(seams, settings)?;
    let checks = servers::check_broker(Checks::default(), &link);
    let checks = servers::check_storage(servers::check_database(checks, &database), &connection);
    process.serve_ops(checks).await?;

    let stop = process.stop.clone();
    let mut services = JoinSet::new();
    let s = stop.clone();
    services.spawn(async move { core.run(s).await });
    http.start(&mut services, &stop);
    http.feed(&mut services, &stop, "exchange", Arc::new(Exchange(AmqpEvents::new(link.clone()))));
    let s = stop.clone();
    services.spawn(async move { abort_uploads(&blobs, grace, &s).await });
    let buckets = Arc::new(S3Buckets(sources));
    let poller = Poller::new(buckets, records, http.intake.clone(), world, PollConfig::default());
    let s = stop.clone();
    services.spawn(async move { poller.run(&s).await });
    if let Some(queue) = args.events_queue {
        let bind = args.events_exchange.map(|exchange| Binding { exchange, routing_key: "#".to_owned() });
        let inbox = Inbox::new(AmqpInbox::new(link.clone(), InboxOptions { queue, bind, prefetch: 16 }));
        let (s, intake) = (stop.clone(), http.intake.clone());
        services.spawn(async move { listen_to(&inbox, &intake, &s).await });
    }

    process.ready(format_args!("coordinator at http://{address}"));
    http.serve(listener, &process).await;
    stop.cancel();
    while services.join_next().await.is_some() {}
    bell.close().await;
    link.close().await;
    database.close().await;
    Ok(Exit::Done)
}
