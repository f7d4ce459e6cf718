//! Behaviours of a record store.

use super::RecordsHarness;
use super::chance::Chance;
use crate::memory::MemoryRecords;
use crate::records::{Conflict, Expect, Record, RecordFilter, RecordKey, Records};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn key(kind: &str, tenant: &str, id: &str) -> RecordKey {
    RecordKey { kind: kind.to_owned(), tenant: tenant.to_owned(), id: id.to_owned() }
}

fn of_kind(kind: &str) -> RecordFilter {
    RecordFilter { kind: kind.to_owned(), limit: 1_000, ..RecordFilter::default() }
}

async fn put(records: &dyn Records, key: &RecordKey, expect: Expect, doc: Value) -> Result<i64, Conflict> {
    records.put(key, expect, doc, None, 1).await.unwrap()
}

async fn names(records: &dyn Records, filter: RecordFilter) -> Vec<(String, String)> {
    records.list(filter).await.unwrap().into_iter().map(|r| (r.key.tenant, r.key.id)).collect()
}

/// Every kind of JSON, ids with any character, and all that stands beside the document.
pub async fn a_document_comes_back_as_it_was(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let long = "é".repeat(256);
    let docs = [
        json!({"text": "\"½\" \u{0} \n 日本 🎬", "empty": "", "list": [1, [], {}, null, true]}),
        json!({"whole": [i64::MIN, u64::MAX, 0], "real": [0.1, -2.5e-7]}),
        json!(null),
        json!([]),
    ];
    let ids = ["plain", "a/b c%_\\'\";--", "ünï\n\t\u{7f}", long.as_str()];
    for ((doc, id), due_ms) in docs.into_iter().zip(ids).zip([Some(i64::MAX), None, Some(-1), Some(0)]) {
        let key = key("kind", "tenant", id);
        assert_eq!(records.get(&key).await.unwrap(), None);
        assert_eq!(records.put(&key, Expect::Any, doc.clone(), due_ms, 1 << 41).await.unwrap(), Ok(1));
        let expected = Record { key: key.clone(), version: 1, doc, due_ms, updated_ms: 1 << 41 };
        assert_eq!(records.get(&key).await.unwrap(), Some(expected.clone()));
        let listed = records.list(RecordFilter { id_prefix: id.to_owned(), ..of_kind("kind") }).await.unwrap();
        assert_eq!(listed, [expected]);
    }
}

/// Each write raises the version by one; a record that is created again starts anew.
pub async fn each_change_raises_the_version(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let key = key("k", "t", "i");
    assert_eq!(put(&*records, &key, Expect::Absent, json!(1)).await, Ok(1));
    assert_eq!(put(&*records, &key, Expect::Version(1), json!(1)).await, Ok(2), "the same document again");
    assert_eq!(records.put(&key, Expect::Any, json!(3), Some(9), 5).await.unwrap(), Ok(3));
    let found = records.get(&key).await.unwrap().unwrap();
    assert_eq!((found.version, found.doc, found.due_ms, found.updated_ms), (3, json!(3), Some(9), 5));
    assert_eq!(put(&*records, &key, Expect::Any, json!(4)).await, Ok(4));
    assert_eq!(records.get(&key).await.unwrap().unwrap().due_ms, None, "each write says when it is due");
    assert_eq!(records.delete(&key, Expect::Any).await.unwrap(), Ok(()));
    assert_eq!(put(&*records, &key, Expect::Absent, json!(5)).await, Ok(1));
}

/// Creating an existing record, or changing another version, is refused and has no effect.
pub async fn a_write_finds_what_it_expects_or_changes_nothing(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let key = key("k", "t", "i");
    assert_eq!(put(&*records, &key, Expect::Version(1), json!(0)).await, Err(Conflict { found: None }));
    assert_eq!(records.get(&key).await.unwrap(), None);
    put(&*records, &key, Expect::Any, json!(1)).await.unwrap();
    put(&*records, &key, Expect::Any, json!(2)).await.unwrap();
    let before = records.get(&key).await.unwrap();
    for expect in [Expect::Absent, Expect::Version(1), Expect::Version(3), Expect::Version(0)] {
        let answer = records.put(&key, expect, json!("other"), Some(1), 99).await.unwrap();
        assert_eq!(answer, Err(Conflict { found: Some(2) }), "{expect:?}");
    }
    assert_eq!(records.get(&key).await.unwrap(), before);
}

