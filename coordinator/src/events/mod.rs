//! The job log handed on: [`live`] to listeners of this process, from now on; [`durable`] to sinks, from a stored
//! position on and at least once.

pub mod durable;
pub mod live;

pub use durable::Feed;
pub use live::LiveFeed;
