//! Where the times of a source's frames come from, when not every frame has one of its own: the one rule behind both
//! the probe's frame list and the timestamps that an encode works with. Pure.

use crate::time::Rational;
use serde::{Deserialize, Serialize};

/// Number of stretches after which times that depart from the frame rate are ignored; the same for distances.
const MAX_STRETCHES: usize = 1_000;
/// Steps with larger parts are rounded to whole ticks: ffmpeg evaluates the times with 53-bit floating point.
const MAX_STEP: Rational = Rational::whole(100_000_000);
/// Largest denominator of a step, for the same reason.
const MAX_STEP_DENOMINATOR: i64 = 100_000;

/// Origin of the times in a frame list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamping {
    /// Every frame has a time of its own.
    #[default]
    Own,
    /// All frames but the last few have a time of their own.
    Tail(Tail),
    /// Frames are placed by their number in a decode from the start of the source.
    Counted(Counted),
    /// Frames whose time repeats or runs back follow their predecessors.
    Spaced(Spaced),
}

impl Stamping {
    /// Whether every frame has a time of its own.
    pub fn is_own(&self) -> bool {
        *self == Stamping::Own
    }
}

/// The frames at the end that have no time: decoders deliver them after the last packet, which no longer gives them one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Time of the last frame that has one, source ticks.
    pub after: i64,
    /// Ticks from each of the frames behind to the next, > 0.
    pub step: i64,
}

/// Rule for frames whose own time is not later than the time given to the frame before: each follows that frame at a
/// distance that the place in the timeline decides. All other frames keep their own time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spaced {
    /// Distances, by the time from which on they hold; the first holds from the start.
    pub spacings: Vec<Spacing>,
}

/// A distance between frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spacing {
    /// Time of the predecessor, source ticks, from which on the distance holds.
    pub from: i64,
    /// Ticks from the predecessor to the frame, > 0.
    pub step: i64,
}

impl Spaced {
    /// Spaces the frames that have no later time than their predecessor evenly between the neighbours that keep theirs.
    /// `own` are all frames' times in order of display, `usual` the distance where no frame with a later time follows.
    ///
    /// The times that result increase strictly. Where there are more frames than ticks, the frames behind move, too.
    pub fn new(own: &[i64], usual: i64) -> (Self, Vec<i64>) {
        let (mut rule, mut times) = (Spaced::default(), Vec::with_capacity(own.len()));
        for (at, &pts) in own.iter().enumerate() {
            if let Some(&before) = times.last().filter(|before| pts <= **before) {
                // Frames that continue a run were looked at with its first one.
                let is_first = at.checked_sub(1).and_then(|at| own.get(at)).is_none_or(|own| *own == before);
                if is_first {
                    rule.make_room(before, own.get(at..).unwrap_or_default(), usual);
                }
            }
            let time = rule.time(times.last().copied(), pts);
            times.push(time);
        }
        (rule, times)
    }

    /// Adds a distance behind the frame at `before` where the one in force does not suit the run of frames that follows.
    fn make_room(&mut self, before: i64, follow: &[i64], usual: i64) {
        let length = follow.iter().take_while(|pts| **pts <= before).count();
        let frames = i64::try_from(length).unwrap_or(i64::MAX);
        let room = follow.get(length).map(|next| next.saturating_sub(before));
        let even = room.map_or(usual, |room| room / frames.saturating_add(1)).max(1);
        let suits = |step: i64| {
            let fits = room.is_none_or(|room| step.saturating_mul(frames) < room);
            fits && (step - even).abs() <= (even / 8).max(1)
        };
        let is_full = self.spacings.len() >= MAX_STRETCHES;
        if !is_full && !self.step(before).is_some_and(suits) {
            self.spacings.push(Spacing { from: before, step: even });
        }
    }

    /// Time of a frame, source ticks, given the time of the frame before.
    pub fn time(&self, before: Option<i64>, own: i64) -> i64 {
        match before {
            Some(before) if own <= before => before.saturating_add(self.step(before).unwrap_or(1)),
            _ => own,
        }
    }

    fn step(&self, before: i64) -> Option<i64> {
        let behind = self.spacings.partition_point(|spacing| spacing.from <= before).max(1);
        self.spacings.get(behind - 1).map(|spacing| spacing.step)
    }
}

/// Frame times by frame number, counted from 0 in presentation order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Ticks per frame, ≥ 1.
    pub step: Rational,
    /// Frames at a constant rate, by frame number; the first starts at frame 0.
    pub stretches: Vec<Stretch>,
}

/// Start of a run of frames at a constant rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Number of its first frame.
    pub frame: u64,
    /// Time of its first frame, source ticks.
    pub pts: i64,
}

