//! Jumps of a transport stream's clock (ISO/IEC 13818-1 §2.7.6), closed alike for all tracks: from the packets of all tracks
//! to one rule for each track, behind both the probe's times and the timestamps that an encode works with. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of jumps that are closed; what follows keeps the last shift.
const MAX_JUMPS: usize = 200;

/// Steps that are no jump yet, in ticks. Pauses are long; a clock that runs back never pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Longest step forwards.
    pub ahead: i64,
    /// Longest step backwards.
    pub back: i64,
}

impl StepLimits {
    /// Whether the step from one time to the next is a jump.
    fn is_jump(self, before: i64, time: i64) -> bool {
        time.saturating_sub(before) > self.ahead || before.saturating_sub(time) > self.back
    }
}

/// The clock of one track of a source whose clock jumps. Times are ticks of the track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackClock {
    /// A longer step between neighbouring times leads to the next epoch.
    pub limits: StepLimits,
    /// Stretches between jumps, in the order of the source; at least one.
    pub epochs: Vec<Epoch>,
}

/// A stretch without jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Lowest time of the track in it.
    pub first: i64,
    /// Highest time of the track in it.
    pub last: i64,
    /// Ticks to subtract from its times.
    pub shift: i64,
}

impl TrackClock {
    /// Epoch of the first frame that is seen: the first one with its time.
    pub fn start(&self, time: i64) -> usize {
        self.epochs.iter().position(|epoch| (epoch.first..=epoch.last).contains(&time)).unwrap_or(0)
    }

    /// Ticks to subtract in an epoch.
    pub fn shift(&self, epoch: usize) -> i64 {
        self.epochs.get(epoch).or(self.epochs.last()).map_or(0, |epoch| epoch.shift)
    }
}

/// Closes the jumps of a track's times, one after the other.
#[derive(Clone, Debug)]
pub struct Closing {
    clock: TrackClock,
    /// Epoch and time of the frame before.
    before: Option<(usize, i64)>,
}

impl Closing {
    /// At the start of a track.
    pub fn new(clock: TrackClock) -> Self {
        Closing { clock, before: None }
    }

    /// The time of the next frame without the jumps.
    pub fn close(&mut self, time: i64) -> i64 {
        let epoch = match self.before {
            None => self.clock.start(time),
            Some((epoch, before)) => epoch + usize::from(self.clock.limits.is_jump(before, time)),
        };
        self.before = Some((epoch, time));
        time.saturating_sub(self.clock.shift(epoch))
    }
}

/// A jump, for people. Ticks of the tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Last time in front of it.
    pub from: i64,
    /// First time behind it.
    pub to: i64,
}

/// Finds the jumps in the packets of all tracks of a source, in the order of the file. All tracks have the same timebase.
#[derive(Clone, Debug)]
pub struct ClockScan {
    limits: StepLimits,
    tracks: BTreeMap<u32, Track>,
    num_epochs: usize,
}

#[derive(Clone, Debug)]
struct Track {
    /// Decode time of the packet before.
    before: i64,
    /// Stretches of the track between steps beyond the limit: each with the number of its epoch of the whole source.
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    epoch: usize,
    first: i64,
    last: i64,
    /// Ticks from the last time to the end of its packet.
    duration: i64,
}

impl ClockScan {
    /// `limits`: steps that are no jump yet.
    pub fn new(limits: StepLimits) -> Self {
        ClockScan { limits, tracks: BTreeMap::new(), num_epochs: 0 }
    }

    /// Takes the next packet.
    pub fn push(&mut self, stream: u32, pts: i64, dts: i64, duration: i64) {
        let before = self.tracks.get(&stream).map(|track| track.before);
        let continues = before.is_some_and(|before| !self.limits.is_jump(before, dts));
        let epoch = if continues { None } else { Some(self.epoch_of(stream, dts)) };
        let track = self.tracks.entry(stream).or_insert_with(|| Track { before: dts, parts: Vec::new() });
        track.before = dts;
        if let (Some(epoch), true) = (epoch, track.parts.len() <= MAX_JUMPS) {
            track.parts.push(Part { epoch, first: pts, last: pts, duration: 0 });
        }
        if let Some(part) = track.parts.last_mut() {
            part.first = part.first.min(pts);
            if pts >= part.last {
                (part.last, part.duration) = (pts, duration.max(0));
            }
        }
    }