/// As with writes; an unconditional delete of a missing record succeeds.
pub async fn a_delete_finds_what_it_expects_or_changes_nothing(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let key = key("k", "t", "i");
    assert_eq!(records.delete(&key, Expect::Any).await.unwrap(), Ok(()));
    assert_eq!(records.delete(&key, Expect::Absent).await.unwrap(), Ok(()));
    assert_eq!(records.delete(&key, Expect::Version(1)).await.unwrap(), Err(Conflict { found: None }));
    put(&*records, &key, Expect::Any, json!(1)).await.unwrap();
    for expect in [Expect::Absent, Expect::Version(2)] {
        assert_eq!(records.delete(&key, expect).await.unwrap(), Err(Conflict { found: Some(1) }), "{expect:?}");
    }
    assert!(records.get(&key).await.unwrap().is_some());
    assert_eq!(records.delete(&key, Expect::Version(1)).await.unwrap(), Ok(()));
    assert_eq!(records.get(&key).await.unwrap(), None);
}

/// The same id under another kind or tenant, the empty one included, is another record.
pub async fn kinds_and_tenants_are_apart(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let keys = [key("k", "", "i"), key("k", "t", "i"), key("k", "u", "i"), key("kk", "t", "i"), key("", "kt", "i")];
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(records.put(key, Expect::Absent, json!(n), Some(1), 0).await.unwrap(), Ok(1));
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(records.get(key).await.unwrap().unwrap().doc, json!(n));
    }
    let of = async |tenant: Option<&str>| {
        names(&*records, RecordFilter { tenant: tenant.map(str::to_owned), ..of_kind("k") }).await
    };
    let pair = |tenant: &str| (tenant.to_owned(), "i".to_owned());
    assert_eq!(of(None).await, ["", "t", "u"].map(pair));
    assert_eq!(of(Some("t")).await, [pair("t")]);
    assert_eq!(of(Some("")).await, [pair("")]);
    assert!(of(Some("T")).await.is_empty());
    assert_eq!(records.due("kk", 1, 10).await.unwrap().len(), 1);
    records.delete(&keys[1], Expect::Any).await.unwrap().unwrap();
    assert_eq!(of(None).await, ["", "u"].map(pair));
    assert!(records.get(&keys[3]).await.unwrap().is_some());
}

/// By tenant, then by id, as bytes: no language's idea of order.
pub async fn lists_are_in_byte_order(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let mut expected = Vec::new();
    for tenant in ["", "a", "B", "é", "a b", "Z-1", "z_1"] {
        for id in ["b", "a", "B", "_", "-", "é", "10", "9", "a.b", "ab"] {
            put(&*records, &key("k", tenant, id), Expect::Absent, json!({})).await.unwrap();
            expected.push((tenant.to_owned(), id.to_owned()));
        }
    }
    expected.sort();
    assert_eq!(names(&*records, of_kind("k")).await, expected);
    assert!(names(&*records, of_kind("other")).await.is_empty());
}

