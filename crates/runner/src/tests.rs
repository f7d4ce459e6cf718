//! A slot against a coordinator that records its calls, under virtual time.

use super::*;
use async_trait::async_trait;
use splitreel_backend::channel::ChannelDoorbell;
use splitreel_backend::conformance::fixture::result;
use splitreel_backend::doorbell::{Doorbell, Queue, Wakeup};
use splitreel_backend::lease::{LeaseError, Leases, Work, WorkOrder};
use splitreel_backend::world::Machine;
use splitreel_core::part::TaskResult;
use splitreel_core::source::SourceRef;
use splitreel_core::task::{Progress, Refusal, TaskKind};
use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId, WorkerId};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// A recorded claim.
#[derive(Debug, PartialEq)]
struct Asked {
    number: u32,
    lease: LeaseId,
    at: Duration,
}

/// A fake coordinator that records claims and reports.
struct Desk {
    began: Instant,
    asked: mpsc::UnboundedSender<Asked>,
    answers_claims: bool,
    /// Each report waits for one of these and uses it up.
    reports: Option<Arc<Semaphore>>,
    /// How tasks ended, with the codes of failures, in order.
    ended: Arc<Mutex<Vec<(u32, String)>>>,
    /// This task's lease is refused at its next renewal, which is due when `nudge` fires.
    lost: Option<u32>,
    nudge: Arc<Notify>,
}

impl Desk {
    fn new() -> (Desk, mpsc::UnboundedReceiver<Asked>) {
        let (asked, seen) = mpsc::unbounded_channel();
        let desk = Desk {
            began: Instant::now(),
            asked,
            answers_claims: true,
            reports: None,
            ended: Arc::default(),
            lost: None,
            nudge: Arc::default(),
        };
        (desk, seen)
    }

    async fn hear(&self, task: TaskId, how: &str) {
        if let Some(reports) = &self.reports {
            reports.acquire().await.unwrap().forget();
        }
        self.ended.lock().unwrap().push((task.number, how.to_owned()));
    }
}

#[async_trait]
impl Leases for Desk {
    async fn claim(&self, wakeup: &Wakeup, _worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        self.asked.send(Asked { number: wakeup.task.number, lease, at: self.began.elapsed() }).unwrap();
        if !self.answers_claims {
            return Err(LeaseError::Unavailable { what: "no answer".into() });
        }
        Ok(WorkOrder {
            task: wakeup.task,
            attempt: wakeup.attempt,
            lease,
            ttl_ms: 15_000,
            media_failures: 0,
            source: SourceRef { locator: String::new(), bytes: 0, version: String::new() },
            grant: None,
            key_prefix: String::new(),
            work: Work::Probe { deep: false, source: Default::default() },
        })
    }
    async fn renew(&self, task: TaskId, _: LeaseId, _: Progress) -> Result<i64, LeaseError> {
        if self.lost == Some(task.number) { Err(Refusal::LeaseLost.into()) } else { Ok(15_000) }
    }
    async fn complete(&self, task: TaskId, _: LeaseId, _: TaskResult) -> Result<(), LeaseError> {
        self.hear(task, "done").await;
        Ok(())
    }
    async fn fail(&self, task: TaskId, _: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.hear(task, failure.code.as_str()).await;
        Ok(())
    }
    async fn nudged(&self, _: LeaseId) {
        self.nudge.notified().await;
    }
}

/// Fails at once.
struct Fails(Failure);

#[async_trait]
impl TaskHandler for Fails {
    async fn handle(
        &self,
        _: &WorkOrder,
        _: watch::Sender<Progress>,
        _: &CancellationToken,
    ) -> Result<TaskResult, Failure> {
        Err(self.0.clone())
    }
}

/// Works for ten seconds on one task at a time and reports its progress if `reports`; then runs for `after` at full
/// progress, and ends with `ends`.
struct Works {
    reports: bool,
    after: Duration,
    ends: Result<(), Failure>,
    at_work: AtomicU32,
}

