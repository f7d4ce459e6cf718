//! The sender: takes due deliveries to their endpoints, signed, and decides what becomes of each.
//!
//! It connects only to addresses that the policy allows, at the moment it connects; it follows no redirects, uses no
//! proxy, and reads little of what comes back.

use super::address::{AddressError, AddressPolicy};
use super::ledger::{DeliveryState, Endpoint, Ledger, Stored, WebhookAttempt};
use super::schedule::RetrySchedule;
use async_trait::async_trait;
use futures::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use splitreel_backend::records::Expect;
use splitreel_backend::{Records, StoreError, World};
use splitreel_core::digest::fingerprint;
use splitreel_telemetry::labels::{Pass, WebhookOutcome};
use splitreel_telemetry::record;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Deliveries looked at in one go.
const BATCH: usize = 200;
/// Of these to one endpoint.
const PER_ENDPOINT: usize = 20;
/// Of an answer's body, read so that the connection can be used again.
const ANSWER_BYTES: usize = 16 * 1024;
/// Why nothing was sent: the policy forbids it.
const FORBIDDEN_URL: &str = "the URL is not allowed";
const FORBIDDEN_ADDRESS: &str = "the address is not allowed";

/// Finds the addresses of a name.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All of them.
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Settings of the sender.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Where webhooks may go.
    pub policy: AddressPolicy,
    /// When to try again.
    pub schedule: RetrySchedule,
    /// Longest try, from name to answer.
    pub timeout: Duration,
    /// Endpoints served at a time.
    pub parallel: usize,
    /// Retention of delivered deliveries, in milliseconds.
    pub keep_delivered_ms: i64,
    /// Retention of failed deliveries, in milliseconds.
    pub keep_dead_ms: i64,
    /// How often to look for due deliveries.
    pub tick: Duration,
}

impl Default for SenderConfig {
    fn default() -> Self {
        SenderConfig {
            policy: AddressPolicy::default(),
            schedule: RetrySchedule::default(),
            timeout: Duration::from_secs(15),
            parallel: 16,
            keep_delivered_ms: 7 * 24 * 3_600_000,
            keep_dead_ms: 30 * 24 * 3_600_000,
            tick: Duration::from_secs(1),
        }
    }
}

/// The HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the webhook client cannot be set up")]
pub struct SenderError(#[from] reqwest::Error);

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// 2xx.
    Delivered {
        /// HTTP status.
        status: u16,
    },
    /// 410: the endpoint wants no more.
    Gone,
    /// Anything else.
    Failed {
        /// HTTP status, if there was an answer.
        status: Option<u16>,
        /// For the tenant: says nothing about this side's network.
        why: &'static str,
        /// What the answer asks for.
        retry_after_ms: Option<i64>,
    },
}

/// Takes deliveries to endpoints: cheap to clone.
#[derive(Clone)]
pub struct Sender {
    ledger: Ledger,
    world: World,
    client: reqwest::Client,
    config: Arc<SenderConfig>,
}

