//! Which running task gets a second attempt alongside, because its first takes much longer than it should. Pure: no
//! clock, no store. Who starts, fences and ends the second attempt is not decided here.

use crate::id::TaskId;
use serde::{Deserialize, Serialize};

/// A task is late past this many per cent of its expected time.
pub const LATE_PERCENT: u64 = 150;
/// Nothing is late before it has run this long, in milliseconds: short tasks vary by chance.
pub const LEAST_RUN_MS: i64 = 2_000;

/// A task whose only attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The task.
    pub task: TaskId,
    /// What it should cost, in the plan's unit.
    pub expected_cost: u64,
    /// When it was claimed, milliseconds since the epoch.
    pub claimed_ms: i64,
    /// How much of it is done, 0..=1000 per mille.
    pub done_per_mille: u16,
}

/// Speed of the job's tasks so far: sums over the finished tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Expected cost in the plan's unit.
    pub cost: u64,
    /// Time from claim to completion in milliseconds.
    pub wall_ms: u64,
}

impl Pace {
    /// Counts one more task that is done.
    pub fn add(&mut self, expected_cost: u64, wall_ms: u64) {
        self.cost = self.cost.saturating_add(expected_cost);
        self.wall_ms = self.wall_ms.saturating_add(wall_ms);
    }

    /// Milliseconds that a cost should take; `None` while nothing is known.
    fn expected_ms(self, cost: u64) -> Option<u64> {
        let ms = (u128::from(cost) * u128::from(self.wall_ms)).checked_div(u128::from(self.cost))?;
        Some(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

/// The tasks of one job that get a second attempt now, the one that would end last first, at most one per free slot.
///
/// None while the job has ready tasks (`num_ready`): those use the slots better; and none while no task is done, from
/// which the pace could be known. A task is chosen when it runs longer than 1.5 × its expected time, and a fresh
/// attempt, which takes the expected time, would end before it at its present speed. Without progress it never ends.
pub fn second_attempts(
    running: &[Running],
    pace: Pace,
    num_ready: usize,
    free_slots: usize,
    now_ms: i64,
) -> Vec<TaskId> {
    if num_ready > 0 || free_slots == 0 {
        return Vec::new();
    }
    let mut late: Vec<(u64, TaskId)> = running
        .iter()
        .filter_map(|r| {
            let expected_ms = pace.expected_ms(r.expected_cost)?;
            let ran_ms = u64::try_from(now_ms.saturating_sub(r.claimed_ms)).ok()?;
            let is_late = u128::from(ran_ms) * 100 > u128::from(expected_ms) * u128::from(LATE_PERCENT)
                && ran_ms >= LEAST_RUN_MS.unsigned_abs();
            let left_ms = left_ms(ran_ms, r.done_per_mille);
            (is_late && left_ms > expected_ms).then_some((left_ms, r.task))
        })
        .collect();
    late.sort_by(|(left_a, a), (left_b, b)| left_b.cmp(left_a).then_with(|| a.cmp(b)));
    late.into_iter().take(free_slots).map(|(_, task)| task).collect()
}

/// How long an attempt still takes at the speed that it had so far, in milliseconds; `u64::MAX` when nothing is done yet.
pub fn left_ms(ran_ms: u64, done_per_mille: u16) -> u64 {
    let done = u128::from(done_per_mille.min(1_000));
    let left = (u128::from(ran_ms) * (1_000 - done)).checked_div(done);
    left.map_or(u64::MAX, |left| u64::try_from(left).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;
    use proptest::prelude::*;
    use uuid::Uuid;

    /// 10 ms per unit of cost.
    const PACE: Pace = Pace { cost: 1_000, wall_ms: 10_000 };

    fn task(number: u32) -> TaskId {
        TaskId { job: JobId(Uuid::nil()), number }
    }

    fn running(number: u32, expected_cost: u64, done_per_mille: u16) -> Running {
        Running { task: task(number), expected_cost, claimed_ms: 0, done_per_mille }
    }

    #[test]
    fn only_a_task_past_one_and_a_half_times_its_time_is_repeated() {
        let tasks = [running(1, 1_000, 100)];
        assert!(second_attempts(&tasks, PACE, 0, 1, 15_000).is_empty());
        assert_eq!(second_attempts(&tasks, PACE, 0, 1, 15_001), [task(1)]);
    }

    #[test]
    fn not_while_others_are_ready_nor_without_a_slot_nor_without_a_pace() {
        let tasks = [running(1, 1_000, 0)];
        assert_eq!(second_attempts(&tasks, PACE, 0, 1, 20_000), [task(1)]);
        assert!(second_attempts(&tasks, PACE, 1, 1, 20_000).is_empty());
        assert!(second_attempts(&tasks, PACE, 0, 0, 20_000).is_empty());
        assert!(second_attempts(&tasks, Pace::default(), 0, 1, 20_000).is_empty());
        assert!(second_attempts(&[], PACE, 0, 1, 20_000).is_empty());
    }

    #[test]
    fn a_task_that_ends_soon_is_left_alone() {
        assert!(second_attempts(&[running(1, 1_000, 700)], PACE, 0, 1, 20_000).is_empty(), "8.5 s left of 10 s");
        assert_eq!(second_attempts(&[running(1, 1_000, 600)], PACE, 0, 1, 20_000), [task(1)], "13.3 s left of 10 s");
        assert!(second_attempts(&[running(1, 1_000, 1_000)], PACE, 0, 1, 1 << 40).is_empty());
    }

    #[test]
    fn short_tasks_get_time_to_start() {
        let tasks = [running(1, 1, 0)];
        assert!(second_attempts(&tasks, PACE, 0, 1, LEAST_RUN_MS - 1).is_empty());
        assert_eq!(second_attempts(&tasks, PACE, 0, 1, LEAST_RUN_MS), [task(1)]);
    }

    #[test]
    fn the_one_that_would_end_last_goes_first() {
        let tasks = [running(1, 1_000, 500), running(2, 1_000, 300), running(3, 1_000, 0), running(4, 1_000, 0)];
        assert_eq!(second_attempts(&tasks, PACE, 0, 3, 30_000), [3, 4, 2].map(task));
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_late() {
        assert!(second_attempts(&[running(1, 1, 0)], PACE, 0, 1, -50_000).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_repeated_is_late_slow_and_fits_the_slots(
            tasks in proptest::collection::vec((0..u64::MAX, 0..100_000_i64, 0..1_200_u16), 0..12),
            pace in (0..1_u64 << 40, 0..1_u64 << 40),
            free in 0..5_usize,
        ) {
            let running: Vec<_> = (0..)
                .zip(&tasks)
                .map(|(n, (cost, claimed_ms, done))| Running { claimed_ms: *claimed_ms, ..running(n, *cost, *done) })
                .collect();
            let pace = Pace { cost: pace.0, wall_ms: pace.1 };
            let chosen = second_attempts(&running, pace, 0, free, 100_000);
            prop_assert!(chosen.len() <= free);
            for (i, id) in chosen.iter().enumerate() {
                prop_assert!(!chosen[..i].contains(id));
                let of = running.iter().find(|r| r.task == *id).unwrap();
                let expected = pace.expected_ms(of.expected_cost).unwrap();
                let ran = (100_000 - of.claimed_ms).unsigned_abs();
                prop_assert!(u128::from(ran) * 2 > u128::from(expected) * 3);
                prop_assert!(of.done_per_mille < 1_000);
            }
            let mut other_way = running.clone();
            other_way.reverse();
            prop_assert_eq!(second_attempts(&other_way, pace, 0, free, 100_000), chosen);
        }
    }
}
