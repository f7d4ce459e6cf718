//! Seeded chance. Everything random in this crate comes from here, so that a seed replays exactly.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::ops::Range;
use std::time::Duration;

/// A stream of chance.
#[derive(Clone, Debug)]
pub struct Dice(SmallRng);

impl Dice {
    /// The stream `stream` of a seed; streams of one seed are independent of each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        Dice(SmallRng::seed_from_u64(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03),
        ))
    }

    /// A number in the range; its start when the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.0.random_range(range) }
    }

    /// True with the given probability, in ten-thousandths.
    pub fn chance(&mut self, per_10_000: u32) -> bool {
        per_10_000 > 0 && self.0.random_range(0..10_000) < per_10_000
    }

    /// A duration in the range of milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of the values; the default one of an empty list.
    pub fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let at = self.within(0..from.len() as u64);
        usize::try_from(at).ok().and_then(|at| from.get(at)).copied().unwrap_or_default()
    }
}
