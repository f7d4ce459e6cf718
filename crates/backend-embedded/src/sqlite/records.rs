//! Records: one row each, changed under its version.

use super::SqliteStore;
use super::error::{db, unreadable};
use super::jobs::limit;
use super::rows::to_json;
use async_trait::async_trait;
use serde_json::Value;
use splitreel_backend::records::{Conflict, Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, StoreError};
use splitreel_core::deadline;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// From a lower bound on, which the list begins with or begins after: no page walks over the ones before it.
pub(super) const LIST: &str = "SELECT * FROM records
    WHERE kind = ?1 AND (tenant, id) >= (?2, ?3) AND (?4 OR (tenant, id) <> (?2, ?3))
      AND (?5 IS NULL OR tenant = ?5) AND substr(id, 1, length(?6)) = ?6
    ORDER BY tenant, id LIMIT ?7";

pub(super) const DUE: &str = "SELECT * FROM records INDEXED BY records_due
    WHERE kind = ?1 AND due_ms IS NOT NULL AND due_ms <= ?2 ORDER BY due_ms, tenant, id LIMIT ?3";

/// Records from before the clock was set back.
pub(super) const WRITTEN_AHEAD: &str = "SELECT * FROM records INDEXED BY records_written
    WHERE kind = ?1 AND due_ms IS NOT NULL AND due_ms > ?2 AND updated_ms > ?3 ORDER BY due_ms, tenant, id LIMIT ?4";

#[async_trait]
impl Records for SqliteStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let key = key.clone();
        self.read(move |c| Box::pin(async move { get(c, &key).await })).await
    }

    async fn put(
        &self,
        key: &RecordKey,
        expect: Expect,
        doc: Value,
        due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Result<i64, Conflict>, StoreError> {
        let key = key.clone();
        self.write(move |c| Box::pin(put(c, key, expect, doc, due_ms, now_ms))).await
    }

    async fn delete(&self, key: &RecordKey, expect: Expect) -> Result<Result<(), Conflict>, StoreError> {
        let key = key.clone();
        self.write(move |c| Box::pin(delete(c, key, expect))).await
    }

    async fn list(&self, filter: RecordFilter) -> Result<Vec<Record>, StoreError> {
        self.read(move |c| Box::pin(list(c, filter))).await
    }

    async fn due(&self, kind: &str, now_ms: i64, max: usize) -> Result<Vec<Record>, StoreError> {
        let kind = kind.to_owned();
        self.read(move |c| Box::pin(due(c, kind, now_ms, max))).await
    }
}

fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let doc: &str = row.try_get("doc").map_err(db)?;
    Ok(Record {
        key: RecordKey {
            kind: row.try_get("kind").map_err(db)?,
            tenant: row.try_get("tenant").map_err(db)?,
            id: row.try_get("id").map_err(db)?,
        },
        version: row.try_get("version").map_err(db)?,
        doc: serde_json::from_str(doc).map_err(|e| unreadable("records.doc", e))?,
        due_ms: row.try_get("due_ms").map_err(db)?,
        updated_ms: row.try_get("updated_ms").map_err(db)?,
    })
}

async fn get(c: &mut SqliteConnection, key: &RecordKey) -> Result<Option<Record>, StoreError> {
    let query = sqlx::query("SELECT * FROM records WHERE kind = ? AND tenant = ? AND id = ?")
        .bind(&key.kind)
        .bind(&key.tenant)
        .bind(&key.id);
    query.fetch_optional(c).await.map_err(db)?.as_ref().map(record).transpose()
}

async fn version(c: &mut SqliteConnection, key: &RecordKey) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar("SELECT version FROM records WHERE kind = ? AND tenant = ? AND id = ?")
        .bind(&key.kind)
        .bind(&key.tenant)
        .bind(&key.id)
        .fetch_optional(c)
        .await
        .map_err(db)
}

async fn put(
    c: &mut SqliteConnection,
    key: RecordKey,
    expect: Expect,
    doc: Value,
    due_ms: Option<i64>,
    now_ms: i64,
) -> Result<Result<i64, Conflict>, StoreError> {
    let found = version(c, &key).await?;
    if let Err(conflict) = expect.check(found) {
        return Ok(Err(conflict));
    }
    let version = found.unwrap_or(0).saturating_add(1);
    sqlx::query(
        "INSERT INTO records (kind, tenant, id, version, doc, due_ms, updated_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (kind, tenant, id) DO UPDATE SET
             version = excluded.version, doc = excluded.doc, due_ms = excluded.due_ms, updated_ms = excluded.updated_ms",
    )
    .bind(key.kind)
    .bind(key.tenant)
    .bind(key.id)
    .bind(version)
    .bind(to_json(&doc)?)
    .bind(due_ms)
    .bind(now_ms)
    .execute(c)
    .await
    .map_err(db)?;
    Ok(Ok(version))
}

async fn delete(c: &mut SqliteConnection, key: RecordKey, expect: Expect) -> Result<Result<(), Conflict>, StoreError> {
    let checked = expect.check(version(c, &key).await?);
    if checked.is_ok() {
        sqlx::query("DELETE FROM records WHERE kind = ? AND tenant = ? AND id = ?")
            .bind(key.kind)
            .bind(key.tenant)
            .bind(key.id)
            .execute(c)
            .await
            .map_err(db)?;
    }
    Ok(checked)
}

async fn list(c: &mut SqliteConnection, filter: RecordFilter) -> Result<Vec<Record>, StoreError> {
    let first = (filter.tenant.clone().unwrap_or_default(), String::new());
    let (start, includes_start) = match filter.after {
        Some(after) if after >= first => (after, false),
        _ => (first, true),
    };
    let query = sqlx::query(LIST)
        .bind(filter.kind)
        .bind(start.0)
        .bind(start.1)
        .bind(includes_start)
        .bind(filter.tenant)
        .bind(filter.id_prefix)
        .bind(limit(filter.limit));
    query.fetch_all(c).await.map_err(db)?.iter().map(record).collect()
}

async fn due(c: &mut SqliteConnection, kind: String, now_ms: i64, max: usize) -> Result<Vec<Record>, StoreError> {
    let query = sqlx::query(DUE).bind(&kind).bind(now_ms).bind(limit(max));
    let mut found = query.fetch_all(&mut *c).await.map_err(db)?;
    if found.len() < max {
        let query = sqlx::query(WRITTEN_AHEAD).bind(&kind).bind(now_ms).bind(deadline::latest(now_ms, 0));
        found.extend(query.bind(limit(max - found.len())).fetch_all(c).await.map_err(db)?);
    }
    found.iter().map(record).collect()
}