impl Works {
    fn ten_seconds(reports: bool) -> Works {
        Works { reports, after: Duration::ZERO, ends: Ok(()), at_work: AtomicU32::new(0) }
    }
}

#[async_trait]
impl TaskHandler for Works {
    async fn handle(
        &self,
        _: &WorkOrder,
        progress: watch::Sender<Progress>,
        _: &CancellationToken,
    ) -> Result<TaskResult, Failure> {
        assert_eq!(self.at_work.fetch_add(1, Ordering::SeqCst), 0, "a slot works on one task");
        for tenth in 1..=10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.reports {
                progress.send_modify(|p| p.done_per_mille = tenth * 100);
            }
        }
        tokio::time::sleep(self.after).await;
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        self.ends.clone().map(|()| result(TaskKind::Segment, 0))
    }
}

fn wakeup(number: u32) -> Wakeup {
    Wakeup {
        task: TaskId { job: JobId(Uuid::nil()), number },
        attempt: 1,
        kind: TaskKind::Segment,
        trace: Default::default(),
    }
}

/// A doorbell with a wakeup for each of the tasks 1 to `num`.
async fn bell(num: u32) -> Arc<ChannelDoorbell> {
    let bell = Arc::new(ChannelDoorbell::new());
    bell.notify_all((1..=num).map(wakeup).collect()).await;
    bell
}

fn runner(bell: &Arc<ChannelDoorbell>, desk: Desk, handler: impl TaskHandler + 'static) -> Runner {
    Runner {
        id: WorkerId("w".into()),
        slots: 1,
        queue: Queue::Work,
        leases: Arc::new(desk),
        doorbell: Arc::clone(bell) as Arc<_>,
        handler: Arc::new(handler),
        ids: Arc::new(Machine),
    }
}

