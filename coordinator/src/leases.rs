//! The lease API: turns wakeups into work orders and outcomes into transitions.

use crate::Coordinator;
use crate::job_cache::AcceptedJob;
use crate::measure::{self, refused};
use async_trait::async_trait;
use splitreel_backend::StoreError;
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::lease::{Assembly, History, LeaseError, Leases, SourceName, Work, WorkOrder};
use splitreel_backend::store::ClaimRequest;
use splitreel_core::job::Job;
use splitreel_core::key::AttemptPrefix;
use splitreel_core::part::TaskResult;
use splitreel_core::plan::{PLAN_VERSION, Plan, Timeline};
use splitreel_core::task::{AfterFailure, Progress, Refusal, Task, TaskKind};
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use splitreel_telemetry::labels::Report;
use splitreel_telemetry::record;
use splitreel_telemetry::trace::{self, Step};
use std::sync::Arc;
use tracing::{Instrument, Span};

fn unreadable(what: &str) -> LeaseError {
    LeaseError::Unavailable { what: what.to_owned() }
}

#[async_trait]
impl Leases for Coordinator {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let ttl_ms = self.inner.config.retry.lease_ttl_ms;
        let now = self.now();
        let request = ClaimRequest { wakeup: wakeup.clone(), lease, worker: worker.clone(), now_ms: now, ttl_ms };
        let task = self.inner.store.claim(request).await.map_err(refused(Report::Claim))?;
        let job = self.accepted(task.id.job).await?.ok_or(Refusal::Cancelled)?;
        measure::claimed(&job, &task, now);
        let work = self.work(&job, &task).await?;
        Ok(WorkOrder {
            task: task.id,
            attempt: task.attempt,
            lease,
            ttl_ms,
            media_failures: task.media_failures,
            key_prefix: AttemptPrefix { task: task.id, attempt: task.attempt, lease }.to_string(),
            source: job.request.source.clone(),
            grant: None,
            work,
        })
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        let now = self.now();
        let expires = self
            .inner
            .store
            .renew(task, lease, progress, now, &self.inner.config.retry)
            .await
            .map_err(refused(Report::Renew))?;
        Ok(expires - now)
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        let (now, kind) = (self.now(), self.kind_of(task, &result).await);
        let publishes = kind == TaskKind::Assemble;
        let span = if publishes { trace::step(Step::Publish) } else { Span::none() };
        let done = self.inner.store.complete(task, lease, result, now).instrument(span).await;
        let is_new = done.map_err(refused(Report::Complete))?;
        self.inner.wake.notify_one();
        if is_new {
            record::task_completed(kind);
        }
        if is_new && publishes {
            self.count_end(task.job, now).await;
        }
        Ok(())
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        tracing::warn!(%task, code = %failure.code, message = %failure.message, "attempt failed");
        record::attempt_failed(&failure.code);
        let (now, class) = (self.now(), failure.class);
        let ended = self.inner.store.fail(task, lease, failure, now, &self.inner.config.retry).await;
        match ended.map_err(refused(Report::Fail))? {
            AfterFailure::Retry { .. } => record::task_retried(class),
            AfterFailure::GiveUp => self.count_end(task.job, now).await,
            AfterFailure::Replan => {
                tracing::warn!(job = %task.job, "the list of frames may be wrong; planning again from decoded frames");
            }
        }
        self.inner.wake.notify_one();
        Ok(())
    }
}

impl Coordinator {
    /// The kind of the task that has this result.
    async fn kind_of(&self, task: TaskId, result: &TaskResult) -> TaskKind {
        match result {
            TaskResult::Probe(_) => TaskKind::Probe,
            TaskResult::Audio(_) => TaskKind::Audio,
            TaskResult::Assemble(_) => TaskKind::Assemble,
            TaskResult::Video(_) => {
                let plan = match self.cached_plan(task.job) {
                    Some(plan) => Some(plan),
                    // Another coordinator granted the claim. The plan is read once, for the next completions too.
                    None => self.inner.job_cache.newest_plan(task.job, self.now()).await.ok().flatten(),
                };
                plan.and_then(|p| p.timeline.as_ref().map(Timeline::task_kind)).unwrap_or(TaskKind::Segment)
            }
        }
    }

    async fn work(&self, job: &AcceptedJob, task: &Task) -> Result<Work, LeaseError> {
        let index = task.spec.index;
        Ok(match task.spec.kind {
            TaskKind::Probe => {
                let row = self.job_row(task).await?;
                Work::Probe { deep: row.deep_probe, source: row.request.profile.source }
            }
            TaskKind::Whole | TaskKind::Segment => Work::Video { plan: self.current_plan(task).await?, segment: index },
            TaskKind::Audio => Work::Audio { plan: self.current_plan(task).await?, index },
            TaskKind::Assemble => Work::Assemble(Arc::new(self.assembly(job, task).await?)),
        })
    }

    /// The row of a claimed task's job, while the task counts.
    async fn job_row(&self, task: &Task) -> Result<Job, LeaseError> {
        let job = self.inner.store.job(task.id.job).await?;
        Ok(job.filter(|job| job.owns(task)).ok_or(Refusal::Cancelled)?)
    }

    /// The plan that a claimed task is part of. A plan of an older version is not read: the job is planned again, which
    /// takes the claim back.
    async fn current_plan(&self, task: &Task) -> Result<Arc<Plan>, LeaseError> {
        let (job, generation) = (task.id.job, task.generation);
        match self.plan_of(job, generation).await {
            Ok(plan) => Ok(plan.ok_or(Refusal::Cancelled)?),
            Err(StoreError::PlanVersion { version }) if version < PLAN_VERSION => {
                let reason = Failure::outdated_plan(version);
                if self.inner.store.replan(job, generation, reason, self.now()).await? {
                    tracing::info!(%job, version, "plan is of an older version; planning again");
                    self.inner.wake.notify_one();
                }
                Err(Refusal::Cancelled.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn assembly(&self, job: &AcceptedJob, task: &Task) -> Result<Assembly, LeaseError> {
        let plan = self.current_plan(task).await?;
        let row = self.job_row(task).await?;
        let tasks = self.inner.store.tasks(task.id.job).await?;
        let extra_attempts = tasks.iter().map(|t| t.attempt.saturating_sub(1)).sum();
        let (mut probe, mut video, mut audio) = (None, Vec::new(), Vec::new());
        for t in tasks.into_iter().filter(|t| row.owns(t)) {
            match t.result {
                Some(TaskResult::Probe(p)) => probe = Some(p),
                Some(TaskResult::Video(v)) => video.push(v),
                Some(TaskResult::Audio(a)) => audio.push((t.spec.index, a)),
                Some(TaskResult::Assemble(_)) | None => {}
            }
        }
        audio.sort_by_key(|(i, _)| *i);
        Ok(Assembly {
            plan,
            base: job.request.base.clone(),
            probe: probe.ok_or_else(|| unreadable("the probe result is missing"))?,
            video,
            audio: audio.into_iter().map(|(_, a)| a).collect(),
            history: History {
                job: task.id.job.to_string(),
                created_ms: job.created_ms,
                assembled_ms: self.now(),
                extra_attempts,
                profile: job.request.profile.name.clone(),
                generation: row.generation,
                replanned: row.replanned.map(|replanned| replanned.failure),
                source: Some(SourceName::of(&job.request.source.locator)),
            },
        })
    }
}
