//! The metrics of a coordinator: gauges that are read from the store every few seconds, and the ends of jobs.

use crate::Coordinator;
use crate::job_cache::AcceptedJob;
use splitreel_backend::StoreError;
use splitreel_backend::lease::LeaseError;
use splitreel_backend::store::JobFilter;
use splitreel_core::JobId;
use splitreel_core::job::JobState;
use splitreel_core::task::{Task, TaskKind};
use splitreel_telemetry::labels::{Pass, Queue, Report};
use splitreel_telemetry::record;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Maximum number of open jobs that are counted.
const MAX_JOBS: usize = 100_000;
const JOBS_PAGE: usize = 1_000;

impl Coordinator {
    /// Sets the gauges from the store every `every`, until `stop`. All coordinators set the same values.
    pub async fn measure(&self, every: Duration, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(every);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = record::pass(Pass::Measure, self.measure_once()).await {
                tracing::warn!(%error, "gauge refresh failed; keeping previous values");
            }
        }
    }

    /// Number of open jobs that are not paused, and of their open tasks, at least one per job. Counts up to 100,000
    /// jobs.
    pub(crate) async fn backlog(&self) -> Result<(u64, u64), StoreError> {
        let (mut open_jobs, mut open_tasks, mut seen, mut before) = (0u64, 0u64, 0usize, None);
        while seen < MAX_JOBS {
            let states = vec![JobState::Probing, JobState::Planning, JobState::Running];
            let filter = JobFilter { states, before, limit: JOBS_PAGE, ..JobFilter::default() };
            let jobs = self.inner.store.jobs(filter).await?;
            for job in jobs.iter().filter(|j| !j.is_paused) {
                open_jobs += 1;
                // A job that is being planned will have tasks in a moment.
                open_tasks = open_tasks.saturating_add(u64::from(job.remaining.max(1)));
            }
            seen += jobs.len();
            before = jobs.last().map(|j| j.id);
            if jobs.len() < JOBS_PAGE {
                break;
            }
        }
        Ok((open_jobs, open_tasks))
    }

    async fn measure_once(&self) -> Result<(), StoreError> {
        let statistics = self.inner.store.statistics().await?;
        record::set_jobs(&statistics.jobs);
        record::set_leases(&statistics.leases);
        record::set_queue(Queue::Work, statistics.waiting_work);
        record::set_queue(Queue::Assemble, statistics.waiting_assemble);
        let age = statistics.oldest_unsent_ms.map(|at| since(at, self.now()));
        record::set_outbox(statistics.unsent, statistics.sent, age);
        Ok(())
    }

    /// Counts the end of a job if it ended at `at_ms`. To be called after every change that may end a job.
    pub(crate) async fn count_end(&self, job: JobId, at_ms: i64) {
        match self.inner.store.job(job).await {
            Ok(Some(job)) if job.ended_ms == Some(at_ms) => {
                record::job_ended(job.state, since(job.created_ms, at_ms));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%job, %error, "could not read job state; not counted in metrics"),
        }
    }
}

/// Counts a claim that was not answered before, and the first one of a job as its start.
pub(crate) fn claimed(job: &AcceptedJob, task: &Task, now_ms: i64) {
    if task.lease.as_ref().is_none_or(|lease| lease.claimed_ms != now_ms) {
        return;
    }
    record::task_claimed(task.spec.kind);
    if task.spec.kind == TaskKind::Probe && task.id.number == 0 && task.attempt == 1 {
        record::job_started(since(job.created_ms, now_ms));
    }
}

/// Counts the error if it is a refusal, and passes it on.
pub(crate) fn refused(report: Report) -> impl Fn(LeaseError) -> LeaseError {
    move |error| {
        if let LeaseError::Refused(refusal) = error {
            record::report_refused(report, refusal);
        }
        error
    }
}

fn since(then_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0))
}
