//! The filter that gives decoded frames the times of the plan, where the source gives them none. Pure.

use splitreel_core::stamping::{Spacing, Stamping, Stretch};

/// The first filter of a chain; `None` when every frame has a time. ffmpeg fills missing times itself, in every release
/// in another way; no time that it makes up is used.
pub(super) fn stamp_filter(stamping: &Stamping) -> Option<String> {
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
    use splitreel_core::Rational;
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
