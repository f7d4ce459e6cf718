//! When a delivery is tried again. Pure.

/// How deliveries are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    /// Wait after the first failure, milliseconds; doubles with each.
    pub first_ms: i64,
    /// Longest wait between two tries, milliseconds.
    pub longest_ms: i64,
    /// Attempts end this long after the delivery was queued, in milliseconds.
    pub give_up_ms: i64,
}

impl Default for RetrySchedule {
    /// 5 s, 10 s, 20 s … up to 2 h between tries, for 24 h.
    fn default() -> Self {
        RetrySchedule { first_ms: 5_000, longest_ms: 2 * 3_600_000, give_up_ms: 24 * 3_600_000 }
    }
}

impl RetrySchedule {
    /// When to try again after `failures` ≥ 1 failed tries; `None`: never. The wait is 75 to 125 % of the doubled one
    /// by `chance` (0 to `u32::MAX`), at least what the receiver asked for by `retry_after_ms` as far as
    /// `longest_ms`, and the last try falls on the end of the time at the latest.
    pub fn next_try(
        &self,
        failures: u32,
        queued_ms: i64,
        now_ms: i64,
        chance: u32,
        retry_after_ms: Option<i64>,
    ) -> Option<i64> {
        let end = queued_ms.saturating_add(self.give_up_ms);
        if now_ms >= end {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(40);
        let doubled = self.first_ms.max(1).saturating_mul(1 << doublings).min(self.longest_ms);
        let spread = doubled / 2;
        let share = i128::from(spread) * i128::from(chance) / i128::from(u32::MAX);
        let wait = doubled.saturating_sub(spread / 2).saturating_add(i64::try_from(share).unwrap_or(0));
        let wait = wait.max(retry_after_ms.unwrap_or(0).min(self.longest_ms)).max(1);
        Some(now_ms.saturating_add(wait).min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_day_of_failures_is_some_twenty_tries() {
        let schedule = RetrySchedule::default();
        let (mut now, mut tries, mut waits) = (0, 1, Vec::new());
        while let Some(next) = schedule.next_try(tries, 0, now, u32::MAX / 2, None) {
            waits.push((next - now) / 1000);
            now = next;
            tries += 1;
        }
        assert_eq!(now, 24 * 3_600_000);
        assert_eq!(waits[..5], [4, 9, 19, 39, 79]);
        assert!((15..=30).contains(&tries), "{tries}");
    }

    proptest! {
        #[test]
        fn tries_go_forward_end_in_time_and_never_hammer(
            queued in 0i64..1 << 40, chances in prop::collection::vec((any::<u32>(), prop::option::of(0i64..1 << 50)), 1..200),
            takes in 0i64..60_000,
        ) {
            let schedule = RetrySchedule::default();
            let (mut now, mut failures, mut last) = (queued, 0u32, 0i64);
            for (chance, after) in chances {
                failures += 1;
                now += takes;
                let Some(next) = schedule.next_try(failures, queued, now, chance, after) else {
                    prop_assert!(now >= queued + schedule.give_up_ms);
                    return Ok(());
                };
                prop_assert!(next > now && next <= queued + schedule.give_up_ms);
                let wait = next - now;
                let is_last = next == queued + schedule.give_up_ms;
                prop_assert!(is_last || wait >= schedule.first_ms * 3 / 4);
                prop_assert!(wait <= schedule.longest_ms * 5 / 4);
                // a later wait is never much shorter, unless the end cuts it off or the receiver asked for more before
                prop_assert!(is_last || after.is_some() || last == 0 || wait * 5 / 3 + 5 >= last.min(schedule.longest_ms) * 3 / 4);
                last = if after.is_some() { 0 } else { wait };
                now = next;
            }
        }
    }
}
