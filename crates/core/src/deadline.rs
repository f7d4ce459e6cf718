//! Stored deadlines of the wall clock, and clocks that are set back: a wait never gets longer than it was meant to be.

/// How far the clocks of two machines of one cluster may be apart, in milliseconds. A deadline that is further ahead than
/// its longest delay by more than this was stored before the clock was set back.
pub const CLOCK_SKEW_MS: i64 = 60_000;

/// The latest deadline that may stand at `now_ms` where the longest delay is `longest_ms`: later ones were stored before
/// the clock was set back.
pub const fn latest(now_ms: i64, longest_ms: i64) -> i64 {
    now_ms.saturating_add(longest_ms).saturating_add(CLOCK_SKEW_MS)
}

/// Whether a deadline has come, or is further ahead than any delay of its kind.
pub const fn is_due(deadline_ms: i64, now_ms: i64, longest_ms: i64) -> bool {
    deadline_ms <= now_ms || deadline_ms > latest(now_ms, longest_ms)
}

/// The deadline; where it is further ahead than any delay of its kind, the longest delay from now on.
pub const fn bounded(deadline_ms: i64, now_ms: i64, longest_ms: i64) -> i64 {
    if deadline_ms > latest(now_ms, longest_ms) { now_ms.saturating_add(longest_ms) } else { deadline_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: i64 = 30_000;

    proptest! {
        /// Whenever and however often the clock is set, a wait ends within its delay and the skew.
        #[test]
        fn no_setting_of_the_clock_stretches_a_wait(delay in 0..=LONGEST, set_ms in -(1i64 << 40)..1i64 << 40, passed in 0i64..200_000) {
            let stored = 1i64 << 42;
            let deadline = stored + delay;
            let now = stored + set_ms + passed;
            if passed >= LONGEST + CLOCK_SKEW_MS + LONGEST {
                prop_assert!(is_due(deadline, now, LONGEST) || set_ms > -(LONGEST + CLOCK_SKEW_MS) && deadline - now <= LONGEST + CLOCK_SKEW_MS);
            }
            prop_assert!(is_due(deadline, now, LONGEST) || deadline - now <= LONGEST + CLOCK_SKEW_MS);
            prop_assert!(bounded(deadline, now, LONGEST) <= latest(now, LONGEST));
        }

        /// Without a setting, and with clocks that are as far apart as they may be, a deadline is kept exactly.
        #[test]
        fn a_clock_that_runs_on_keeps_the_deadline(delay in 0..=LONGEST, passed in 0i64..200_000, skew in -CLOCK_SKEW_MS..=CLOCK_SKEW_MS) {
            let (deadline, now) = (delay, passed + skew);
            prop_assert_eq!(is_due(deadline, now, LONGEST), deadline <= now);
            prop_assert_eq!(bounded(deadline, now, LONGEST), deadline);
        }
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        assert!(is_due(i64::MIN, i64::MAX, i64::MAX) && !is_due(i64::MAX, i64::MAX - 1, 0));
        assert_eq!(bounded(i64::MAX, 0, 5), 5);
    }
}
