//! Outgoing webhooks: queued once, signed, repeated for a day, to allowed addresses only.

use crate::fixture::{Deployment, call_json, caller};
use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use splitreel_backend::records::RecordFilter;
use splitreel_backend::world::Machine;
use splitreel_backend::{Clock, Records};
use splitreel_coordinator::api::webhooks_router;
use splitreel_coordinator::events::Feed;
use splitreel_coordinator::webhooks::{
    AddressPolicy, DeliveryState, Endpoint, Ledger, Lookup, Sender, SenderConfig, Stored, WebhookAttempt, WebhookKey,
    WebhookQueue,
};
use splitreel_core::JobId;
use splitreel_core::fair::Priority;
use splitreel_core::job::JobRequest;
use splitreel_core::profile::Profile;
use splitreel_core::source::SourceRef;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A receiver on loopback that records requests and gives the configured answers.
#[derive(Default)]
struct Received {
    requests: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    status: Mutex<u16>,
    location: Mutex<Option<String>>,
}

struct Receiver {
    received: Arc<Received>,
    port: u16,
    server: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn note(State(received): State<Arc<Received>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    received.requests.lock().unwrap().push((uri.path().to_owned(), headers, body));
    let status = StatusCode::from_u16(*received.status.lock().unwrap()).unwrap();
    let mut response = (status, "x".repeat(100_000)).into_response();
    if let Some(location) = received.location.lock().unwrap().as_deref() {
        response.headers_mut().insert("location", location.parse().unwrap());
    }
    response
}

impl Receiver {
    async fn start() -> Self {
        let received = Arc::new(Received { status: Mutex::new(204), ..Received::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(note).with_state(received.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Receiver { received, port, server }
    }

    fn answer(&self, status: u16) {
        *self.received.status.lock().unwrap() = status;
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn count(&self) -> usize {
        self.received.requests.lock().unwrap().len()
    }
}

fn loopback() -> SenderConfig {
    let policy = AddressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], ports: vec![], https_only: false };
    SenderConfig { policy, timeout: Duration::from_secs(5), ..SenderConfig::default() }
}

struct Hooks {
    here: Deployment,
    ledger: Ledger,
    sender: Sender,
}

impl Hooks {
    fn new(config: SenderConfig) -> Self {
        let here = Deployment::new();
        let ledger = Ledger::new(here.records.clone());
        let sender = Sender::new(here.records.clone(), here.world.clone(), config).unwrap();
        Hooks { here, ledger, sender }
    }

    fn router(&self) -> Router {
        let Hooks { here, sender, .. } = self;
        webhooks_router(here.records.clone(), sender.clone(), here.world.clone(), Arc::new(Machine)).split_for_parts().0
    }

    async fn endpoint(&self, tenant: &str, id: &str, url: &str, events: &[&str]) -> WebhookKey {
        let secret = WebhookKey::fresh(&Machine).unwrap();
        let endpoint = Endpoint {
            url: url.to_owned(),
            secret: secret.clone(),
            events: events.iter().map(|e| (*e).to_owned()).collect(),
            enabled: true,
            disabled_because: None,
        };
        let key = Ledger::endpoint_key(tenant, id);
        let any = splitreel_backend::records::Expect::Any;
        self.ledger.put(&key, any, &endpoint, None, 0).await.unwrap().unwrap();
        secret
    }

    fn feed(&self) -> Feed {
        let Deployment { store, records, world, .. } = &self.here;
        let queue = Arc::new(WebhookQueue::new(store.clone(), records.clone(), world.clone()));
        Feed::new("webhooks", store.clone(), records.clone(), world.clone(), queue)
    }

    async fn submit(&self, tenant: &str, name: &str) -> JobId {
        let request = JobRequest {
            tenant: tenant.into(),
            idempotency_key: name.into(),
            source: SourceRef { locator: format!("s3://in/{name}.mp4"), bytes: 7, version: "v".into() },
            base: name.into(),
            profile: Profile::built_in("universal").unwrap(),
            priority: Priority::Normal,
            deep_probe: false,
            output: None,
            trace: Default::default(),
        };
        match self.here.coordinator.submit(request).await.unwrap() {
            splitreel_backend::store::Submitted::Created(job) => job.id,
            other => panic!("{other:?}"),
        }
    }

    async fn deliveries(&self) -> Vec<Stored<WebhookAttempt>> {
        let filter = RecordFilter { kind: "delivery".into(), limit: 1000, ..RecordFilter::default() };
        self.ledger.list(filter).await.unwrap()
    }

    async fn only(&self) -> Stored<WebhookAttempt> {
        let mut all = self.deliveries().await;
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

#[tokio::test]
async fn an_event_arrives_once_signed_and_as_it_was_queued() {
    let receiver = Receiver::start().await;
    let hooks = Hooks::new(loopback());
    // Receivers compare the time stamp with the real time.
    hooks.here.clock.advance(Machine.now_ms() - hooks.here.clock.now_ms());
    let secret = hooks.endpoint("studio", "w1", &receiver.url(), &[]).await;
    hooks.endpoint("other", "w2", &receiver.url(), &[]).await;
    hooks.endpoint("studio", "w3", &receiver.url(), &["job.published"]).await;
    let job = hooks.submit("studio", "film").await;
    hooks.here.coordinator.cancel(job).await.unwrap();
    for _ in 0..3 {
        hooks.feed().pump().await.unwrap();
    }
    for _ in 0..3 {
        hooks.sender.send_due().await.unwrap();
    }
    let requests = std::mem::take(&mut *receiver.received.requests.lock().unwrap());
    assert_eq!(requests.len(), 1, "job.submitted is quiet, job.cancelled is not");
    let (_, headers, body) = &requests[0];
    standardwebhooks::Webhook::new(secret.reveal()).unwrap().verify(body, headers).unwrap();
    let stranger = WebhookKey::fresh(&Machine).unwrap();
    assert!(standardwebhooks::Webhook::new(stranger.reveal()).unwrap().verify(body, headers).is_err());
    let document: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&document["type"], &document["data"]["job"]), (&json!("job.cancelled"), &json!(job.to_string())));
    let kept = hooks.only().await;
    assert_eq!(headers["webhook-id"].to_str().unwrap(), format!("evt_{}", document["data"]["seq"]));
    assert_eq!((kept.doc.state, kept.doc.status, kept.doc.tries), (DeliveryState::Delivered, Some(204), 1));
    // After a week it is not listed any more.
    hooks.here.clock.advance(7 * 24 * 3_600_000);
    hooks.sender.send_due().await.unwrap();
    assert!(hooks.deliveries().await.is_empty());
}

#[tokio::test]
async fn two_coordinators_and_a_lost_cursor_queue_nothing_twice() {
    let receiver = Receiver::start().await;
    let hooks = Hooks::new(loopback());
    hooks.endpoint("studio", "w1", &receiver.url(), &["job.submitted"]).await;
    for i in 0..20 {
        hooks.submit("studio", &format!("film{i}")).await;
    }
    let (one, two) = (hooks.feed(), hooks.feed());
    let (first, second) = tokio::join!(one.pump(), two.pump());
    assert!(first.unwrap() > 0 && second.is_ok());
    let key =
        splitreel_backend::records::RecordKey { kind: "cursor".into(), tenant: String::new(), id: "webhooks".into() };
    let lose_the_cursor = async || {
        hooks.here.records.delete(&key, splitreel_backend::records::Expect::Any).await.unwrap().unwrap();
        hooks.feed().pump().await.unwrap();
        assert_eq!(hooks.deliveries().await.len(), 20);
    };
    lose_the_cursor().await;
    let (one, two) = tokio::join!(hooks.sender.send_due(), hooks.sender.send_due());
    assert!(one.is_ok() && two.is_ok());
    lose_the_cursor().await;
    hooks.sender.send_due().await.unwrap();
    assert_eq!(receiver.count(), 20);
    // Each event once, though two senders looked at the same time.
    let requests = receiver.received.requests.lock().unwrap();
    let mut ids: Vec<_> = requests.iter().map(|(_, headers, _)| headers["webhook-id"].to_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn failures_are_repeated_for_a_day_and_then_kept_as_dead() {
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let hooks = Hooks::new(loopback());
    hooks.endpoint("studio", "w1", &receiver.url(), &["job.submitted"]).await;
    hooks.submit("studio", "film").await;
    hooks.feed().pump().await.unwrap();
    let start = hooks.here.clock.now_ms();
    let mut dead_ms = None;
    for _ in 0..60 {
        hooks.sender.send_due().await.unwrap();
        let kept = hooks.only().await;
        if kept.doc.state == DeliveryState::Dead {
            dead_ms = Some(hooks.here.clock.now_ms() - start);
            break;
        }
        let due = kept.due_ms.unwrap();
        // Not a moment before it is due.
        let before = receiver.count();
        hooks.here.clock.advance(due - 1 - hooks.here.clock.now_ms());
        hooks.sender.send_due().await.unwrap();
        assert_eq!(receiver.count(), before);
        hooks.here.clock.advance(1);
    }
    assert_eq!(dead_ms, Some(24 * 3_600_000));
    let tries = receiver.count();
    assert!((15..=30).contains(&tries), "{tries}");
    let ids: std::collections::BTreeSet<_> = receiver
        .received
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(_, headers, _)| headers["webhook-id"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "the same id each time");
    hooks.here.clock.advance(3_600_000);
    hooks.sender.send_due().await.unwrap();
    assert_eq!(receiver.count(), tries);

    // Listed, and replayed by the tenant.
    receiver.answer(200);
    let (router, studio) = (hooks.router(), caller("studio", &["tokens.write"]));
    let list = "/v1/webhooks/w1/deliveries?state=dead";
    let (_, dead) = call_json(&router, Some(&studio), "GET", list, None).await;
    let id = dead["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(dead["deliveries"][0]["status"], 500);
    let replay = format!("/v1/webhooks/w1/deliveries/{id}/replay");
    let stranger = caller("other", &["tokens.write"]);
    assert_eq!(call_json(&router, Some(&stranger), "POST", &replay, None).await.0.as_u16(), 404);
    let (status, answer) = call_json(&router, Some(&studio), "POST", &replay, None).await;
    assert_eq!((status.as_u16(), &answer["state"], &answer["tries"]), (202, &json!("pending"), &json!(0)));
    hooks.sender.send_due().await.unwrap();
    assert_eq!((receiver.count(), hooks.only().await.doc.state), (tries + 1, DeliveryState::Delivered));
}

#[tokio::test]
async fn gone_disables_the_endpoint_and_what_waits_is_kept_as_dead() {
    let receiver = Receiver::start().await;
    receiver.answer(410);
    let hooks = Hooks::new(loopback());
    hooks.endpoint("studio", "w1", &receiver.url(), &["job.submitted"]).await;
    for i in 0..3 {
        hooks.submit("studio", &format!("film{i}")).await;
    }
    hooks.feed().pump().await.unwrap();
    hooks.sender.send_due().await.unwrap();
    assert_eq!(receiver.count(), 1);
    assert!(hooks.deliveries().await.iter().all(|kept| kept.doc.state == DeliveryState::Dead));
    let (router, studio) = (hooks.router(), caller("studio", &["tokens.write"]));
    let (_, endpoint) = call_json(&router, Some(&studio), "GET", "/v1/webhooks/w1", None).await;
    assert_eq!((&endpoint["enabled"], &endpoint["disabled_because"]), (&json!(false), &json!("it answered 410 Gone")));
    let id = hooks.deliveries().await[0].key.id.split_once('/').unwrap().1.to_owned();
    let replay = format!("/v1/webhooks/w1/deliveries/{id}/replay");
    assert_eq!(call_json(&router, Some(&studio), "POST", &replay, None).await.0.as_u16(), 409);
    // No new ones are queued, and with the endpoint go its deliveries.
    hooks.submit("studio", "later").await;
    hooks.feed().pump().await.unwrap();
    assert_eq!(hooks.deliveries().await.len(), 3);
    assert_eq!(call_json(&router, Some(&studio), "DELETE", "/v1/webhooks/w1", None).await.0.as_u16(), 204);
    hooks.here.clock.advance(30 * 24 * 3_600_000);
    hooks.sender.send_due().await.unwrap();
    assert!(hooks.deliveries().await.is_empty());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (receiver, target) = (Receiver::start().await, Receiver::start().await);
    receiver.answer(307);
    *receiver.received.location.lock().unwrap() = Some(target.url());
    let hooks = Hooks::new(loopback());
    hooks.endpoint("studio", "w1", &receiver.url(), &["job.submitted"]).await;
    hooks.submit("studio", "film").await;
    hooks.feed().pump().await.unwrap();
    hooks.sender.send_due().await.unwrap();
    assert_eq!((receiver.count(), target.count()), (1, 0));
    let kept = hooks.only().await.doc;
    assert_eq!((kept.status, kept.error.as_deref()), (Some(307), Some("redirects are not followed")));
    assert_eq!(kept.state, DeliveryState::Pending);
}

/// Answers a public address at first, then a private one: what a rebinding name does.
struct Rebinding {
    answers: Mutex<Vec<Vec<IpAddr>>>,
}

#[async_trait]
impl Lookup for Rebinding {
    async fn addresses(&self, _name: &str) -> std::io::Result<Vec<IpAddr>> {
        let mut answers = self.answers.lock().unwrap();
        Ok(if answers.is_empty() { Vec::new() } else { answers.remove(0) })
    }
}

#[tokio::test]
async fn no_name_and_no_address_leads_inside() {
    let receiver = Receiver::start().await;
    let strict = SenderConfig {
        policy: AddressPolicy { ports: vec![], ..AddressPolicy::default() },
        timeout: Duration::from_secs(5),
        ..SenderConfig::default()
    };
    for (url, why) in [
        (receiver.url(), "the URL is not allowed"),
        (format!("http://localhost:{}/", receiver.port), "the address is not allowed"),
        (format!("http://[::ffff:127.0.0.1]:{}/", receiver.port), "the URL is not allowed"),
        (format!("http://user@127.0.0.1:{}/", receiver.port), "the URL is not allowed"),
    ] {
        let hooks = Hooks::new(strict.clone());
        hooks.endpoint("studio", "w1", &url, &["job.submitted"]).await;
        hooks.submit("studio", "film").await;
        hooks.feed().pump().await.unwrap();
        hooks.sender.send_due().await.unwrap();
        assert_eq!(hooks.only().await.doc.error.as_deref(), Some(why), "{url}");
    }
    // The addresses that were judged are the ones that are connected to: one resolution for each connection, and a
    // mixed or an inside answer is refused.
    let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
    for answer in [ips(&["127.0.0.1"]), ips(&["1.1.1.1", "127.0.0.1"]), ips(&["::1"]), ips(&[])] {
        let hooks = Hooks::new(strict.clone());
        let lookup = Arc::new(Rebinding { answers: Mutex::new(vec![answer, ips(&["127.0.0.1"])]) });
        let records = hooks.here.records.clone();
        let sender = Sender::with_lookup(records, hooks.here.world.clone(), strict.clone(), lookup.clone()).unwrap();
        let url = format!("http://rebind.test:{}/", receiver.port);
        hooks.endpoint("studio", "w1", &url, &["job.submitted"]).await;
        hooks.submit("studio", "film").await;
        hooks.feed().pump().await.unwrap();
        sender.send_due().await.unwrap();
        assert_eq!(hooks.only().await.doc.error.as_deref(), Some("the address is not allowed"));
        assert_eq!(lookup.answers.lock().unwrap().len(), 1, "resolved once");
    }
    assert_eq!(receiver.count(), 0);
    // An allowed name works, over the pinned address.
    let hooks = Hooks::new(loopback());
    let lookup = Arc::new(Rebinding { answers: Mutex::new(vec![ips(&["127.0.0.1"])]) });
    let records = hooks.here.records.clone();
    let sender = Sender::with_lookup(records, hooks.here.world.clone(), loopback(), lookup).unwrap();
    hooks.endpoint("studio", "w1", &format!("http://inside.test:{}/", receiver.port), &["job.submitted"]).await;
    hooks.submit("studio", "film").await;
    hooks.feed().pump().await.unwrap();
    sender.send_due().await.unwrap();
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn one_that_does_not_answer_is_asked_once_for_all_that_waits() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let hooks = Hooks::new(loopback());
    hooks.endpoint("studio", "w1", &format!("http://127.0.0.1:{port}/"), &["job.submitted"]).await;
    for i in 0..5 {
        hooks.submit("studio", &format!("film{i}")).await;
    }
    hooks.feed().pump().await.unwrap();
    hooks.sender.send_due().await.unwrap();
    let tries: Vec<_> = hooks.deliveries().await.iter().map(|kept| kept.doc.tries).collect();
    assert_eq!(tries, [1, 0, 0, 0, 0]);
    assert_eq!(hooks.deliveries().await[0].doc.error.as_deref(), Some("no connection"));
    assert_eq!(hooks.sender.send_due().await.unwrap(), 0);
}

#[tokio::test]
async fn tenants_keep_their_own_webhooks() {
    let receiver = Receiver::start().await;
    let hooks = Hooks::new(loopback());
    let router = hooks.router();
    let (studio, other) = (caller("studio", &["tokens.write"]), caller("other", &["tokens.write"]));
    let body = json!({ "url": receiver.url(), "events": ["job.failed"] });
    let (status, made) = call_json(&router, Some(&studio), "POST", "/v1/webhooks", Some(body.clone())).await;
    assert_eq!(status.as_u16(), 201);
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    let (_, found) = call_json(&router, Some(&studio), "GET", &path, None).await;
    assert_eq!((&found["url"], &found["secret"]), (&json!(receiver.url()), &Value::Null));
    let (_, list) = call_json(&router, Some(&studio), "GET", "/v1/webhooks", None).await;
    assert_eq!((list["webhooks"].as_array().unwrap().len(), &list["webhooks"][0]["secret"]), (1, &Value::Null));
    let (_, pinged) = call_json(&router, Some(&studio), "POST", &format!("{path}/ping"), None).await;
    assert_eq!((&pinged["is_delivered"], receiver.count()), (&json!(true), 1));
    receiver.answer(503);
    let (_, pinged) = call_json(&router, Some(&studio), "POST", &format!("{path}/ping"), None).await;
    assert_eq!((&pinged["is_delivered"], &pinged["status"]), (&json!(false), &json!(503)));

    let deliveries = format!("{path}/deliveries");
    let routes: [(&str, String, u16); 7] = [
        ("GET", path.clone(), 404),
        ("PUT", path.clone(), 404),
        ("DELETE", path.clone(), 404),
        ("POST", format!("{path}/ping"), 404),
        ("GET", deliveries.clone(), 404),
        ("POST", format!("{deliveries}/1/replay"), 404),
        ("GET", "/v1/webhooks".into(), 200),
    ];
    for (method, path, status) in &routes {
        let sent = Some(body.clone());
        assert_eq!(
            call_json(&router, Some(&other), method, path, sent.clone()).await.0.as_u16(),
            *status,
            "{method} {path}"
        );
        assert_eq!(call_json(&router, None, method, path, sent.clone()).await.0.as_u16(), 401);
        let none = caller("studio", &["uploads.write"]);
        assert_eq!(call_json(&router, Some(&none), method, path, sent).await.0.as_u16(), 403);
    }
    let (_, list) = call_json(&router, Some(&other), "GET", "/v1/webhooks", None).await;
    assert_eq!(list["webhooks"], json!([]));

    let bad = json!({ "url": "http://10.0.0.1/", "events": ["job.failed", "nonsense"], "secret": "short" });
    let (status, problem) = call_json(&router, Some(&studio), "POST", "/v1/webhooks", Some(bad)).await;
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!((status.as_u16(), pointers), (422, vec!["/url", "/events/1", "/secret"]));

    let changed = json!({ "url": receiver.url(), "enabled": false });
    let (_, answer) = call_json(&router, Some(&studio), "PUT", &path, Some(changed)).await;
    assert_eq!((&answer["enabled"], &answer["version"], &answer["secret"]), (&json!(false), &json!(2), &Value::Null));
    assert_eq!(call_json(&router, Some(&studio), "DELETE", &path, None).await.0.as_u16(), 204);
    assert_eq!(call_json(&router, Some(&studio), "GET", &path, None).await.0.as_u16(), 404);
}
