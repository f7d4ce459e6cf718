//! The reference backends, in memory: what every other backend is compared with, and what simulations run on.
//!
//! Deterministic: ordered maps, no clock, no randomness, no task is spawned, and nothing awaits while it holds
//! a lock. State lives as long as the value; clones of an `Arc` share it.

mod blobs;
mod records;
mod rows;
mod store;

pub use crate::channel::ChannelDoorbell;
pub use blobs::MemoryBlobs;
pub use records::MemoryRecords;
pub use store::MemoryStore;