impl Counted {
    /// Places frames at a constant rate, given the times that some of them have. `announced` are the ticks per frame that
    /// the container and the codec announce, most credible first; the known times decide among them.
    ///
    /// A known time starts a new stretch when it differs from its place by more than half a frame and the next known
    /// time confirms it. Times increase strictly.
    pub fn new(known: &[Option<i64>], announced: &[Rational]) -> Self {
        let anchors: Vec<Stretch> =
            (0u64..).zip(known).filter_map(|(frame, pts)| Some(Stretch { frame, pts: (*pts)? })).collect();
        let step = step(&anchors, announced);
        let start = anchors.first().map_or(0, |first| first.pts.saturating_sub(span(step, first.frame)));
        let mut counted = Counted { step, stretches: vec![Stretch { frame: 0, pts: start }] };
        let mut unconfirmed: Option<Stretch> = None;
        for anchor in anchors {
            if counted.time(anchor.frame).abs_diff(anchor.pts) <= half(step) {
                unconfirmed = None;
            } else if let Some(begin) = unconfirmed.take_if(|begin| begin.is_in_line(step, anchor)) {
                if counted.stretches.len() >= MAX_STRETCHES {
                    break;
                }
                counted.stretches.push(begin);
            } else {
                let before = anchor.frame.checked_sub(1).map(|frame| counted.time(frame));
                unconfirmed = before.is_some_and(|before| anchor.pts > before).then_some(anchor);
            }
        }
        counted
    }

    /// Time of a frame, source ticks.
    pub fn time(&self, frame: u64) -> i64 {
        let behind = self.stretches.partition_point(|stretch| stretch.frame <= frame);
        let stretch = behind.checked_sub(1).and_then(|at| self.stretches.get(at));
        stretch.map_or(0, |stretch| stretch.time(self.step, frame))
    }
}

impl Stretch {
    fn time(self, step: Rational, frame: u64) -> i64 {
        self.pts.saturating_add(span(step, frame.saturating_sub(self.frame)))
    }

    fn is_in_line(self, step: Rational, later: Stretch) -> bool {
        self.time(step, later.frame).abs_diff(later.pts) <= half(step)
    }
}

