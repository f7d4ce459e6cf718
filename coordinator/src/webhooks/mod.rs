//! Outgoing webhooks: events of the job log, signed after the Standard Webhooks specification, repeated for a day.
//!
//! A [`WebhookQueue`] queues deliveries as events come; a [`Sender`] takes them to public addresses only.

mod address;
mod key;
mod ledger;
mod payload;
mod queue;
mod schedule;
mod sender;

pub use address::{AddressError, AddressPolicy, is_public};
pub use key::WebhookKey;
pub use ledger::{DELIVERY_KIND, DeliveryState, Endpoint, Ledger, Stored, WEBHOOK_KIND, WebhookAttempt};
pub use payload::{EVENT_TYPES, PING, event_type, payload};
pub(crate) use payload::{ping, rfc3339};
pub use queue::WebhookQueue;
pub use schedule::RetrySchedule;
pub use sender::{Lookup, Sender, SenderConfig, SenderError, SystemLookup, Tried};
