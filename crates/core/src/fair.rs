//! Whose turn it is: how free places are shared out among tenants and jobs. Pure: no clock, no store.

use crate::id::JobId;
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// Priority class of a job. Within a tenant a higher class goes first, until a lower one has waited long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// When nothing else waits.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// The word used in SQL, API and UI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }

    /// Inverse of [`Priority::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Low, Self::Normal, Self::High].into_iter().find(|p| p.as_str() == word)
    }
}

/// What one tenant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// Share of the places, in relation to the other tenants' weights; at least 1.
    pub weight: u32,
    /// Tasks of workers that are notified or leased at a time, and again of assemblers; `None` = any number.
    pub max_in_flight: Option<u32>,
}

impl Default for Share {
    fn default() -> Self {
        Share { weight: 1, max_in_flight: None }
    }
}

/// The shares of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    /// Share of every tenant without an entry.
    pub default: Share,
    /// By tenant.
    pub tenants: BTreeMap<String, Share>,
}

impl Shares {
    /// A tenant's share.
    pub fn of(&self, tenant: &str) -> Share {
        self.tenants.get(tenant).copied().unwrap_or(self.default)
    }
}

/// A job that has tasks which could be notified now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: String,
    /// Its class.
    pub priority: Priority,
    /// When it was accepted, milliseconds since the epoch.
    pub created_ms: i64,
    /// How many tasks could be notified (a lower bound of at least the free places will do).
    pub waiting: usize,
}

/// Waiting this long raises a job by one priority class.
pub const AGING_MS: i64 = 15 * 60_000;

/// Tenants without a place change turns this often.
const TURN_MS: i64 = 1_000;

/// Shares `free` places out: answers a job for each place, in order; a job that appears k times gets its first k
/// waiting tasks. The next place goes
///
/// 1. to a tenant that has none in flight, however small its weight. Those take turns by the clock: were it by age,
///    the long old jobs of some could keep another out for as long as there are fewer places than tenants;
/// 2. else to the tenant with the least (in flight + ½) / weight (ties: the one whose next job is oldest). So no two
///    tenants could come nearer to their weights by one of them giving the other a place.
///
/// Within the tenant it goes to the job of the highest class after aging (ties: the oldest).
///
/// Workers and assemblers are shared out apart: places, demands and what is in flight are those of one of the two.
///
/// `in_flight`: tasks of each tenant that are notified or leased now. Deterministic in its inputs, whatever their order;
/// demands that get no place have no influence on who else gets one.
pub fn allot(
    free: usize,
    demands: &[Demand],
    in_flight: &BTreeMap<String, usize>,
    shares: &Shares,
    now_ms: i64,
) -> Vec<JobId> {
    let mut queues: BTreeMap<&str, Queue<'_>> = BTreeMap::new();
    for demand in demands.iter().filter(|d| d.waiting > 0) {
        let tenant = demand.tenant.as_str();
        let queue = queues.entry(tenant).or_insert_with(|| {
            let share = shares.of(tenant);
            Queue {
                weight: u128::from(share.weight.max(1)),
                most: share.max_in_flight,
                in_flight: in_flight.get(tenant).copied().unwrap_or(0),
                turn: turn(tenant, now_ms),
                jobs: Vec::new(),
            }
        });
        queue.jobs.push((demand, demand.waiting));
    }
    for queue in queues.values_mut() {
        // The next job stands last.
        queue.jobs.sort_by_key(|(demand, _)| Reverse(order(demand, now_ms)));
    }
    let mut picks = Vec::with_capacity(free.min(4096));
    while picks.len() < free {
        let next = queues.values_mut().filter(|q| q.is_open()).min_by(|a, b| match (a.in_flight, b.in_flight) {
            (0, 0) => (a.turn, a.oldest()).cmp(&(b.turn, b.oldest())),
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            // (in flight + ½) / weight without division.
            (n, m) => ((2 * n as u128 + 1) * b.weight)
                .cmp(&((2 * m as u128 + 1) * a.weight))
                .then_with(|| a.oldest().cmp(&b.oldest())),
        });
        let Some(job) = next.and_then(Queue::take) else { break };
        picks.push(job);
    }
    picks
}

/// What one tenant waits for.
struct Queue<'a> {
    weight: u128,
    most: Option<u32>,
    in_flight: usize,
    turn: u64,
    /// With the number of tasks that still wait.
    jobs: Vec<(&'a Demand, usize)>,
}

impl Queue<'_> {
    /// It waits for something and may have it.
    fn is_open(&self) -> bool {
        !self.jobs.is_empty() && self.most.is_none_or(|most| self.in_flight < most as usize)
    }

    /// Age of its next job.
    fn oldest(&self) -> Option<(i64, JobId)> {
        self.jobs.last().map(|(demand, _)| (demand.created_ms, demand.job))
    }

    fn take(&mut self) -> Option<JobId> {
        let (demand, left) = self.jobs.last_mut()?;
        let job = demand.job;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.jobs.pop();
        }
        self.in_flight = self.in_flight.saturating_add(1);
        Some(job)
    }
}

/// Sorts the jobs of a tenant: class after aging, highest first, then age, then id.
fn order(demand: &Demand, now_ms: i64) -> (Reverse<i64>, i64, JobId) {
    let waited = now_ms.saturating_sub(demand.created_ms).max(0) / AGING_MS;
    let class = i64::from(demand.priority as u8).saturating_add(waited);
    (Reverse(class), demand.created_ms, demand.job)
}

/// Place in the turn of this moment: FNV-1a over the name, started with the time, mixed by MurmurHash3's finaliser.
fn turn(tenant: &str, now_ms: i64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ now_ms.div_euclid(TURN_MS).cast_unsigned();
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = tenant.bytes().fold(start.wrapping_mul(0x0100_0000_01b3), step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests;
