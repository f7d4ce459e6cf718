//! Attempts of tasks out of the event log: pure.

use splitreel_client::types::{AttemptOutcome, AttemptView, FailureView, LeaseView, TaskView};
use splitreel_core::event::{Event, EventKind};
use splitreel_core::task::{Task, TaskState};
use std::collections::BTreeMap;

/// Attempts by task number, each list oldest first.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    by_task: BTreeMap<u32, Vec<AttemptView>>,
}

impl Attempts {
    /// Takes the next event of the job, in the order of the log.
    pub(crate) fn note(&mut self, event: &Event) {
        match &event.what {
            EventKind::Claimed { task, attempt, worker, .. } => {
                self.by_task.entry(*task).or_default().push(AttemptView {
                    attempt: *attempt,
                    worker: worker.to_string(),
                    started_ms: event.at_ms,
                    ended_ms: None,
                    outcome: AttemptOutcome::Running,
                    failure: None,
                });
            }
            EventKind::TaskDone { task, attempt, .. } => {
                self.end(*task, Some(*attempt), event.at_ms, AttemptOutcome::Done, None);
                // One that ran beside it has lost.
                self.end(*task, None, event.at_ms, AttemptOutcome::Cancelled, None);
            }
            EventKind::TaskRetried { task, attempt, failure, .. } => {
                self.end(*task, Some(*attempt), event.at_ms, AttemptOutcome::Failed, Some(failure.into()));
            }
            EventKind::Failed { task, attempt, failure } | EventKind::Replanned { task, attempt, failure, .. } => {
                if let Some(task) = task {
                    self.end(*task, *attempt, event.at_ms, AttemptOutcome::Failed, Some(failure.into()));
                }
                self.end_all(event.at_ms);
            }
            EventKind::Cancelled => self.end_all(event.at_ms),
            EventKind::Submitted
            | EventKind::Planned { .. }
            | EventKind::Speculated { .. }
            | EventKind::Published
            | EventKind::Retried
            | EventKind::Paused
            | EventKind::Resumed => {}
        }
    }

    /// Ends an attempt that runs; the newest one where the event does not say which.
    fn end(
        &mut self,
        task: u32,
        attempt: Option<u32>,
        at_ms: i64,
        outcome: AttemptOutcome,
        failure: Option<FailureView>,
    ) {
        let running = self.by_task.get_mut(&task).and_then(|all| {
            all.iter_mut()
                .rev()
                .find(|a| a.outcome == AttemptOutcome::Running && attempt.is_none_or(|n| n == a.attempt))
        });
        if let Some(a) = running {
            (a.ended_ms, a.outcome, a.failure) = (Some(at_ms), outcome, failure);
        }
    }

    fn end_all(&mut self, at_ms: i64) {
        for a in self.by_task.values_mut().flatten().filter(|a| a.outcome == AttemptOutcome::Running) {
            (a.ended_ms, a.outcome) = (Some(at_ms), AttemptOutcome::Cancelled);
        }
    }