    /// The epoch that a track is in after a step: one that another track is in already, or a new one.
    fn epoch_of(&mut self, stream: u32, time: i64) -> usize {
        let current = self.tracks.get(&stream).and_then(|track| track.parts.last()).map_or(0, |part| part.epoch);
        // Packets of one time stand near each other: where another track is now, not where it was, is decisive.
        let others = self.tracks.iter().filter(|(other, _)| **other != stream).map(|(_, track)| track);
        let near =
            others.filter(|track| !self.limits.is_jump(track.before, time)).filter_map(|track| track.parts.last());
        near.map(|part| part.epoch).filter(|epoch| *epoch >= current).min().unwrap_or_else(|| {
            self.num_epochs += 1;
            self.num_epochs - 1
        })
    }

    /// The clocks of all tracks and the jumps; `None` when the clock never jumps. What comes behind a jump follows what
    /// is in front of it without a gap on the track `lead`, or on the first one that has both.
    pub fn finish(self, lead: Option<u32>) -> Option<(BTreeMap<u32, TrackClock>, Vec<Jump>)> {
        if self.num_epochs < 2 {
            return None;
        }
        let order = lead.iter().chain(self.tracks.keys());
        let tracks: Vec<&Track> = order.filter_map(|stream| self.tracks.get(stream)).collect();
        let (mut shifts, mut jumps) = (vec![0i64], Vec::new());
        for epoch in 1..self.num_epochs {
            let before = shifts.last().copied().unwrap_or(0);
            let ends = tracks.iter().find_map(|track| {
                let at = track.parts.iter().position(|part| part.epoch == epoch)?;
                Some((track.parts.get(at.checked_sub(1)?)?, track.parts.get(at)?))
            });
            let Some((front, back)) = ends else {
                shifts.push(before);
                continue;
            };
            let front_shift = shifts.get(front.epoch).copied().unwrap_or(before);
            let end = front.last.saturating_add(front.duration).saturating_sub(front_shift);
            shifts.push(back.first.saturating_sub(end));
            jumps.push(Jump { from: front.last, to: back.first });
        }
        let clock = |track: &Track| TrackClock {
            limits: self.limits,
            epochs: track
                .parts
                .iter()
                .map(|part| Epoch {
                    first: part.first,
                    last: part.last,
                    shift: shifts.get(part.epoch).copied().unwrap_or(0),
                })
                .collect(),
        };
        Some((self.tracks.iter().map(|(stream, track)| (*stream, clock(track))).collect(), jumps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of picture (stream 0, every 40 ticks) and sound (stream 1, every 20), interleaved.
    fn push(scan: &mut ClockScan, start: i64, end: i64, sound_from: i64) {
        for time in (start..end).step_by(20) {
            if (time - start) % 40 == 0 {
                scan.push(0, time, time, 40);
            }
            if time >= sound_from {
                scan.push(1, time + 5, time + 5, 20);
            }
        }
    }

    fn limits(ticks: i64) -> StepLimits {
        StepLimits { ahead: ticks, back: ticks }
    }

    fn closed(clock: &TrackClock, times: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut closing = Closing::new(clock.clone());
        times.into_iter().map(|time| closing.close(time)).collect()
    }

    #[test]
    fn a_clock_that_runs_back_goes_on_where_the_picture_ends() {
        let mut scan = ClockScan::new(limits(1000));
        push(&mut scan, 14_000, 14_200, 0);
        push(&mut scan, 300, 500, 0);
        let (clocks, jumps) = scan.finish(Some(0)).unwrap();
        assert_eq!(jumps, [Jump { from: 14_160, to: 300 }]);
        assert_eq!(closed(&clocks[&0], [14_120, 14_160, 300, 340]), [14_120, 14_160, 14_200, 14_240]);
        assert_eq!(closed(&clocks[&1], [14_185, 305, 325]), [14_185, 14_205, 14_225]);
        assert_eq!(closed(&clocks[&1], [305, 325]), [14_205, 14_225]);
    }

    #[test]
    fn times_that_come_twice_are_told_apart_by_the_jump() {
        let mut scan = ClockScan::new(limits(100));
        push(&mut scan, 0, 400, 0);
        push(&mut scan, 0, 400, 0);
        let (clocks, _) = scan.finish(Some(0)).unwrap();
        assert_eq!(closed(&clocks[&0], [0, 40, 80, 120, 160, 200, 240, 280, 320, 360, 0, 40])[9..], [360, 400, 440]);
    }

    #[test]
    fn a_gap_of_one_track_is_no_jump() {
        let mut scan = ClockScan::new(limits(100));
        push(&mut scan, 0, 100, 0);
        push(&mut scan, 100, 600, 500);
        assert_eq!(scan.clone().finish(Some(0)), None);
        push(&mut scan, 9_000, 9_100, 0);
        let (clocks, jumps) = scan.finish(Some(0)).unwrap();
        assert_eq!(jumps.len(), 1);
        assert_eq!(closed(&clocks[&1], [65, 85, 505, 525, 9_005]), [65, 85, 505, 525, 625]);
    }
}
