//! How far a job is and why nothing of it runs: pure, from its rows.

use splitreel_client::types::{FailureView, JobProgress, JobView, TaskCounts, Waiting};
use splitreel_core::job::{Job, JobState};
use splitreel_core::task::{Task, TaskState};

/// Below this fraction nothing is said of the time to go.
const ETA_FROM: f64 = 0.02;

/// By the job's own row. Counts the tasks of its plan: those after the generation's probe.
pub(crate) fn coarse(job: &Job) -> JobProgress {
    let num_planned = job.next_task.saturating_sub(job.first_task()).saturating_sub(1);
    let total = num_planned.max(job.remaining);
    let done = total.saturating_sub(job.remaining);
    let percent = match job.state {
        JobState::Published => 100.0,
        _ if !job.is_planned() || total == 0 => 0.0,
        _ => (f64::from(done) / f64::from(total) * 100.0).min(99.9),
    };
    JobProgress { percent: rounded(percent), speed: None, eta_seconds: None, remaining: job.remaining, tasks: None }
}

/// By the job's tasks, weighted by their expected cost.
pub(crate) fn exact(job: &Job, tasks: &[Task], now_ms: i64) -> JobProgress {
    let mut counts = TaskCounts::default();
    let (mut total, mut done, mut speed) = (0.0, 0.0, 0.0);
    let mut started: Option<i64> = None;
    for task in tasks.iter().filter(|task| job.owns(task)) {
        let cost = task.spec.expected_cost.max(1) as f64;
        total += cost;
        match task.state {
            TaskState::Blocked | TaskState::Ready => counts.ready += 1,
            TaskState::Leased => counts.leased += 1,
            TaskState::Done => {
                counts.done += 1;
                done += cost;
            }
            TaskState::Failed | TaskState::Cancelled => counts.ended += 1,
        }
        if let Some(lease) = &task.lease {
            done += cost * f64::from(lease.progress.done_per_mille.min(1000)) / 1000.0;
            speed += f64::from(lease.progress.speed_milli) / 1000.0;
            started = Some(started.map_or(lease.claimed_ms, |s: i64| s.min(lease.claimed_ms)));
        }
    }
    let fraction = if !job.is_planned() || total <= 0.0 { 0.0 } else { done / total };
    let is_running = started.is_some() && job.state == JobState::Running && !job.is_paused;
    let eta_seconds = (is_running && (ETA_FROM..1.0).contains(&fraction)).then(|| {
        let elapsed = now_ms.saturating_sub(job.generation_started_ms()).max(0) as f64 / 1000.0;
        rounded(elapsed * (1.0 - fraction) / fraction)
    });
    JobProgress {
        percent: if job.state == JobState::Published { 100.0 } else { rounded((fraction * 100.0).min(99.9)) },
        speed: (speed > 0.0).then(|| rounded(speed)),
        eta_seconds,
        remaining: job.remaining,
        tasks: Some(counts),
    }
}

/// One digit after the point.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Why nothing runs; `None` when something does, or the job has ended. `slots`: places of live workers.
pub(crate) fn waiting(job: &Job, tasks: &[Task], slots: u64, now_ms: i64) -> Option<Waiting> {
    let because = |reason: &str, message: &str, until_ms| {
        Some(Waiting { reason: reason.to_owned(), message: message.to_owned(), until_ms })
    };
    if job.state.is_ended() || tasks.iter().any(|t| t.state == TaskState::Leased) {
        return None;
    }
    if job.is_paused {
        return because("paused", "the job is paused: resume it", None);
    }
    if job.state == JobState::Planning {
        return because("planning", "the source is probed and the plan is being made", None);
    }
    let due = tasks.iter().filter(|t| t.state == TaskState::Ready).map(|t| t.not_before_ms).min();
    match due {
        Some(due) if due > now_ms => {
            because("back_off", "an attempt failed; the next one starts after its back-off", Some(due))
        }
        _ if slots == 0 => because("no_workers", "no worker is connected: start one", None),
        _ => because("queued", "all slots are busy, or the jobs ahead come first", None),
    }
}

