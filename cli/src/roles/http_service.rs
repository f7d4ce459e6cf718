//! The HTTP API with everything that is mounted beside it (uploads, rules, events, webhooks, outputs) and the loops that
//! belong to it: the same in a coordinator and in `serve`. It knows seams only; who calls it opens what is behind them.

use super::keys::Keys;
use super::lifecycle::{Process, Services};
use crate::exit::{Exit, Problem};
use splitreel_backend::events::EventSink;
use splitreel_backend::outputs::OutputStore;
use splitreel_backend::uploads::UploadStorage;
use splitreel_backend::world::Machine;
use splitreel_backend::{BlobReader, Grants, JobStore, Records, World};
use splitreel_coordinator::Coordinator;
use splitreel_coordinator::accept::{Accept, AcceptConfig};
use splitreel_coordinator::api::{
    Api, ApiConfig, ApiSeams, RULES_ROUTES, SharedSecret, UPLOADS_ROUTES, WEBHOOKS_ROUTES, events_router, router_with,
    rules_router, uploads_router, webhooks_router,
};
use splitreel_coordinator::directory::{Directory, DirectoryConfig, Tenants};
use splitreel_coordinator::events::Feed;
use splitreel_coordinator::fleet::FleetConfig;
use splitreel_coordinator::outputs::Outputs;
use splitreel_coordinator::presentations::Presentations;
use splitreel_coordinator::triggers::{Intake, Place};
use splitreel_coordinator::uploads::{Uploads, UploadsConfig};
use splitreel_coordinator::webhooks::{AddressPolicy, Sender, SenderConfig, WebhookQueue};
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Interval at which tenants' shares and live slots are read.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);
/// Interval at which uploads that were still being written are checked again.
const HELD_EVERY: Duration = Duration::from_secs(1);
/// Interval at which the job log is read for webhooks, outputs and the exchange.
const FEED_EVERY: Duration = Duration::from_millis(500);
/// Interval at which the gauges of jobs, queue and outbox are refreshed: the usual scrape interval.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Services and stores behind the API.
#[derive(Clone)]
pub struct Seams {
    /// Submits, cancels, leases.
    pub core: Coordinator,
    /// Jobs.
    pub store: Arc<dyn JobStore>,
    /// Tokens, tenants, profiles, rules, webhooks, uploads.
    pub records: Arc<dyn Records>,
    /// Objects.
    pub blobs: Arc<dyn BlobReader>,
    /// Pins sources, signs links.
    pub grants: Arc<dyn Grants>,
    /// Bytes of uploads.
    pub uploads: Arc<dyn UploadStorage>,
    /// Where presentations are copied to.
    pub outputs: Arc<dyn OutputStore>,
    /// Clock and ids.
    pub world: World,
}

/// Settings of the API.
pub struct Settings {
    /// Secrets.
    pub keys: Keys,
    /// How the API is reached from outside.
    pub public_url: Option<String>,
    /// Origins whose pages may use the API.
    pub cors_origins: Vec<String>,
    /// Networks that webhooks may reach in addition to public addresses.
    pub webhook_networks: Vec<String>,
    /// Slots of workers in this process.
    pub local_slots: u32,
    /// Oldest worker protocol to accept; `None`: the oldest that this program understands.
    pub oldest_protocol: Option<u32>,
    /// Whether the limit on notifications in flight follows the number of live slots.
    pub follows_slots: bool,
    /// Places in buckets that this deployment writes to.
    pub own: Vec<Place>,
    /// Prefixes of source locators that no request may name.
    pub reserved_sources: Vec<String>,
}

/// The API with the services behind it.
pub struct HttpService {
    /// Turns hints into jobs.
    pub intake: Intake,
    seams: Seams,
    directory: Directory,
    api: Api,
    sender: Sender,
    uploads: Uploads,
    router: axum::Router,
    follows_slots: bool,
}

