//! From SQLite's and serde's errors to those of the seam.

use splitreel_backend::StoreError;
use sqlx::migrate::MigrateError;

/// SQLite result codes (sqlite.org/rescode.html) after which trying again does not help.
const CORRUPT: &str = "11";
const NOT_A_DATABASE: &str = "26";

/// An error of the database: most pass (busy, disk full, I/O), damage does not.
pub(super) fn db(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt { what: error.to_string() },
        sqlx::Error::Database(cause) if matches!(cause.code().as_deref(), Some(CORRUPT | NOT_A_DATABASE)) => {
            StoreError::Corrupt { what: error.to_string() }
        }
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// True when another process holds the lock that was needed (SQLITE_BUSY and its extended codes).
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

/// An error of the migrations.
pub(super) fn migration(error: MigrateError, known: i64) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => db(error),
        MigrateError::VersionMissing(found) => StoreError::Corrupt {
            what: format!(
                "schema version {found} is newer than version {known}, the last this program knows: use a newer splitreel"
            ),
        },
        other => StoreError::Corrupt { what: other.to_string() },
    }
}

/// A value that does not decode.
pub(super) fn unreadable(column: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("{column}: {why}") }
}

/// A value that does not encode (a map with keys that are no strings, say): a mistake in the types.
pub(super) fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Corrupt { what: format!("a value to store: {error}") }
}
