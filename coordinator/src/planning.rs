//! Planning of probed jobs: reads what was found, calls the pure planner, records the outcome.

use crate::Coordinator;
use splitreel_backend::store::{JobFilter, TaskFilter};
use splitreel_backend::whole::{ReadError, read_whole};
use splitreel_backend::{BlobError, StoreError};
use splitreel_core::job::{Job, JobState};
use splitreel_core::part::TaskResult;
use splitreel_core::planner;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::TaskKind;
use splitreel_core::{Failure, FailureCode};
use splitreel_telemetry::trace::{Parent, Step, step_of};
use tracing::Instrument;

impl Coordinator {
    /// Plans the jobs that were probed. Answers whether any left that state.
    pub(crate) async fn plan_waiting(&self) -> Result<bool, StoreError> {
        let filter = JobFilter {
            states: vec![JobState::Planning],
            only: self.inner.config.scope.clone(),
            limit: 100,
            ..JobFilter::default()
        };
        let mut has_planned = false;
        for job in self.inner.store.jobs(filter).await? {
            let span = step_of(&Parent::resumed(&job.request.trace), job.id, Step::Plan);
            // A plan is large: it belongs on the heap, not into the future of the whole service.
            match Box::pin(self.plan_one(&job)).instrument(span).await {
                Ok(()) => has_planned = true,
                Err(error) => tracing::warn!(job = %job.id, %error, "planning failed; retrying"),
            }
        }
        Ok(has_planned)
    }

    async fn plan_one(&self, job: &Job) -> Result<(), PlanningError> {
        let kind = Some(TaskKind::Probe);
        let tasks = self.inner.store.tasks_like(job.id, TaskFilter { kind, ..TaskFilter::default() }).await?;
        let probe = tasks.iter().filter(|t| job.owns(t)).find_map(|t| match &t.result {
            Some(TaskResult::Probe(p)) => Some(p),
            _ => None,
        });
        let outcome = match probe {
            None => Err(Failure::of(FailureCode::NoProbe, "the probe result is missing")),
            Some(p) => match read_whole(&*self.inner.blobs, &p.info).await {
                Ok(json) => {
                    source_info(&json).and_then(|info| planner::plan(&info, &job.request.profile, &self.capabilities()))
                }
                // Another read returns the same bytes.
                Err(damaged @ ReadError::Damaged { .. }) => Err(unreadable(damaged)),
                Err(ReadError::Blob(error)) => return Err(error.into()),
            },
        };
        match outcome {
            Ok(plan) => {
                if self.inner.store.record_plan(job.id, job.generation, &plan, self.now()).await? {
                    tracing::info!(job = %job.id, plan = %plan.hash(), "job planned");
                }
            }
            Err(failure) => {
                tracing::info!(job = %job.id, code = %failure.code, "job rejected: cannot be planned");
                let now = self.now();
                if self.inner.store.reject(job.id, job.generation, failure, now).await? {
                    self.count_end(job.id, now).await;
                }
            }
        }
        Ok(())
    }
}

/// The result of probing. Its bytes are the ones that were stored, so another attempt would read the same.
fn source_info(json: &[u8]) -> Result<SourceInfo, Failure> {
    serde_json::from_slice(json).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::SourceInfo, format!("the result of probing cannot be read: {error}"))
}

/// Why a job could not be planned this time; the next pump tries again.
#[derive(Debug, thiserror::Error)]
enum PlanningError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Object(#[from] BlobError),
}
