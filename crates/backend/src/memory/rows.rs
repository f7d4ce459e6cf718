//! The tables of the in-memory store and what touches several of them. Synchronous: called under the lock.

use crate::doorbell::{Queue, Wakeup};
#[cfg(feature = "testing")]
use crate::invariants::Snapshot;
use crate::statistics::{Line, StoreStatistics};
use crate::store::{Scope, StoreError};
use crate::transition::AttemptEnded;
use splitreel_core::event::{Event, EventKind};
use splitreel_core::fair::{Demand, Shares, allot};
use splitreel_core::job::Job;
use splitreel_core::plan::Plan;
use splitreel_core::task::{AfterFailure, Lease, Task, TaskKind, TaskState};
use splitreel_core::{JobId, TaskId};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Rows {
    pub jobs: BTreeMap<JobId, JobRows>,
    /// (tenant, idempotency key) → job.
    pub keys: BTreeMap<(String, String), JobId>,
    /// By sequence number: oldest first.
    pub outbox: BTreeMap<i64, OutboxRow>,
    /// Sequence number of each task's outbox row.
    pub outbox_of: BTreeMap<TaskId, i64>,
    pub events: Vec<Event>,
    last_outbox_seq: i64,
    last_event_seq: i64,
}

#[derive(Debug)]
pub(super) struct JobRows {
    pub job: Job,
    pub tasks: BTreeMap<u32, Task>,
    pub plan: Option<Plan>,
}

#[derive(Debug)]
pub(super) struct OutboxRow {
    pub wakeup: Wakeup,
    pub created_ms: i64,
    pub sent_ms: Option<i64>,
}

pub(super) fn in_scope(scope: &Scope, job: JobId) -> bool {
    scope.as_ref().is_none_or(|only| only.contains(&job))
}

impl JobRows {
    /// The rows that a use-case about one task works on.
    pub fn row(&mut self, number: u32) -> Option<(&mut Job, &mut Task)> {
        Some((&mut self.job, self.tasks.get_mut(&number)?))
    }

    fn cancel_open_tasks(&mut self) {
        for task in self.tasks.values_mut() {
            task.cancel();
        }
    }
}

impl Rows {
    pub fn row(&mut self, id: TaskId) -> Option<(&mut Job, &mut Task)> {
        self.jobs.get_mut(&id.job)?.row(id.number)
    }

    pub fn insert_job(&mut self, job: Job, task: Task) -> Result<(), StoreError> {
        if self.jobs.contains_key(&job.id) {
            return Err(StoreError::Corrupt { what: format!("job id {} is taken", job.id) });
        }
        let (id, at_ms) = (job.id, job.created_ms);
        self.keys.insert((job.request.tenant.clone(), job.request.idempotency_key.clone()), id);
        self.jobs.insert(id, JobRows { job, tasks: BTreeMap::from([(task.id.number, task)]), plan: None });
        self.log(id, at_ms, EventKind::Submitted);
        Ok(())
    }

    pub fn log(&mut self, job: JobId, at_ms: i64, what: EventKind) {
        self.last_event_seq += 1;
        self.events.push(Event { seq: self.last_event_seq, job, at_ms, what });
    }

    /// After an ended state was set: no task of the job can be claimed any more, and its outbox rows are gone.
    pub fn close_job(&mut self, job: JobId) {
        if let Some(rows) = self.jobs.get_mut(&job) {
            rows.cancel_open_tasks();
        }
        self.delete_outbox_of_job(job);
    }

    pub fn delete_outbox_of_job(&mut self, job: JobId) {
        self.outbox.retain(|_, row| row.wakeup.task.job != job);
        self.outbox_of.retain(|task, _| task.job != job);
    }

    pub fn end_attempt(&mut self, job: JobId, at_ms: i64, ended: AttemptEnded) -> AfterFailure {
        match ended.insert {
            Some(probe) => self.next_generation(probe, at_ms, ended.event),
            None => {
                if ended.after == AfterFailure::GiveUp {
                    self.close_job(job);
                }
                self.log(job, at_ms, ended.event);
            }
        }
        ended.after
    }

    /// Starts the next generation: drops the old plan with its open tasks and outbox rows, and inserts the new probe task.
    pub fn next_generation(&mut self, probe: Task, at_ms: i64, event: EventKind) {
        let job = probe.id.job;
        self.close_job(job);
        if let Some(rows) = self.jobs.get_mut(&job) {
            rows.plan = None;
            rows.tasks.insert(probe.id.number, probe);
        }
        self.log(job, at_ms, event);
    }

    pub fn add_outbox(&mut self, wakeup: Wakeup, created_ms: i64) {
        self.last_outbox_seq += 1;
        self.outbox_of.insert(wakeup.task, self.last_outbox_seq);
        self.outbox.insert(self.last_outbox_seq, OutboxRow { wakeup, created_ms, sent_ms: None });
    }

    pub fn delete_outbox(&mut self, task: TaskId) {
        if let Some(seq) = self.outbox_of.remove(&task) {
            self.outbox.remove(&seq);
        }
    }