/// Page by page the same as at once, also when what the cursor names is gone.
pub async fn a_list_is_paged_without_gaps(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    for tenant in ["t", "u"] {
        for n in 0..7 {
            put(&*records, &key("k", tenant, &format!("id-{n}")), Expect::Absent, json!(n)).await.unwrap();
        }
    }
    let all = names(&*records, of_kind("k")).await;
    assert_eq!(all.len(), 14);
    let mut paged: Vec<(String, String)> = Vec::new();
    for _ in 0..10 {
        let after = paged.last().cloned();
        let page = names(&*records, RecordFilter { after, limit: 3, ..of_kind("k") }).await;
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    records.delete(&key("k", "t", "id-3"), Expect::Any).await.unwrap().unwrap();
    let after = Some(("t".to_owned(), "id-3".to_owned()));
    let rest = names(&*records, RecordFilter { after: after.clone(), ..of_kind("k") }).await;
    assert_eq!(rest, all[4..]);
    let rest = names(&*records, RecordFilter { after, tenant: Some("t".into()), ..of_kind("k") }).await;
    assert_eq!(rest, all[4..7]);
    assert!(names(&*records, RecordFilter { limit: 0, ..of_kind("k") }).await.is_empty());
}

/// Characters that mean something in a pattern mean themselves.
pub async fn a_prefix_is_taken_literally(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    for id in ["a%b", "aXb", "a_b", "a\\b", "A%b", "ä", "a", "b"] {
        put(&*records, &key("k", "t", id), Expect::Absent, json!({})).await.unwrap();
    }
    let with = async |prefix: &str| {
        let filter = RecordFilter { id_prefix: prefix.to_owned(), ..of_kind("k") };
        names(&*records, filter).await.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    assert_eq!(with("a%").await, ["a%b"]);
    assert_eq!(with("a_").await, ["a_b"]);
    assert_eq!(with("a\\").await, ["a\\b"]);
    assert_eq!(with("ä").await, ["ä"]);
    assert_eq!(with("a").await, ["a", "a%b", "aXb", "a\\b", "a_b"]);
    assert!(with("%").await.is_empty());
    assert_eq!(with("").await.len(), 8);
}

/// Only what has its time, the earliest first, over all tenants; a write moves or clears it.
pub async fn what_is_due_longest_comes_first(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    for (tenant, id, due_ms) in
        [("t", "a", Some(30)), ("u", "b", Some(10)), ("t", "c", Some(20)), ("t", "d", None), ("t", "e", Some(20))]
    {
        records.put(&key("k", tenant, id), Expect::Absent, json!({}), due_ms, 0).await.unwrap().unwrap();
    }
    records.put(&key("other", "t", "x"), Expect::Absent, json!({}), Some(0), 0).await.unwrap().unwrap();
    let due = async |now_ms, limit| {
        let due = records.due("k", now_ms, limit).await.unwrap();
        due.into_iter().map(|r| r.key.id).collect::<Vec<_>>()
    };
    assert!(due(9, 10).await.is_empty());
    assert_eq!(due(10, 10).await, ["b"]);
    assert_eq!(due(29, 10).await, ["b", "c", "e"]);
    assert_eq!(due(1 << 50, 10).await, ["b", "c", "e", "a"]);
    assert_eq!(due(1 << 50, 2).await, ["b", "c"]);
    records.put(&key("k", "u", "b"), Expect::Version(1), json!({}), Some(25), 1).await.unwrap().unwrap();
    records.put(&key("k", "t", "c"), Expect::Version(1), json!({}), None, 1).await.unwrap().unwrap();
    assert_eq!(due(1 << 50, 10).await, ["e", "b", "a"]);
}

/// A record that was written later than now, because the clock was set back since, is due until it is written again.
pub async fn a_clock_set_back_makes_waiting_records_due(harness: &dyn RecordsHarness) {
    let records = harness.open().await;
    let hour = 3_600_000;
    for (id, due_ms, now_ms) in [
        ("ahead", Some(hour + 10), hour),
        ("skewed", Some(60_010), 60_000),
        ("never", None, hour),
        ("now", Some(10), 0),
    ] {
        records.put(&key("k", "t", id), Expect::Absent, json!({}), due_ms, now_ms).await.unwrap().unwrap();
    }
    let due = async |now_ms, limit| {
        let due = records.due("k", now_ms, limit).await.unwrap();
        due.into_iter().map(|r| r.key.id).collect::<Vec<_>>()
    };
    assert_eq!(due(0, 10).await, ["ahead"], "clocks of machines may differ by a minute");
    assert_eq!(due(10, 10).await, ["now", "ahead"]);
    assert_eq!(due(10, 1).await, ["now"]);
    records.put(&key("k", "t", "ahead"), Expect::Version(1), json!({}), Some(50), 0).await.unwrap().unwrap();
    assert!(due(9, 10).await.is_empty());
    assert_eq!(due(50, 10).await, ["now", "ahead"]);
}

/// Many processes create one record: one of them did.
pub async fn one_of_many_creators_wins(harness: &dyn RecordsHarness) {
    let mut running = tokio::task::JoinSet::new();
    for n in 0..8 {
        let records = harness.open().await;
        running.spawn(async move { (n, put(&*records, &key("k", "t", "i"), Expect::Absent, json!(n)).await) });
    }
    let answers = running.join_all().await;
    let won: Vec<_> = answers.iter().filter(|(_, answer)| *answer == Ok(1)).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, a)| *a == Err(Conflict { found: Some(1) })).count(), 7, "{answers:?}");
    let found = harness.open().await.get(&key("k", "t", "i")).await.unwrap().unwrap();
    assert_eq!((found.version, found.doc), (1, json!(won[0].0)));
}

