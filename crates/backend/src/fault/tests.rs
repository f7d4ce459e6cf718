//! The wrappers relay each verdict.

use super::*;
use crate::blob::{BlobReader, PartWriter};
use crate::conformance::fixture;
use crate::doorbell::{Doorbell, Queue};
use crate::memory::{ChannelDoorbell, MemoryBlobs, MemoryRecords, MemoryStore};
use crate::records::{Conflict, Expect, RecordKey, Records};
use crate::store::{StoreError, Submissions};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Verdicts from a list; what is not listed proceeds.
#[derive(Default)]
struct Script {
    fail_before: Mutex<Vec<&'static str>>,
    fail_after: Mutex<Vec<&'static str>>,
    wakeups: Mutex<VecDeque<WakeupVerdict>>,
}

fn taken(list: &Mutex<Vec<&'static str>>, op: &'static str) -> Verdict {
    let mut list = list.lock().unwrap();
    match list.iter().position(|o| *o == op) {
        Some(at) => {
            list.remove(at);
            Verdict::Fail
        }
        None => Verdict::Proceed,
    }
}

#[async_trait]
impl FaultPlan for Script {
    async fn before(&self, op: &'static str) -> Verdict {
        taken(&self.fail_before, op)
    }
    async fn after(&self, op: &'static str) -> Verdict {
        taken(&self.fail_after, op)
    }
    async fn on_wakeup(&self, _wakeup: &Wakeup) -> WakeupVerdict {
        self.wakeups.lock().unwrap().pop_front().unwrap_or(WakeupVerdict::Deliver)
    }
}

#[tokio::test]
async fn a_fault_before_does_nothing_and_a_fault_after_loses_only_the_answer() {
    let plan = Arc::new(Script {
        fail_before: vec!["store.submit"].into(),
        fail_after: vec!["store.submit"].into(),
        ..Script::default()
    });
    let inner = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(inner.clone(), plan);
    let submit = || store.submit(fixture::job_id(1), fixture::request("t", "k"), 0);
    assert!(matches!(submit().await, Err(StoreError::Unavailable(_))));
    assert!(inner.snapshots().is_empty());
    assert!(matches!(submit().await, Err(StoreError::Unavailable(_))));
    assert_eq!(inner.snapshots().len(), 1);
    assert!(submit().await.is_ok());
}

#[tokio::test]
async fn blobs_fail_as_planned() {
    let plan = Arc::new(Script {
        fail_after: vec!["blobs.put"].into(),
        fail_before: vec!["blobs.read"].into(),
        ..Script::default()
    });
    let inner = Arc::new(MemoryBlobs::new());
    let blobs = FaultyBlobs::new(inner.clone(), plan);
    assert!(blobs.put("a/b", Bytes::from_static(b"x")).await.is_err());
    assert_eq!(inner.size("a/b").await.unwrap(), 1);
    assert!(blobs.read("a/b", 0, 1).await.is_err());
    assert_eq!(blobs.read("a/b", 0, 1).await.unwrap(), Bytes::from_static(b"x"));
}

#[tokio::test]
async fn wakeups_are_refused_lost_and_repeated_as_planned() {
    let wakeups = [WakeupVerdict::Fail, WakeupVerdict::Drop, WakeupVerdict::Duplicate].into();
    let plan = Arc::new(Script { wakeups: Mutex::new(wakeups), ..Script::default() });
    let inner = Arc::new(ChannelDoorbell::new());
    let bell = FaultyDoorbell::new(inner.clone(), plan);
    let wakeup = fixture::wakeup(1, 1);
    assert!(bell.notify(wakeup.clone()).await.is_err());
    assert_eq!(inner.num_waiting(Queue::Work), 0);
    assert!(bell.notify(wakeup.clone()).await.is_ok());
    assert_eq!(inner.num_waiting(Queue::Work), 0);
    assert!(bell.notify(wakeup.clone()).await.is_ok());
    assert_eq!(inner.num_waiting(Queue::Work), 2);
    assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup);
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_written() {
    let plan = Arc::new(Script { fail_after: vec!["records.put"].into(), ..Script::default() });
    let inner = Arc::new(MemoryRecords::new());
    let records = FaultyRecords::new(inner.clone(), plan);
    let key = RecordKey { kind: "k".into(), tenant: "t".into(), id: "i".into() };
    let put = || records.put(&key, Expect::Absent, serde_json::json!({}), None, 0);
    assert!(matches!(put().await, Err(StoreError::Unavailable(_))));
    assert_eq!(inner.get(&key).await.unwrap().map(|r| r.version), Some(1));
    assert_eq!(put().await.unwrap(), Err(Conflict { found: Some(1) }));
}
