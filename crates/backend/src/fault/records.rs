//! Faults of the record store.

use super::{FaultPlan, Injected, around};
use crate::records::{Conflict, Expect, Record, RecordFilter, RecordKey, Records};
use crate::store::StoreError;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

/// [`Records`] that fail as planned.
#[derive(Clone)]
pub struct FaultyRecords {
    inner: Arc<dyn Records>,
    plan: Arc<dyn FaultPlan>,
}

impl FaultyRecords {
    /// Wraps a record store.
    pub fn new(inner: Arc<dyn Records>, plan: Arc<dyn FaultPlan>) -> Self {
        FaultyRecords { inner, plan }
    }
}

fn failed(op: &'static str) -> StoreError {
    StoreError::Unavailable(Box::new(Injected { op }))
}

#[async_trait]
impl Records for FaultyRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        around!(self.plan, "records.get", failed, self.inner.get(key))
    }

    async fn put(
        &self,
        key: &RecordKey,
        expect: Expect,
        doc: Value,
        due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Result<i64, Conflict>, StoreError> {
        around!(self.plan, "records.put", failed, self.inner.put(key, expect, doc, due_ms, now_ms))
    }

    async fn delete(&self, key: &RecordKey, expect: Expect) -> Result<Result<(), Conflict>, StoreError> {
        around!(self.plan, "records.delete", failed, self.inner.delete(key, expect))
    }

    async fn list(&self, filter: RecordFilter) -> Result<Vec<Record>, StoreError> {
        around!(self.plan, "records.list", failed, self.inner.list(filter))
    }

    async fn due(&self, kind: &str, now_ms: i64, limit: usize) -> Result<Vec<Record>, StoreError> {
        around!(self.plan, "records.due", failed, self.inner.due(kind, now_ms, limit))
    }
}
