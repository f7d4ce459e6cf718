//! The in-memory record store: one ordered map.

use crate::records::{Conflict, Expect, Record, RecordFilter, RecordKey, Records};
use crate::store::StoreError;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records in the order of their keys.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    records: Mutex<BTreeMap<RecordKey, Record>>,
}

impl MemoryRecords {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RecordKey, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        Ok(self.lock().get(key).cloned())
    }

    async fn put(
        &self,
        key: &RecordKey,
        expect: Expect,
        doc: Value,
        due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Result<i64, Conflict>, StoreError> {
        let mut records = self.lock();
        let found = records.get(key).map(|record| record.version);
        if let Err(conflict) = expect.check(found) {
            return Ok(Err(conflict));
        }
        let version = found.unwrap_or(0).saturating_add(1);
        records.insert(key.clone(), Record { key: key.clone(), version, doc, due_ms, updated_ms: now_ms });
        Ok(Ok(version))
    }

    async fn delete(&self, key: &RecordKey, expect: Expect) -> Result<Result<(), Conflict>, StoreError> {
        let mut records = self.lock();
        let checked = expect.check(records.get(key).map(|record| record.version));
        if checked.is_ok() {
            records.remove(key);
        }
        Ok(checked)
    }

    async fn list(&self, filter: RecordFilter) -> Result<Vec<Record>, StoreError> {
        let records = self.lock();
        let wanted = records.values().filter(|Record { key, .. }| {
            key.kind == filter.kind
                && filter.tenant.as_ref().is_none_or(|tenant| *tenant == key.tenant)
                && key.id.starts_with(&filter.id_prefix)
                && filter.after.as_ref().is_none_or(|(tenant, id)| (&key.tenant, &key.id) > (tenant, id))
        });
        Ok(wanted.take(filter.limit).cloned().collect())
    }

    async fn due(&self, kind: &str, now_ms: i64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = self.lock();
        let is_due = |record: &&Record| record.key.kind == kind && record.is_due(now_ms);
        let mut due: Vec<_> = records.values().filter(is_due).collect();
        due.sort_by_key(|record| record.due_ms);
        Ok(due.into_iter().take(limit).cloned().collect())
    }
}
