//! Cluster backends: Postgres job store, RabbitMQ doorbell, S3 objects. The only place that knows these servers.

#![forbid(unsafe_code)]

pub mod amqp;
pub mod postgres;
pub mod s3;
