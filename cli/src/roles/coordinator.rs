//! `splitreel coordinator`: API, planning, dispatch, leases, triggers, webhooks. Several may run on one database.

use super::bridge::{Exchange, Inbox, S3Buckets};
use super::connect;
use super::lifecycle::{Process, bind, local};
use super::settings::{Listen, Servers, Storage, required_secret, secret};
use crate::config::Config;
use crate::exit::{Exit, Problem};
use clap::Args;
use splitreel_backend::{BlobStore, Grants, JobStore, Records, World};
use splitreel_backend_cluster::amqp::{AmqpDoorbell, AmqpEvents, AmqpInbox, Binding, InboxOptions};
use splitreel_backend_cluster::s3::{S3Blobs, S3Grants, S3Sources, SourceScope};
use splitreel_coordinator::Coordinator;
use splitreel_coordinator::api::{Api, ApiConfig, ApiSeams, Secret, SystemSecrets, shares};
use splitreel_coordinator::triggers::{
    self, Intake, LateProfiles, Place, PollConfig, Poller, SharedSecret, events_router, listen as listen_to,
    rules_router,
};
use splitreel_coordinator::webhooks::{
    self, AddressPolicy, EventSink, Feed, Sender, SenderConfig, WebhookQueue, webhooks_router,
};
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the tenants' shares are read.
const SHARES_EVERY: Duration = Duration::from_secs(2);
/// How often uploads are looked at that were still being written.
const HELD_EVERY: Duration = Duration::from_secs(1);
/// How often at least objects without a name and abandoned uploads are looked for.
const GARBAGE_EVERY: Duration = Duration::from_secs(300);
/// A multipart upload is taken for abandoned after so many times the grace of objects.
const UPLOAD_GRACES: u32 = 6;
/// How often the job log is looked at for webhooks and the exchange.
const FEED_EVERY: Duration = Duration::from_millis(500);
/// The port of the API when none is given.
const DEFAULT_PORT: u16 = 8400;
/// A token is as good as a password of this many bytes.
const TOKEN_BYTES: usize = 16;

/// Arguments of `coordinator`.
#[derive(Clone, Debug, Default, Args)]
pub struct CoordinatorArgs {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    storage: Storage,
    /// Rings that may be out at a time; about twice the slots of all workers [default: 256].
    #[arg(long, env = "SPLITREEL_WINDOW", value_name = "N")]
    window: Option<usize>,
    /// Seconds after which a worker that gives no sign loses its work [default: 15].
    #[arg(long, env = "SPLITREEL_LEASE_SECONDS", value_name = "S", value_parser = clap::value_parser!(u32).range(2..=600))]
    lease_seconds: Option<u32>,
    /// Seconds after a job's end when what its dead attempts stored is deleted, and a sixth of the age at which a
    /// multipart upload is taken for abandoned: no assembly may take as long [default: 3600].
    #[arg(long, env = "SPLITREEL_GARBAGE_SECONDS", value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    garbage_seconds: Option<u32>,
    /// Queue of upload events, written by a storage server; without it none is read.
    #[arg(long, env = "SPLITREEL_EVENTS_QUEUE", value_name = "NAME")]
    events_queue: Option<String>,
    /// Exchange that the queue of upload events is bound to.
    #[arg(long, env = "SPLITREEL_EVENTS_EXCHANGE", value_name = "NAME", requires = "events_queue")]
    events_exchange: Option<String>,
    /// Buckets and prefixes that sources may be read from, as bucket/prefix; without it all that the keys can read.
    #[arg(long, env = "SPLITREEL_SOURCES", value_name = "BUCKET/PREFIX,…", value_delimiter = ',')]
    sources: Vec<String>,
    /// Networks that webhooks may go to beside public addresses, for example 10.1.0.0/16.
    #[arg(long, env = "SPLITREEL_WEBHOOK_NETWORKS", value_name = "CIDR,…", value_delimiter = ',')]
    webhook_networks: Vec<String>,
    /// Pages of these origins may use the API; * = all.
    #[arg(long, env = "SPLITREEL_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    cors_origins: Vec<String>,
}

/// Secrets of the API.
struct Keys {
    admin: Option<Secret>,
    work: Option<Secret>,
    signing: Secret,
    ingest: Option<String>,
}

