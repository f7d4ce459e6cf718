//! Settings of the server roles. Each is a flag, an environment variable (the standard names where there are such)
//! and a field of the configuration file; the first of these that says something wins.

use crate::exit::Problem;
use clap::Args;
use serde::Deserialize;
use splitreel_telemetry::redact::{Secret, from_env_or_file};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Declares a group of optional settings that is both a set of flags and a table of the configuration file.
///
/// After `lists`: settings of several values, separated by commas or given more than once.
macro_rules! group {
    (
        $(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $kind:ty,)* }
        $(lists { $($(#[$list_meta:meta])* $list:ident: $item:ty,)* })?
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$meta])* pub $field: Option<$kind>,)*
            $($($(#[$list_meta])* pub $list: Option<Vec<$item>>,)*)?
        }

        impl $name {
            /// What is not said here is taken from `file`.
            #[cfg_attr(
                not(feature = "cluster"),
                allow(dead_code, reason = "the file is read, and checked, by every build")
            )]
            pub fn or(self, file: &$name) -> Self {
                $name {
                    $($field: self.$field.or_else(|| file.$field.clone()),)*
                    $($($list: self.$list.or_else(|| file.$list.clone()),)*)?
                }
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

group! {
    /// Who may use the API, and whom it calls.
    Api {} lists {
        /// Networks that webhooks may reach in addition to public addresses, for example 10.1.0.0/16.
        #[arg(long, env = "SPLITREEL_WEBHOOK_NETWORKS", value_name = "CIDR,…", value_delimiter = ',')]
        webhook_networks: String,
        /// Origins whose pages may use the API; * = all.
        #[arg(long, env = "SPLITREEL_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
        cors_origins: String,
    }
}

group! {
    /// How a coordinator dispatches work, and where its sources come from.
    Dispatch {
        /// Maximum number of task notifications in flight per queue [default: a quarter of all slots, 4 to 256; for
        /// workers also one for each free slot].
        #[arg(long, env = "SPLITREEL_WINDOW", value_name = "N")]
        window: usize,
        /// Lease length in seconds, 2 to 600; a worker that does not renew in time loses the task [default: 15].
        #[arg(long, env = "SPLITREEL_LEASE_SECONDS", value_name = "S")]
        lease_seconds: u32,
        /// Seconds after the end of a job until the objects of its failed attempts are deleted, and a sixth of the age
        /// at which a multipart upload counts as abandoned; no assembly may take this long [default: 3600].
        #[arg(long, env = "SPLITREEL_GARBAGE_SECONDS", value_name = "S")]
        garbage_seconds: u32,
        /// Oldest worker protocol to accept; workers with an older one drain and exit [default: 1].
        #[arg(long, env = "SPLITREEL_OLDEST_PROTOCOL", value_name = "N")]
        oldest_protocol: u32,
        /// Queue of upload events, filled by a storage server [default: no queue is read].
        #[arg(long, env = "SPLITREEL_EVENTS_QUEUE", value_name = "NAME")]
        events_queue: String,
        /// Exchange that the queue of upload events is bound to.
        #[arg(long, env = "SPLITREEL_EVENTS_EXCHANGE", value_name = "NAME")]
        events_exchange: String,
    } lists {
        /// Buckets and prefixes that sources may be read from, as bucket/prefix [default: all that the credentials can
        /// read].
        #[arg(long, env = "SPLITREEL_SOURCES", value_name = "BUCKET/PREFIX,…", value_delimiter = ',')]
        sources: String,
    }
}

#[cfg(feature = "cluster")]
impl Dispatch {
    /// Checks what the single values cannot say, wherever they come from.
    pub fn validate(self) -> Result<Self, Problem> {
        if let Some(seconds) = self.lease_seconds.filter(|s| !(2..=600).contains(s)) {
            return Err(Problem::usage(format!("--lease-seconds {seconds}: use 2 to 600")));
        }
        if self.garbage_seconds == Some(0) {
            return Err(Problem::usage("--garbage-seconds 0: use at least 1"));
        }
        if self.events_exchange.is_some() && self.events_queue.is_none() {
            return Err(Problem::usage("--events-exchange needs --events-queue, the queue that is bound to it"));
        }
        Ok(self)
    }
}

group! {
    /// The watch folder of a server on one machine, and folders whose files may be sources.
    Folders {
        /// Folder to watch: a file becomes a job once its size and time stop changing.
        #[arg(long, env = "SPLITREEL_WATCH", value_name = "DIR")]
        watch: PathBuf,
        /// Profile of the watch folder's jobs [default: universal].
        #[arg(long, env = "SPLITREEL_WATCH_PROFILE", value_name = "NAME")]
        watch_profile: String,
        /// Export the watch folder's presentations to this directory, as FILE.streams [default: serve them only].
        #[arg(long, env = "SPLITREEL_WATCH_OUTPUT", value_name = "DIR")]
        watch_output: PathBuf,
    } lists {
        /// Suffixes of the files to take, for example .mp4,.mov [default: all files].
        #[arg(long, env = "SPLITREEL_WATCH_SUFFIXES", value_name = "SUFFIX,…", value_delimiter = ',')]
        watch_suffixes: String,
        /// Folders whose files jobs may name as their source by path [default: sources are uploaded].
        #[arg(long, env = "SPLITREEL_SOURCE_FOLDERS", value_name = "DIR,…", value_delimiter = ',')]
        source_folders: PathBuf,
    }
}

impl Folders {
    /// Checks what the single values cannot say, wherever they come from.
    pub fn validate(self) -> Result<Self, Problem> {
        let needs_folder = [
            ("--watch-profile", self.watch_profile.is_some()),
            ("--watch-output", self.watch_output.is_some()),
            ("--watch-suffixes", self.watch_suffixes.is_some()),
        ];
        match needs_folder.into_iter().find(|(_, is_given)| *is_given && self.watch.is_none()) {
            Some((flag, _)) => Err(Problem::usage(format!("{flag} needs --watch, the folder that it is about"))),
            None => Ok(self),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file: Api = toml::from_str("cors_origins = [\"https://a\", \"https://b\"]").unwrap();
        let flags = Api { webhook_networks: Some(vec!["10.0.0.0/8".to_owned()]), cors_origins: None };
        let merged = flags.or(&file);
        assert_eq!(merged.webhook_networks, Some(vec!["10.0.0.0/8".to_owned()]));
        assert_eq!(merged.cors_origins.map(|origins| origins.len()), Some(2));
        let flags = Api { webhook_networks: None, cors_origins: Some(vec!["*".to_owned()]) };
        assert_eq!(flags.or(&file).cors_origins, Some(vec!["*".to_owned()]));
        assert!(toml::from_str::<Api>("cors = []").is_err());
    }

    #[test]
    fn settings_that_do_not_fit_each_other_are_refused_wherever_they_come_from() {
        let folders = |text: &str| toml::from_str::<Folders>(text).unwrap().validate();
        assert!(folders("watch = \"in\"\nwatch_profile = \"universal\"").is_ok());
        let problem = folders("watch_suffixes = [\".mp4\"]").unwrap_err();
        assert!(problem.lines[0].contains("--watch-suffixes needs --watch"), "{problem:?}");
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn dispatch_has_bounds() {
        let dispatch = |text: &str| toml::from_str::<Dispatch>(text).unwrap().validate();
        assert!(dispatch("lease_seconds = 2\nwindow = 8\nsources = [\"media/in\"]").is_ok());
        for text in ["lease_seconds = 1", "lease_seconds = 601", "garbage_seconds = 0", "events_exchange = \"x\""] {
            assert!(dispatch(text).is_err(), "{text}");
        }
    }
}
