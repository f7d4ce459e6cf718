//! The record seam: small documents beside the jobs (tokens, profiles, uploads, webhooks, rules, workers), each
//! with a version that makes changes conditional and an optional time at which the record is due.
//!
//! The owner of a kind defines its documents; a store keeps, finds and compares them.

use crate::store::StoreError;
use async_trait::async_trait;
use serde_json::Value;
use splitreel_core::deadline;

/// Names a record. `kind` is a word of the code; `tenant` is empty for what belongs to no tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// What it is: `token`, `profile`, `upload` …
    pub kind: String,
    /// Whose it is.
    pub tenant: String,
    /// Unique within kind and tenant; at most 512 bytes, any characters but NUL.
    pub id: String,
}

/// A stored document.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// From 1, one more with each change: what an ETag is made of. A record that is made again after it was
    /// deleted starts at 1 again.
    pub version: i64,
    /// The document.
    pub doc: Value,
    /// When somebody must look at it, milliseconds since the epoch.
    pub due_ms: Option<i64>,
    /// When it was last written, milliseconds since the epoch.
    pub updated_ms: i64,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing: the write creates it.
    Absent,
    /// This version.
    Version(i64),
}

impl Expect {
    /// Compares with the version that is there; `None` = no record.
    ///
    /// # Errors
    /// [`Conflict`] when it is another.
    pub fn check(self, found: Option<i64>) -> Result<(), Conflict> {
        let is_met = match self {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found == Some(version),
        };
        if is_met { Ok(()) } else { Err(Conflict { found }) }
    }
}

impl Record {
    /// Whether its time has come. A record that was written later than now by more than the clocks of machines differ
    /// was written before the clock was set back: it is due, whatever its time, and a write makes it wait again.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.due_ms.is_some_and(|due| due <= now_ms || self.updated_ms > deadline::latest(now_ms, 0))
    }
}

/// The record is not as expected; nothing was changed. Holds the version that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record was changed by another writer")]
pub struct Conflict {
    /// `None`: there is no such record.
    pub found: Option<i64>,
}

/// Which records to list.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// The kind.
    pub kind: String,
    /// Of one tenant; `None` = of all, and of none.
    pub tenant: Option<String>,
    /// Ids that start with this.
    pub id_prefix: String,
    /// Only what comes after this (tenant, id) in the order of the list.
    pub after: Option<(String, String)>,
    /// Maximum number of records to return.
    pub limit: usize,
}

/// Keeps records. All methods are atomic and safe to repeat.
#[async_trait]
pub trait Records: Send + Sync {
    /// One record.
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;
    /// Writes a document if what is there is as expected; answers the new version.
    async fn put(
        &self,
        key: &RecordKey,
        expect: Expect,
        doc: Value,
        due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Result<i64, Conflict>, StoreError>;
    /// Deletes a record if what is there is as expected (`Absent` deletes nothing). Deleting what is not there
    /// with `Any` is fine.
    async fn delete(&self, key: &RecordKey, expect: Expect) -> Result<Result<(), Conflict>, StoreError>;
    /// Records by (tenant, id), both in byte order.
    async fn list(&self, filter: RecordFilter) -> Result<Vec<Record>, StoreError>;
    /// Records of a kind that are due ([`Record::is_due`]), the longest due first, those due at once by (tenant, id).
    async fn due(&self, kind: &str, now_ms: i64, limit: usize) -> Result<Vec<Record>, StoreError>;
}
