//! A place on the broker that belongs to one test, and a plain client to look at it from outside.

use async_trait::async_trait;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use splitreel_backend::Doorbell;
use splitreel_backend::conformance::DoorbellHarness;
use splitreel_backend_cluster::amqp::{AmqpDoorbell, AmqpLink, AmqpOptions};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Wakeups that a listener of these tests may hold without an answer: as many as the suite takes without one.
pub const PREFETCH: u16 = 50;

/// Long enough for a busy machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn url() -> String {
    std::env::var("SPLITREEL_TEST_AMQP_URL").expect(
        "these tests need RabbitMQ: run `scripts/services start` and `eval \"$(scripts/services env)\"`, \
         or set SPLITREEL_TEST_AMQP_URL",
    )
}

/// Ends a test that waits for something that does not happen.
pub async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("waited in vain")
}

/// Names that no other test uses. What was declared under them is deleted in the end.
pub struct Place {
    pub prefix: String,
    bells: Mutex<Vec<Arc<AmqpDoorbell>>>,
}

impl Place {
    pub fn new() -> Self {
        Place { prefix: format!("test-{}", uuid::Uuid::new_v4()), bells: Mutex::default() }
    }

    pub fn queue(&self) -> String {
        format!("{}.v1.work", self.prefix)
    }

    pub fn options(&self) -> AmqpOptions {
        let keep_answered = std::time::Duration::from_millis(250);
        AmqpOptions { prefix: self.prefix.clone(), keep_answered, ..AmqpOptions::new(url()) }
    }

    pub fn bell(&self) -> AmqpDoorbell {
        self.bell_with(self.options())
    }

    pub fn bell_with(&self, options: AmqpOptions) -> AmqpDoorbell {
        AmqpDoorbell::new(AmqpLink::open(options).unwrap(), PREFETCH)
    }

    /// Over a port on this machine, instead of straight to the broker.
    pub fn options_over(&self, port: u16) -> AmqpOptions {
        let mut address = url::Url::parse(&url()).unwrap();
        address.set_host(Some("127.0.0.1")).unwrap();
        address.set_port(Some(port)).unwrap();
        AmqpOptions { url: address.into(), ..self.options() }
    }
}

#[async_trait]
impl DoorbellHarness for Place {
    /// Kept to the end: a listener that goes away without an answer gives its wakeups to the others.
    async fn open(&self) -> Arc<dyn Doorbell> {
        let bell = Arc::new(self.bell());
        self.bells.lock().unwrap().push(bell.clone());
        bell
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bells.lock().unwrap().clear();
        let names = ["v1.work", "v1.assemble", "inbox"].map(|name| format!("{}.{name}", self.prefix));
        let exchanges = ["v1.events", "uploads"].map(|name| format!("{}.{name}", self.prefix));
        // Also when the test has failed, and whatever became of its runtime.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::connect().await;
                for name in names {
                    client.delete(&name).await;
                }
                for name in exchanges {
                    client.channel.exchange_delete(name.into(), Default::default()).await.unwrap();
                }
            });
        });
        if cleaner.join().is_err() && !std::thread::panicking() {
            panic!("queues of this test were not deleted");
        }
    }
}

/// Looks at the broker from outside.
pub struct Client {
    pub channel: Channel,
    _connection: Connection,
}

impl Client {
    pub async fn connect() -> Self {
        let connection = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Client { channel, _connection: connection }
    }

    pub async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Waits until the broker has it.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        assert!(self.is_taken(exchange, key, body).await, "no queue takes it");
    }

    /// The same for a queue that somebody else is about to declare.
    pub async fn publish_once_declared(&self, queue: &str, body: &[u8]) {
        for _ in 0..5000 {
            if self.is_taken("", queue, body).await {
                return;
            }
        }
        panic!("{queue} was not declared");
    }

    async fn is_taken(&self, exchange: &str, key: &str, body: &[u8]) -> bool {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange.into(), key.into(), options, body, BasicProperties::default());
        let confirmed = sent.await.unwrap().await.unwrap();
        // A queue that is just being made may refuse.
        confirmed.is_ack() && confirmed.take_message().is_none()
    }

    /// The next message, unacknowledged.
    pub async fn get(&self, queue: &str) -> Option<lapin::message::Delivery> {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
        got.map(|message| message.delivery)
    }
}
