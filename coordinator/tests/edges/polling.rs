//! The bucket poller: new objects become one job each, never before they rest, across restarts and two coordinators.

use crate::fixture::{Deployment, rule};
use async_trait::async_trait;
use splitreel_backend::buckets::{Buckets, ListError, Listed};
use splitreel_backend::records::RecordFilter;
use splitreel_backend::{Clock, Records};
use splitreel_coordinator::triggers::{Outcome, PollConfig, Poller, Rule};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct TestBuckets {
    objects: Mutex<BTreeMap<String, Listed>>,
    is_down: AtomicBool,
}

#[async_trait]
impl Buckets for TestBuckets {
    async fn list(&self, bucket: &str, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, ListError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(ListError { bucket: bucket.to_owned(), source: "down".into() });
        }
        let objects = self.objects.lock().unwrap();
        let found = objects.values().filter(|o| o.key.starts_with(prefix) && o.key.as_str() > after);
        Ok(found.take(limit).cloned().collect())
    }
}

struct Setup {
    here: Deployment,
    buckets: Arc<TestBuckets>,
    config: PollConfig,
}

impl Setup {
    async fn new(config: PollConfig) -> Self {
        let here = Deployment::new();
        here.save_rule("studio", "r", &Rule { poll_seconds: Some(10), ..rule() }).await;
        Setup { here, buckets: Arc::default(), config }
    }

    fn put(&self, name: &str, bytes: u64, etag: &str) {
        let key = format!("in/{name}");
        self.here.grants.set(&format!("s3://media-in/{key}"), bytes, etag);
        let modified_ms = self.here.clock.now_ms();
        let listed = Listed { key: key.clone(), bytes, etag: etag.to_owned(), modified_ms };
        self.buckets.objects.lock().unwrap().insert(key, listed);
    }

    fn poller(&self) -> Poller {
        let Deployment { records, intake, world, .. } = &self.here;
        let buckets = self.buckets.clone();
        Poller::new(buckets, records.clone(), intake.clone(), world.clone(), self.config.clone())
    }

    /// Polls until the sweep has ended: as many pages as there may be.
    async fn sweep(&self) -> usize {
        let mut num_started = 0;
        for _ in 0..20 {
            let outcomes = self.poller().poll().await.unwrap();
            num_started += outcomes.iter().filter(|o| matches!(o, Outcome::Started(_))).count();
        }
        self.here.clock.advance(10_000);
        num_started
    }

