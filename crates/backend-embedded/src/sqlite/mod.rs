//! The SQLite job store: each use-case is one `BEGIN IMMEDIATE` transaction, synced when it is answered.
//!
//! A transaction runs in a task of its own that nobody cancels: a caller that goes away never leaves one half
//! open. Rows are decoded and encoded in `rows`, migrations live in `schema`, use-cases in the other modules.

mod attempts;
mod error;
mod jobs;
mod migrations;
mod outbox;
mod records;
mod rows;
mod schema;
mod store;

pub use schema::{migrate, schema_version};

use error::db;
use splitreel_backend::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Sqlite, SqliteConnection};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

/// How long a connection waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read beside the one that writes.
const READERS: u32 = 4;

/// A job store in one SQLite file (with its `-wal` and `-shm` beside it), on a local file system.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// The future of one use-case on a connection.
type Work<'c, T, E = StoreError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

impl SqliteStore {
    /// Opens the file, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the file is no database of this program, or one of a newer version;
    /// [`StoreError::Unavailable`] when it cannot be opened or locked.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        migrate(path).await?;
        let pool = |max| SqlitePoolOptions::new().max_connections(max).idle_timeout(None).max_lifetime(None);
        let writer = pool(1).connect_with(options(path)).await.map_err(db)?;
        let readers = pool(READERS).connect_with(options(path).pragma("query_only", "on")).await.map_err(db)?;
        Ok(SqliteStore { writer, readers })
    }

    /// Waits for running use-cases and closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Runs a use-case that may write: committed when it answers, rolled back when it fails.
    async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T, E> + Send + 'static,
    {
        let pool = self.writer.clone();
        joined(tokio::spawn(async move {
            let mut connection = pool.acquire().await.map_err(db)?;
            let ended = async {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(db)?;
                match work(&mut transaction).await {
                    Ok(answer) => transaction.commit().await.map(|()| Ok(answer)).map_err(|error| db(error).into()),
                    // The first error is the cause.
                    Err(error) => match transaction.rollback().await {
                        Ok(()) => Ok(Err(error)),
                        Err(_) => Err(error),
                    },
                }
            };
            let ended: Result<Result<T, E>, E> = ended.await;
            settle(connection, ended).await
        }))
        .await
    }

    /// Runs a use-case that only reads, on one snapshot.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        let pool = self.readers.clone();
        joined(tokio::spawn(async move {
            let mut connection = pool.acquire().await.map_err(db)?;
            let ended = async {
                let mut snapshot = connection.begin().await.map_err(db)?;
                let answer = work(&mut snapshot).await;
                snapshot.rollback().await.map(|()| answer).map_err(db)
            };
            let ended = ended.await;
            settle(connection, ended).await
        }))
        .await
    }
}

/// The answer of a use-case whose transaction was seen to end. In any other case its connection is closed: SQLite ends a
/// transaction by itself when the disk is full, sqlx does not notice, and would begin no other on it.
async fn settle<T, E>(connection: PoolConnection<Sqlite>, ended: Result<Result<T, E>, E>) -> Result<T, E> {
    match ended {
        Ok(answer) => answer,
        Err(error) => {
            // What closing has to say is about the same disk.
            let _ = connection.detach().close().await;
            Err(error)
        }
    }
}

async fn joined<T, E: From<StoreError>>(running: tokio::task::JoinHandle<Result<T, E>>) -> Result<T, E> {
    running.await.unwrap_or_else(|stopped| Err(StoreError::Unavailable(Box::new(stopped)).into()))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

#[cfg(test)]
mod tests;
