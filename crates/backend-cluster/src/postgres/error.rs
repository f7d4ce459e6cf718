//! From Postgres' and serde's errors to those of the seam, and which of them are worth another try here.

use splitreel_backend::StoreError;
use std::sync::Arc;

/// Why a use-case failed, before it becomes an error of the seam.
#[derive(Debug)]
pub(super) enum Fault {
    Database(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Fault::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(error) => db(error),
            Fault::Store(error) => error,
        }
    }
}

/// SQLSTATEs (Postgres manual, appendix A) of transactions that were rolled back because of others: serialization
/// failure, deadlock.
const IN_THE_WAY: [&str; 2] = ["40001", "40P01"];
/// After these, trying again does not help: text or JSON that Postgres does not take (22021, 22P02, 22P05), a
/// constraint (class 23), a schema that lacks something (class 42), damaged data or index (XX001, XX002).
const HOPELESS: [&str; 7] = ["22021", "22P02", "22P05", "23", "42", "XX001", "XX002"];

impl Fault {
    /// The transaction was certainly not committed, and the same again may well be.
    pub(super) fn is_in_the_way(&self) -> bool {
        matches!(self, Fault::Database(error) if code(error).is_some_and(|c| IN_THE_WAY.contains(&c.as_str())))
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

/// True when a unique constraint of this name refused a row.
pub(super) fn is_taken(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().is_some_and(|e| e.is_unique_violation() && e.constraint() == Some(constraint))
}

/// An error of the database: most pass (unreachable, busy, timed out), what cannot be stored or read does not.
pub(super) fn db(error: sqlx::Error) -> StoreError {
    let is_hopeless = match &error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::TypeNotFound { .. } => true,
        other => code(other).is_some_and(|code| HOPELESS.iter().any(|prefix| code.starts_with(prefix))),
    };
    if is_hopeless { StoreError::Corrupt { what: error.to_string() } } else { StoreError::Unavailable(Box::new(error)) }
}

/// Nothing was heard for this long.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {limit_ms} ms")]
pub(super) struct TimedOut {
    pub limit_ms: u128,
}

/// The task that ran a use-case ended without an answer (the runtime is going down).
#[derive(Debug, thiserror::Error)]
#[error("the use-case was cut off")]
pub(super) struct CutOff;

/// One cause, shared by several callers.
#[derive(Clone, Debug)]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// The same error as often as it is needed.
pub(super) fn repeated(error: StoreError) -> impl Iterator<Item = StoreError> {
    enum Kind {
        Unavailable(Shared),
        Corrupt(String),
        PlanVersion(u32),
    }
    let kind = match error {
        StoreError::Unavailable(cause) => Kind::Unavailable(Shared(Arc::from(cause))),
        StoreError::Corrupt { what } => Kind::Corrupt(what),
        StoreError::PlanVersion { version } => Kind::PlanVersion(version),
    };
    std::iter::repeat_with(move || match &kind {
        Kind::Unavailable(cause) => StoreError::Unavailable(Box::new(cause.clone())),
        Kind::Corrupt(what) => StoreError::Corrupt { what: what.clone() },
        Kind::PlanVersion(version) => StoreError::PlanVersion { version: *version },
    })
}

/// A value that does not decode.
pub(super) fn unreadable(column: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("{column}: {why}") }
}

/// A value that does not encode (a map with keys that are no strings, say): a mistake in the types.
pub(super) fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Corrupt { what: format!("a value to store: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_is_told_apart() {
        assert!(matches!(db(sqlx::Error::PoolTimedOut), StoreError::Unavailable(_)));
        assert!(matches!(db(std::io::Error::other("reset").into()), StoreError::Unavailable(_)));
        assert!(matches!(db(sqlx::Error::ColumnNotFound("x".into())), StoreError::Corrupt { .. }));
        assert!(!Fault::Database(sqlx::Error::PoolTimedOut).is_in_the_way());
    }

    #[test]
    fn an_error_can_be_told_to_several() {
        let told: Vec<_> = repeated(db(sqlx::Error::PoolTimedOut)).take(3).collect();
        for error in told {
            let StoreError::Unavailable(cause) = error else { panic!("{error:?}") };
            assert_eq!(cause.to_string(), sqlx::Error::PoolTimedOut.to_string());
        }
    }
}