    /// A task with its attempts.
    pub(crate) fn view(&mut self, task: &Task) -> TaskView {
        let lease = task.lease.as_ref().map(|l| LeaseView {
            worker: l.worker.to_string(),
            claimed_ms: l.claimed_ms,
            expires_ms: l.expires_ms,
            percent: f64::from(l.progress.done_per_mille) / 10.0,
            speed: (l.progress.speed_milli > 0).then(|| f64::from(l.progress.speed_milli) / 1000.0),
            frames: l.progress.frames,
        });
        TaskView {
            number: task.id.number,
            generation: task.generation,
            kind: task.spec.kind,
            index: task.spec.index,
            state: task.state,
            attempt: task.attempt,
            media_failures: task.media_failures,
            infra_failures: task.infra_failures,
            not_before_ms: (task.state == TaskState::Ready && task.not_before_ms > 0).then_some(task.not_before_ms),
            lease,
            failure: task.failure.as_ref().map(FailureView::from),
            attempts: self.by_task.remove(&task.id.number).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_backend::store::ClaimRequest;
    use splitreel_backend::{Wakeup, transition};
    use splitreel_core::fair::Priority;
    use splitreel_core::job::{Job, JobRequest};
    use splitreel_core::profile::Profile;
    use splitreel_core::source::SourceRef;
    use splitreel_core::task::{AfterFailure, RetryPolicy, TaskKind, TaskSpec};
    use splitreel_core::trace::Trace;
    use splitreel_core::{Failure, FailureCode, JobId, LeaseId, TaskId, WorkerId};
    use uuid::Uuid;

    #[test]
    fn attempts_end_with_what_the_log_says_of_them() {
        let mut attempts = Attempts::default();
        let mut at = 0;
        let mut note = |what| {
            at += 1;
            attempts.note(&Event { seq: at, job: JobId(Uuid::nil()), at_ms: at, what });
        };
        let claimed = |task, attempt| EventKind::Claimed {
            task,
            kind: TaskKind::Segment,
            index: 0,
            attempt,
            worker: WorkerId("w".into()),
        };
        note(claimed(1, 1));
        note(claimed(2, 1));
        note(EventKind::TaskRetried {
            task: 1,
            attempt: 1,
            failure: Failure::of(FailureCode::Storage, "y"),
            not_before_ms: 9,
        });
        note(claimed(1, 2));
        note(EventKind::TaskDone { task: 1, kind: TaskKind::Segment, index: 0, attempt: 2 });
        note(EventKind::Cancelled);
        let outcomes = |task: u32| attempts.by_task[&task].iter().map(|a| (a.outcome, a.ended_ms)).collect::<Vec<_>>();
        assert_eq!(outcomes(1), [(AttemptOutcome::Failed, Some(3)), (AttemptOutcome::Done, Some(5))]);
        assert_eq!(outcomes(2), [(AttemptOutcome::Cancelled, Some(6))]);
    }

    /// Job, task and event log with two attempts of the task, both running.
    fn two_running() -> (Job, Task, Vec<EventKind>) {
        let request = JobRequest {
            tenant: "t".into(),
            idempotency_key: "k".into(),
            source: SourceRef { locator: "s3://b/k".into(), bytes: 1, version: "v".into() },
            base: "k".into(),
            profile: Profile::built_in("universal").unwrap(),
            priority: Priority::Normal,
            deep_probe: false,
            output: None,
            trace: Trace::default(),
        };
        let mut job = Job::new(JobId(Uuid::nil()), request, 0).0;
        job.task_done(TaskKind::Probe, 0);
        job.planned("hash".into(), 1, false);
        let spec = TaskSpec { number: 1, kind: TaskKind::Segment, index: 0, expected_cost: 1 };
        let mut task = Task::new(TaskId { job: job.id, number: 1 }, 1, spec, TaskState::Ready);
        let mut log = Vec::new();
        for attempt in [1, 2] {
            let request = ClaimRequest {
                wakeup: Wakeup { task: task.id, attempt, kind: TaskKind::Segment, trace: Trace::default() },
                lease: LeaseId(Uuid::from_u128(attempt.into())),
                worker: WorkerId(format!("w{attempt}")),
                now_ms: 5,
                ttl_ms: 10,
            };
            log.extend(transition::claim(&job, &mut task, &request).unwrap());
            if attempt == 1 {
                assert!(task.speculate(5));
            }
        }
        (job, task, log)
    }

    #[test]
    fn the_attempt_that_spends_the_budget_is_the_one_shown_as_failed() {
        let policy = RetryPolicy { media_attempts: 1, ..RetryPolicy::default() };
        let (failed, cancelled) = (AttemptOutcome::Failed, AttemptOutcome::Cancelled);
        for (code, is_replanned) in [(FailureCode::FfmpegFailed, false), (FailureCode::TimesDiffer, true)] {
            for (failing, expected) in [(1, [failed, cancelled]), (2, [cancelled, failed])] {
                let (mut job, mut task, mut log) = two_running();
                let lease = LeaseId(Uuid::from_u128(failing));
                let failure = Failure::of(code.clone(), "y");
                let ended = transition::fail(&mut job, &mut task, lease, failure, 9, &policy).unwrap();
                assert_eq!(ended.after == AfterFailure::Replan, is_replanned, "{ended:?}");
                log.push(ended.event);
                let mut attempts = Attempts::default();
                for (seq, what) in (1..).zip(log) {
                    attempts.note(&Event { seq, job: job.id, at_ms: seq, what });
                }
                let shown = attempts.view(&task).attempts;
                let outcomes: Vec<_> = shown.iter().map(|a| (a.outcome, a.failure.is_some(), a.ended_ms)).collect();
                assert_eq!(outcomes, expected.map(|outcome| (outcome, outcome == failed, Some(3))), "{failing}");
            }
        }
    }
}
