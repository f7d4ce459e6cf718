//! Settings of the store with their bounds, and why a store could not be opened. The database's address and password are
//! not among the settings.

use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use std::time::Duration;

/// Settings of a [`PgStore`](super::PgStore). Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PgConfig {
    /// Connections at a time, 2 to 1,000. Default 16.
    pub max_connections: u32,
    /// How long to wait for a connection, from the pool or newly made. Default 5,000.
    pub connect_timeout_ms: u64,
    /// How long one statement may take, waiting for locks included. A use-case may take twice as long. Default 10,000.
    pub statement_timeout_ms: u64,
    /// The same for what touches every task of a job: recording a plan, retry, forget. Default 600,000.
    pub bulk_timeout_ms: u64,
    /// After this the server ends a transaction whose process is silent. Default 30,000.
    pub idle_in_transaction_timeout_ms: u64,
}

impl Default for PgConfig {
    fn default() -> Self {
        PgConfig {
            max_connections: 16,
            connect_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            bulk_timeout_ms: 600_000,
            idle_in_transaction_timeout_ms: 30_000,
        }
    }
}

/// A setting is out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, must be {least} to {most}")]
pub struct PgConfigError {
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub found: u64,
    /// The least allowed.
    pub least: u64,
    /// The most allowed.
    pub most: u64,
}

/// The longest time-out: a day.
const DAY_MS: u64 = 86_400_000;

impl PgConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first setting that is out of them.
    pub fn validate(&self) -> Result<(), PgConfigError> {
        let within = |field, found, least, most| {
            if (least..=most).contains(&found) { Ok(()) } else { Err(PgConfigError { field, found, least, most }) }
        };
        // Dispatch holds one connection and waits for no other; with one alone, everything else would wait for it.
        within("max_connections", u64::from(self.max_connections), 2, 1_000)?;
        within("connect_timeout_ms", self.connect_timeout_ms, 1, DAY_MS)?;
        within("statement_timeout_ms", self.statement_timeout_ms, 1, DAY_MS)?;
        within("bulk_timeout_ms", self.bulk_timeout_ms, 1, DAY_MS)?;
        within("idle_in_transaction_timeout_ms", self.idle_in_transaction_timeout_ms, 1, DAY_MS)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

/// Why a store could not be opened or its schema not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum PgOpenError {
    /// The URL is not one of a Postgres database.
    #[error("the database URL cannot be read")]
    Url(#[source] sqlx::Error),
    /// A setting is out of its bounds.
    #[error(transparent)]
    Config(#[from] PgConfigError),
    /// A newer program has migrated the database: this one would not understand its rows.
    #[error(
        "the database has schema version {found}, but this program knows only versions up to {known}: use a newer splitreel"
    )]
    SchemaNewer {
        /// Version of the database.
        found: i64,
        /// Newest version of this program.
        known: i64,
    },
    /// The database was not migrated for this program.
    #[error("the database has schema version {found}, this program needs {known}: run the migrations first")]
    SchemaOlder {
        /// Version of the database; 0 = none.
        found: i64,
        /// Newest version of this program.
        known: i64,
    },
    /// A migration was edited after it had been applied, or did not run to its end.
    #[error("migration {version} of the database is not the one this program knows")]
    SchemaChanged {
        /// The migration.
        version: i64,
    },
    /// The server did not answer, or holds something unreadable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bounds_hold() {
        assert_eq!(PgConfig::default().validate(), Ok(()));
        let one = PgConfig { max_connections: 1, ..PgConfig::default() };
        assert_eq!(one.validate().map_err(|e| e.field), Err("max_connections"));
        let never = PgConfig { statement_timeout_ms: 0, ..PgConfig::default() };
        assert_eq!(
            never.validate().map_err(|e| e.to_string()),
            Err("statement_timeout_ms is 0, must be 1 to 86400000".into())
        );
        assert!(serde_json::from_str::<PgConfig>(r#"{"max_connections": 4, "url": "x"}"#).is_err());
        assert_eq!(serde_json::from_str::<PgConfig>("{}").unwrap(), PgConfig::default());
    }
}
