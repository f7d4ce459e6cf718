//! The schema's versions: embedded migrations, applied by one process at a time.

use super::error::{db, is_busy, migration};
use super::{BUSY_TIMEOUT, migrations, options};
use splitreel_backend::StoreError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use std::path::Path;
use std::time::Duration;

/// Makes the file if it is missing and applies the migrations that it lacks. Answers the schema version.
///
/// # Errors
/// [`StoreError::Corrupt`] when the file is no database, or its schema is newer than this program or was
/// changed by hand; [`StoreError::Unavailable`] when it cannot be opened or locked.
pub async fn migrate(path: &Path) -> Result<i64, StoreError> {
    let path = path.to_owned();
    super::joined(tokio::spawn(async move {
        let mut connection = connect(&path).await?;
        // SQLite has no advisory lock for sqlx to take: the write lock keeps two first starts apart.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(db)?;
        migrations::migrator().run_direct(None, &mut *transaction, false).await.map_err(|e| migration(e, newest()))?;
        transaction.commit().await.map_err(db)?;
        connection.close().await.map_err(db)?;
        Ok(newest())
    }))
    .await
}

/// The schema version of a file; `None` when there is no file or it was never migrated. Changes nothing.
///
/// # Errors
/// As [`migrate`].
pub async fn schema_version(path: &Path) -> Result<Option<i64>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let path = path.to_owned();
    super::joined(tokio::spawn(async move {
        let reading = SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let mut connection = reading.connect().await.map_err(db)?;
        let is_migrated: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')")
                .fetch_one(&mut connection)
                .await
                .map_err(db)?;
        let version = if is_migrated {
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
                .fetch_one(&mut connection)
                .await
                .map_err(db)?
        } else {
            None
        };
        connection.close().await.map_err(db)?;
        Ok(version)
    }))
    .await
}

fn newest() -> i64 {
    migrations::migrator().iter().map(|m| m.version).max().unwrap_or(0)
}

/// The first connection to a file switches it to WAL, for which SQLite asks for the lock without waiting: a
/// second process that starts at the same moment tries again here.
async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let deadline = tokio::time::Instant::now() + BUSY_TIMEOUT;
    loop {
        match options(path).connect().await {
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            outcome => return outcome.map_err(db),
        }
    }
}
