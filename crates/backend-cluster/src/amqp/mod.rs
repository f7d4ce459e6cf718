//! RabbitMQ: the doorbell of a cluster, job events for other systems, upload events from other systems. The only module
//! that knows AMQP. Works with RabbitMQ 3.10 and later, 4.x included.
//!
//! One [`AmqpLink`] per process holds the only connection; everything built on the link survives its loss. Messages are
//! hints: one may be lost, doubled or late, and the job store decides.

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

/// Address of the broker and time limits.
#[derive(Clone)]
pub struct AmqpOptions {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`; the vhost is percent-encoded (`%2f` is the default).
    pub url: String,
    /// First part of the names of queues and exchanges (default `splitreel`, thus `splitreel.v1.work`).
    pub prefix: String,
    /// Shown by the broker for this connection (default `splitreel`).
    pub connection_name: String,
    /// Time limit for the TCP, TLS and AMQP handshakes together (default 10 s).
    pub connect_timeout: Duration,
    /// Time limit for the broker's answer to every request but a publication (default 10 s).
    pub answer_timeout: Duration,
    /// Time limit for the confirmation of a publication; after that the message counts as not accepted (default 10 s).
    pub confirm_timeout: Duration,
    /// Heartbeat interval, whole seconds (default 10 s): the connection is closed after two intervals of silence.
    pub heartbeat: Duration,
    /// Longest back-off between two attempts to connect (default 10 s); their number is unlimited.
    pub max_reconnect_delay: Duration,
    /// Age at which a consumer that received nothing is replaced (default 30 s): it may have lost its queue without a
    /// notice.
    pub renew_after: Duration,
    /// An answered wakeup is acknowledged when its listener asks for the next one, at the latest after this time (default
    /// 10 s), which is long against a short encode. A wakeup that is redelivered because the connection was lost
    /// meanwhile is refused by its claim.
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

/// Errors of the broker and its connection. All but [`AmqpError::Url`] and [`AmqpError::Closed`] are transient.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AmqpError {
    /// The address is invalid.
    #[error("invalid broker address: {reason}")]
    Url {
        /// The mistake, without the password.
        reason: String,
    },
    /// There is no connection at present.
    #[error("not connected to the broker: {last}")]
    Down {
        /// Why the last attempt failed.
        last: String,
    },
    /// No answer in time.
    #[error("the broker did not answer within {after:?}: {doing}")]
    Timeout {
        /// The request.
        doing: &'static str,
        /// The time limit.
        after: Duration,
    },
    /// The broker refused a request, or the connection failed.
    #[error("failed to {doing}")]
    Broker {
        /// The request.
        doing: &'static str,
        /// The cause.
        #[source]
        source: lapin::Error,
    },
    /// No queue is bound for the message, not even after declaring the queue again.
    #[error("the broker returned the message: no queue is bound for it")]
    Returned,
    /// The broker refused the message, for example because a queue has lost its majority.
    #[error("the broker refused the message")]
    Nacked,
    /// A resource alarm (memory, disk) stops all publishing.
    #[error("the broker blocks publishing: memory or disk space is low")]
    Blocked,
    /// [`AmqpLink::close`] was called.
    #[error("the connection to the broker was closed")]
    Closed,
}

/// An error and its causes in one line.
fn one_line(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}

/// Bounds a request to the broker in time.
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