impl Sender {
    /// A sender with the system's resolver.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn new(records: Arc<dyn Records>, world: World, config: SenderConfig) -> Result<Self, SenderError> {
        Self::with_lookup(records, world, config, Arc::new(SystemLookup))
    }

    /// A sender with another resolver.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn with_lookup(
        records: Arc<dyn Records>,
        world: World,
        config: SenderConfig,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, SenderError> {
        // Fails when one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(20))
            .user_agent(concat!("splitreel-webhooks/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guarded { policy: config.policy.clone(), lookup }))
            .build()?;
        Ok(Sender { ledger: Ledger::new(records), world, client, config: Arc::new(config) })
    }

    /// Where webhooks may go.
    pub fn policy(&self) -> &AddressPolicy {
        &self.config.policy
    }

    /// Sends until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            let sent = tokio::select! {
                () = stop.cancelled() => return,
                sent = record::pass(Pass::Webhooks, self.send_due()) => sent,
            };
            let pause = match sent {
                Ok(BATCH..) => Duration::ZERO,
                Ok(_) => self.config.tick,
                Err(error) => {
                    tracing::warn!(%error, "webhook pass failed; retrying");
                    self.config.tick
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks after all deliveries that are due, up to a batch: sends the pending ones, in order for each endpoint,
    /// and deletes old ones. Several coordinators may do so at once. Returns the number of due deliveries.
    ///
    /// # Errors
    /// When the record store fails: what was sent is sent again later.
    pub async fn send_due(&self) -> Result<usize, StoreError> {
        let due = self.ledger.due(self.now(), BATCH).await?;
        let num_due = due.len();
        let mut by_endpoint: BTreeMap<(String, String), Vec<Stored<WebhookAttempt>>> = BTreeMap::new();
        for delivery in due {
            let webhook = delivery.key.id.split('/').next().unwrap_or_default().to_owned();
            by_endpoint.entry((delivery.key.tenant.clone(), webhook)).or_default().push(delivery);
        }
        let work = by_endpoint.into_iter().map(|((tenant, webhook), mut deliveries)| async move {
            deliveries.sort_by(|a, b| a.key.id.cmp(&b.key.id));
            self.serve(&tenant, &webhook, deliveries).await
        });
        let mut results = futures::stream::iter(work).buffer_unordered(self.config.parallel.max(1));
        let mut first_error = Ok(num_due);
        while let Some(result) = results.next().await {
            if let (Err(error), Ok(_)) = (result, &first_error) {
                first_error = Err(error);
            }
        }
        first_error
    }

    /// Due deliveries of one endpoint.
    async fn serve(
        &self,
        tenant: &str,
        webhook: &str,
        deliveries: Vec<Stored<WebhookAttempt>>,
    ) -> Result<(), StoreError> {
        let endpoint_key = Ledger::endpoint_key(tenant, webhook);
        let mut endpoint = self.ledger.get::<Endpoint>(&endpoint_key).await?;
        let mut sent = 0;
        let mut postponed_to = None;
        for delivery in deliveries {
            let now = self.now();
            let is_over = delivery.doc.state != DeliveryState::Pending;
            if is_over && delivery.due_ms.is_some_and(|due| due > now) {
                // Written before the clock was set back: it is kept until its time, as a record of now.
                let expect = Expect::Version(delivery.version);
                let _ = self.ledger.put(&delivery.key, expect, &delivery.doc, delivery.due_ms, now).await?;
                continue;
            }
            let Some(target) = endpoint.as_ref().filter(|_| !is_over) else {
                self.ledger.delete(&delivery.key).await?;
                continue;
            };
            if !target.doc.enabled {
                let ended = end(delivery.doc, DeliveryState::Dead, Some("the endpoint is disabled"));
                self.keep(&delivery.key, delivery.version, ended).await?;
                continue;
            }
            // An endpoint that does not answer is not asked again for each of its deliveries.
            if let Some(due) = postponed_to {
                let expect = Expect::Version(delivery.version);
                let _ = self.ledger.put(&delivery.key, expect, &delivery.doc, Some(due), now).await?;
                continue;
            }
            if sent == PER_ENDPOINT {
                break;
            }
            sent += 1;
            match self.deliver(&target.doc, delivery).await? {
                Some(Tried::Gone) => {
                    let doc = Endpoint {
                        enabled: false,
                        disabled_because: Some("it answered 410 Gone".to_owned()),
                        ..target.doc.clone()
                    };
                    let expect = Expect::Version(target.version);
                    let _ = self.ledger.put(&endpoint_key, expect, &doc, None, now).await?;
                    tracing::info!(tenant, webhook, "webhook endpoint answered 410 Gone; disabled");
                    endpoint = self.ledger.get::<Endpoint>(&endpoint_key).await?;
                }
                Some(Tried::Failed { status: None, .. }) => {
                    postponed_to = Some(self.now().saturating_add(self.config.schedule.first_ms));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One try of one delivery. `None`: another coordinator has it.
    async fn deliver(&self, endpoint: &Endpoint, kept: Stored<WebhookAttempt>) -> Result<Option<Tried>, StoreError> {
        let started = self.now();
        let Stored { key, version, doc: mut delivery, .. } = kept;
        delivery.tries = delivery.tries.saturating_add(1);
        delivery.tried_ms = Some(started);
        // Taken for as long as a try can last: if this process dies, another tries again then.
        let lease_ms = i64::try_from(self.config.timeout.as_millis()).unwrap_or(i64::MAX).saturating_add(30_000);
        let lease = Some(started.saturating_add(lease_ms));
        let Ok(version) = self.ledger.put(&key, Expect::Version(version), &delivery, lease, started).await? else {
            return Ok(None);
        };
        let tried = self.post(endpoint, &delivery.message, &delivery.body).await;
        let now = self.now();
        match &tried {
            Tried::Delivered { status } => {
                record::webhook_sent(WebhookOutcome::Accepted);
                delivery.status = Some(*status);
                self.keep(&key, version, end(delivery, DeliveryState::Delivered, None)).await?;
            }
            Tried::Gone => {
                record::webhook_sent(WebhookOutcome::GaveUp);
                delivery.status = Some(410);
                self.keep(&key, version, end(delivery, DeliveryState::Dead, Some("the endpoint is gone"))).await?;
            }
            Tried::Failed { status, why, retry_after_ms } => {
                delivery.status = *status;
                let chance = chance(&key.id, delivery.tries, now);
                let schedule = &self.config.schedule;
                let next = schedule.next_try(delivery.tries, delivery.queued_ms, now, chance, *retry_after_ms);
                record::webhook_sent(match next {
                    _ if matches!(*why, FORBIDDEN_URL | FORBIDDEN_ADDRESS) => WebhookOutcome::Blocked,
                    Some(_) => WebhookOutcome::Retried,
                    None => WebhookOutcome::GaveUp,
                });
                match next {
                    Some(due) => {
                        delivery.error = Some((*why).to_owned());
                        let _ = self.ledger.put(&key, Expect::Version(version), &delivery, Some(due), now).await?;
                    }
                    None => {
                        tracing::warn!(tenant = %key.tenant, delivery = %key.id, why, "webhook delivery failed permanently");
                        self.keep(&key, version, end(delivery, DeliveryState::Dead, Some(why))).await?;
                    }
                }
            }
        }
        Ok(Some(tried))
    }

    /// Sends one message once, outside of any queue.
    pub async fn post(&self, endpoint: &Endpoint, message: &str, body: &str) -> Tried {
        let failed = |why| Tried::Failed { status: None, why, retry_after_ms: None };
        let url = match self.config.policy.check_url(&endpoint.url) {
            Ok(url) => url,
            Err(error) => {
                tracing::info!(%error, "webhook URL not allowed; not sent");
                return failed(FORBIDDEN_URL);
            }
        };
        let timestamp_s = self.now().div_euclid(1000);
        let Some(signature) = endpoint.secret.sign(message, timestamp_s, body) else {
            return failed("the secret is damaged");
        };
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(standardwebhooks::HEADER_WEBHOOK_ID, message)
            .header(standardwebhooks::HEADER_WEBHOOK_TIMESTAMP, timestamp_s.to_string())
            .header(standardwebhooks::HEADER_WEBHOOK_SIGNATURE, signature)
            .body(body.to_owned());
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return failed(reason(&error)),
        };
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after_ms = retry_after.and_then(|s| s.trim().parse::<u32>().ok()).map(|s| i64::from(s) * 1000);
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > ANSWER_BYTES {
                break;
            }
        }
        match status.as_u16() {
            410 => Tried::Gone,
            code @ 200..=299 => Tried::Delivered { status: code },
            code @ 300..=399 => Tried::Failed { status: Some(code), why: "redirects are not followed", retry_after_ms },
            code => Tried::Failed { status: Some(code), why: "the endpoint refused it", retry_after_ms },
        }
    }

    /// Writes a delivery that has ended; it is deleted when it was kept long enough.
    async fn keep(
        &self,
        key: &splitreel_backend::records::RecordKey,
        version: i64,
        delivery: WebhookAttempt,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let is_dead = delivery.state == DeliveryState::Dead;
        let keep_ms = if is_dead { self.config.keep_dead_ms } else { self.config.keep_delivered_ms };
        let due = Some(now.saturating_add(keep_ms));
        // A conflict: it was replayed or deleted meanwhile, and that stands.
        let _ = self.ledger.put(key, Expect::Version(version), &delivery, due, now).await?;
        Ok(())
    }

    fn now(&self) -> i64 {
        self.world.clock.now_ms()
    }
}

fn end(mut delivery: WebhookAttempt, state: DeliveryState, why: Option<&str>) -> WebhookAttempt {
    delivery.state = state;
    delivery.error = why.map(str::to_owned);
    delivery
}

/// Spreads retries without a source of randomness: another value for each delivery and try.
fn chance(id: &str, tries: u32, now_ms: i64) -> u32 {
    let hash = fingerprint(&[id, &tries.to_string(), &now_ms.to_string()]);
    hash.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

/// What a tenant may know of a failure: nothing that distinguishes open from closed ports, and no address.
fn reason(error: &reqwest::Error) -> &'static str {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if let Some(refused) = at.downcast_ref::<AddressError>() {
            tracing::info!(error = %refused, "webhook address not allowed; not sent");
            return FORBIDDEN_ADDRESS;
        }
        source = at.source();
    }
    if error.is_timeout() { "it took too long" } else { "no connection" }
}

/// Resolves a name and lets only allowed addresses through: the connection is made to these.
struct Guarded {
    policy: AddressPolicy,
    lookup: Arc<dyn Lookup>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, lookup) = (self.policy.clone(), self.lookup.clone());
        Box::pin(async move {
            let addresses = lookup.addresses(name.as_str()).await?;
            policy.check_all(&addresses)?;
            // Port 0 stands for the port of the URL.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
