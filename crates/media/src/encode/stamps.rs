//! The filters that give decoded frames and samples the times of the plan, where the source's own are missing, repeat or
//! jump. Pure.

use splitreel_core::Rational;
use splitreel_core::clock::TrackClock;
use splitreel_core::plan::Timeline;
use splitreel_core::stamping::{Spacing, Stamping, Stretch};

/// Epochs among which the first frame's is looked for.
const MAX_STARTS: usize = 32;

/// The first filters of a video chain; none when every frame has a time of its own.
pub(super) fn stamp_filters(timeline: &Timeline) -> Vec<String> {
    let jumps =
        timeline.clock.as_ref().map(|clock| format!("setpts={}", without_jumps(clock, timeline.source_timebase)));
    jumps.into_iter().chain(stamp_filter(&timeline.stamping)).collect()
}

/// The first filter of an audio chain, where the source's clock jumps. `timebase` is that of the clock.
pub(crate) fn sound_filter(clock: &TrackClock, timebase: Rational) -> String {
    format!("asetpts={}", without_jumps(clock, timebase))
}

/// Time of a frame without the jumps of the clock: [`splitreel_core::clock::Closing`] as an expression. Variable 0 is the
/// epoch; a graph that is made anew finds it by the time of its first frame.
fn without_jumps(clock: &TrackClock, timebase: Rational) -> String {
    let (num, den) = (timebase.num(), timebase.den());
    let starts =
        clock.epochs.iter().enumerate().take(MAX_STARTS).rev().fold("0".to_owned(), |otherwise, (at, epoch)| {
            let is_inside = format!(r"between(PTS*TB*{den}/{num}\,{}-0.5\,{}+0.5)", epoch.first, epoch.last);
            format!(r"if({is_inside}\,{at}\,{otherwise})")
        });
    let is_beyond = |step: &str, limit: i64| format!(r"gt(({step})*TB*{den}/{num}\,{limit}+0.5)");
    let ahead = is_beyond("PTS-PREV_INPTS", clock.limits.ahead);
    let is_jump = format!("{ahead}+{}", is_beyond("PREV_INPTS-PTS", clock.limits.back));
    let epoch = format!(r"st(0\,if(isnan(PREV_INPTS)\,{starts}\,ld(0)+{is_jump}))");
    let shifts: Vec<(usize, i64)> = clock.epochs.iter().map(|epoch| epoch.shift).enumerate().collect();
    format!("{epoch}*0+PTS-round({}*{num}/{den}/TB)", by_epoch(&shifts))
}

/// Shift of the epoch in variable 0: a search tree over the epochs.
fn by_epoch(shifts: &[(usize, i64)]) -> String {
    match shifts {
        [] => "0".to_owned(),
        [(_, shift)] => format!("({shift})"),
        several => {
            let (early, late) = several.split_at(several.len() / 2);
            let border = late.first().map_or(0, |(epoch, _)| *epoch);
            format!(r"if(lt(ld(0)\,{border})\,{}\,{})", by_epoch(early), by_epoch(late))
        }
    }
}

/// The filter for frames without times of their own; `None` when every frame has a time. ffmpeg fills missing times itself, in every release
/// in another way; no time that it makes up is used.
fn stamp_filter(stamping: &Stamping) -> Option<String> {
    match stamping {
        Stamping::Own => None,
        Stamping::Tail(tail) => {
            Some(format!(r"setpts=if(gte(PREV_OUTPTS\,{})\,PREV_OUTPTS+{}\,PTS)", tail.after, tail.step))
        }
        Stamping::Counted(counted) => {
            Some(format!("setpts={}", by_number(&counted.stretches, counted.step.num(), counted.step.den())))
        }
        Stamping::Spaced(spaced) => {
            let keeps = r"gt(PTS\,PREV_OUTPTS)+isnan(PREV_OUTPTS)";
            Some(format!(r"setpts=if({keeps}\,PTS\,PREV_OUTPTS+{})", by_time(&spaced.spacings)))
        }
    }
}

