//! Documents as records: the one way from a serializable value to a stored record, and whole kinds read page by page.

use serde::Serialize;
use splitreel_backend::records::{Conflict, Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, StoreError};

/// Records per page of a listing.
const PAGE: usize = 500;

/// Writes a document if the stored record is as expected. Returns the new version.
///
/// # Errors
/// When the store fails, or the document has no JSON form.
pub(crate) async fn put_document(
    records: &dyn Records,
    key: &RecordKey,
    expect: Expect,
    document: &impl Serialize,
    due_ms: Option<i64>,
    now_ms: i64,
) -> Result<Result<i64, Conflict>, StoreError> {
    let doc = serde_json::to_value(document)
        .map_err(|error| StoreError::Corrupt { what: format!("{} {}: {error}", key.kind, key.id) })?;
    records.put(key, expect, doc, due_ms, now_ms).await
}

/// All records of a kind, of one tenant or of all; for kinds with few records.
///
/// # Errors
/// When the store fails.
pub(crate) async fn all_records(
    records: &dyn Records,
    kind: &str,
    tenant: Option<&str>,
) -> Result<Vec<Record>, StoreError> {
    let mut found: Vec<Record> = Vec::new();
    loop {
        let filter = RecordFilter {
            kind: kind.to_owned(),
            tenant: tenant.map(str::to_owned),
            after: found.last().map(|r| (r.key.tenant.clone(), r.key.id.clone())),
            limit: PAGE,
            ..RecordFilter::default()
        };
        let page = records.list(filter).await?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// Deletes the records of a kind that are due, up to 1,000. Returns how many were deleted.
///
/// # Errors
/// When the store fails.
pub(crate) async fn delete_due(records: &dyn Records, kind: &str, now_ms: i64) -> Result<usize, StoreError> {
    let mut deleted = 0;
    for record in records.due(kind, now_ms, 1000).await? {
        if record.due_ms.is_none_or(|due| due > now_ms) {
            // Written before the clock was set back: it is kept until its time, as a record of now.
            let (expect, due) = (Expect::Version(record.version), record.due_ms);
            let _ = records.put(&record.key, expect, record.doc, due, now_ms).await?;
            continue;
        }
        if records.delete(&record.key, Expect::Version(record.version)).await?.is_ok() {
            deleted += 1;
        }
    }
    Ok(deleted)
}
