//! Settings of the server roles. Each is a flag, an environment variable (the standard names where there are such)
//! and a field of the configuration file; the first of these that says something wins.

use crate::exit::Problem;
use clap::Args;
use serde::Deserialize;
use splitreel_telemetry::redact::{Secret, from_env_or_file};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Declares a group of optional settings that is both a set of flags and a table of the configuration file.
macro_rules! group {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$meta])* pub $field: Option<$kind>,)*
        }

        impl $name {
            /// What is not said here is taken from `file`.
            #[cfg_attr(
                not(feature = "cluster"),
                allow(dead_code, reason = "the file is read, and checked, by every build")
            )]
            pub fn or(self, file: &$name) -> Self {
                $name { $($field: self.$field.or_else(|| file.$field.clone()),)* }
            }
        }
    };
}

group! {
    /// Where a role listens.
    Listen {
        /// Address of the HTTP API [default: 127.0.0.1:8400].
        #[arg(long, env = "SPLITREEL_LISTEN", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Address of health checks and metrics [default: 127.0.0.1:9600].
        #[arg(long, env = "SPLITREEL_OPS_LISTEN", value_name = "ADDRESS:PORT")]
        ops_listen: SocketAddr,
        /// How the API is reached from outside, for playback links and Location headers [default: they are paths].
        #[arg(long, env = "SPLITREEL_PUBLIC_URL", value_name = "URL")]
        public_url: String,
        /// Seconds for running work to end after SIGTERM before it is handed back [default: 20].
        #[arg(long, env = "SPLITREEL_GRACE_SECONDS", value_name = "S")]
        grace_seconds: u64,
    }
}

group! {
    /// The database and the broker.
    Servers {
        /// Most connections to Postgres [default: 16].
        #[arg(long, env = "SPLITREEL_DATABASE_CONNECTIONS", value_name = "N")]
        database_connections: u32,
        /// First part of the names of queues and exchanges [default: splitreel].
        #[arg(long, env = "SPLITREEL_QUEUE_PREFIX", value_name = "NAME")]
        queue_prefix: String,
    }
}

group! {
    /// Object storage. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the usual AWS places.
    Storage {
        /// Address of an S3-compatible server; without it AWS.
        #[arg(long, env = "AWS_ENDPOINT_URL_S3", value_name = "URL")]
        s3_endpoint: String,
        /// Address under which workers reach the same server, for signed requests [default: the endpoint].
        #[arg(long, env = "SPLITREEL_S3_PUBLIC_ENDPOINT", value_name = "URL")]
        s3_public_endpoint: String,
        /// Region [default: us-east-1].
        #[arg(long, env = "AWS_REGION", value_name = "NAME")]
        s3_region: String,
        /// Bucket of parts and presentations.
        #[arg(long, env = "SPLITREEL_S3_BUCKET", value_name = "NAME")]
        s3_bucket: String,
        /// Keys begin with this; it ends in a slash.
        #[arg(long, env = "SPLITREEL_S3_PREFIX", value_name = "PREFIX/")]
        s3_prefix: String,
    }
}

group! {
    /// How a worker or an assembler finds its coordinator.
    Upstream {
        /// Address of a coordinator's API.
        #[arg(long, env = "SPLITREEL_SERVER", value_name = "URL")]
        server: String,
    }
}

group! {
    /// What a worker does at a time, and where.
    Hands {
        /// Name of this process; a random part is added [default: the host's name].
        #[arg(long, env = "SPLITREEL_WORKER_NAME", value_name = "NAME")]
        name: String,
        /// Attempts at the same time [default: one per core; an assembler: 1].
        #[arg(long, env = "SPLITREEL_WORKERS", value_name = "N")]
        slots: usize,
        /// Directory of scratch files [default: in the state directory].
        #[arg(long, env = "SPLITREEL_SCRATCH", value_name = "DIR")]
        scratch: PathBuf,
        /// Most bytes of fetched sources at a time, in MiB [default: 20480].
        #[arg(long, env = "SPLITREEL_SCRATCH_MB", value_name = "N")]
        scratch_mb: u64,
    }
}

/// A secret from the environment: `NAME`, or a file named by `NAME_FILE`. Secrets are neither flags, which every user
/// of the machine can see, nor part of the configuration file.
pub fn secret(name: &str) -> Result<Option<Secret<String>>, Problem> {
    from_env_or_file(name).map_err(|e| Problem::usage(format!("{name} cannot be used: {e}")))
}

/// The same, required.
pub fn required_secret(name: &str, what: &str) -> Result<Secret<String>, Problem> {
    secret(name)?
        .ok_or_else(|| Problem::usage(format!("{what} is missing: set {name}, or {name}_FILE to a file that holds it")))
}

/// A setting that has no default.
pub fn required<T>(value: Option<T>, what: &str, how: &str) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::usage(format!("{what} is missing: {how}")))
}