/// Time of frame `N` as an expression: a search tree over the stretches.
fn by_number(stretches: &[Stretch], num: i64, den: i64) -> String {
    match stretches {
        [] => "PTS".to_owned(),
        [Stretch { frame, pts }] => format!("{pts}+floor((N-{frame})*{num}/{den})"),
        several => {
            let (early, late) = several.split_at(several.len() / 2);
            let border = late.first().map_or(0, |stretch| stretch.frame);
            format!(r"if(lt(N\,{border})\,{}\,{})", by_number(early, num, den), by_number(late, num, den))
        }
    }
}

/// Distance from the frame before as an expression of its time: a search tree over the distances.
fn by_time(spacings: &[Spacing]) -> String {
    match spacings {
        [] => "1".to_owned(),
        [Spacing { step, .. }] => step.to_string(),
        several => {
            let (early, late) = several.split_at(several.len() / 2);
            let border = late.first().map_or(0, |spacing| spacing.from);
            format!(r"if(lt(PREV_OUTPTS\,{border})\,{}\,{})", by_time(early), by_time(late))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::clock::{Epoch, StepLimits};
    use splitreel_core::stamping::{Counted, Spaced, Tail};

    #[test]
    fn frames_with_times_need_no_filter() {
        assert_eq!(stamp_filter(&Stamping::Own), None);
    }

    #[test]
    fn the_last_frames_follow_their_predecessors() {
        let tail = stamp_filter(&Stamping::Tail(Tail { after: 149, step: 1 })).unwrap();
        assert_eq!(tail, r"setpts=if(gte(PREV_OUTPTS\,149)\,PREV_OUTPTS+1\,PTS)");
    }

    #[test]
    fn frames_without_a_later_time_follow_their_predecessors() {
        let spacings = vec![Spacing { from: 20, step: 40 }, Spacing { from: 400, step: 7 }];
        assert_eq!(
            stamp_filter(&Stamping::Spaced(Spaced { spacings })).unwrap(),
            r"setpts=if(gt(PTS\,PREV_OUTPTS)+isnan(PREV_OUTPTS)\,PTS\,PREV_OUTPTS+if(lt(PREV_OUTPTS\,400)\,40\,7))"
        );
    }

    #[test]
    fn jumps_of_the_clock_are_taken_out_epoch_by_epoch() {
        let epochs = vec![Epoch { first: 10, last: 90, shift: 0 }, Epoch { first: 5, last: 50, shift: -95 }];
        let filter = sound_filter(
            &TrackClock { limits: StepLimits { ahead: 70, back: 40 }, epochs },
            Rational::new(1, 90_000).unwrap(),
        );
        assert_eq!(
            filter,
            r"asetpts=st(0\,if(isnan(PREV_INPTS)\,if(between(PTS*TB*90000/1\,10-0.5\,90+0.5)\,0\,if(between(PTS*TB*90000/1\,5-0.5\,50+0.5)\,1\,0))\,ld(0)+gt((PTS-PREV_INPTS)*TB*90000/1\,70+0.5)+gt((PREV_INPTS-PTS)*TB*90000/1\,40+0.5)))*0+PTS-round(if(lt(ld(0)\,1)\,(0)\,(-95))*1/90000/TB)"
        );
    }

    #[test]
    fn counted_frames_are_found_by_their_number() {
        let stretches =
            vec![Stretch { frame: 0, pts: -5 }, Stretch { frame: 7, pts: 90 }, Stretch { frame: 9, pts: 400 }];
        let counted = Counted { step: Rational::new(7, 2).unwrap(), stretches };
        assert_eq!(
            stamp_filter(&Stamping::Counted(counted)).unwrap(),
            r"setpts=if(lt(N\,7)\,-5+floor((N-0)*7/2)\,if(lt(N\,9)\,90+floor((N-7)*7/2)\,400+floor((N-9)*7/2)))"
        );
    }
}
