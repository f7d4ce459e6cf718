//! Recording functions: the only place where a metric gets a value. They take domain words and closed sets, never text,
//! and do nothing while no recorder is installed.

use crate::catalogue as c;
use crate::catalogue::Metric;
use crate::labels::{
    AttemptOutcome, Exit, Method, OPEN_STATES, OutboxState, Outcome, Pass, PublishOutcome, Queue, RETRIED_CLASSES,
    RefusedFor, Report, S3Operation, S3Outcome, Submission, TASK_KINDS, TriggerOutcome, TriggerSource, WebhookOutcome,
};
use metrics::{Counter, Gauge, Histogram, SharedString};
use splitreel_core::job::JobState;
use splitreel_core::task::TaskKind;
use splitreel_core::{FailureClass, FailureCode};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const NO_LABELS: [&str; 0] = [];

/// Open jobs by state. States that are missing have none.
pub fn set_jobs(counts: &BTreeMap<JobState, u64>) {
    for word in OPEN_STATES {
        let count = JobState::parse(word).and_then(|state| counts.get(&state)).copied().unwrap_or(0);
        gauge(&c::JOBS, [*word]).set(whole(count));
    }
}

/// A submit was answered.
pub fn job_submitted(outcome: Submission) {
    counter(&c::JOBS_SUBMITTED, [outcome.as_str()]).increment(1);
}

/// A job ended, so long after its submit. Open states are not counted.
pub fn job_ended(state: JobState, after: Duration) {
    if state.is_ended() {
        counter(&c::JOBS_ENDED, [state.as_str()]).increment(1);
        histogram(&c::JOB_END_TO_END, [state.as_str()]).record(after);
    }
}

/// A job's first attempt got its lease, so long after the submit.
pub fn job_started(after: Duration) {
    histogram(&c::JOB_START, NO_LABELS).record(after);
}

/// Leases by the kind of their task. Kinds that are missing have none.
pub fn set_leases(counts: &BTreeMap<TaskKind, u64>) {
    for word in TASK_KINDS {
        let count = TaskKind::parse(word).and_then(|kind| counts.get(&kind)).copied().unwrap_or(0);
        gauge(&c::LEASES, [*word]).set(whole(count));
    }
}

/// A claim got its lease.
pub fn task_claimed(kind: TaskKind) {
    counter(&c::TASKS_CLAIMED, [kind.as_str()]).increment(1);
}

/// A task became done.
pub fn task_completed(kind: TaskKind) {
    counter(&c::TASKS_COMPLETED, [kind.as_str()]).increment(1);
}

/// An attempt was reported as failed and the task will be tried again. Classes that allow no other are not counted.
pub fn task_retried(class: FailureClass) {
    if RETRIED_CLASSES.contains(&class.as_str()) {
        counter(&c::TASKS_RETRIED, [class.as_str()]).increment(1);
    }
}

/// An attempt was reported as failed.
pub fn attempt_failed(code: &FailureCode) {
    counter(&c::ATTEMPTS_FAILED, [code.label()]).increment(1);
}

/// `count` leases expired and their tasks were requeued.
pub fn leases_expired(count: u64) {
    counter(&c::LEASES_EXPIRED, NO_LABELS).increment(count);
}

/// `count` leases were shortened because the control stream of their worker broke.
pub fn leases_shortened(count: u64) {
    counter(&c::LEASES_SHORTENED, NO_LABELS).increment(count);
}

/// A claim or report was refused. Takes `splitreel_core`'s `Refusal` too.
pub fn report_refused(report: Report, reason: impl Into<RefusedFor>) {
    counter(&c::REPORTS_REFUSED, [report.as_str(), reason.into().as_str()]).increment(1);
}

/// Tasks of a queue that wait for their lease.
pub fn set_queue(queue: Queue, depth: u64) {
    gauge(&c::QUEUE_DEPTH, [queue.as_str()]).set(whole(depth));
}

/// Outbox rows by state, and the age of the oldest unsent one.
pub fn set_outbox(unsent: u64, sent: u64, oldest_unsent: Option<Duration>) {
    gauge(&c::OUTBOX_ROWS, [OutboxState::Unsent.as_str()]).set(whole(unsent));
    gauge(&c::OUTBOX_ROWS, [OutboxState::Sent.as_str()]).set(whole(sent));
    gauge(&c::OUTBOX_OLDEST_AGE, NO_LABELS).set(oldest_unsent.unwrap_or_default());
}

/// `count` wakeups were handed to the broker, with this outcome.
pub fn wakeups_published(outcome: PublishOutcome, count: u64) {
    counter(&c::RINGS_PUBLISHED, [outcome.as_str()]).increment(count);
}

/// `count` outbox rows were written again.
pub fn wakeups_swept(count: u64) {
    counter(&c::RINGS_SWEPT, NO_LABELS).increment(count);
}

/// Takes one turn of a coordinator's loop and times it.
pub async fn pass<T, E>(pass: Pass, turn: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let started = Instant::now();
    let answer = turn.await;
    let outcome = if answer.is_ok() { Outcome::Ok } else { Outcome::Failed };
    histogram(&c::PASS, [pass.as_str(), outcome.as_str()]).record(started.elapsed());
    answer
}