impl Keys {
    fn read(address: SocketAddr) -> Result<Self, Problem> {
        let make = "make one with: openssl rand -hex 32";
        let signing = required_secret("SPLITREEL_SIGNING_KEY", "the key that signs playback links")
            .map_err(|p| p.line(format!("all coordinators need the same; {make}")))?;
        let mut found = vec![("SPLITREEL_SIGNING_KEY", signing.expose().clone())];
        for name in ["SPLITREEL_ADMIN_TOKEN", "SPLITREEL_WORK_TOKEN", "SPLITREEL_INGEST_SECRET"] {
            if let Some(value) = secret(name)? {
                found.push((name, value.expose().clone()));
            }
        }
        for (name, value) in &found {
            let value = value.trim();
            if value.len() < TOKEN_BYTES {
                return Err(
                    Problem::usage(format!("{name} has {} bytes, too few for a secret", value.len())).line(make)
                );
            }
            // What example files say is known to everybody.
            if !address.ip().is_loopback() && value.to_ascii_lowercase().contains("change") {
                return Err(Problem::usage(format!(
                    "{name} is still that of the example, and {address} can be reached from elsewhere"
                ))
                .line(make));
            }
        }
        let of = |name: &str| found.iter().find(|(n, _)| *n == name).map(|(_, v)| v.trim().to_owned());
        Ok(Keys {
            admin: of("SPLITREEL_ADMIN_TOKEN").map(Secret::new),
            work: of("SPLITREEL_WORK_TOKEN").map(Secret::new),
            signing: Secret::new(of("SPLITREEL_SIGNING_KEY").unwrap_or_default()),
            ingest: of("SPLITREEL_INGEST_SECRET"),
        })
    }
}

fn places(texts: &[String]) -> Option<Vec<(String, String)>> {
    let split = |text: &String| {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        (bucket.to_owned(), prefix.to_owned())
    };
    (!texts.is_empty()).then(|| texts.iter().map(split).collect())
}

/// Keeps dispatch to what the API says of tenants.
async fn follow_shares(core: &Coordinator, records: &dyn Records, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(SHARES_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match shares(records).await {
            Ok(shares) => core.set_shares(shares),
            Err(error) => tracing::warn!(%error, "the tenants' shares stay as they were"),
        }
    }
}

/// Offers uploads again that were still being written.
async fn release_held(intake: &Intake, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(HELD_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = intake.release_held().await {
            tracing::warn!(%error, "uploads that were watched have to wait");
        }
    }
}

/// Ends multipart uploads that nobody goes on with: their parts cost money and show nowhere.
async fn abort_uploads(blobs: &S3Blobs, grace: Duration, stop: &CancellationToken) {
    let age = grace.saturating_mul(UPLOAD_GRACES);
    let mut tick = tokio::time::interval(grace.min(GARBAGE_EVERY));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = blobs.abort_uploads("jobs/", age).await {
            tracing::warn!(%error, "abandoned uploads are left for now");
        }
    }
}

