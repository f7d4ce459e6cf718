//! The schema's versions: embedded migrations, applied by one process at a time, and the check that program and
//! database fit.

use super::config::PgOpenError;
use super::connection::{Database, parse};
use super::error::{Fault, db};
use super::migrations;
use splitreel_backend::StoreError;
use sqlx::migrate::MigrateError;
use sqlx::{ConnectOptions, Connection, PgConnection};

fn newest() -> i64 {
    migrations::migrator().iter().map(|m| m.version).max().unwrap_or(0)
}

pub(super) async fn migrate(url: &str) -> Result<i64, PgOpenError> {
    let options = parse(url)?.application_name("splitreel migrate");
    // In a task of its own: a caller that goes away does not leave the advisory lock to chance.
    let running = tokio::spawn(async move {
        let mut connection = options.connect().await.map_err(db)?;
        // sqlx takes an advisory lock that is the database's own: the second process waits and finds nothing to do.
        migrations::migrator().run_direct(None, &mut connection, false).await.map_err(refused)?;
        connection.close().await.map_err(db)?;
        Ok(newest())
    });
    running.await.unwrap_or_else(|stopped| Err(StoreError::Unavailable(Box::new(stopped)).into()))
}

fn refused(error: MigrateError) -> PgOpenError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => db(error).into(),
        MigrateError::VersionMissing(found) => PgOpenError::SchemaNewer { found, known: newest() },
        MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => PgOpenError::SchemaChanged { version },
        other => StoreError::Corrupt { what: other.to_string() }.into(),
    }
}

/// Refuses a database of another version.
pub(super) async fn check(database: &Database) -> Result<(), PgOpenError> {
    let found = database.plain(|c| Box::pin(version(c))).await?.unwrap_or(0);
    let known = newest();
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(PgOpenError::SchemaNewer { found, known }),
        std::cmp::Ordering::Less => Err(PgOpenError::SchemaOlder { found, known }),
    }
}

/// The newest applied migration; `None` when there never was one.
async fn version(c: &mut PgConnection) -> Result<Option<i64>, Fault> {
    let is_migrated: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *c).await?;
    if !is_migrated {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(c).await?)
}