/// `count` unreferenced objects were deleted.
pub fn objects_collected(count: u64) {
    counter(&c::OBJECTS_COLLECTED, NO_LABELS).increment(count);
}

/// An attempt ended.
pub fn attempt_ended(kind: TaskKind, outcome: AttemptOutcome, took: Duration) {
    histogram(&c::ATTEMPT_DURATION, [kind.as_str(), outcome.as_str()]).record(took);
}

/// A completed encode covered so much source time and took so long. Nothing is recorded for an encode of no time.
pub fn encoded(kind: TaskKind, media: Duration, took: Duration) {
    histogram(&c::ENCODED_MEDIA, [kind.as_str()]).record(media);
    if !took.is_zero() && !media.is_zero() {
        histogram(&c::ENCODE_SPEED, [kind.as_str()]).record(media.as_secs_f64() / took.as_secs_f64());
    }
}

/// An ffmpeg or ffprobe process ended.
pub fn ffmpeg_exited(exit: Exit) {
    counter(&c::FFMPEG_EXITED, [exit.as_str()]).increment(1);
}

/// `bytes` of a source were read over the network.
pub fn source_fetched(bytes: u64) {
    counter(&c::SOURCE_FETCHED, NO_LABELS).increment(bytes);
}

/// So much scratch space is in use for as long as the answer lives.
#[must_use = "the space counts as free once this is dropped"]
pub fn scratch(bytes: u64) -> InUse {
    in_use(gauge(&c::SCRATCH_USED, NO_LABELS), whole(bytes))
}

/// Slots of this process for a queue.
pub fn set_slots(queue: Queue, slots: u64) {
    gauge(&c::SLOTS, [queue.as_str()]).set(whole(slots));
}

/// A slot is busy for as long as the answer lives.
#[must_use = "the slot counts as free once this is dropped"]
pub fn busy_slot(queue: Queue) -> InUse {
    in_use(gauge(&c::SLOTS_BUSY, [queue.as_str()]), 1.0)
}

fn in_use(gauge: Gauge, amount: f64) -> InUse {
    gauge.increment(amount);
    InUse { gauge, amount }
}

/// See [`busy_slot`] and [`scratch`].
pub struct InUse {
    gauge: Gauge,
    amount: f64,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

/// A request to the object store ended. `bytes` are those of the body that was sent or read.
pub fn s3_request(operation: S3Operation, outcome: S3Outcome, took: Duration, bytes: u64) {
    counter(&c::S3_REQUESTS, [operation.as_str(), outcome.as_str()]).increment(1);
    histogram(&c::S3_REQUEST, [operation.as_str()]).record(took);
    counter(&c::S3_TRANSFERRED, [operation.as_str()]).increment(bytes);
}

/// An HTTP request was answered. `route` is a route template, never a path.
pub(crate) fn http_request(method: Method, route: SharedString, status: u16, took: Duration) {
    let method = SharedString::from(method.as_str());
    histogram(&c::HTTP_REQUEST, [method.clone(), route.clone()]).record(took);
    counter(&c::HTTP_REQUESTS, [method, route, SharedString::from(status.to_string())]).increment(1);
}

/// A webhook was tried.
pub fn webhook_sent(outcome: WebhookOutcome) {
    counter(&c::WEBHOOKS_SENT, [outcome.as_str()]).increment(1);
}

/// A trigger event was looked at.
pub fn trigger_event(source: TriggerSource, outcome: TriggerOutcome) {
    counter(&c::TRIGGER_EVENTS, [source.as_str(), outcome.as_str()]).increment(1);
}

pub(crate) fn build_info(version: &str) {
    gauge(&c::BUILD_INFO, [version.to_owned()]).set(1.0);
}

/// Makes every counter of closed labels exist at zero, so that its first increment is seen as one.
pub(crate) fn zero(metric: &Metric) {
    for values in metric.combinations().unwrap_or_default() {
        metrics::counter!(metric.name, labels(metric, values)).increment(0);
    }
}

fn counter<V: Into<SharedString>, const N: usize>(metric: &Metric, values: [V; N]) -> Counter {
    metrics::counter!(metric.name, labels(metric, values))
}

fn gauge<V: Into<SharedString>, const N: usize>(metric: &Metric, values: [V; N]) -> Gauge {
    metrics::gauge!(metric.name, labels(metric, values))
}

fn histogram<V: Into<SharedString>, const N: usize>(metric: &Metric, values: [V; N]) -> Histogram {
    metrics::histogram!(metric.name, labels(metric, values))
}

fn labels<V: Into<SharedString>>(metric: &Metric, values: impl IntoIterator<Item = V>) -> Vec<metrics::Label> {
    metric.labels.iter().zip(values).map(|(label, value)| metrics::Label::new(label.name, value)).collect()
}

/// Exact below 2^53, which no count here reaches.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn whole(count: u64) -> f64 {
    count as f64
}
