//! RabbitMQ: conformance, outages, events, inbox. Each test has queues of its own on a shared broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod broker;
mod doorbell;
mod event_inbox;
mod events;
mod inbox;
mod outages;
mod proxy;
