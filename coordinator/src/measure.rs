//! The metrics of a coordinator: gauges that are read from the store every few seconds, and the ends of jobs.

use crate::Coordinator;
use crate::known::Accepted;
use splitreel_backend::StoreError;
use splitreel_core::JobId;
use splitreel_core::task::{Refusal, Task, TaskKind};
use splitreel_telemetry::labels::{Pass, Queue, Report};
use splitreel_telemetry::record;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

impl Coordinator {
    /// Tells the gauges about the store, again and again until `stop`. Every coordinator may: all tell the same.
    pub async fn measure(&self, every: Duration, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(every);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = record::pass(Pass::Measure, self.measure_once()).await {
                tracing::warn!(%error, "the gauges stay as they were");
            }
        }
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

    /// Counts the end of a job, if it was at `at_ms` that it ended. Whoever may have ended it calls this.
    pub(crate) async fn count_end(&self, job: JobId, at_ms: i64) {
        match self.inner.store.job(job).await {
            Ok(Some(job)) if job.ended_ms == Some(at_ms) => {
                record::job_ended(job.state, since(job.created_ms, at_ms));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%job, %error, "whether a job ended is not counted"),
        }
    }
}

/// Counts a claim that was not answered before, and the first one of a job as its start.
pub(crate) fn claimed(job: &Accepted, task: &Task, now_ms: i64) {
    if task.lease.as_ref().is_none_or(|lease| lease.claimed_ms != now_ms) {
        return;
    }
    record::task_claimed(task.spec.kind);
    if task.spec.kind == TaskKind::Probe && task.attempt == 1 {
        record::job_started(since(job.created_ms, now_ms));
    }
}

/// Counts a refusal and hands it on.
pub(crate) fn refused(report: Report) -> impl Fn(Refusal) -> Refusal {
    move |refusal| {
        record::report_refused(report, refusal);
        refusal
    }
}

fn since(then_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0))
}