    fn heads(&self) -> usize {
        self.here.grants.num_heads.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_rests_is_taken_once_and_what_grows_is_not() {
    let setup = Setup::new(PollConfig { settle_ms: 3_600_000, ..PollConfig::default() }).await;
    setup.put("a.mp4", 10, "a");
    setup.put("grows.mp4", 1, "g0");
    setup.put("empty.mp4", 0, "e");
    setup.put("folder/", 0, "f");
    setup.put("text.txt", 10, "t");
    assert_eq!(setup.sweep().await, 0);
    for step in 1..5 {
        setup.put("grows.mp4", 1 + step, &format!("g{step}"));
        assert_eq!(setup.sweep().await, usize::from(step == 1), "{step}");
    }
    assert_eq!(setup.sweep().await, 1);
    let heads = setup.heads();
    for _ in 0..5 {
        assert_eq!(setup.sweep().await, 0);
    }
    assert_eq!(setup.heads(), heads, "what was taken is not asked for again");
    let mut names: Vec<_> = setup.here.jobs().await.into_iter().map(|job| job.request.base).collect();
    names.sort();
    assert_eq!(names, ["a", "grows"]);
    // The same name with other content is another upload.
    setup.put("a.mp4", 11, "a2");
    assert_eq!((setup.sweep().await, setup.sweep().await), (0, 1));
}

#[tokio::test]
async fn an_old_object_is_taken_at_the_first_look() {
    let setup = Setup::new(PollConfig::default()).await;
    setup.put("a.mp4", 10, "a");
    setup.here.clock.advance(60_000);
    assert_eq!(setup.sweep().await, 1);
}

#[tokio::test]
async fn pages_restarts_and_a_crowded_memory_lose_nothing_and_double_nothing() {
    let config = PollConfig { page: 3, remembered: 4, settle_ms: 1000, ..PollConfig::default() };
    let setup = Setup::new(config).await;
    for i in 0..25 {
        setup.put(&format!("{i:02}.mp4"), 10, &format!("e{i}"));
    }
    setup.here.clock.advance(5000);
    // Each sweep is driven by new pollers: nothing is kept in memory.
    assert_eq!(setup.sweep().await, 25);
    setup.put("10a.mp4", 10, "new");
    setup.here.clock.advance(5000);
    assert_eq!(setup.sweep().await, 1);
    assert_eq!(setup.sweep().await, 0);
    assert_eq!(setup.here.jobs().await.len(), 26);
    let filter = RecordFilter { kind: "poll".into(), limit: 10, ..RecordFilter::default() };
    let states = setup.here.records.list(filter).await.unwrap();
    assert_eq!(states.len(), 1);
    assert!(states[0].doc["taken"].as_array().unwrap().len() <= 4);
    // Long after, even the crowded-out ones are not offered again.
    setup.here.clock.advance(25 * 3_600_000);
    setup.put("late.mp4", 10, "late");
    setup.here.clock.advance(5000);
    assert_eq!(setup.sweep().await, 1);
    let heads = setup.heads();
    assert_eq!(setup.sweep().await, 0);
    assert_eq!(setup.heads(), heads);
}

#[tokio::test]
async fn an_object_that_appears_late_with_an_old_time_is_taken() {
    let setup = Setup::new(PollConfig { settle_ms: 1000, ..PollConfig::default() }).await;
    setup.put("first.mp4", 10, "f");
    let began = setup.here.clock.now_ms();
    setup.here.clock.advance(3_600_000);
    setup.put("second.mp4", 10, "s");
    setup.here.clock.advance(5000);
    assert_eq!(setup.sweep().await, 2);
    // A multipart upload that began an hour ago and is complete now.
    setup.put("slow.mp4", 10, "m");
    setup.buckets.objects.lock().unwrap().get_mut("in/slow.mp4").unwrap().modified_ms = began + 1;
    assert_eq!(setup.sweep().await, 1);
}

#[tokio::test]
async fn a_failure_of_storage_holds_the_object_back_until_it_is_over() {
    let setup = Setup::new(PollConfig { settle_ms: 1000, late_ms: 0, ..PollConfig::default() }).await;
    setup.put("a.mp4", 10, "a");
    setup.here.clock.advance(5000);
    setup.put("b.mp4", 10, "b");
    setup.here.clock.advance(5000);
    setup.here.grants.is_down.store(true, Ordering::SeqCst);
    assert_eq!(setup.sweep().await, 0);
    setup.here.grants.is_down.store(false, Ordering::SeqCst);
    setup.buckets.is_down.store(true, Ordering::SeqCst);
    assert_eq!(setup.sweep().await, 0);
    setup.buckets.is_down.store(false, Ordering::SeqCst);
    assert_eq!(setup.sweep().await, 2);
}

#[tokio::test]
async fn two_coordinators_poll_and_each_object_has_one_job() {
    let setup = Setup::new(PollConfig { page: 2, settle_ms: 1000, ..PollConfig::default() }).await;
    for i in 0..9 {
        setup.put(&format!("{i}.mp4"), 10, &format!("e{i}"));
    }
    setup.here.clock.advance(5000);
    let mut num_started = 0;
    for _ in 0..10 {
        let (one, two) = (setup.poller(), setup.poller());
        let (first, second) = tokio::join!(one.poll(), two.poll());
        let outcomes = [first.unwrap(), second.unwrap()].concat();
        num_started += outcomes.iter().filter(|o| matches!(o, Outcome::Started(_))).count();
    }
    assert_eq!((num_started, setup.here.jobs().await.len()), (9, 9));
}