/// Serves until it is told to end.
pub async fn coordinator(config: &Config, args: CoordinatorArgs, log_json: bool) -> Result<Exit, Problem> {
    let file = &config.file;
    let listen = args.listen.or(&file.listen);
    let address = listen.listen.unwrap_or(local(DEFAULT_PORT));
    let keys = Keys::read(address)?;
    let networks = args.webhook_networks.iter().map(|n| n.parse()).collect::<Result<Vec<_>, _>>();
    let networks = networks.map_err(|e| Problem::usage(format!("--webhook-networks: {e}")))?;
    let process = Process::begin(Role::Coordinator, &listen, log_json)?;
    let servers = args.servers.or(&file.servers);
    let storage = args.storage.or(&file.storage);
    let listener = bind(address, "--listen").await?;
    let connection = connect::storage(&storage, false).await?;
    let public = connect::storage(&storage, true).await?;
    let link = connect::broker(&servers, "coordinator")?;
    let database = connect::database(&servers, &process.drain).await?;
    connect::bucket(&connection, &process.drain).await?;

    let store: Arc<dyn JobStore> = Arc::new(database.clone());
    let records: Arc<dyn Records> = Arc::new(database.clone());
    let blobs: Arc<dyn BlobStore> = Arc::new(S3Blobs::new(connection.clone()));
    let work = (connection.options().bucket.clone(), format!("{}jobs/", connection.options().key_prefix));
    let scope = SourceScope { allowed: places(&args.sources), denied: vec![work.clone()] };
    let grants: Arc<dyn Grants> = Arc::new(S3Grants::new(public, scope));
    let world = World::machine();
    let bell = Arc::new(AmqpDoorbell::new(link.clone(), 1));
    let mut settings = splitreel_coordinator::Config {
        window: args.window.unwrap_or(256).max(1),
        pump_every: Duration::from_millis(250),
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
    let core =
        Coordinator::new(Arc::clone(&store), Arc::clone(&blobs), Arc::clone(&bell) as Arc<_>, world.clone(), settings);

    let mut api_config = ApiConfig::new(keys.signing);
    api_config.bootstrap_token = keys.admin;
    api_config.work_token = keys.work;
    api_config.cors_origins = args.cors_origins;
    let sender = SenderConfig {
        policy: AddressPolicy { allow: networks, ..AddressPolicy::default() },
        ..SenderConfig::default()
    };
    let sender = Sender::new(Arc::clone(&records), world.clone(), sender)
        .map_err(|e| Problem::because("webhooks cannot be sent", &e))?;
    let seams = ApiSeams {
        coordinator: core.clone(),
        store: Arc::clone(&store),
        records: Arc::clone(&records),
        grants: Arc::clone(&grants),
        blobs: Arc::clone(&blobs),
        world: world.clone(),
        secrets: Arc::new(SystemSecrets),
        uploads: None,
        more_rules: [triggers::ROUTES, webhooks::ROUTES].concat(),
    };
    let api = Api::new(api_config, seams)
        .map_err(|e| Problem { exit: Exit::Usage, ..Problem::because("the API cannot be served like this", &e) })?;
    let own = vec![Place { bucket: work.0, prefix: work.1 }];
    let profiles = Arc::new(LateProfiles::default());
    profiles.set(Arc::new(api.clone()));
    let intake = Intake::new(core.clone(), Arc::clone(&records), Arc::clone(&grants), profiles, world.clone(), own);
    let shared = keys.ingest.as_deref().and_then(|s| SharedSecret::new(s, None)).into_iter().collect();
    let more = events_router(intake.clone(), Arc::new(api.clone()), shared)
        .merge(rules_router(Arc::clone(&records), intake.clone(), world.clone()))
        .merge(webhooks_router(Arc::clone(&records), sender.clone(), world.clone()));
    let router = splitreel_telemetry::http::observed(api.router_with(more));

    let checks = connect::check_broker(Checks::default(), &link);
    let checks = connect::check_storage(connect::check_database(checks, &database), &connection);
    process.serve_ops(checks).await?;

    let stop = process.stop.clone();
    let mut services = JoinSet::new();
    let s = stop.clone();
    let c = core.clone();
    services.spawn(async move { c.run(s).await });
    let (s, a) = (stop.clone(), api.clone());
    services.spawn(async move { a.run(s).await });
    let (s, w) = (stop.clone(), sender.clone());
    services.spawn(async move { w.run(&s).await });
    let feeds: [(&str, Arc<dyn EventSink>); 2] = [
        ("webhooks", Arc::new(WebhookQueue::new(Arc::clone(&store), Arc::clone(&records), world.clone()))),
        ("exchange", Arc::new(Exchange(AmqpEvents::new(link.clone())))),
    ];
    for (name, sink) in feeds {
        let feed = Feed::new(name, Arc::clone(&store), Arc::clone(&records), world.clone(), sink);
        let s = stop.clone();
        services.spawn(async move { feed.run(FEED_EVERY, &s).await });
    }
    let (s, c, kept) = (stop.clone(), core.clone(), Arc::clone(&records));
    services.spawn(async move { follow_shares(&c, kept.as_ref(), &s).await });
    let (s, watched) = (stop.clone(), intake.clone());
    services.spawn(async move { release_held(&watched, &s).await });
    let (s, orphans) = (stop.clone(), S3Blobs::new(connection.clone()));
    services.spawn(async move { abort_uploads(&orphans, grace, &s).await });
    let buckets = Arc::new(S3Buckets(S3Sources::new(connection.clone())));
    let poller = Poller::new(buckets, Arc::clone(&records), intake.clone(), world.clone(), PollConfig::default());
    let s = stop.clone();
    services.spawn(async move { poller.run(&s).await });
    if let Some(queue) = args.events_queue {
        let bind = args.events_exchange.map(|exchange| Binding { exchange, routing_key: "#".to_owned() });
        let inbox = Inbox::new(AmqpInbox::new(link.clone(), InboxOptions { queue, bind, prefetch: 16 }));
        let (s, intake) = (stop.clone(), intake.clone());
        services.spawn(async move { listen_to(&inbox, &intake, &s).await });
    }

    process.ready(format_args!("coordinator at http://{address}"));
    // Streams end with the drain, so that the server can; requests in flight are answered.
    let (drain, a) = (process.drain.clone(), api.clone());
    let serve = axum::serve(listener, router.into_make_service()).with_graceful_shutdown(async move {
        drain.cancelled().await;
        a.close();
    });
    tokio::select! {
        served = serve.into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "the API is served no more");
            }
        }
        () = stop.cancelled() => {}
    }
    stop.cancel();
    while services.join_next().await.is_some() {}
    bell.close().await;
    link.close().await;
    database.close().await;
    Ok(Exit::Done)
}
