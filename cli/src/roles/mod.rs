//! The server roles: adapters are opened, handed to a role, and closed in order when the process is to end.

mod assembler;
mod bridge;
pub mod connect;
mod coordinator;
mod grants;
mod http_service;
mod keys;
mod lifecycle;
mod outputs;
mod serve;
pub mod settings;
mod uploads;
mod worker;

pub use assembler::{AssemblerArgs, assembler};
pub use coordinator::{CoordinatorArgs, coordinator};
pub use serve::{ServeArgs, local_server, serve};
pub use worker::{WorkerArgs, worker};
