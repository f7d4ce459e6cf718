//! Stored plans, frame rules and expected costs by example and property.

use super::*;
use crate::time::{Rational, SourceTicks};
use proptest::prelude::*;

fn ticks(list: &[i64]) -> Vec<SourceTicks> {
    list.iter().copied().map(SourceTicks).collect()
}

fn chosen(rule: FrameRule, list: &[i64], timebase: (i64, i64)) -> Vec<i64> {
    let timebase = Rational::new(timebase.0, timebase.1).unwrap();
    rule.choose(&ticks(list), timebase).into_iter().map(|at| list[at]).collect()
}

fn first_of_slot(num: i64, den: i64) -> FrameRule {
    FrameRule::FirstOfSlot { rate: Rational::new(num, den).unwrap() }
}

#[test]
fn every_second_frame_is_counted_from_the_first_of_the_source() {
    assert_eq!(chosen(FrameRule::EverySecond, &[10, 20, 31, 40, 50], (1, 1000)), [10, 31, 50]);
    assert_eq!(chosen(FrameRule::All, &[10, 20], (1, 1000)), [10, 20]);
    assert_eq!(chosen(FrameRule::EverySecond, &[], (1, 1000)), [0i64; 0]);
}

#[test]
fn rounded_milliseconds_of_60_frames_give_30_even_ones() {
    let list: Vec<i64> = (0..12).map(|i| (f64::from(i) * 1000.0 / 60.0).round() as i64).collect();
    assert_eq!(chosen(first_of_slot(30, 1), &list, (1, 1000)), [0, 33, 67, 100, 133, 167]);
}

#[test]
fn a_timebase_of_one_tick_per_frame_is_chosen_evenly() {
    let list: Vec<i64> = (0..10).collect();
    assert_eq!(chosen(first_of_slot(30, 1), &list, (1, 60)), [0, 2, 4, 6, 8]);
    assert_eq!(chosen(first_of_slot(20, 1), &list, (1, 60)), [0, 3, 6, 9]);
}

#[test]
fn slots_without_frames_stay_empty() {
    assert_eq!(chosen(first_of_slot(10, 1), &[0, 50, 100, 450, 499, 510], (1, 1000)), [0, 100, 450, 510]);
}

#[test]
fn a_plan_of_another_version_is_not_read() {
    let incomplete = format!(r#"{{"version":{PLAN_VERSION}}}"#);
    assert!(matches!(Plan::decode(br#"{"version":1,"video":null}"#), Err(PlanError::Outdated { version: 1 })));
    assert!(matches!(Plan::decode(br#"{"version":99}"#), Err(PlanError::Newer { version: 99 })));
    assert!(matches!(Plan::decode(incomplete.as_bytes()), Err(PlanError::Unreadable(_))));
    assert!(matches!(Plan::decode(b"nothing"), Err(PlanError::Unreadable(_))));
}

proptest! {
    #[test]
    fn chosen_frames_are_frames_of_the_source_and_one_for_each_slot(
        first in -1000i64..1000,
        deltas in prop::collection::vec(1i64..200, 0..200),
        den in prop::sample::select(vec![30i64, 1000, 12_800, 90_000]),
        rate in prop::sample::select(vec![(1i64, 1i64), (24_000, 1001), (25, 2), (30, 1), (59, 1)]),
    ) {
        let list: Vec<i64> = std::iter::once(first).chain(deltas.iter().scan(first, |t, d| { *t += d; Some(*t) })).collect();
        let (timebase, rate) = (Rational::new(1, den).unwrap(), Rational::new(rate.0, rate.1).unwrap());
        let at = FrameRule::FirstOfSlot { rate }.choose(&ticks(&list), timebase);
        prop_assert_eq!(at.first(), Some(&0));
        prop_assert!(at.is_sorted_by(|a, b| a < b) && at.iter().all(|at| *at < list.len()));
        let slot = |at: usize| FrameRule::slot(rate, timebase, SourceTicks(list[at] - first));
        for (number, frame) in at.iter().enumerate() {
            let until = at.get(number + 1).copied().unwrap_or(list.len());
            prop_assert!((*frame..until).all(|other| slot(other) == slot(*frame)));
            prop_assert!(until == list.len() || slot(until) > slot(*frame));
        }
    }
}