/// Whole ticks of `frames` frames, rounded down.
fn span(step: Rational, frames: u64) -> i64 {
    let ticks = i128::from(frames) * i128::from(step.num()) / i128::from(step.den());
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// Half a frame in whole ticks.
fn half(step: Rational) -> u64 {
    step.num().div_euclid(step.den().saturating_mul(2)).unsigned_abs()
}

/// Ticks per frame: the announced value that the known times bear out by their median distance or else by their mean,
/// else the median (the lower one: gaps make distances longer).
fn step(anchors: &[Stretch], announced: &[Rational]) -> Rational {
    let pairs = anchors.iter().zip(anchors.iter().skip(1));
    let mut measured: Vec<Rational> = pairs
        .filter_map(|(a, b)| Rational::new(b.pts.checked_sub(a.pts)?, i64::try_from(b.frame - a.frame).ok()?))
        .filter(|step| step.is_positive())
        .collect();
    measured.sort_unstable();
    let median = measured.get(measured.len().saturating_sub(1) / 2).copied();
    let mean = anchors.first().zip(anchors.last()).and_then(|(a, b)| {
        Rational::new(b.pts.checked_sub(a.pts)?, i64::try_from(b.frame - a.frame).ok()?)
            .filter(|step| step.is_positive())
    });
    let borne_out = |measured: Option<Rational>| {
        let agrees = |step: &&Rational| measured.is_none_or(|by| (step.to_f64() / by.to_f64() - 1.0).abs() < 0.01);
        announced.iter().filter(|step| step.is_positive()).find(agrees).copied()
    };
    let chosen = borne_out(median).or_else(|| borne_out(mean)).or(median);
    let chosen = chosen.unwrap_or(Rational::ONE).max(Rational::ONE);
    if chosen.den() <= MAX_STEP_DENOMINATOR && Rational::whole(chosen.num()) <= MAX_STEP {
        chosen
    } else {
        Rational::whole((chosen.num() + chosen.den() / 2) / chosen.den()).max(Rational::ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(counted: &Counted, frames: u64) -> Vec<i64> {
        (0..frames).map(|frame| counted.time(frame)).collect()
    }

    #[test]
    fn without_any_time_the_announced_rate_counts_from_zero() {
        let counted = Counted::new(&[None; 4], &[Rational::new(15_015, 4).unwrap()]);
        assert_eq!(times(&counted, 5), [0, 3753, 7507, 11_261, 15_015]);
        assert_eq!(times(&Counted::new(&[None; 2], &[]), 3), [0, 1, 2]);
    }

    #[test]
    fn known_times_fix_the_place_of_the_frames_around_them() {
        let known = [None, Some(7200), None, None, Some(18_000), None];
        let counted = Counted::new(&known, &[Rational::whole(3600)]);
        assert_eq!(times(&counted, 6), [3600, 7200, 10_800, 14_400, 18_000, 21_600]);
        assert_eq!(counted.stretches.len(), 1);
    }

    #[test]
    fn known_times_decide_among_the_announced_rates() {
        let known = [Some(0), None, Some(7201), None, Some(14_400)];
        let announced = [Rational::whole(1800), Rational::whole(3600)];
        assert_eq!(Counted::new(&known, &announced).step, Rational::whole(3600));
        assert_eq!(Counted::new(&known, &announced[..1]).step, Rational::new(7199, 2).unwrap());
    }

    #[test]
    fn times_in_bursts_bear_the_rate_out_by_their_mean() {
        let known: Vec<_> =
            (0..31).map(|n| Some(if n % 3 == 0 { n * 512 } else { (n + 3) / 3 * 1536 + n % 3 })).collect();
        assert_eq!(times(&Counted::new(&known, &[Rational::whole(512)]), 4), [0, 512, 1024, 1536]);
    }

    #[test]
    fn a_gap_that_is_confirmed_starts_a_stretch_and_a_single_wild_time_does_not() {
        let announced = [Rational::whole(10)];
        let wild = [Some(0), Some(10), Some(9000), Some(30), None];
        assert_eq!(times(&Counted::new(&wild, &announced), 5), [0, 10, 20, 30, 40]);
        let gap = [Some(0), Some(10), Some(100), None, Some(120), None];
        assert_eq!(times(&Counted::new(&gap, &announced), 6), [0, 10, 100, 110, 120, 130]);
        let back = [Some(50), Some(60), Some(0), Some(10), Some(20)];
        assert_eq!(times(&Counted::new(&back, &announced), 5), [50, 60, 70, 80, 90]);
    }

    #[test]
    fn a_repeated_time_becomes_the_middle_between_its_neighbours() {
        let (rule, times) = Spaced::new(&[0, 40, 40, 120, 160, 160, 160, 280], 40);
        assert_eq!(times, [0, 40, 80, 120, 160, 200, 240, 280]);
        assert_eq!(rule.spacings, [Spacing { from: 40, step: 40 }]);
        let (_, back) = Spaced::new(&[0, 40, 20, 120, 160], 40);
        assert_eq!(back, [0, 40, 80, 120, 160]);
    }

    #[test]
    fn repeated_times_at_the_end_go_on_at_the_usual_distance() {
        assert_eq!(Spaced::new(&[0, 33, 33, 10], 33).1, [0, 33, 66, 99]);
        assert_eq!(Spaced::new(&[5, 5, 5], 33).1, [5, 38, 71]);
    }

    #[test]
    fn frames_without_room_move_the_ones_behind() {
        assert_eq!(Spaced::new(&[0, 0, 0, 1, 9, 19], 9).1, [0, 1, 2, 3, 9, 19]);
    }

    #[test]
    fn jitter_needs_no_distance_of_its_own() {
        // 30 frames per second in milliseconds, every third with the time of the one before.
        let own: Vec<i64> = (0..300).map(|n| (n - i64::from(n % 3 == 2)) * 1000 / 30).collect();
        let (rule, times) = Spaced::new(&own, 33);
        assert!(rule.spacings.len() <= 2, "{:?}", rule.spacings);
        assert!(times.windows(2).all(|pair| (30..=37).contains(&(pair[1] - pair[0]))), "{times:?}");
    }

    proptest! {
        #[test]
        fn any_times_are_spaced_in_order_wherever_a_decode_starts(
            own in prop::collection::vec(-300i64..300, 1..60), usual in 1i64..50, start in 0usize..60,
        ) {
            let (rule, times) = Spaced::new(&own, usual);
            prop_assert_eq!(times.len(), own.len());
            prop_assert!(times.is_sorted_by(|a, b| a < b), "{:?}", times);
            prop_assert!(rule.spacings.is_sorted_by(|a, b| a.from < b.from));
            // A decode that starts at a frame with a time of its own goes on the same way.
            if let Some(start) = (start..own.len()).find(|at| own[*at] == times[*at]) {
                let mut before = None;
                for at in start..own.len() {
                    before = Some(rule.time(before, own[at]));
                    prop_assert_eq!(before, Some(times[at]));
                }
            }
        }

        #[test]
        fn any_known_times_give_increasing_times(
            known in prop::collection::vec(prop::option::of(-100_000i64..100_000), 0..80),
            announced in (1i64..5000, 1i64..50),
        ) {
            let counted = Counted::new(&known, &[Rational::new(announced.0, announced.1).unwrap()]);
            prop_assert!(times(&counted, known.len() as u64 + 5).is_sorted_by(|a, b| a < b));
            prop_assert!(counted.stretches.is_sorted_by(|a, b| a.frame < b.frame));
        }
    }
}
