//! The record store: each method is one statement, or two when the first found something else than expected.

use super::PgStore;
use super::error::{Fault, unreadable};
use super::outbox::limit;
use super::rows::{col, json, to_json};
use async_trait::async_trait;
use serde_json::Value;
use splitreel_backend::StoreError;
use splitreel_backend::records::{Conflict, Expect, Record, RecordFilter, RecordKey, Records};
use splitreel_core::deadline;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};

/// How often a conditional write is tried again when what stood in its way is gone on a second look.
const TRIES: u32 = 5;

macro_rules! record_columns {
    () => {
        "kind, tenant, id, version, doc, due_ms, updated_ms"
    };
}

fn record(row: &PgRow) -> Result<Record, StoreError> {
    let text = |name| String::from_utf8(col(row, name)?).map_err(|e| unreadable(name, e));
    Ok(Record {
        key: RecordKey { kind: col(row, "kind")?, tenant: text("tenant")?, id: text("id")? },
        version: col(row, "version")?,
        doc: json(row, "doc")?,
        due_ms: col(row, "due_ms")?,
        updated_ms: col(row, "updated_ms")?,
    })
}

fn records(rows: &[PgRow]) -> Result<Vec<Record>, Fault> {
    Ok(rows.iter().map(record).collect::<Result<_, _>>()?)
}

async fn get(c: &mut PgConnection, key: RecordKey) -> Result<Option<Record>, Fault> {
    let statement = concat!("SELECT ", record_columns!(), " FROM records WHERE kind = $1 AND tenant = $2 AND id = $3");
    let query = sqlx::query(statement).bind(key.kind).bind(key.tenant.into_bytes()).bind(key.id.into_bytes());
    Ok(query.fetch_optional(c).await?.as_ref().map(record).transpose()?)
}

async fn version(c: &mut PgConnection, key: &RecordKey) -> Result<Option<i64>, Fault> {
    Ok(sqlx::query_scalar("SELECT version FROM records WHERE kind = $1 AND tenant = $2 AND id = $3")
        .bind(&key.kind)
        .bind(key.tenant.as_bytes())
        .bind(key.id.as_bytes())
        .fetch_optional(c)
        .await?)
}

/// A document and its times, as they are written.
#[derive(Clone)]
struct Written {
    key: RecordKey,
    doc: String,
    due_ms: Option<i64>,
    now_ms: i64,
}

async fn put(c: &mut PgConnection, new: &Written, expect: Expect) -> Result<Result<i64, Conflict>, Fault> {
    let statement = match expect {
        Expect::Any => {
            "INSERT INTO records AS r (kind, tenant, id, version, doc, due_ms, updated_ms)
             VALUES ($1, $2, $3, 1, $4, $5, $6)
             ON CONFLICT (kind, tenant, id) DO UPDATE
                 SET version = r.version + 1, doc = excluded.doc,
                     due_ms = excluded.due_ms, updated_ms = excluded.updated_ms
             RETURNING version"
        }
        Expect::Absent => {
            "INSERT INTO records (kind, tenant, id, version, doc, due_ms, updated_ms) VALUES ($1, $2, $3, 1, $4, $5, $6)
             ON CONFLICT (kind, tenant, id) DO NOTHING RETURNING version"
        }
        Expect::Version(_) => {
            "UPDATE records SET version = version + 1, doc = $4, due_ms = $5, updated_ms = $6
             WHERE kind = $1 AND tenant = $2 AND id = $3 AND version = $7 RETURNING version"
        }
    };
    for _ in 0..TRIES {
        let query = sqlx::query_scalar::<_, i64>(statement)
            .bind(&new.key.kind)
            .bind(new.key.tenant.as_bytes())
            .bind(new.key.id.as_bytes())
            .bind(&new.doc)
            .bind(new.due_ms)
            .bind(new.now_ms);
        let query = if let Expect::Version(version) = expect { query.bind(version) } else { query };
        if let Some(version) = query.fetch_optional(&mut *c).await? {
            return Ok(Ok(version));
        }
        if let Err(conflict) = expect.check(version(c, &new.key).await?) {
            return Ok(Err(conflict));
        }
    }
    Err(in_turmoil())
}