    /// Tasks of open jobs with a live lease that `is` picks, by job and number.
    pub fn under_way(&self, is: impl Fn(&Lease) -> bool) -> Vec<TaskId> {
        let open = self.jobs.values().filter(|rows| !rows.job.state.is_ended());
        let tasks = open.flat_map(|rows| rows.tasks.values());
        tasks.filter(|t| t.live().any(|(_, lease)| is(lease))).map(|t| t.id).collect()
    }

    /// Ends the attempts of a task that `end` ends; it may have two. False: none.
    pub fn take_back(&mut self, id: TaskId, now_ms: i64, end: impl Fn(&mut Rows) -> Option<AttemptEnded>) -> bool {
        let mut is_taken = false;
        while let Some(ended) = end(self) {
            self.end_attempt(id.job, now_ms, ended);
            is_taken = true;
        }
        is_taken
    }

    /// Ready, due tasks of a queue without an outbox row, for at most `free` places, in dispatch order.
    pub fn due(&self, queue: Queue, scope: &Scope, free: usize, shares: &Shares, now_ms: i64) -> Vec<Wakeup> {
        let mut waiting: BTreeMap<JobId, VecDeque<Wakeup>> = BTreeMap::new();
        let mut demands = Vec::new();
        let mut in_flight: BTreeMap<String, usize> = BTreeMap::new();
        for rows in self.jobs.values().filter(|r| !r.job.state.is_ended()) {
            let tasks = || rows.tasks.values().filter(|t| Queue::of(t.spec.kind) == queue);
            let busy = |t: &&Task| t.state == TaskState::Leased || self.outbox_of.contains_key(&t.id);
            let beside = tasks().filter(|t| t.superseded.is_some()).count();
            *in_flight.entry(rows.job.request.tenant.clone()).or_default() += tasks().filter(busy).count() + beside;
            if rows.job.is_paused || !in_scope(scope, rows.job.id) {
                continue;
            }
            let wakeups: VecDeque<_> = tasks()
                .filter(|t| t.state == TaskState::Ready && t.is_due(now_ms) && !busy(t))
                .map(|t| Wakeup { task: t.id, attempt: t.attempt, kind: t.spec.kind, trace: Default::default() })
                .take(free)
                .collect();
            demands.push(Demand {
                job: rows.job.id,
                tenant: rows.job.request.tenant.clone(),
                priority: rows.job.request.priority,
                created_ms: rows.job.created_ms,
                waiting: wakeups.len(),
            });
            waiting.insert(rows.job.id, wakeups);
        }
        let picks = allot(free, &demands, &in_flight, shares, now_ms);
        picks.iter().filter_map(|job| waiting.get_mut(job)?.pop_front()).collect()
    }

    pub fn forget(&mut self, job: JobId) -> bool {
        let Some(rows) = self.jobs.remove(&job) else { return false };
        self.keys.remove(&(rows.job.request.tenant, rows.job.request.idempotency_key));
        self.outbox.retain(|_, row| row.wakeup.task.job != job);
        self.outbox_of.retain(|task, _| task.job != job);
        self.events.retain(|event| event.job != job);
        true
    }

    pub fn statistics(&self) -> StoreStatistics {
        let line = |what: &str, word: &str, num: usize, also: i64| Line {
            what: what.to_owned(),
            word: word.to_owned(),
            num: i64::try_from(num).unwrap_or(i64::MAX),
            also,
        };
        let mut lines = Vec::new();
        let mut assemble = 0;
        for rows in self.jobs.values().filter(|rows| !rows.job.state.is_ended()) {
            let active = i64::from(!rows.job.is_paused);
            lines.push(line("job", rows.job.state.as_str(), 1, active * i64::from(rows.job.remaining)));
            for task in rows.tasks.values() {
                let is_assemble = task.spec.kind == TaskKind::Assemble && task.state == TaskState::Ready;
                assemble += usize::from(is_assemble && !rows.job.is_paused);
                if task.state == TaskState::Leased {
                    lines.push(line("lease", task.spec.kind.as_str(), 1, active));
                }
                if task.superseded.is_some() {
                    lines.push(line("lease", task.spec.kind.as_str(), 1, 0));
                }
            }
        }
        let unsent: Vec<i64> = self.outbox.values().filter(|r| r.sent_ms.is_none()).map(|r| r.created_ms).collect();
        lines.push(line("assemble", "", assemble, 0));
        lines.push(line("unsent", "", unsent.len(), unsent.iter().copied().min().unwrap_or(0)));
        lines.push(line("sent", "", self.outbox.len() - unsent.len(), 0));
        lines.into_iter().collect()
    }

    #[cfg(feature = "testing")]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let of =
            |id: JobId| self.outbox.values().map(|row| row.wakeup.clone()).filter(move |wakeup| wakeup.task.job == id);
        self.jobs
            .values()
            .map(|rows| Snapshot {
                job: rows.job.clone(),
                tasks: rows.tasks.values().cloned().collect(),
                outbox: of(rows.job.id).collect(),
            })
            .collect()
    }
}
