//! The Postgres job and record store: each use-case is one short transaction under READ COMMITTED, kept apart from
//! others by row locks (`locks`). Decisions are those of `splitreel_backend::transition`.
//!
//! What is asked about attempts of one job at the same time goes into one transaction (`batch`, `decide`). Rows are
//! decoded in `rows`, written in `save`; connections and what may happen to them are the business of `connection`.

mod batch;
mod config;
mod connection;
mod decide;
mod dispatch;
mod error;
mod events;
mod jobs;
mod locks;
mod migrations;
mod outbox;
mod plan;
mod records;
mod rows;
mod save;
mod schema;
mod speculate;
mod statistics;
mod store;
mod takeback;

pub use config::{PgConfig, PgConfigError, PgOpenError};

use batch::Attempts;
use connection::Database;
use splitreel_backend::StoreError;

/// A job and record store in one Postgres database. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct PgStore {
    database: Database,
    attempts: Attempts,
}

impl std::fmt::Debug for PgStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The connection options hold a password.
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

impl PgStore {
    /// Connects to a database that was brought up to date by [`PgStore::migrate`].
    ///
    /// # Errors
    /// [`PgOpenError::SchemaNewer`] and [`PgOpenError::SchemaOlder`] when the schema is not the one this program was
    /// made for, [`PgOpenError::Url`] and [`PgOpenError::Config`] for bad settings, [`PgOpenError::Store`] when the
    /// server does not answer.
    pub async fn open(url: &str, config: &PgConfig) -> Result<Self, PgOpenError> {
        config.validate()?;
        let database = Database::connect(url, config)?;
        let checked = schema::check(&database).await;
        if let Err(error) = checked {
            database.close().await;
            return Err(error);
        }
        Ok(PgStore { attempts: Attempts::new(database.clone()), database })
    }

    /// Applies the migrations that the database lacks; of several processes at a time one does, the others wait.
    /// Answers the schema's version.
    ///
    /// # Errors
    /// As [`PgStore::open`], and [`PgOpenError::SchemaChanged`] when an applied migration is not the one this program
    /// knows.
    pub async fn migrate(url: &str) -> Result<i64, PgOpenError> {
        schema::migrate(url).await
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none within the time-outs.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.database.plain(|c| Box::pin(connection::ping(c))).await
    }

    /// Waits for running use-cases and closes the connections.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[cfg(test)]
mod tests;
