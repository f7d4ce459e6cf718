//! The edges of the coordinator towards the outside, over the in-memory backends and a clock that the test moves:
//! upload events, pollers, the watch folder, outgoing webhooks, uploads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod direct;
mod events;
mod fixture;
mod inbox;
mod mounted;
mod polling;
mod rules;
mod tus;
mod watching;
mod webhooks;
