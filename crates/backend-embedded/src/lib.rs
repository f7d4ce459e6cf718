//! The embedded backends: a job store in one SQLite file; blobs, uploads and sources in local directories.
//!
//! Both may be opened by several processes at once. The doorbell of this deployment is
//! [`ChannelDoorbell`], in process. No domain decision is made here: those are `splitreel_core`'s.

#![forbid(unsafe_code)]

mod blobs;
mod grants;
mod sqlite;
mod uploads;

pub use blobs::LocalBlobs;
pub use grants::LocalGrants;
pub use splitreel_backend::channel::ChannelDoorbell;
pub use sqlite::{SqliteStore, migrate, schema_version};
pub use uploads::LocalUploads;
