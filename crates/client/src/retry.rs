//! When a call is tried again, and after how long: pure decisions.

use std::time::Duration;

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing was answered.
    NoAnswer,
    /// A status, and the server's wish for when to come back.
    Status(u16, Option<Duration>),
}

/// First pause; it doubles.
const FIRST: Duration = Duration::from_millis(200);
/// Longest pause that is slept through; a server that asks for more gets the problem handed to the caller.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before try number `tried + 1`, or `None` to give up. `chance` is uniform over all numbers.
pub(crate) fn pause(outcome: Outcome, tried: u32, max_tries: u32, chance: u64) -> Option<Duration> {
    if tried >= max_tries {
        return None;
    }
    let doubled = FIRST.saturating_mul(1u32 << tried.saturating_sub(1).min(10)).min(LONGEST);
    // Between half and the whole, so that callers that failed together do not come back together.
    let jittered = doubled / 2 + doubled.mul_f64((chance % 1024) as f64 / 2048.0);
    match outcome {
        Outcome::NoAnswer => Some(jittered),
        Outcome::Status(429 | 503, Some(wish)) => (wish <= LONGEST).then(|| wish.max(jittered)),
        Outcome::Status(429 | 502 | 503 | 504, _) => Some(jittered),
        Outcome::Status(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [400, 401, 403, 404, 409, 412, 422, 500, 501] {
            assert_eq!(pause(Outcome::Status(status, None), 1, 4, 7), None, "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert!(pause(Outcome::Status(status, None), 1, 4, 7).is_some(), "{status}");
        }
        assert_eq!(pause(Outcome::NoAnswer, 4, 4, 7), None);
    }

    #[test]
    fn the_servers_wish_is_followed_up_to_a_limit() {
        let wish = |s| Outcome::Status(429, Some(Duration::from_secs(s)));
        assert_eq!(pause(wish(3), 1, 4, 0), Some(Duration::from_secs(3)));
        assert_eq!(pause(wish(31), 1, 4, 0), None);
    }

    #[test]
    fn pauses_grow_and_stay_within_half_and_whole() {
        for tried in 1..12 {
            let whole = FIRST.saturating_mul(1 << (tried - 1).min(10)).min(LONGEST);
            for chance in [0, 512, 1023, u64::MAX] {
                let p = pause(Outcome::NoAnswer, tried, 20, chance).unwrap();
                assert!(p >= whole / 2 && p <= whole, "{tried} {chance} {p:?}");
            }
        }
    }
}
