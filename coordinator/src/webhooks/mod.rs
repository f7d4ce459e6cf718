//! Outgoing webhooks: events of the job log, signed after the Standard Webhooks specification, repeated for a day.
//!
//! A [`Feed`] reads the log and queues deliveries; a [`Sender`] takes them to public addresses only.

mod address;
mod feed;
mod ledger;
mod payload;
mod routes;
mod schedule;
mod secret;
mod sender;

pub use address::{AddressError, AddressPolicy, is_public};
pub use feed::{EventSink, Feed, WebhookQueue};
pub use ledger::{Delivery, DeliveryState, Endpoint, Kept, Ledger};
pub use payload::{EVENT_TYPES, PING, event_type, payload};
pub use routes::{
    DeliveryAnswer, DeliveryList, PingAnswer, ROUTES, WEBHOOKS_SCOPE, WebhookAnswer, WebhookList, WebhookRequest,
    webhooks_router,
};
pub use schedule::RetrySchedule;
pub use secret::Secret;
pub use sender::{Lookup, Sender, SenderConfig, SenderError, SystemLookup, Tried};