/// A job as it is shown.
pub(crate) fn view(job: Job, progress: JobProgress, waiting: Option<Waiting>) -> JobView {
    JobView {
        id: job.id,
        tenant: job.request.tenant,
        state: job.state,
        is_paused: job.is_paused,
        priority: job.request.priority,
        source: job.request.source,
        profile: job.request.profile.name,
        base: job.request.base,
        progress,
        waiting,
        output: None,
        generation: job.generation,
        replanned: job.replanned.as_ref().map(|replanned| FailureView::from(&replanned.failure)),
        plan_hash: job.plan_hash,
        failure: job.failure.as_ref().map(FailureView::from),
        created_ms: job.created_ms,
        ended_ms: job.ended_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::job::JobRequest;
    use splitreel_core::profile::Profile;
    use splitreel_core::source::SourceRef;
    use splitreel_core::task::{Progress, TaskKind, TaskSpec};
    use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId, WorkerId};
    use uuid::Uuid;

    fn job() -> Job {
        let request = JobRequest {
            tenant: "t".into(),
            idempotency_key: "k".into(),
            source: SourceRef { locator: "s3://b/k".into(), bytes: 1, version: "v".into() },
            base: "k".into(),
            profile: Profile::built_in("universal").unwrap(),
            priority: Default::default(),
            deep_probe: false,
            output: None,
            trace: Default::default(),
        };
        let mut job = Job::new(JobId(Uuid::nil()), request, 0).0;
        job.task_done(TaskKind::Probe, 0);
        job.planned("hash".into(), 4, false);
        job
    }

    fn tasks() -> Vec<Task> {
        (1..=4)
            .map(|number| {
                let spec = TaskSpec { number, kind: TaskKind::Segment, index: number - 1, expected_cost: 10 };
                Task::new(TaskId { job: JobId(Uuid::nil()), number }, 1, spec, TaskState::Ready)
            })
            .collect()
    }

    #[test]
    fn progress_counts_what_is_done_and_what_runs() {
        let (job, mut tasks) = (job(), tasks());
        tasks[0].state = TaskState::Done;
        tasks[1].claim(1, LeaseId(Uuid::nil()), WorkerId("w".into()), 0, 1_000).unwrap();
        tasks[1].lease.as_mut().unwrap().progress = Progress { done_per_mille: 500, speed_milli: 2_500, frames: 1 };
        let p = exact(&job, &tasks, 30_000);
        assert_eq!(p.percent, 37.5);
        assert_eq!(p.speed, Some(2.5));
        assert_eq!(p.eta_seconds, Some(50.0));
        assert_eq!(p.tasks, Some(TaskCounts { ready: 2, leased: 1, done: 1, ended: 0 }));
        assert_eq!(waiting(&job, &tasks, 1, 0), None);
    }

    /// A plan of `num_tasks` tasks dropped at `at_ms`, and planned again with as many.
    fn replanned(num_tasks: u32, at_ms: i64) -> Job {
        let mut job = job();
        (job.remaining, job.next_task) = (num_tasks, 1 + num_tasks);
        let probe = job.replan(Failure::of(FailureCode::TimesDiffer, "other times"), true, at_ms).unwrap();
        job.task_done(probe.kind, at_ms);
        assert!(job.planned("second".into(), num_tasks, true));
        job
    }

    #[test]
    fn by_the_row_tasks_of_a_dropped_plan_do_not_count() {
        let mut job = replanned(100, 0);
        assert_eq!((coarse(&job).percent, job.remaining), (0.0, 100));
        for _ in 0..50 {
            job.task_done(TaskKind::Segment, 1);
        }
        assert_eq!(coarse(&job).percent, 50.0);
    }

    #[test]
    fn the_time_to_go_is_measured_from_the_start_of_the_current_plan() {
        let job = replanned(4, 1_000_000);
        let mut all = tasks();
        all.iter_mut().for_each(|task| task.state = TaskState::Cancelled);
        all.extend((6..=9).map(|number| {
            let spec = TaskSpec { number, kind: TaskKind::Segment, index: number - 6, expected_cost: 10 };
            Task::new(TaskId { job: job.id, number }, 2, spec, TaskState::Ready)
        }));
        all[4].state = TaskState::Done;
        all[5].claim(1, LeaseId(Uuid::nil()), WorkerId("w".into()), 1_010_000, 1_000).unwrap();
        let p = exact(&job, &all, 1_030_000);
        assert_eq!((p.percent, p.eta_seconds), (25.0, Some(90.0)));
        assert_eq!(p.tasks, Some(TaskCounts { ready: 2, leased: 1, done: 1, ended: 0 }));
    }

    #[test]
    fn the_reason_for_waiting_is_the_first_that_holds() {
        let (mut job, mut tasks) = (job(), tasks());
        let reason = |job: &Job, tasks: &[Task], slots| waiting(job, tasks, slots, 5).map(|w| w.reason);
        assert_eq!(reason(&job, &tasks, 1).as_deref(), Some("queued"));
        assert_eq!(reason(&job, &tasks, 0).as_deref(), Some("no_workers"));
        tasks.iter_mut().for_each(|t| t.not_before_ms = 9);
        assert_eq!(reason(&job, &tasks, 0).as_deref(), Some("back_off"));
        job.pause(true);
        assert_eq!(reason(&job, &tasks, 0).as_deref(), Some("paused"));
        job.cancel(1);
        assert_eq!(reason(&job, &tasks, 0), None);
    }

    #[test]
    fn by_the_row_a_job_is_done_only_when_it_is_published() {
        let mut job = job();
        assert_eq!(coarse(&job).percent, 0.0);
        for _ in 0..4 {
            job.task_done(TaskKind::Segment, 1);
        }
        let before = coarse(&job).percent;
        assert!(before < 100.0 && before > 50.0, "{before}");
        job.task_done(TaskKind::Assemble, 1);
        assert_eq!(coarse(&job).percent, 100.0);
    }
}
