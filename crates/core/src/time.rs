//! Exact time on the media axis: integer ticks of a rational timebase. Floats only for display.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

macro_rules! ticks {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// The number of ticks.
            pub const fn get(self) -> i64 {
                self.0
            }

            /// Sum, limited to the range of `i64`.
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// Difference, limited to the range of `i64`.
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// The number of ticks without its sign; 0 for negative values.
            pub const fn unsigned(self) -> u64 {
                if self.0 > 0 { self.0.unsigned_abs() } else { 0 }
            }

            /// The exact time, given the seconds per tick.
            pub const fn at(self, timebase: Rational) -> MediaTime {
                MediaTime::new(self.0, timebase)
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::ZERO, Self::saturating_add)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

ticks! {
    /// A point or length in ticks of a source track's timebase. Points are absolute, as the container states them.
    SourceTicks
}

ticks! {
    /// A point or length in ticks of an output track's timescale. Points count from the presentation's origin. One tick
    /// of an audio track is one sample.
    OutputTicks
}

/// A positive or negative fraction, always reduced, denominator > 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(i64, i64)", into = "(i64, i64)")]
pub struct Rational {
    num: i64,
    den: i64,
}

impl Rational {
    /// Zero.
    pub const ZERO: Rational = Rational { num: 0, den: 1 };
    /// One.
    pub const ONE: Rational = Rational { num: 1, den: 1 };

    /// Reduces `num/den`. `None` when `den` is 0 or a part leaves the range of `i64`.
    pub fn new(num: i64, den: i64) -> Option<Self> {
        Self::from_i128(i128::from(num), i128::from(den))
    }

    /// The whole number `n`.
    pub const fn whole(n: i64) -> Self {
        Rational { num: n, den: 1 }
    }

    fn from_i128(num: i128, den: i128) -> Option<Self> {
        if den == 0 {
            return None;
        }
        let g = gcd(num.unsigned_abs(), den.unsigned_abs()).max(1) as i128;
        let sign = if den < 0 { -1 } else { 1 };
        Some(Rational { num: i64::try_from(sign * num / g).ok()?, den: i64::try_from(sign * den / g).ok()? })
    }

    /// Numerator of the reduced fraction.
    pub const fn num(self) -> i64 {
        self.num
    }

    /// Denominator of the reduced fraction, always > 0.
    pub const fn den(self) -> i64 {
        self.den
    }

    /// Product; `None` on overflow.
    pub fn times(self, other: Rational) -> Option<Rational> {
        Self::from_i128(i128::from(self.num) * i128::from(other.num), i128::from(self.den) * i128::from(other.den))
    }

    /// Quotient; `None` on overflow or division by zero.
    pub fn over(self, other: Rational) -> Option<Rational> {
        Self::from_i128(i128::from(self.num) * i128::from(other.den), i128::from(self.den) * i128::from(other.num))
    }

    /// For display and cost estimates only.
    pub fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// True for values above zero.
    pub const fn is_positive(self) -> bool {
        self.num > 0
    }
}

impl TryFrom<(i64, i64)> for Rational {
    type Error = String;
    fn try_from((num, den): (i64, i64)) -> Result<Self, String> {
        Rational::new(num, den).ok_or_else(|| format!("{num}/{den} is not a fraction"))
    }
}

impl From<Rational> for (i64, i64) {
    fn from(r: Rational) -> Self {
        (r.num, r.den)
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        (i128::from(self.num) * i128::from(other.den)).cmp(&(i128::from(other.num) * i128::from(self.den)))
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

impl fmt::Debug for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Rounds `num/den` to the nearest integer, halves away from zero. `den` must be > 0.
fn round_div(num: i128, den: i128) -> i128 {
    let half = den / 2;
    if num >= 0 { (num + half) / den } else { -((-num + half) / den) }
}

fn clamp_i64(v: i128) -> i64 {
    v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// A point or length on a media timeline: `ticks` × `timebase` seconds, exact.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MediaTime {
    /// Count of timebase units.
    pub ticks: i64,
    /// Seconds per tick.
    pub timebase: Rational,
}

impl MediaTime {
    /// `ticks` units of `timebase` seconds.
    pub const fn new(ticks: i64, timebase: Rational) -> Self {
        MediaTime { ticks, timebase }
    }

    /// Nearest tick of another timebase (halves away from zero), saturating at the range of `i64`.
    pub fn rescale(self, to: Rational) -> MediaTime {
        MediaTime::new(rescale(self.ticks, self.timebase, to), to)
    }

    /// Largest tick of another timebase that is not later.
    pub fn rescale_floor(self, to: Rational) -> MediaTime {
        let num = i128::from(self.ticks) * i128::from(self.timebase.num) * i128::from(to.den);
        let den = i128::from(self.timebase.den) * i128::from(to.num);
        MediaTime::new(clamp_i64(num.div_euclid(den.max(1))), to)
    }

    /// For display only.
    pub fn seconds(self) -> f64 {
        self.ticks as f64 * self.timebase.to_f64()
    }

    /// Microseconds, rounded to the nearest (halves away from zero), saturating at the range of `i64`.
    pub fn micros(self) -> i64 {
        self.rescale(Rational { num: 1, den: 1_000_000 }).ticks
    }

    /// Whole microseconds, rounded down: never later than the exact time.
    pub fn micros_floor(self) -> i64 {
        self.rescale_floor(Rational { num: 1, den: 1_000_000 }).ticks
    }
}

impl PartialEq for MediaTime {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for MediaTime {}
impl PartialOrd for MediaTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for MediaTime {
    fn cmp(&self, other: &Self) -> Ordering {
        let a = i128::from(self.ticks) * i128::from(self.timebase.num);
        let b = i128::from(other.ticks) * i128::from(other.timebase.num);
        // Timebases of media files are far below 2^31 in practice; saturate rather than wrap on hostile ones.
        a.saturating_mul(i128::from(other.timebase.den)).cmp(&b.saturating_mul(i128::from(self.timebase.den)))
    }
}

/// Nearest tick of `to` for `ticks` of `from`, halves away from zero, saturating.
pub fn rescale(ticks: i64, from: Rational, to: Rational) -> i64 {
    let num = i128::from(ticks).saturating_mul(i128::from(from.num)).saturating_mul(i128::from(to.den));
    let den = i128::from(from.den) * i128::from(to.num);
    if den <= 0 {
        return 0;
    }
    clamp_i64(round_div(num, den))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fractions_are_reduced_and_signed_in_the_numerator() {
        let r = Rational::new(-6, -4).unwrap();
        assert_eq!((r.num(), r.den()), (3, 2));
        assert!(Rational::new(1, 0).is_none());
        assert!(Rational::new(1, 3).unwrap() < Rational::new(1, 2).unwrap());
    }

    #[test]
    fn rescale_rounds_to_nearest_and_floor_never_runs_ahead() {
        let ms = Rational::new(1, 1000).unwrap();
        let t = Rational::new(1, 90_000).unwrap();
        assert_eq!(rescale(1, ms, t), 90);
        assert_eq!(rescale(-1, t, ms), 0);
        assert_eq!(MediaTime::new(1, t).micros_floor(), 11);
        assert_eq!(MediaTime::new(-1, t).micros_floor(), -12);
    }

    proptest! {
        #[test]
        fn exact_multiples_survive_a_round_trip(ticks in -1_000_000_000i64..1_000_000_000, k in 1i64..2000) {
            let from = Rational::new(1, 1001).unwrap();
            let to = Rational::new(1, 1001 * k).unwrap();
            prop_assert_eq!(rescale(rescale(ticks, from, to), to, from), ticks);
        }
    }
}