/// Claims so far, each with its time in tenths of a second.
fn claims(seen: &mut mpsc::UnboundedReceiver<Asked>) -> Vec<(u32, u128)> {
    std::iter::from_fn(|| seen.try_recv().ok()).map(|asked| (asked.number, asked.at.as_millis() / 100)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_attempts_fail_at_once_leaves_the_work_to_others() {
    let ((desk, mut seen), bell) = (Desk::new(), bell(100).await);
    let drain = CancellationToken::new();
    let runner = runner(&bell, desk, Fails(Failure::of(FailureCode::Storage, "does nothing")));
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    drain.cancel();
    running.await.unwrap();
    let at: Vec<_> = claims(&mut seen).into_iter().map(|(_, at)| at / 10).collect();
    assert_eq!(at, [0, 1, 3, 7, 15, 31, 47]);
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_starts_while_one_is_reported_and_no_more_than_one() {
    let ((mut desk, _seen), bell) = (Desk::new(), bell(5).await);
    let reports = Arc::new(Semaphore::new(0));
    desk.reports = Some(Arc::clone(&reports));
    let drain = CancellationToken::new();
    let runner = runner(&bell, desk, Fails(Failure::of(FailureCode::FfmpegFailed, "cannot be decoded")));
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    // The first is being reported, the second worked off.
    for expected in [2, 3, 5] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bell.num_waiting(Queue::Work), 5 - expected);
        reports.add_permits(if expected == 3 { 2 } else { 1 });
    }
    drain.cancel();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!running.is_finished(), "what was worked off is reported before the end");
    reports.add_permits(1);
    running.await.unwrap();
    assert_eq!(reports.available_permits(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_claim_is_repeated_with_its_lease_and_the_next_wakeup_has_another() {
    let ((mut desk, mut seen), bell) = (Desk::new(), bell(1).await);
    desk.answers_claims = false;
    let runner = runner(&bell, desk, Works::ten_seconds(false));
    let drain = CancellationToken::new();
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    let first = seen.recv().await.unwrap().lease;
    for _ in 1..3 {
        assert_eq!(seen.recv().await.unwrap().lease, first);
    }
    bell.notify(wakeup(1)).await.unwrap();
    assert_ne!(seen.recv().await.unwrap().lease, first);
    drain.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_next_task_is_claimed_when_the_work_is_about_to_end_and_waits_for_its_turn() {
    for (reports, expected) in [(true, [(1, 0), (2, 95), (3, 195)]), (false, [(1, 0), (2, 100), (3, 200)])] {
        let ((desk, mut seen), bell) = (Desk::new(), bell(3).await);
        let (drain, ended) = (CancellationToken::new(), Arc::clone(&desk.ended));
        let runner = runner(&bell, desk, Works::ten_seconds(reports));
        let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
        tokio::time::sleep(Duration::from_millis(30_100)).await;
        assert_eq!(claims(&mut seen), expected);
        assert_eq!(ended.lock().unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3]);
        drain.cancel();
        running.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_task_is_handed_back_when_the_process_drains() {
    let ((desk, _seen), bell) = (Desk::new(), bell(3).await);
    let (drain, ended) = (CancellationToken::new(), Arc::clone(&desk.ended));
    let runner = runner(&bell, desk, Works::ten_seconds(true));
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    tokio::time::sleep(Duration::from_millis(9_700)).await;
    drain.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(*ended.lock().unwrap(), [(2, "handed_back".to_owned())]);
    running.await.unwrap();
    assert_eq!(ended.lock().unwrap()[1..], [(1, "done".to_owned())]);
    assert_eq!(bell.num_waiting(Queue::Work), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_task_that_loses_its_lease_is_not_started() {
    let ((mut desk, mut seen), bell) = (Desk::new(), bell(3).await);
    desk.lost = Some(2);
    let (drain, ended, nudge) = (CancellationToken::new(), Arc::clone(&desk.ended), Arc::clone(&desk.nudge));
    let runner = runner(&bell, desk, Works::ten_seconds(true));
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    tokio::time::sleep(Duration::from_millis(9_700)).await;
    nudge.notify_waiters();
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(ended.lock().unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(claims(&mut seen), [(1, 0), (2, 95), (3, 100)], "the slot takes another when it is free");
    drain.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_attempts_fail_at_the_end_rests_too() {
    let ((desk, mut seen), bell) = (Desk::new(), bell(9).await);
    let drain = CancellationToken::new();
    let ends = Err(Failure::of(FailureCode::Storage, "takes no part"));
    let runner = runner(&bell, desk, Works { ends, ..Works::ten_seconds(true) });
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    // The second was claimed before the first had failed. From then on there are rests of 1, 2, 4 and 8 seconds between
    // the end of one and the claim of the next, and what is left of the one before.
    let at: Vec<_> = claims(&mut seen).into_iter().map(|(_, at)| at).collect();
    assert_eq!(at, [0, 95, 225, 380, 595]);
    drain.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_in_vain_is_handed_back_and_the_slot_claims_when_it_is_free() {
    let ((desk, mut seen), bell) = (Desk::new(), bell(9).await);
    let (drain, ended) = (CancellationToken::new(), Arc::clone(&desk.ended));
    let runner = runner(&bell, desk, Works { after: Duration::from_secs(20), ..Works::ten_seconds(true) });
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(95)).await;
    assert_eq!(claims(&mut seen), [(1, 0), (2, 95), (3, 300), (4, 600), (5, 900)]);
    let ended: Vec<_> = ended.lock().unwrap().clone();
    assert_eq!(ended[0], (2, "handed_back".to_owned()));
    assert_eq!(ended[1..], [1, 3, 4].map(|number| (number, "done".to_owned())));
    drain.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_waits_for_a_wakeup_rests_when_its_attempt_fails_meanwhile() {
    let ((desk, mut seen), bell) = (Desk::new(), bell(1).await);
    let drain = CancellationToken::new();
    let ends = Err(Failure::of(FailureCode::Storage, "takes no part"));
    let runner = runner(&bell, desk, Works { ends, ..Works::ten_seconds(true) });
    let running = tokio::spawn(runner.run(drain.clone(), CancellationToken::new()));
    tokio::time::sleep(Duration::from_millis(10_200)).await;
    bell.notify(wakeup(2)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(claims(&mut seen), [(1, 0), (2, 110)]);
    drain.cancel();
    running.await.unwrap();
}
