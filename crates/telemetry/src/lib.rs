//! Logs, metrics and traces of every role, and the endpoints that show them.
//!
//! Owns how telemetry is named, recorded and exported. Decides nothing about jobs, and no role's behaviour may depend
//! on what is recorded here.

#![forbid(unsafe_code)]

pub mod catalogue;
mod chain;
pub mod checks;
mod export;
pub mod exposition;
pub mod field;
pub mod grammar;
pub mod http;
pub mod labels;
mod logs;
pub mod ops;
pub mod record;
pub mod redact;
mod settings;
pub mod start;
pub mod trace;

pub use chain::Chain;
#[cfg(feature = "otlp")]
pub use export::ExportError;
pub use exposition::Exposition;
pub use settings::{Format, Logs, Traces};
pub use start::{Guard, StartError, init};
