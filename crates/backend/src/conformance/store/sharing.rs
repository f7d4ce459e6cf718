//! How dispatch shares places out among tenants and jobs, and how lists are narrowed and paged.

use crate::conformance::StoreHarness;
use crate::conformance::fixture::{Stage, job_id, plan, request, result};
use crate::store::{JobFilter, JobStore, Submitted, TaskFilter};
use splitreel_core::JobId;
use splitreel_core::fair::{Priority, Share, Shares};
use splitreel_core::job::JobState;
use splitreel_core::part::TaskResult;
use splitreel_core::task::{RetryPolicy, TaskKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A planned job of a tenant, with `segments` segments (tasks 1 ..).
async fn planned(
    store: &Arc<dyn JobStore>,
    n: u128,
    tenant: &str,
    priority: Priority,
    segments: u32,
    created_ms: i64,
) -> Stage {
    let asked = splitreel_core::job::JobRequest { priority, ..request(tenant, &format!("key-{n}")) };
    let answer = store.submit(job_id(n), asked.clone(), created_ms).await.unwrap();
    let Submitted::Created(job) = answer else { panic!("{answer:?}") };
    assert_eq!(job.request, asked);
    let stage = Stage { store: Arc::clone(store), job: job_id(n), policy: RetryPolicy::default() };
    stage.finish(0).await;
    assert!(store.record_plan(stage.job, 0, &plan(segments, 0), created_ms).await.unwrap());
    stage
}

fn shares(of: &[(&str, u32, Option<u32>)]) -> Shares {
    let tenants = of.iter().map(|(name, weight, max_in_flight)| {
        ((*name).to_owned(), Share { weight: *weight, max_in_flight: *max_in_flight })
    });
    Shares { default: Share::default(), tenants: tenants.collect() }
}

/// Wakeups that wait to be sent, by job.
async fn notified(store: &dyn JobStore) -> BTreeMap<u128, usize> {
    let mut notified = BTreeMap::new();
    for wakeup in store.unsent(&None, 1_000).await.unwrap() {
        *notified.entry(wakeup.task.job.0.as_u128()).or_default() += 1;
    }
    notified
}

/// Slots are shared by weight, however old and long the jobs are; leased tasks count as well.
pub async fn dispatch_shares_places_by_weight(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for (n, tenant) in [(1, "a"), (2, "b"), (3, "c")] {
        planned(&store, n, tenant, Priority::Normal, 40, 10 * i64::try_from(n).unwrap()).await;
    }
    let shares = shares(&[("b", 2, None), ("c", 5, None)]);
    assert_eq!(store.dispatch(&None, 16.into(), &shares, 50).await.unwrap(), 16);
    assert_eq!(notified(&*store).await, BTreeMap::from([(1, 2), (2, 4), (3, 10)]));
    let of_c = Stage { store: store.clone(), job: job_id(3), policy: RetryPolicy::default() };
    for number in 1..=10 {
        of_c.claim(number, 1, u128::from(number), 50).await.unwrap();
    }
    assert_eq!(store.dispatch(&None, 14.into(), &shares, 50).await.unwrap(), 8);
    assert_eq!(notified(&*store).await, BTreeMap::from([(1, 3), (2, 6), (3, 5)]), "3, 6 and 15 of 24");
}

/// A tenant with hundreds of tasks does not hold up one that comes later.
pub async fn a_new_tenant_is_served_at_once(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    planned(&store, 1, "many", Priority::High, 200, 0).await;
    assert_eq!(store.dispatch(&None, 8.into(), &Shares::default(), 1).await.unwrap(), 8);
    planned(&store, 2, "few", Priority::Low, 2, 2).await;
    assert_eq!(store.dispatch(&None, 10.into(), &Shares::default(), 3).await.unwrap(), 2);
    assert_eq!(notified(&*store).await, BTreeMap::from([(1, 8), (2, 2)]));
}

/// One tenant has ten jobs running on every slot and two hundred behind them. Of another tenant's short job, each task
/// gets the next place that comes free, so that in front of it are only the wakeups that were out before.
pub async fn many_running_and_queued_jobs_do_not_hold_up_another_tenant(harness: &dyn StoreHarness) {
    const SLOTS: usize = 20;
    const WINDOW: usize = 5;
    let (store, shares) = (harness.open().await, Shares::default());
    for n in 1..=10 {
        planned(&store, n, "many", Priority::High, 20, 0).await;
    }
    for n in 11..=210 {
        store.submit(job_id(n), request("many", &format!("key-{n}")), 0).await.unwrap();
    }
    let mut leases = 1_000;
    // A slot takes the oldest wakeup; with it goes its outbox row, and one place is free.
    let mut next = async || {
        let wakeup = store.unsent(&None, 1).await.unwrap().remove(0);
        leases += 1;
        let stage = Stage { store: Arc::clone(&store), job: wakeup.task.job, policy: RetryPolicy::default() };
        stage.claim(wakeup.task.number, 1, leases, 1).await.unwrap();
        (stage, wakeup.task.number, leases)
    };
    assert_eq!(store.dispatch(&None, SLOTS.into(), &shares, 0).await.unwrap(), SLOTS);
    for _ in 0..SLOTS {
        next().await;
    }
    assert_eq!(store.dispatch(&None, WINDOW.into(), &shares, 0).await.unwrap(), WINDOW);
    let short = job_id(300);
    store.submit(short, request("few", "key"), 2).await.unwrap();
    for task in ["probe", "segment"] {
        assert_eq!(store.dispatch(&None, WINDOW.into(), &shares, 2).await.unwrap(), 0, "{task}: no place is free");
        for turn in 1..=WINDOW {
            let (stage, number, lease) = next().await;
            assert_ne!(stage.job, short, "{task}: it stands behind what was notified before");
            assert_eq!(store.dispatch(&None, WINDOW.into(), &shares, 2).await.unwrap(), 1);
            let notified = notified(&*store).await;
            assert_eq!(
                notified.get(&300),
                Some(&1),
                "{task}, turn {turn}: the first free place is its own: {notified:?}"
            );
            assert_eq!(stage.complete(number, lease, 2).await, Ok(true));
        }
        let (stage, number, lease) = next().await;
        assert_eq!(stage.job, short, "{task}");
        assert_eq!(store.dispatch(&None, WINDOW.into(), &shares, 2).await.unwrap(), 1);
        assert_eq!(stage.complete(number, lease, 2).await, Ok(true));
        if task == "probe" {
            assert!(store.record_plan(short, 0, &plan(1, 0), 2).await.unwrap());
        }
    }
}

/// Notified and leased tasks count against the quota, on every worker; slots that a quota bars go to other tenants.
pub async fn a_quota_bounds_what_is_in_flight(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    let first = planned(&store, 1, "a", Priority::Normal, 20, 0).await;
    let second = planned(&store, 2, "a", Priority::Normal, 20, 0).await;
    planned(&store, 3, "b", Priority::Normal, 20, 0).await;
    let shares = shares(&[("a", 9, Some(4))]);
    let only = |stage: &Stage| Some(vec![stage.job]);
    assert_eq!(store.dispatch(&only(&first), 3.into(), &shares, 0).await.unwrap(), 3);
    first.claim(1, 1, 1, 0).await.unwrap();
    assert_eq!(store.dispatch(&only(&second), 10.into(), &shares, 0).await.unwrap(), 1, "two notified, one leased");
    assert_eq!(store.dispatch(&None, 8.into(), &shares, 0).await.unwrap(), 5);
    assert_eq!(notified(&*store).await, BTreeMap::from([(1, 2), (2, 1), (3, 5)]));
    assert_eq!(first.complete(1, 1, 1).await, Ok(true));
    assert_eq!(store.dispatch(&None, 100.into(), &shares, 1).await.unwrap(), 16);
    assert_eq!(notified(&*store).await.get(&3), Some(&20));
    assert_eq!(notified(&*store).await.iter().filter(|(n, _)| **n < 3).map(|(_, num)| num).sum::<usize>(), 4);
}

/// In a tenant the higher class goes first, then the older job; the classes of other tenants are theirs.
pub async fn dispatch_goes_by_priority_within_a_tenant(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    planned(&store, 1, "a", Priority::Low, 3, 10).await;
    planned(&store, 2, "a", Priority::Normal, 3, 20).await;
    planned(&store, 3, "a", Priority::High, 3, 40).await;
    planned(&store, 4, "a", Priority::High, 3, 30).await;
    planned(&store, 5, "b", Priority::Low, 9, 50).await;
    assert_eq!(store.dispatch(&None, 18.into(), &Shares::default(), 60).await.unwrap(), 18);
    let wakeups = store.unsent(&None, 100).await.unwrap();
    let of_a: Vec<_> = wakeups.iter().map(|r| r.task.job.0.as_u128()).filter(|n| *n < 5).collect();
    assert_eq!(of_a, [4, 4, 4, 3, 3, 3, 2, 2, 2]);
    assert_eq!(notified(&*store).await.get(&5), Some(&9));
    for wakeup in &wakeups {
        let of_same: Vec<_> = wakeups.iter().filter(|r| r.task.job == wakeup.task.job).map(|r| r.task.number).collect();
        assert!(of_same.is_sorted(), "{of_same:?}");
    }
}

/// Waiting long raises a class.
pub async fn an_old_job_overtakes_a_higher_class(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    let wait = splitreel_core::fair::AGING_MS;
    planned(&store, 1, "a", Priority::Low, 1, 0).await;
    planned(&store, 2, "a", Priority::Normal, 1, wait).await;
    assert_eq!(store.dispatch(&None, 1.into(), &Shares::default(), wait).await.unwrap(), 1);
    assert_eq!(notified(&*store).await, BTreeMap::from([(1, 1)]));
}

async fn ids(store: &dyn JobStore, filter: JobFilter) -> Vec<JobId> {
    store.jobs(filter).await.unwrap().into_iter().map(|j| j.id).collect()
}

/// Jobs of a tenant, with the other filters and without.
pub async fn jobs_are_listed_by_tenant(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for n in 1..=6 {
        let tenant = ["a", "b"][usize::try_from(n % 2).unwrap()];
        store.submit(job_id(n), request(tenant, &format!("key-{n}")), i64::try_from(n).unwrap()).await.unwrap();
    }
    store.cancel(job_id(4), 9).await.unwrap();
    let of = |tenant: &str| JobFilter { tenant: Some(tenant.to_owned()), limit: 100, ..JobFilter::default() };
    assert_eq!(ids(&*store, of("a")).await, [6, 4, 2].map(job_id));
    assert_eq!(ids(&*store, of("b")).await, [5, 3, 1].map(job_id));
    assert!(ids(&*store, of("A")).await.is_empty());
    assert_eq!(ids(&*store, JobFilter { states: vec![JobState::Probing], ..of("a") }).await, [6, 2].map(job_id));
    let only = Some([1, 2, 4].map(job_id).to_vec());
    assert_eq!(ids(&*store, JobFilter { only, limit: 1, ..of("a") }).await, [job_id(4)]);
}

/// Page by page every job comes once, in the order of the list, whatever is filtered; and a page after a job that
/// does not exist is empty.
pub async fn a_job_list_is_paged_without_gaps(harness: &dyn StoreHarness) {
    let store = harness.open().await;
    for n in 1..=13_u128 {
        let tenant = ["a", "b", "a"][usize::try_from(n % 3).unwrap()];
        let created_ms = i64::try_from((n * 5) % 4).unwrap();
        store.submit(job_id(n), request(tenant, &format!("key-{n}")), created_ms).await.unwrap();
    }
    store.cancel(job_id(5), 9).await.unwrap();
    let all = JobFilter { limit: 100, ..JobFilter::default() };
    let filters = [
        all.clone(),
        JobFilter { tenant: Some("a".to_owned()), ..all.clone() },
        JobFilter { states: vec![JobState::Probing], ..all.clone() },
    ];
    for filter in filters {
        let expected = ids(&*store, filter.clone()).await;
        let mut paged: Vec<JobId> = Vec::new();
        for _ in 0..20 {
            let page = JobFilter { before: paged.last().copied(), limit: 3, ..filter.clone() };
            paged.extend(ids(&*store, page).await);
        }
        assert_eq!(paged, expected, "{filter:?}");
    }
    let everything = ids(&*store, all.clone()).await;
    let after_cancelled = JobFilter { before: Some(job_id(5)), states: vec![JobState::Probing], ..all.clone() };
    let place = everything.iter().position(|id| *id == job_id(5)).unwrap();
    assert_eq!(ids(&*store, after_cancelled).await, everything[place + 1..], "a cursor that the filter leaves out");
    assert!(ids(&*store, JobFilter { before: Some(job_id(99)), ..all }).await.is_empty());
}

/// Tasks are read by number, all of them or a page of a kind.
pub async fn a_task_list_is_paged_and_filtered(harness: &dyn StoreHarness) {
    let stage = Stage::planned(harness, 5).await;
    for number in 1..=5 {
        stage.finish(number).await;
    }
    let numbers = async |kind, after, limit| {
        let found = stage.store.tasks_like(stage.job, TaskFilter { kind, after, limit }).await.unwrap();
        found.into_iter().map(|task| task.id.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, None, None).await, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(None, Some(0), Some(3)).await, [1, 2, 3]);
    assert_eq!(numbers(None, Some(5), Some(3)).await, [6]);
    assert_eq!(numbers(Some(TaskKind::Segment), Some(2), None).await, [3, 4, 5]);
    assert_eq!(numbers(Some(TaskKind::Audio), None, None).await, [0; 0]);
    assert_eq!(stage.store.presentation(stage.job).await.unwrap(), None);
    stage.finish(6).await;
    let TaskResult::Assemble(assembled) = result(TaskKind::Assemble, 0) else { unreachable!("the fixture says so") };
    assert_eq!(stage.store.presentation(stage.job).await.unwrap(), Some(assembled));
}