async fn delete(c: &mut PgConnection, key: &RecordKey, expect: Expect) -> Result<Result<(), Conflict>, Fault> {
    let wanted = match expect {
        Expect::Any => None,
        Expect::Absent => return Ok(expect.check(version(c, key).await?)),
        Expect::Version(version) => Some(version),
    };
    for _ in 0..TRIES {
        let deleted = sqlx::query(
            "DELETE FROM records WHERE kind = $1 AND tenant = $2 AND id = $3 AND ($4::bigint IS NULL OR version = $4)",
        )
        .bind(&key.kind)
        .bind(key.tenant.as_bytes())
        .bind(key.id.as_bytes())
        .bind(wanted)
        .execute(&mut *c)
        .await?;
        if deleted.rows_affected() > 0 || wanted.is_none() {
            return Ok(Ok(()));
        }
        if let Err(conflict) = expect.check(version(c, key).await?) {
            return Ok(Err(conflict));
        }
    }
    Err(in_turmoil())
}

fn in_turmoil() -> Fault {
    StoreError::Unavailable("the record is changed by others all the time".into()).into()
}

async fn list(c: &mut PgConnection, filter: RecordFilter) -> Result<Vec<Record>, Fault> {
    let mut query = QueryBuilder::<Postgres>::new(concat!("SELECT ", record_columns!(), " FROM records WHERE kind = "));
    query.push_bind(filter.kind);
    if let Some(tenant) = filter.tenant {
        query.push(" AND tenant = ").push_bind(tenant.into_bytes());
    }
    if !filter.id_prefix.is_empty() {
        let prefix = filter.id_prefix.into_bytes();
        if let Some(end) = end_of_prefix(&prefix) {
            query.push(" AND id < ").push_bind(end);
        }
        query.push(" AND id >= ").push_bind(prefix);
    }
    if let Some((tenant, id)) = filter.after {
        query.push(" AND (tenant, id) > (").push_bind(tenant.into_bytes());
        query.push(", ").push_bind(id.into_bytes()).push(")");
    }
    query.push(" ORDER BY tenant, id LIMIT ").push_bind(limit(filter.limit));
    records(&query.build().fetch_all(c).await?)
}

/// The least bytes that sort after all that start with these; `None` when nothing does (UTF-8 has no byte 255, but
/// the empty prefix has no end).
fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}

pub(super) const DUE: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM records WHERE kind = $1 AND due_ms <= $2 ORDER BY due_ms, tenant, id LIMIT $3"
);

/// Records from before the clock was set back.
pub(super) const WRITTEN_AHEAD: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM records WHERE kind = $1 AND due_ms IS NOT NULL AND due_ms > $2 AND updated_ms > $3
     ORDER BY due_ms, tenant, id LIMIT $4"
);

async fn due(c: &mut PgConnection, kind: String, now_ms: i64, max: usize) -> Result<Vec<Record>, Fault> {
    let mut found = sqlx::query(DUE).bind(&kind).bind(now_ms).bind(limit(max)).fetch_all(&mut *c).await?;
    if found.len() < max {
        let query = sqlx::query(WRITTEN_AHEAD).bind(kind).bind(now_ms).bind(deadline::latest(now_ms, 0));
        found.extend(query.bind(limit(max - found.len())).fetch_all(c).await?);
    }
    records(&found)
}

#[async_trait]
impl Records for PgStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let key = key.clone();
        self.database.plain(move |c| Box::pin(get(c, key))).await
    }

    async fn put(
        &self,
        key: &RecordKey,
        expect: Expect,
        doc: Value,
        due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Result<i64, Conflict>, StoreError> {
        let new = Written { key: key.clone(), doc: to_json(&doc)?, due_ms, now_ms };
        self.database.plain(move |c| Box::pin(async move { put(c, &new, expect).await })).await
    }

    async fn delete(&self, key: &RecordKey, expect: Expect) -> Result<Result<(), Conflict>, StoreError> {
        let key = key.clone();
        self.database.plain(move |c| Box::pin(async move { delete(c, &key, expect).await })).await
    }

    async fn list(&self, filter: RecordFilter) -> Result<Vec<Record>, StoreError> {
        self.database.plain(move |c| Box::pin(list(c, filter))).await
    }

    async fn due(&self, kind: &str, now_ms: i64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let kind = kind.to_owned();
        self.database.plain(move |c| Box::pin(due(c, kind, now_ms, limit))).await
    }
}

#[cfg(test)]
mod tests {
    use super::end_of_prefix;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(end_of_prefix(&[255]), None);
        assert_eq!(end_of_prefix(b""), None);
        let end = end_of_prefix("é".as_bytes()).unwrap();
        assert!("é\u{10ffff}".as_bytes() < end.as_slice() && "ê".as_bytes() >= end.as_slice());
    }
}
