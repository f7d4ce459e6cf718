//! What an operator watches, counted: how the lines of a store's count make up a census, so that all stores count alike.

use splitreel_core::job::JobState;
use splitreel_core::task::TaskKind;
use std::collections::BTreeMap;

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Open jobs; states without any are left out.
    pub jobs: BTreeMap<JobState, u64>,
    /// Leases by the kind of their task; kinds without any are left out.
    pub leases: BTreeMap<TaskKind, u64>,
    /// Tasks of open jobs that are not paused that wait for a worker's lease, in back-off too.
    pub waiting_work: u64,
    /// The same for assemblers.
    pub waiting_assemble: u64,
    /// Outbox rows that were not rung yet.
    pub unsent: u64,
    /// Outbox rows that were rung and not claimed yet.
    pub sent: u64,
    /// When the oldest outbox row was written that was not rung yet, milliseconds since the epoch.
    pub oldest_unsent_ms: Option<i64>,
}

/// A line of a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `job`, `lease`, `assemble` (assemble tasks that wait), `unsent` or `sent`.
    pub what: String,
    /// State of a job or kind of a lease's task; else empty.
    pub word: String,
    /// How many.
    pub num: i64,
    /// `job`: tasks of those that are not paused that are not done. `lease`: how many of them take
    /// a task of a job that is not paused from those that wait; an earlier attempt beside another takes none.
    /// `unsent`: when the oldest was written.
    pub also: i64,
}

impl FromIterator<Line> for Census {
    /// Lines that are not understood are left out.
    fn from_iter<I: IntoIterator<Item = Line>>(lines: I) -> Self {
        let whole = |n: i64| u64::try_from(n).unwrap_or(0);
        let (mut census, mut open, mut leased) = (Census::default(), 0u64, 0u64);
        for line in lines {
            let num = whole(line.num);
            match line.what.as_str() {
                "job" => {
                    open = open.saturating_add(whole(line.also));
                    if let Some(state) = JobState::parse(&line.word) {
                        *census.jobs.entry(state).or_default() += num;
                    }
                }
                "lease" => {
                    leased = leased.saturating_add(whole(line.also));
                    if let Some(kind) = TaskKind::parse(&line.word) {
                        *census.leases.entry(kind).or_default() += num;
                    }
                }
                "assemble" => census.waiting_assemble = num,
                "unsent" if num > 0 => (census.unsent, census.oldest_unsent_ms) = (num, Some(line.also)),
                "sent" => census.sent = num,
                _ => {}
            }
        }
        census.waiting_work = open.saturating_sub(leased).saturating_sub(census.waiting_assemble);
        census
    }
}
