//! What must hold of an event log, read from its first event to its last.

use splitreel_core::JobId;
use splitreel_core::event::{Event, Happened};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Course {
    is_submitted: bool,
    is_ended: bool,
    is_published: bool,
    is_paused: bool,
    claimed: BTreeSet<(u32, u32)>,
    done: BTreeSet<u32>,
}

/// Every rule that the log breaks, in words.
pub(super) fn audit(events: &[Event]) -> Vec<String> {
    let mut courses: BTreeMap<JobId, Course> = BTreeMap::new();
    let mut found = Vec::new();
    let mut last_seq = i64::MIN;
    for event in events {
        let mut broken =
            |what: &str| found.push(format!("job {}: event {}: {what}: {:?}", event.job, event.seq, event.what));
        if event.seq <= last_seq {
            broken("numbers do not increase");
        }
        last_seq = event.seq;
        let course = courses.entry(event.job).or_default();
        if course.is_submitted == matches!(event.what, Happened::Submitted) {
            broken("not once, first, submitted");
        }
        if course.is_published {
            broken("after it was published");
        }
        if course.is_ended && !matches!(event.what, Happened::Retried) {
            broken("after it had ended");
        }
        match &event.what {
            Happened::Submitted => course.is_submitted = true,
            Happened::Planned { .. } | Happened::TaskRetried { .. } => {}
            Happened::Speculated { task, attempt } => {
                if course.done.contains(task) || course.claimed.contains(&(*task, *attempt)) {
                    broken("a second attempt of what is done or claimed");
                }
            }
            Happened::Claimed { task, attempt, .. } => {
                if course.is_paused {
                    broken("claimed while paused");
                }
                if course.done.contains(task) {
                    broken("a done task was claimed");
                }
                if !course.claimed.insert((*task, *attempt)) {
                    broken("an attempt was claimed twice");
                }
            }
            Happened::TaskDone { task, attempt, .. } => {
                if !course.claimed.contains(&(*task, *attempt)) {
                    broken("done without a claim");
                }
                if !course.done.insert(*task) {
                    broken("done twice");
                }
            }
            Happened::Failed { .. } | Happened::Cancelled => {
                course.is_ended = true;
                course.is_paused = false;
            }
            Happened::Published => course.is_published = true,
            Happened::Retried => course.is_ended = false,
            Happened::Paused | Happened::Resumed => {
                let is_pause = event.what == Happened::Paused;
                if course.is_paused == is_pause {
                    broken("it was so already");
                }
                course.is_paused = is_pause;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::WorkerId;
    use splitreel_core::task::TaskKind;

    fn log(what: Vec<Happened>) -> Vec<Event> {
        (1..).zip(what).map(|(seq, what)| Event { seq, job: JobId(uuid::Uuid::nil()), at_ms: 0, what }).collect()
    }

    fn claimed(task: u32, attempt: u32) -> Happened {
        Happened::Claimed { task, kind: TaskKind::Probe, index: 0, attempt, worker: WorkerId("w".into()) }
    }

    fn done(task: u32, attempt: u32) -> Happened {
        Happened::TaskDone { task, kind: TaskKind::Probe, index: 0, attempt }
    }

    #[test]
    fn a_usual_course_is_fine() {
        let log = log(vec![
            Happened::Submitted,
            claimed(0, 1),
            Happened::Paused,
            Happened::Resumed,
            Happened::Paused,
            Happened::Cancelled,
            Happened::Retried,
            claimed(0, 2),
            done(0, 2),
            Happened::Published,
        ]);
        assert_eq!(audit(&log), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let courses = [
            ("not once, first", vec![claimed(0, 1)]),
            ("after it had ended", vec![Happened::Submitted, Happened::Cancelled, claimed(0, 1)]),
            ("after it was published", vec![Happened::Submitted, Happened::Published, Happened::Published]),
            ("claimed twice", vec![Happened::Submitted, claimed(0, 1), claimed(0, 1)]),
            ("claimed while paused", vec![Happened::Submitted, Happened::Paused, claimed(0, 1)]),
            ("it was so already", vec![Happened::Submitted, Happened::Resumed]),
            ("done twice", vec![Happened::Submitted, claimed(0, 1), done(0, 1), done(0, 1)]),
            ("done without a claim", vec![Happened::Submitted, claimed(0, 1), done(0, 2)]),
            (
                "a second attempt",
                vec![Happened::Submitted, claimed(0, 1), Happened::Speculated { task: 0, attempt: 1 }],
            ),
            ("a done task", vec![Happened::Submitted, claimed(0, 1), done(0, 1), claimed(0, 2)]),
        ];
        for (what, course) in courses {
            let found = audit(&log(course));
            assert!(found.iter().any(|f| f.contains(what)), "{what}: {found:?}");
        }
    }
}
