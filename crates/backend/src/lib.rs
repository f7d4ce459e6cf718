//! The seams between roles and the outside: job store, leases, doorbell, blobs, clock and ids.
//!
//! Roles see only these traits. `memory` is the reference; `conformance` holds every backend to it;
//! `fault` wraps any of them for failure injection. No database, broker or file-system code lives here.

#![forbid(unsafe_code)]

pub mod blob;
pub mod buckets;
pub mod cache;
pub mod conformance;
pub mod doorbell;
pub mod events;
pub mod fault;
pub mod grants;
pub mod inbox;
pub mod invariants;
pub mod lease;
pub mod memory;
pub mod outputs;
pub mod records;
pub mod statistics;
pub mod store;
pub mod transition;
pub mod uploads;
pub mod world;

pub use blob::{BlobError, BlobStore};
pub use doorbell::{Doorbell, Queue, Wakeup};
pub use grants::Grants;
pub use lease::{Leases, WorkOrder};
pub use records::Records;
pub use store::{JobStore, LeaseStore, Scheduling, StoreError, Submissions};
pub use world::{Clock, Ids, Secrets, World};