impl HttpService {
    /// Builds the services from the bottom up: directory, acceptance, triggers, uploads, API.
    pub fn new(seams: Seams, settings: Settings) -> Result<Self, Problem> {
        let sender = sender(&seams, &settings.webhook_networks)?;
        let Seams { core, records, grants, world, .. } = &seams;
        let (secrets, unusable) = (Arc::new(Machine), "the API cannot be served like this");
        let tokens = DirectoryConfig {
            admin_token: settings.keys.admin,
            work_token: settings.keys.work,
            ..DirectoryConfig::default()
        };
        let directory = Directory::new(tokens, Arc::clone(records), world.clone(), secrets.clone())
            .map_err(|e| Problem { exit: Exit::Usage, ..Problem::because(unusable, &e) })?;
        let acceptance = AcceptConfig { reserved_sources: settings.reserved_sources, ..AcceptConfig::default() };
        let accept = Accept::new(acceptance, core.clone(), directory.clone(), Arc::clone(records), Arc::clone(grants));
        let intake = Intake::new(accept.clone(), Arc::clone(records), world.clone(), settings.own);
        let storage = Arc::clone(&seams.uploads);
        let uploads =
            Uploads::new(storage, Arc::clone(records), accept.clone(), world.clone(), UploadsConfig::default());
        let mut config = ApiConfig::new(settings.keys.signing);
        config.public_url = settings.public_url.as_deref().map(public_url).transpose()?;
        config.cors_origins = settings.cors_origins;
        let fleet = FleetConfig { local_slots: settings.local_slots, ..FleetConfig::default() };
        let oldest_protocol = settings.oldest_protocol.unwrap_or(fleet.oldest_protocol);
        config.fleet = FleetConfig { oldest_protocol, ..fleet };
        let parts = ApiSeams {
            accept,
            coordinator: core.clone(),
            records: Arc::clone(records),
            grants: Arc::clone(grants),
            blobs: Arc::clone(&seams.blobs),
            uploads: Some(uploads.clone()),
            more_rules: [RULES_ROUTES, WEBHOOKS_ROUTES, UPLOADS_ROUTES].concat(),
        };
        let api =
            Api::new(config, parts).map_err(|e| Problem { exit: Exit::Usage, ..Problem::because(unusable, &e) })?;
        let shared = settings.keys.ingest.as_deref().and_then(|s| SharedSecret::new(s, None)).into_iter().collect();
        let more = events_router(intake.clone(), directory.tokens.clone(), shared)
            .merge(rules_router(Arc::clone(records), intake.clone(), world.clone()))
            .merge(webhooks_router(Arc::clone(records), sender.clone(), world.clone(), secrets))
            .merge(uploads_router(uploads.clone()));
        let router = splitreel_telemetry::http::observed(router_with(&api, more));
        let follows_slots = settings.follows_slots;
        Ok(HttpService { seams, directory, api, sender, uploads, intake, router, follows_slots })
    }

    /// Starts the loops of the API; the engine has its own.
    pub fn start(&self, services: &mut Services) {
        let (api, sender, uploads) = (self.api.clone(), self.sender.clone(), self.uploads.clone());
        services.spawn("api", |stop| async move { api.run(stop).await });
        services.spawn("webhooks", |stop| async move { sender.run(&stop).await });
        services.spawn("uploads", |stop| async move { uploads.run(&stop).await });
        let core = self.seams.core.clone();
        services.spawn("measure", |stop| async move { core.measure(MEASURE_EVERY, &stop).await });
        let (core, tenants) = (self.seams.core.clone(), self.directory.tenants.clone());
        let api = self.follows_slots.then(|| self.api.clone());
        services.spawn("follow", |stop| async move { follow(&core, &tenants, api.as_ref(), &stop).await });
        let intake = self.intake.clone();
        services.spawn("held_uploads", |stop| async move { release_held(&intake, &stop).await });
        let Seams { store, records, blobs, outputs, world, .. } = &self.seams;
        let queue = WebhookQueue::new(Arc::clone(store), Arc::clone(records), world.clone());
        self.feed(services, "webhooks", Arc::new(queue));
        let presentations = Presentations::new(Arc::clone(store), Arc::clone(blobs), world.clone());
        let outputs =
            Outputs::new(Arc::clone(store), Arc::clone(records), presentations, Arc::clone(outputs), world.clone());
        self.feed(services, "outputs", Arc::new(outputs.clone()));
        services.spawn("outputs", |stop| async move { outputs.run(&stop).await });
    }

