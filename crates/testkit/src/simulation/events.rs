//! What must hold of an event log, read from its first event to its last.

use splitreel_core::JobId;
use splitreel_core::event::{Event, EventKind};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Course {
    is_submitted: bool,
    is_ended: bool,
    is_published: bool,
    is_paused: bool,
    generation: u32,
    has_doubted_frames: bool,
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
        if course.is_submitted == matches!(event.what, EventKind::Submitted) {
            broken("not once, first, submitted");
        }
        if course.is_published {
            broken("after it was published");
        }
        if course.is_ended && !matches!(event.what, EventKind::Retried) {
            broken("after it had ended");
        }
        match &event.what {
            EventKind::Submitted => course.is_submitted = true,
            EventKind::Planned { .. } | EventKind::TaskRetried { .. } => {}
            EventKind::Speculated { task, attempt } => {
                if course.done.contains(task) || course.claimed.contains(&(*task, *attempt)) {
                    broken("a second attempt of what is done or claimed");
                }
            }
            EventKind::Claimed { task, attempt, .. } => {
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
            EventKind::TaskDone { task, attempt, .. } => {
                if !course.claimed.contains(&(*task, *attempt)) {
                    broken("done without a claim");
                }
                if !course.done.insert(*task) {
                    broken("done twice");
                }
            }
            EventKind::Replanned { generation, failure, .. } => {
                if *generation != course.generation.max(1) + 1 {
                    broken("planned again, not from one generation to the next");
                }
                course.generation = *generation;
                if failure.may_be_of_the_frame_list() {
                    if course.has_doubted_frames {
                        broken("planned again twice for the list of frames");
                    }
                    course.has_doubted_frames = true;
                }
            }
            EventKind::Failed { .. } | EventKind::Cancelled => {
                course.is_ended = true;
                course.is_paused = false;
            }
            EventKind::Published => course.is_published = true,
            EventKind::Retried => course.is_ended = false,
            EventKind::Paused | EventKind::Resumed => {
                let is_pause = event.what == EventKind::Paused;
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
    use splitreel_core::task::TaskKind;
    use splitreel_core::{Failure, FailureCode, WorkerId};

    fn log(what: Vec<EventKind>) -> Vec<Event> {
        (1..).zip(what).map(|(seq, what)| Event { seq, job: JobId(uuid::Uuid::nil()), at_ms: 0, what }).collect()
    }

    fn claimed(task: u32, attempt: u32) -> EventKind {
        EventKind::Claimed { task, kind: TaskKind::Probe, index: 0, attempt, worker: WorkerId("w".into()) }
    }

    fn done(task: u32, attempt: u32) -> EventKind {
        EventKind::TaskDone { task, kind: TaskKind::Probe, index: 0, attempt }
    }

    fn replanned(generation: u32) -> EventKind {
        EventKind::Replanned {
            generation,
            task: None,
            attempt: None,
            failure: Failure::of(FailureCode::TimesDiffer, "x"),
        }
    }

    #[test]
    fn a_usual_course_is_fine() {
        let log = log(vec![
            EventKind::Submitted,
            claimed(0, 1),
            EventKind::Paused,
            EventKind::Resumed,
            EventKind::Paused,
            EventKind::Cancelled,
            EventKind::Retried,
            claimed(0, 2),
            done(0, 2),
            replanned(2),
            EventKind::Published,
        ]);
        assert_eq!(audit(&log), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let courses = [
            ("not once, first", vec![claimed(0, 1)]),
            ("after it had ended", vec![EventKind::Submitted, EventKind::Cancelled, claimed(0, 1)]),
            ("after it was published", vec![EventKind::Submitted, EventKind::Published, EventKind::Published]),
            ("claimed twice", vec![EventKind::Submitted, claimed(0, 1), claimed(0, 1)]),
            ("claimed while paused", vec![EventKind::Submitted, EventKind::Paused, claimed(0, 1)]),
            ("it was so already", vec![EventKind::Submitted, EventKind::Resumed]),
            ("done twice", vec![EventKind::Submitted, claimed(0, 1), done(0, 1), done(0, 1)]),
            ("done without a claim", vec![EventKind::Submitted, claimed(0, 1), done(0, 2)]),
            (
                "a second attempt",
                vec![EventKind::Submitted, claimed(0, 1), EventKind::Speculated { task: 0, attempt: 1 }],
            ),
            ("from one generation to the next", vec![EventKind::Submitted, replanned(3)]),
            ("twice for the list", vec![EventKind::Submitted, replanned(2), replanned(3)]),
            ("a done task", vec![EventKind::Submitted, claimed(0, 1), done(0, 1), claimed(0, 2)]),
        ];
        for (what, course) in courses {
            let found = audit(&log(course));
            assert!(found.iter().any(|f| f.contains(what)), "{what}: {found:?}");
        }
    }
}
