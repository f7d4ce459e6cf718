//! One module per family of commands.

pub mod completions;
pub mod doctor;
pub mod jobs;
pub mod plan;
pub mod profiles;
pub mod run;
mod sending;
pub mod server;
pub mod submit;
mod target;
pub mod triggers;
mod watch;
