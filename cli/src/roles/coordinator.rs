//! `splitreel coordinator`: API, planning, dispatch, leases, triggers, webhooks. Several may run on one database.

use super::http_service::{HttpService, Seams, Settings};
use super::keys::Keys;
use super::lifecycle::{API_PORT, Process, Services, bind, local};
use super::servers;
use super::settings::{Api, Dispatch, Listen, Servers, Storage};
use crate::config::Config;
use crate::exit::{Exit, Problem};
use clap::Args;
use splitreel_backend::{Records, World};
use splitreel_backend_cluster::amqp::{
    AmqpDoorbell, AmqpEventInbox, AmqpEvents, AmqpInbox, AmqpLink, Binding, InboxOptions,
};
use splitreel_backend_cluster::postgres::PgStore;
use splitreel_backend_cluster::s3::{
    OPEN_UPLOADS_PREFIX, S3Blobs, S3Connection, S3Grants, S3Outputs, S3Sources, S3Uploads, SourceScope, UPLOADS_PREFIX,
};
use splitreel_coordinator::Coordinator;
use splitreel_coordinator::triggers::{Place, PollConfig, Poller, listen as listen_to};
use splitreel_core::key::JOBS_PREFIX;
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use std::sync::Arc;
use std::time::Duration;
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
    #[command(flatten)]
    dispatch: Dispatch,
    #[command(flatten)]
    api: Api,
}

/// The servers of the cluster, opened.
struct Cluster {
    database: PgStore,
    link: AmqpLink,
    /// The work bucket, as this process reaches it.
    storage: S3Connection,
    /// The same, as workers reach it.
    public: S3Connection,
}

impl Cluster {
    async fn open(at: &Servers, storage: &Storage, drain: &CancellationToken) -> Result<Self, Problem> {
        let public = servers::storage(storage, true).await?;
        let storage = servers::storage(storage, false).await?;
        let link = servers::broker(at, "coordinator")?;
        let database = servers::database(at, drain).await?;
        servers::bucket(&storage, drain).await?;
        Ok(Cluster { database, link, storage, public })
    }

    /// A place in the work bucket.
    fn place(&self, prefix: &str) -> Place {
        let options = self.storage.options();
        Place { bucket: options.bucket.clone(), prefix: format!("{}{prefix}", options.key_prefix) }
    }

    /// Places that this deployment writes to: no source may be read from there.
    fn own(&self) -> Vec<Place> {
        [JOBS_PREFIX, OPEN_UPLOADS_PREFIX].map(|prefix| self.place(prefix)).into()
    }

    /// Where sources may be read from: the given places and finished uploads, or wherever the credentials reach.
    fn scope(&self, sources: Option<&[String]>) -> SourceScope {
        let pair = |place: Place| (place.bucket, place.prefix);
        let named = |text: &String| {
            let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
            (bucket.to_owned(), prefix.to_owned())
        };
        let given = sources.filter(|places| !places.is_empty());
        let uploads = || std::iter::once(pair(self.place(UPLOADS_PREFIX)));
        SourceScope {
            allowed: given.map(|places| places.iter().map(named).chain(uploads()).collect()),
            denied: self.own().into_iter().map(pair).collect(),
        }
    }

    fn checks(&self) -> Checks {
        let checks = servers::check_broker(Checks::default(), &self.link);
        servers::check_storage(servers::check_database(checks, &self.database), &self.storage)
    }

    fn seams(&self, core: &Coordinator, world: &World, sources: Option<&[String]>) -> Seams {
        let blobs = S3Blobs::new(self.storage.clone());
        let uploads = S3Uploads::new(self.storage.clone(), self.public.clone());
        Seams {
            core: core.clone(),
            store: Arc::new(self.database.clone()),
            records: Arc::new(self.database.clone()),
            blobs: Arc::new(blobs.clone()),
            grants: Arc::new(S3Grants::new(self.public.clone(), self.scope(sources))),
            uploads: Arc::new(uploads),
            outputs: Arc::new(S3Outputs { blobs, sources: S3Sources::new(self.storage.clone()) }),
            world: world.clone(),
        }
    }
}

/// Settings of the engine.
fn engine_config(dispatch: &Dispatch) -> splitreel_coordinator::Config {
    let mut config = splitreel_coordinator::Config {
        in_flight: dispatch.window.map_or(splitreel_coordinator::in_flight_limit(0), |most| most.max(1).into()),
        pump_every: Duration::from_millis(250),
        speculate_every: Some(SPECULATE_EVERY),
        garbage_every: GARBAGE_EVERY,
        ..splitreel_coordinator::Config::default()
    };
    if let Some(seconds) = dispatch.lease_seconds {
        config.retry.lease_ttl_ms = i64::from(seconds) * 1000;
    }
    if let Some(seconds) = dispatch.garbage_seconds {
        config.garbage_grace_ms = i64::from(seconds) * 1000;
        config.garbage_every = GARBAGE_EVERY.min(Duration::from_secs(seconds.into()));
    }
    config
}