/// Counters that are read, raised and written back under their version reach the sum; unconditional writes of other
/// processes are each a change of their own.
pub async fn no_concurrent_change_is_lost(harness: &dyn RecordsHarness) {
    const EACH: i64 = 10;
    let (counter, log) = (key("k", "t", "counter"), key("k", "t", "log"));
    put(&*harness.open().await, &counter, Expect::Absent, json!(0)).await.unwrap();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (records, counter, log) = (harness.open().await, counter.clone(), log.clone());
        running.spawn(async move {
            for n in 0..EACH {
                loop {
                    let found = records.get(&counter).await.unwrap().unwrap();
                    let next = json!(found.doc.as_i64().unwrap() + 1);
                    if put(&*records, &counter, Expect::Version(found.version), next).await.is_ok() {
                        break;
                    }
                }
                put(&*records, &log, Expect::Any, json!(n)).await.unwrap();
            }
        });
    }
    running.join_all().await;
    let records = harness.open().await;
    let found = records.get(&counter).await.unwrap().unwrap();
    assert_eq!((found.doc, found.version), (json!(4 * EACH), 4 * EACH + 1));
    assert_eq!(records.get(&log).await.unwrap().unwrap().version, 4 * EACH);
}

/// A restart loses nothing that was answered.
pub async fn records_survive_reopening(harness: &dyn RecordsHarness) {
    let key = key("k", "t", "i");
    harness.open().await.put(&key, Expect::Absent, json!({"a": 1}), Some(7), 5).await.unwrap().unwrap();
    let found = harness.open().await.get(&key).await.unwrap();
    assert_eq!(found, Some(Record { key, version: 1, doc: json!({"a": 1}), due_ms: Some(7), updated_ms: 5 }));
}

/// Several hundred writes and deletes under any expectation, compared with the reference in answers and rows.
pub async fn random_writes_match_the_reference(harness: &dyn RecordsHarness) {
    let (subject, reference) = (harness.open().await, MemoryRecords::new());
    let mut chance = Chance::new(11);
    let mut versions: BTreeMap<RecordKey, i64> = BTreeMap::new();
    for step in 0..400_i64 {
        let kind = ["k", "l"][chance.index(2)];
        let key = key(kind, ["", "t", "u"][chance.index(3)], ["a", "b", "ab", "é"][chance.index(4)]);
        let seen = versions.get(&key).copied().unwrap_or(1);
        let expect = match chance.below(5) {
            0 => Expect::Any,
            1 => Expect::Absent,
            2 => Expect::Version(seen - 1),
            _ => Expect::Version(seen),
        };
        if chance.below(4) == 0 {
            let answers = [subject.delete(&key, expect).await.unwrap(), reference.delete(&key, expect).await.unwrap()];
            assert_eq!(answers[0], answers[1], "step {step}: delete {key:?} {expect:?}");
        } else {
            let due_ms = (chance.below(2) == 0).then(|| step + i64::try_from(chance.below(9)).unwrap());
            let answers = [
                subject.put(&key, expect, json!({ "step": step }), due_ms, step).await.unwrap(),
                reference.put(&key, expect, json!({ "step": step }), due_ms, step).await.unwrap(),
            ];
            assert_eq!(answers[0], answers[1], "step {step}: put {key:?} {expect:?}");
            versions.insert(key, answers[1].unwrap_or_else(|conflict| conflict.found.unwrap_or(1)));
        }
        let limit = chance.index(8);
        assert_eq!(subject.due(kind, step, limit).await.unwrap(), reference.due(kind, step, limit).await.unwrap());
        if step % 8 == 0 {
            for kind in ["k", "l"] {
                let (seen, expected) = (subject.list(of_kind(kind)).await, reference.list(of_kind(kind)).await);
                assert_eq!(seen.unwrap(), expected.unwrap(), "after step {step}");
            }
        }
    }
}
