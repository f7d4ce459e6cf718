//! Tasks of a job and their attempts.

use super::{FailureView, JobView};
use serde::{Deserialize, Serialize};
use splitreel_core::job::first_generation;
use splitreel_core::task::{TaskKind, TaskState};
use utoipa::ToSchema;

/// The live lease of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// Who holds it.
    pub worker: String,
    /// Since when.
    pub claimed_ms: i64,
    /// Until when, unless it is renewed.
    pub expires_ms: i64,
    /// 0 to 100.
    pub percent: f64,
    /// Media seconds per wall second, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
    /// Frames or packets so far.
    pub frames: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// It has not.
    Running,
    /// Its result counts.
    Done,
    /// It failed, or its lease ran out.
    Failed,
    /// Its job ended under it.
    Cancelled,
}

/// One execution of a task, from the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Number.
    pub attempt: u32,
    /// Who.
    pub worker: String,
    /// When it was claimed.
    pub started_ms: i64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// How.
    pub outcome: AttemptOutcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Number in the job.
    pub number: u32,
    /// Number of the plan that the task belongs to; 0 for the first probe, which belongs to plan 1. When the job's
    /// `generation` is 2 or more, tasks of lower generations were dropped with their plan.
    #[serde(default)]
    pub generation: u32,
    /// Kind.
    pub kind: TaskKind,
    /// Index into the plan's list for its kind.
    pub index: u32,
    /// State.
    pub state: TaskState,
    /// Number of the current or next attempt.
    pub attempt: u32,
    /// Media failures so far.
    pub media_failures: u32,
    /// Infrastructure failures so far.
    pub infra_failures: u32,
    /// It does not start before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<i64>,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseView>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

impl JobView {
    /// Whether a task counts; tasks of earlier generations were dropped with their plan.
    pub const fn owns(&self, task: &TaskView) -> bool {
        task.generation >= first_generation(self.generation)
    }
}

/// A page of tasks, by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// The `after` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}
