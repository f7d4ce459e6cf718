//! Types of the HTTP API and a client for it: what the coordinator answers with and what workers, assemblers and
//! the command line call it by. No decision of the service is made here.

#![forbid(unsafe_code)]

mod answers;
mod blobs;
mod calls;
mod client;
mod events;
mod held;
mod leases;
mod presence;
pub mod problem;
mod retry;
pub mod routes;
mod rules;
mod sse;
pub mod types;
mod uploads;

pub use answers::{Made, Versioned};
pub use blobs::RemoteBlobs;
pub use calls::JobQuery;
pub use client::{Client, ClientConfig, ClientError, Token};
pub use events::{EventMessage, EventStream};
pub use leases::{RemoteLeases, SessionTimes};
pub use presence::PresenceEnd;
pub use problem::{Code, Mistake, Problem};
pub use sse::{SseEvent, SseParser, TooLarge};
pub use uploads::SendError;
