//! A job: one request, its states, its policy.

use crate::failure::Failure;
use crate::fair::Priority;
use crate::id::JobId;
use crate::profile::Profile;
use crate::source::SourceRef;
use crate::speculate::Pace;
use crate::task::{Task, TaskKind, TaskSpec};
use crate::trace::Trace;
use serde::{Deserialize, Serialize};

/// States of a job, drawn in `docs/jobs.md`: `probing → planning → running → published`; side exits `failed`,
/// `cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The probe task is open.
    Probing,
    /// Probed; the coordinator has not planned yet.
    Planning,
    /// Planned; tasks are open.
    Running,
    /// The presentation is visible.
    Published,
    /// Failed for good; `retry` re-runs what failed.
    Failed,
    /// Cancelled by the user.
    Cancelled,
}

impl JobState {
    /// No task of the job can run any more.
    pub const fn is_ended(self) -> bool {
        matches!(self, JobState::Published | JobState::Failed | JobState::Cancelled)
    }

    /// The word used in SQL, API and UI.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobState::Probing => "probing",
            JobState::Planning => "planning",
            JobState::Running => "running",
            JobState::Published => "published",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Inverse of [`JobState::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Probing, Self::Planning, Self::Running, Self::Published, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// Who asks; jobs and keys of tenants never meet.
    pub tenant: String,
    /// Same tenant and key: same job. Deterministic on the laptop, chosen by the client over HTTP.
    pub idempotency_key: String,
    /// Pinned source.
    pub source: SourceRef,
    /// Name for output files, already sanitised by [`output_base`](crate::names::output_base).
    pub base: String,
    /// Full settings, resolved.
    pub profile: Profile,
    /// Its class among the tenant's jobs.
    #[serde(default)]
    pub priority: Priority,
    /// Decode the whole source once to list its frames, whatever the container says of them.
    #[serde(default)]
    pub deep_probe: bool,
    /// Where the presentation is exported to, if anywhere (a local directory on the laptop).
    pub output: Option<String>,
    /// The trace of the submit; tasks and attempts go on with it.
    #[serde(default, skip_serializing_if = "Trace::is_none")]
    pub trace: Trace,
}

/// The job row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Identifier.
    pub id: JobId,
    /// The request.
    pub request: JobRequest,
    /// State.
    pub state: JobState,
    /// No new attempt starts while it is set; running ones go on.
    #[serde(default)]
    pub is_paused: bool,
    /// Number of tasks that are not done. Invariant: equals the count over the task rows.
    pub remaining: u32,
    /// Number of its plan: 0 until the first one is recorded, one more each time a new plan is called for.
    pub generation: u32,
    /// Frames are listed by decoding the source: the request asks for this, the probe did so by itself, or the
    /// container's list proved wrong.
    #[serde(default)]
    pub deep_probe: bool,
    /// Why and when the job was last planned again, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replanned: Option<Replanned>,
    /// Number that the next inserted task gets.
    pub next_task: u32,
    /// How fast its segments were so far.
    #[serde(default)]
    pub pace: Pace,
    /// Hash of the plan, once planned.
    pub plan_hash: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch; set with the ended state.
    pub ended_ms: Option<i64>,
}

/// The start of a generation after the first. Stored as one JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replanned {
    /// Why the plan before was dropped.
    #[serde(flatten)]
    pub failure: Failure,
    /// Number of the generation's first task, its probe. 0 in rows of versions that did not store the number.
    #[serde(default)]
    pub first_task: u32,
    /// Milliseconds since the Unix epoch. 0 in rows of versions that did not store the time.
    #[serde(default)]
    pub at_ms: i64,
}

/// Lowest generation among the tasks that count in a job of `generation`: the first plan's probe task is of generation 0.
pub const fn first_generation(generation: u32) -> u32 {
    if generation <= 1 { 0 } else { generation }
}

/// What a store does, in the same transaction, after a task became done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterDone {
    /// Nothing more.
    Nothing,
    /// The job waits for its plan.
    AwaitPlan,
    /// All tasks of the plan are done: insert this one task.
    InsertAssemble(TaskSpec),
    /// The presentation is published; the job has ended.
    Published,
}

impl Job {
    /// A new job with its probe task.
    pub fn new(id: JobId, request: JobRequest, now_ms: i64) -> (Job, TaskSpec) {
        let job = Job {
            id,
            deep_probe: request.deep_probe,
            request,
            state: JobState::Probing,
            is_paused: false,
            remaining: 1,
            generation: 0,
            replanned: None,
            next_task: 1,
            pace: Pace::default(),
            plan_hash: None,
            failure: None,
            created_ms: now_ms,
            ended_ms: None,
        };
        (job, TaskSpec { number: 0, kind: TaskKind::Probe, index: 0, expected_cost: 1 })
    }

    /// Records a plan with `num_tasks` tasks (numbers from `next_task` on). `is_decoded`: its frames were listed by
    /// decoding the source. False, and nothing changes, unless the job waits for a plan.
    pub fn planned(&mut self, plan_hash: String, num_tasks: u32, is_decoded: bool) -> bool {
        if self.state != JobState::Planning || num_tasks == 0 {
            return false;
        }
        self.state = JobState::Running;
        self.generation = self.generation.max(1);
        self.deep_probe |= is_decoded;
        self.plan_hash = Some(plan_hash);
        self.remaining = num_tasks;
        self.next_task = self.next_task.saturating_add(num_tasks);
        true
    }

    /// Whether a failure calls for a new plan from a decoded list of frames: the container's list may be to blame, and no
    /// decode has confirmed the list yet. At most once per job, because the new plan is made of a decoded list.
    pub fn needs_decoded_frames(&self, failure: &Failure) -> bool {
        self.is_planned() && !self.state.is_ended() && !self.deep_probe && failure.may_be_of_the_frame_list()
    }

    /// Calls for a new plan: the next generation begins with a probe, the task returned. The job's other open tasks are
    /// to be cancelled with it, its outbox rows and its plan deleted. `deep`: list frames by decoding from now on. `None`,
    /// and nothing changes: the job has no plan, or has ended.
    pub fn replan(&mut self, reason: Failure, deep: bool, now_ms: i64) -> Option<TaskSpec> {
        if self.state.is_ended() || !self.is_planned() {
            return None;
        }
        let number = self.next_task;
        self.state = JobState::Probing;
        self.generation = self.generation.saturating_add(1);
        self.deep_probe |= deep;
        self.replanned = Some(Replanned { failure: reason, first_task: number, at_ms: now_ms });
        self.plan_hash = None;
        self.remaining = 1;
        self.next_task = number.saturating_add(1);
        Some(TaskSpec { number, kind: TaskKind::Probe, index: 0, expected_cost: 1 })
    }

    /// Whether the plan of the current generation is recorded.
    pub const fn is_planned(&self) -> bool {
        self.plan_hash.is_some()
    }

    /// Lowest generation among the tasks that count.
    pub const fn first_generation(&self) -> u32 {
        first_generation(self.generation)
    }

    /// Lowest number among the tasks that count: the probe task of the current generation.
    pub fn first_task(&self) -> u32 {
        self.replanned.as_ref().map_or(0, |replanned| replanned.first_task)
    }

    /// Start of the current generation, milliseconds since the Unix epoch: the submit, or the last call for a new plan.
    pub fn generation_started_ms(&self) -> i64 {
        self.replanned.as_ref().map_or(self.created_ms, |replanned| replanned.at_ms.max(self.created_ms))
    }

    /// Whether a task counts: parts of earlier generations are garbage.
    pub const fn owns(&self, task: &Task) -> bool {
        task.generation >= self.first_generation()
    }

    /// Counts a task that became done. Call once per task, in the transaction that makes it done.
    pub fn task_done(&mut self, kind: TaskKind, now_ms: i64) -> AfterDone {
        self.remaining = self.remaining.saturating_sub(1);
        match kind {
            TaskKind::Probe => {
                self.state = JobState::Planning;
                AfterDone::AwaitPlan
            }
            TaskKind::Assemble => {
                self.state = JobState::Published;
                self.is_paused = false;
                self.ended_ms = Some(now_ms);
                AfterDone::Published
            }
            TaskKind::Whole | TaskKind::Segment | TaskKind::Audio if self.remaining == 0 => {
                let number = self.next_task;
                self.next_task = self.next_task.saturating_add(1);
                self.remaining = 1;
                AfterDone::InsertAssemble(TaskSpec { number, kind: TaskKind::Assemble, index: 0, expected_cost: 1 })
            }
            TaskKind::Whole | TaskKind::Segment | TaskKind::Audio => AfterDone::Nothing,
        }
    }

    /// Ends the job as failed; its open tasks are to be cancelled with it. False when it had ended before.
    pub fn fail(&mut self, failure: Failure, now_ms: i64) -> bool {
        self.end(JobState::Failed, now_ms) && {
            self.failure = Some(failure);
            true
        }
    }

    /// Ends the job as cancelled; its open tasks are to be cancelled with it. False when it had ended before.
    pub fn cancel(&mut self, now_ms: i64) -> bool {
        self.end(JobState::Cancelled, now_ms)
    }

    /// A user's retry of a failed or cancelled job. `has_open_probe`: the probe task of its generation is not done;
    /// `num_open`: tasks of its generation that are not done. False when there is nothing to retry.
    pub fn retry(&mut self, has_open_probe: bool, num_open: u32) -> bool {
        if !matches!(self.state, JobState::Failed | JobState::Cancelled) {
            return false;
        }
        self.state = match (has_open_probe, self.is_planned()) {
            (true, _) => JobState::Probing,
            (false, false) => JobState::Planning,
            (false, true) => JobState::Running,
        };
        self.remaining = num_open;
        self.failure = None;
        self.ended_ms = None;
        true
    }

    /// Pauses or resumes. False when it has ended or was so already.
    pub fn pause(&mut self, paused: bool) -> bool {
        if self.state.is_ended() || self.is_paused == paused {
            return false;
        }
        self.is_paused = paused;
        true
    }

    fn end(&mut self, state: JobState, now_ms: i64) -> bool {
        if self.state.is_ended() {
            return false;
        }
        self.state = state;
        self.is_paused = false;
        self.ended_ms = Some(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureCode;
    use crate::source::SourceRef;
    use uuid::Uuid;

    /// A job in state running, planned from the container's list of frames.
    fn running() -> Job {
        let request = JobRequest {
            tenant: "t".into(),
            idempotency_key: "k".into(),
            source: SourceRef { locator: "/film".into(), version: "1".into(), bytes: 1 },
            base: "film".into(),
            profile: Profile::built_in("universal").unwrap(),
            priority: Priority::Normal,
            deep_probe: false,
            output: None,
            trace: Trace::default(),
        };
        let (mut job, _) = Job::new(JobId(Uuid::nil()), request, 0);
        job.task_done(TaskKind::Probe, 0);
        assert!(job.planned("first".into(), 3, false));
        job
    }

    #[test]
    fn a_wrong_list_of_frames_calls_for_one_new_plan_from_decoded_frames() {
        let mut job = running();
        let wrong = Failure::of(FailureCode::TimesDiffer, "other times");
        assert!(!job.needs_decoded_frames(&Failure::of(FailureCode::FfmpegFailed, "x")));
        assert!(job.needs_decoded_frames(&wrong));
        let probe = job.replan(wrong.clone(), true, 7).unwrap();
        assert_eq!((probe.number, probe.kind), (4, TaskKind::Probe));
        assert_eq!((job.state, job.generation, job.remaining, job.next_task), (JobState::Probing, 2, 1, 5));
        assert_eq!((job.plan_hash.as_deref(), job.replanned.as_ref().map(|r| &r.failure)), (None, Some(&wrong)));
        assert_eq!((job.first_task(), job.generation_started_ms()), (4, 7));
        assert_eq!(job.replan(wrong.clone(), true, 8), None, "there is no plan yet to replace");
        job.task_done(TaskKind::Probe, 0);
        assert!(job.planned("second".into(), 2, true));
        assert_eq!((job.state, job.generation), (JobState::Running, 2));
        assert!(!job.needs_decoded_frames(&wrong), "a decoded list is not decoded again");
    }

    #[test]
    fn a_reason_stored_without_the_start_of_its_generation_is_read() {
        let failure = Failure::of(FailureCode::TimesDiffer, "other times");
        let stored = serde_json::to_string(&failure).unwrap();
        let read: Replanned = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, Replanned { failure, first_task: 0, at_ms: 0 });
        let job = Job { replanned: Some(read), created_ms: 5, ..running() };
        assert_eq!((job.first_task(), job.generation_started_ms()), (0, 5));
    }

    #[test]
    fn tasks_of_earlier_generations_do_not_count() {
        let mut job = running();
        let task = |number, generation| {
            let spec = TaskSpec { number, kind: TaskKind::Probe, index: 0, expected_cost: 1 };
            let id = crate::TaskId { job: JobId(Uuid::nil()), number };
            Task::new(id, generation, spec, crate::task::TaskState::Ready)
        };
        let (first_probe, first, second_probe) = (task(0, 0), task(1, 1), task(4, 2));
        assert!(job.owns(&first_probe) && job.owns(&first));
        job.replan(Failure::of(FailureCode::TimesDiffer, "other times"), true, 1).unwrap();
        assert!(!job.owns(&first_probe) && !job.owns(&first) && job.owns(&second_probe));
    }

    #[test]
    fn an_ended_job_is_not_planned_again() {
        let mut job = running();
        job.cancel(1);
        assert_eq!(job.replan(Failure::of(FailureCode::TimesDiffer, "other times"), true, 2), None);
    }
}
