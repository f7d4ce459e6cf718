//! RabbitMQ: the doorbell of a cluster, job events for others, upload events from others. The only place that
//! knows AMQP. Works with RabbitMQ 3.10 and later, 4.x included.
//!
//! One [`AmqpLink`] per process holds the one connection; what is built on it survives its loss. Nothing here
//! is truth: a message may be lost, doubled or late, and the job store decides.

mod consumer;
mod doorbell;
mod event_inbox;
mod events;
mod inbox;
mod ledger;
mod link;
mod message;
mod publisher;
mod topology;

pub use doorbell::{AmqpDoorbell, QueueDepth};
pub use event_inbox::AmqpEventInbox;
pub use events::{AmqpEvents, Unpublished};
pub use inbox::{AmqpInbox, Binding, Delivery, InboxOptions};
pub use link::{AmqpLink, Health};

use splitreel_telemetry::Chain;
use std::fmt;
use std::time::Duration;

/// How to reach the broker.
#[derive(Clone)]
pub struct AmqpOptions {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`; the vhost is percent-encoded (`%2f` is the default).
    pub url: String,
    /// First part of the names of queues and exchanges (default `splitreel`, thus `splitreel.v1.work`).
    pub prefix: String,
    /// Shown by the broker for this connection (default `splitreel`).
    pub connection_name: String,
    /// Longest time for TCP, TLS and AMQP handshake together (default 10 s).
    pub connect_timeout: Duration,
    /// Longest time for the broker's answer to anything but a publication (default 10 s).
    pub answer_timeout: Duration,
    /// Longest time until a publication is confirmed; after that it counts as not accepted (default 10 s).
    pub confirm_timeout: Duration,
    /// Heartbeat interval, whole seconds (default 10 s): a silent broker is given up after twice that.
    pub heartbeat: Duration,
    /// Longest pause between two attempts to connect (default 10 s); attempts never end.
    pub max_reconnect_delay: Duration,
    /// A consumer that has heard nothing for so long is replaced (default 30 s), because it may have lost its queue
    /// without being told.
    pub renew_after: Duration,
    /// A wakeup that was answered is acknowledged when its listener asks for the next one, at the latest after this time
    /// (default 10 s). Long against a short encode: what comes again because the connection was lost meanwhile is
    /// refused by its claim.
    pub keep_answered: Duration,
}

impl AmqpOptions {
    /// Defaults for a broker.
    pub fn new(url: impl Into<String>) -> Self {
        AmqpOptions {
            url: url.into(),
            prefix: "splitreel".to_owned(),
            connection_name: "splitreel".to_owned(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            max_reconnect_delay: Duration::from_secs(10),
            renew_after: Duration::from_secs(30),
            keep_answered: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for AmqpOptions {
    /// Leaves the address out: it holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What can go wrong with the broker. All but [`AmqpError::Url`] and [`AmqpError::Closed`] pass with time.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AmqpError {
    /// The address is not one.
    #[error("the broker's address cannot be used: {reason}")]
    Url {
        /// What is wrong with it, without the password.
        reason: String,
    },
    /// There is no connection now.
    #[error("not connected to the broker: {last}")]
    Down {
        /// Why the last attempt failed.
        last: String,
    },
    /// No answer in time.
    #[error("the broker did not answer within {after:?}: {doing}")]
    Timeout {
        /// What it was asked for.
        doing: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The broker or the connection said no.
    #[error("failed to {doing}")]
    Broker {
        /// What was tried.
        doing: &'static str,
        /// The answer.
        #[source]
        source: lapin::Error,
    },
    /// No queue is bound where the message was sent, not even after declaring it again.
    #[error("the broker returned the message: no queue takes it")]
    Returned,
    /// The broker had to refuse the message, for example because a queue has lost its majority.
    #[error("the broker refused the message")]
    Nacked,
    /// A resource alarm (memory, disk) stops all publishing.
    #[error("the broker takes no messages for lack of memory or disk space")]
    Blocked,
    /// [`AmqpLink::close`] was called.
    #[error("the connection to the broker was closed")]
    Closed,
}

/// An error and its causes, for where only one line is kept.
fn one_line(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}

/// Nothing that is asked of a broker may wait for ever.
async fn within<T>(
    limit: Duration,
    doing: &'static str,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(AmqpError::Broker { doing, source }),
        Err(_) => Err(AmqpError::Timeout { doing, after: limit }),
    }
}
