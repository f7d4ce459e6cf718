//! Trial seeks: whether decoding that starts at a keyframe of the container shows every frame from there on. Containers call
//! more a keyframe than a decoder can start from: points of gradual refresh, or every sample.

use super::job::Job;
use crate::encode::Seeking;
use crate::process::RunError;
use crate::request::Effort;
use splitreel_core::MediaTime;
use splitreel_core::source::Keyframe;

/// Keyframes that are tried, evenly spread.
const TRIED: usize = 3;
/// Frames from the keyframe on that have to come out.
const SHOWN: usize = 6;
/// Frames that are read behind those, so that reordering holds none of them back.
const LEAD: usize = 18;

/// Where decoding may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// At every keyframe.
    Keyframe,
    /// At the keyframe before: pictures are whole from one keyframe to the next.
    KeyframeBefore,
    /// At neither: some are no keyframes.
    Nowhere,
}

/// A seek, and the frames that it has to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trial<'a> {
    /// Number of the keyframe to seek to.
    keyframe: usize,
    /// Times that have to come out.
    expected: &'a [i64],
    /// Time up to which packets are read.
    end: i64,
}

/// Tries seeks to a few keyframes, and where these fail to the ones before them.
pub(crate) async fn entry(
    job: &Job<'_>,
    keyframes: &[Keyframe],
    pts: &[i64],
    effort: &mut Effort,
) -> Result<Entry, RunError> {
    for (run_in, entry) in [(0, Entry::Keyframe), (1, Entry::KeyframeBefore)] {
        let trials = trials(keyframes, pts, run_in);
        if !trials.is_empty() && hold(job, keyframes, &trials, effort).await? {
            return Ok(entry);
        }
    }
    Ok(Entry::Nowhere)
}

fn trials<'a>(keyframes: &[Keyframe], pts: &'a [i64], run_in: usize) -> Vec<Trial<'a>> {
    let last = keyframes.len().saturating_sub(1);
    let mut numbers: Vec<usize> = (1..=TRIED).map(|nth| last * nth / TRIED).filter(|number| *number > run_in).collect();
    numbers.dedup();
    let trial = |number: usize| {
        let at = pts.binary_search(&keyframes.get(number)?.pts).ok()?;
        let expected = pts.get(at..pts.len().min(at + SHOWN))?;
        let end = pts.get(at + SHOWN + LEAD).or(pts.last())?.saturating_add(1);
        Some(Trial { keyframe: number - run_in, expected, end })
    };
    numbers.into_iter().filter_map(trial).collect()
}

async fn hold(
    job: &Job<'_>,
    keyframes: &[Keyframe],
    trials: &[Trial<'_>],
    effort: &mut Effort,
) -> Result<bool, RunError> {
    let at = |ticks: i64| MediaTime::new(ticks, job.timebase());
    let first = at(keyframes.first().map_or(0, |first| first.pts));
    let seeking = Seeking::of(job.demuxer);
    let spans: Vec<(Option<i64>, i64)> = trials
        .iter()
        .filter_map(|trial| {
            let next = keyframes.get(trial.keyframe + 1).map(|next| at(next.pts));
            let target = seeking.target(at(keyframes.get(trial.keyframe)?.pts), next, first);
            Some((target, at(trial.end).micros_floor()))
        })
        .collect();
    let (shown, output) = job.subject.frames_within((job.demuxer, job.stream.index), &spans).await?;
    effort.add(&output);
    Ok(trials.iter().all(|trial| trial.expected.iter().all(|pts| shown.contains(pts))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_spread_over_the_keyframes() {
        let pts: Vec<i64> = (0..100).collect();
        let keyframes: Vec<Keyframe> =
            (0..10).map(|n| Keyframe { pts: n * 10, position: None, opening: Default::default() }).collect();
        let numbers = |run_in| trials(&keyframes, &pts, run_in).iter().map(|trial| trial.keyframe).collect::<Vec<_>>();
        assert_eq!(numbers(0), [3, 6, 9]);
        assert_eq!(numbers(1), [2, 5, 8]);
        let trial = &trials(&keyframes, &pts, 1)[2];
        assert_eq!((trial.expected, trial.end), (&pts[90..96], 100));
        assert_eq!(trials(&keyframes[..2], &pts, 0).len(), 1);
        assert_eq!(trials(&keyframes[..2], &pts, 1), []);
        assert_eq!(trials(&keyframes[..1], &pts, 0), []);
    }
}
