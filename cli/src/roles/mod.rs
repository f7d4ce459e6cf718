//! The server roles: adapters are opened, handed to a role, and closed in order when the process is to end. `serve` is in
//! every build; the roles of a cluster come with the feature `cluster`.

#[cfg(not(feature = "cluster"))]
mod absent;
#[cfg(feature = "cluster")]
mod assembler;
pub mod connect;
#[cfg(feature = "cluster")]
mod coordinator;
mod http_service;
mod keys;
mod lifecycle;
mod outputs;
mod serve;
#[cfg(feature = "cluster")]
mod servers;
pub mod settings;
#[cfg(feature = "cluster")]
mod worker;

#[cfg(not(feature = "cluster"))]
pub use absent::{AssemblerArgs, CoordinatorArgs, WorkerArgs, assembler, coordinator, worker};
#[cfg(feature = "cluster")]
pub use assembler::{AssemblerArgs, assembler};
#[cfg(feature = "cluster")]
pub use coordinator::{CoordinatorArgs, coordinator};
pub use serve::{ServeArgs, local_server, serve};
#[cfg(feature = "cluster")]
pub use worker::{WorkerArgs, worker};
