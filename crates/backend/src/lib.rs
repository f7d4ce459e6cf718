//! The seams between roles and the outside: job store, leases, doorbell, blobs, clock and ids.
//!
//! Roles see only these traits. No database or broker code lives here.
//!
//! With feature `memory`, `memory` is the in-memory reference. With feature `testing`, `conformance` holds every backend to
//! the reference, `invariants` audits rows, and `fault` wraps any seam for failure injection. Shipped programs are built
//! without both.

#![forbid(unsafe_code)]

pub mod blob;
pub mod buckets;
pub mod cache;
pub mod channel;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod doorbell;
pub mod events;
#[cfg(feature = "testing")]
pub mod fault;
pub mod grants;
pub mod inbox;
#[cfg(feature = "testing")]
pub mod invariants;
pub mod lease;
#[cfg(feature = "memory")]
pub mod memory;
pub mod outputs;
pub mod records;
pub mod statistics;
pub mod store;
pub mod transition;
pub mod uploads;
pub mod whole;
pub mod world;

pub use blob::{BlobAdmin, BlobError, BlobReader, BlobStore, PartWriter};
pub use doorbell::{Doorbell, Queue, Wakeup};
pub use grants::Grants;
pub use lease::{Leases, WorkOrder};
pub use records::Records;
pub use store::{JobStore, LeaseStore, Scheduling, StoreError, Submissions};
pub use world::{Clock, Ids, Secrets, World};
