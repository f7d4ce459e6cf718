//! Store statistics: what an operator watches, counted. The lines of a store's count become statistics here, so that all
//! stores count alike.

use splitreel_core::job::JobState;
use splitreel_core::task::TaskKind;
use std::collections::BTreeMap;

/// Counts of open work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Open jobs by state; states without jobs are absent.
    pub jobs: BTreeMap<JobState, u64>,
    /// Leases by the kind of their task; kinds without leases are absent.
    pub leases: BTreeMap<TaskKind, u64>,
    /// Unleased tasks for workers, back-off included, of open jobs that are not paused.
    pub waiting_work: u64,
    /// Unleased tasks for assemblers, likewise.
    pub waiting_assemble: u64,
    /// Outbox rows that were not sent yet.
    pub unsent: u64,
    /// Outbox rows that were sent and not claimed yet.
    pub sent: u64,
    /// When the oldest unsent outbox row was written, milliseconds since the epoch.
    pub oldest_unsent_ms: Option<i64>,
}

/// One line of a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `job`, `lease`, `assemble` (waiting assemble tasks), `unsent` or `sent`.
    pub what: String,
    /// State of a job or kind of a lease's task; otherwise empty.
    pub word: String,
    /// The count.
    pub num: i64,
    /// `job`: open tasks of the jobs that are not paused. `lease`: number of these leases that hold a task of a job that
    /// is not paused; a superseded attempt holds none. `unsent`: when the oldest row was written.
    pub also: i64,
}

impl FromIterator<Line> for StoreStatistics {
    /// Ignores lines with an unknown word.
    fn from_iter<I: IntoIterator<Item = Line>>(lines: I) -> Self {
        let whole = |n: i64| u64::try_from(n).unwrap_or(0);
        let (mut statistics, mut open, mut leased) = (StoreStatistics::default(), 0u64, 0u64);
        for line in lines {
            let num = whole(line.num);
            match line.what.as_str() {
                "job" => {
                    open = open.saturating_add(whole(line.also));
                    if let Some(state) = JobState::parse(&line.word) {
                        *statistics.jobs.entry(state).or_default() += num;
                    }
                }
                "lease" => {
                    leased = leased.saturating_add(whole(line.also));
                    if let Some(kind) = TaskKind::parse(&line.word) {
                        *statistics.leases.entry(kind).or_default() += num;
                    }
                }
                "assemble" => statistics.waiting_assemble = num,
                "unsent" if num > 0 => (statistics.unsent, statistics.oldest_unsent_ms) = (num, Some(line.also)),
                "sent" => statistics.sent = num,
                _ => {}
            }
        }
        statistics.waiting_work = open.saturating_sub(leased).saturating_sub(statistics.waiting_assemble);
        statistics
    }
}
