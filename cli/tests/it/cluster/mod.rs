//! The cluster end to end: real processes, real Postgres and RabbitMQ, an S3 server.

mod faults;
mod same_bytes;
mod stack;
