//! The HTTP API: in process, and over loopback with the project's own client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod access;
mod bodies;
mod document;
mod files;
mod jobs;
mod live;
mod matrix;
mod objects;
mod profiles;
mod stage;
mod work;