/// Aborts abandoned multipart uploads: their parts cost money and appear in no listing.
async fn abort_uploads(blobs: &S3Blobs, grace: Duration, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(grace.min(GARBAGE_EVERY));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        for (prefix, age) in [(JOBS_PREFIX, grace.saturating_mul(UPLOAD_GRACES)), (UPLOADS_PREFIX, LONGEST_UPLOAD)] {
            if let Err(error) = blobs.abort_uploads(prefix, age).await {
                tracing::warn!(%error, "could not abort abandoned uploads; retrying");
            }
        }
    }
}

/// Starts the loops that only a coordinator of a cluster has.
fn start(cluster: &Cluster, http: &HttpService, dispatch: &Dispatch, grace: Duration, services: &mut Services) {
    http.feed(services, "exchange", Arc::new(AmqpEvents::new(cluster.link.clone())));
    let blobs = S3Blobs::new(cluster.storage.clone());
    services.spawn("uploads_abort", |stop| async move { abort_uploads(&blobs, grace, &stop).await });
    let buckets = Arc::new(S3Sources::new(cluster.storage.clone()));
    let records: Arc<dyn Records> = Arc::new(cluster.database.clone());
    let poller = Poller::new(buckets, records, http.intake.clone(), World::machine(), PollConfig::default());
    services.spawn("poller", |stop| async move { poller.run(&stop).await });
    if let Some(queue) = dispatch.events_queue.clone() {
        let exchange = dispatch.events_exchange.clone();
        let bind = exchange.map(|exchange| Binding { exchange, routing_key: "#".to_owned() });
        let inbox =
            AmqpEventInbox::new(AmqpInbox::new(cluster.link.clone(), InboxOptions { queue, bind, prefetch: 16 }));
        let intake = http.intake.clone();
        services.spawn("inbox", |stop| async move { listen_to(&inbox, &intake, &stop).await });
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn coordinator(config: &Config, args: CoordinatorArgs, log_json: bool) -> Result<Exit, Problem> {
    let file = &config.file;
    let listen = args.listen.or(&file.listen);
    let dispatch = args.dispatch.or(&file.dispatch).validate()?;
    let api = args.api.or(&file.api);
    let address = listen.listen.unwrap_or(local(API_PORT));
    let keys = Keys::read(address)?;
    let process = Process::begin("coordinator", &[Role::Coordinator], &listen, log_json)?;
    let listener = bind(address, "--listen").await?;
    let (at, storage) = (args.servers.or(&file.servers), args.storage.or(&file.storage));
    let cluster = Cluster::open(&at, &storage, &process.drain).await?;

    let world = World::machine();
    let bell = Arc::new(AmqpDoorbell::new(cluster.link.clone(), 1));
    let engine = engine_config(&dispatch);
    let grace = Duration::from_millis(u64::try_from(engine.garbage_grace_ms).unwrap_or(0));
    let core = Coordinator::new(
        Arc::new(cluster.database.clone()),
        Arc::new(S3Blobs::new(cluster.storage.clone())),
        Arc::clone(&bell) as Arc<_>,
        world.clone(),
        engine,
    );
    let uploads = cluster.place(UPLOADS_PREFIX);
    let settings = Settings {
        keys,
        public_url: listen.public_url,
        cors_origins: api.cors_origins.unwrap_or_default(),
        webhook_networks: api.webhook_networks.unwrap_or_default(),
        local_slots: 0,
        oldest_protocol: dispatch.oldest_protocol,
        follows_slots: dispatch.window.is_none(),
        reserved_sources: vec![format!("s3://{}/{}", uploads.bucket, uploads.prefix)],
        own: cluster.own(),
    };
    let http = HttpService::new(cluster.seams(&core, &world, dispatch.sources.as_deref()), settings)?;
    process.serve_ops(cluster.checks()).await?;

    let mut services = Services::new(process.stop.clone());
    services.spawn("engine", |stop| async move { core.run(stop).await });
    http.start(&mut services);
    start(&cluster, &http, &dispatch, grace, &mut services);
    process.ready(format_args!("coordinator at http://{address}"));
    http.serve(listener, &process).await;
    services.end().await;
    bell.close().await;
    cluster.link.close().await;
    cluster.database.close().await;
    Ok(Exit::Done)
}
