//! Telemetry from the outside: what is served, written and sent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic"
)]

mod api;
mod catalogue;
mod deploy;
mod lines;
mod ops;
#[cfg(feature = "otlp")]
mod sink;
#[cfg(feature = "otlp")]
mod traces;

use std::path::Path;

/// A file of the repository.
pub fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
