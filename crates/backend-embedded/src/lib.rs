//! The embedded backends: a job store in one SQLite file and blobs in one local directory.
//!
//! Both may be opened by several processes at once. The doorbell of this deployment is
//! [`ChannelDoorbell`], in process. No domain decision is made here: those are `splitreel_core`'s.

#![forbid(unsafe_code)]

mod blobs;
mod sqlite;

pub use blobs::LocalBlobs;
pub use splitreel_backend::memory::ChannelDoorbell;
pub use sqlite::{SqliteStore, migrate, schema_version};