    /// Hands the job log to one more sink.
    pub fn feed(&self, services: &mut Services, name: &'static str, sink: Arc<dyn EventSink>) {
        let Seams { store, records, world, .. } = &self.seams;
        let feed = Feed::new(name, Arc::clone(store), Arc::clone(records), world.clone(), sink);
        services.spawn(name, |stop| async move { feed.run(FEED_EVERY, &stop).await });
    }

    /// Answers requests until the process is to drain or to stop. Streams end with the drain, so that the server can;
    /// requests in flight are answered.
    pub async fn serve(&self, listener: TcpListener, process: &Process) {
        let (drain, api) = (process.drain.clone(), self.api.clone());
        let router = self.router.clone();
        let serve = axum::serve(listener, router.into_make_service()).with_graceful_shutdown(async move {
            drain.cancelled().await;
            api.close();
        });
        tokio::select! {
            served = serve.into_future() => {
                if let Err(error) = served {
                    tracing::error!(%error, "API server stopped");
                }
            }
            () = process.stop.cancelled() => {}
        }
    }
}

/// The sender of webhooks: to public addresses and the given networks.
fn sender(seams: &Seams, networks: &[String]) -> Result<Sender, Problem> {
    let networks = networks.iter().map(|n| n.parse()).collect::<Result<Vec<_>, _>>();
    let allow = networks.map_err(|e| Problem::usage(format!("--webhook-networks: {e}")))?;
    let policy = AddressPolicy { allow, ..AddressPolicy::default() };
    let config = SenderConfig { policy, ..SenderConfig::default() };
    Sender::new(Arc::clone(&seams.records), seams.world.clone(), config)
        .map_err(|e| Problem::because("webhooks cannot be sent", &e))
}

/// The address that paths of the API are put behind.
fn public_url(text: &str) -> Result<String, Problem> {
    let url = url::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() && url.fragment().is_none()
    });
    let url = url.ok_or_else(|| {
        Problem::usage(format!("--public-url {text}: no address of an API; use for example https://video.example.com"))
    })?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Keeps dispatch to the tenants' weights, and with `slots` to the number of live slots.
async fn follow(core: &Coordinator, tenants: &Tenants, slots: Option<&Api>, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(FOLLOW_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match tenants.shares().await {
            Ok(shares) => core.set_shares(shares),
            Err(error) => tracing::warn!(%error, "tenant weights not refreshed; keeping previous values"),
        }
        let Some(api) = slots else { continue };
        match api.worker_capabilities().await {
            Ok(Some(capabilities)) => core.set_capabilities(capabilities),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "capabilities of workers not refreshed; keeping the previous ones"),
        }
        match api.live_slots().await {
            Ok(slots) => core.set_in_flight_limit(splitreel_coordinator::in_flight_limit(slots)),
            Err(error) => tracing::warn!(%error, "live slots not refreshed; keeping the previous limit"),
        }
    }
}

/// Offers uploads again that were still being written.
async fn release_held(intake: &Intake, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(HELD_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = intake.release_held().await {
            tracing::warn!(%error, "checking held uploads failed; will retry");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_judged() {
        for (text, expected) in [
            ("https://video.example.com", Some("https://video.example.com")),
            ("http://10.0.0.1:8400/", Some("http://10.0.0.1:8400")),
            ("https://example.com/video/", Some("https://example.com/video")),
            ("video.example.com", None),
            ("ftp://example.com", None),
            ("https://example.com/?a=b", None),
        ] {
            assert_eq!(public_url(text).ok().as_deref(), expected, "{text}");
        }
    }
}
