//! Workers that fetch their sources over HTTP: the same parts as from a local file, few bytes more than the source
//! has, and nothing wrong when the network is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod clips;
mod faults;
mod parts;
mod probes;
mod server;
mod station;
