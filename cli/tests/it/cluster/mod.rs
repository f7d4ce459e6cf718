//! The cluster end to end: real processes, real Postgres and RabbitMQ, an S3 server.

mod aftermath;
mod collector;
mod drain;
mod lost_roles;
mod lost_workers;
mod observed;
mod outages;
pub mod same_bytes;
mod servers;
mod stack;
mod stage;
mod stores;
mod storm;
mod upgrade;
mod uploads;
