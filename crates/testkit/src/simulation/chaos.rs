//! What goes wrong and when: the fault mix of a seed, its draws, and the trace of all that happened.

use super::lock;
use super::world::ClockStep;
use crate::dice::Dice;
use crate::toolkit::{Fate, Mishap, Turn};
use splitreel_backend::fault::WakeupVerdict;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Lines of trace that are kept.
const TRACE_LINES: usize = 200;
/// Crashes per run, so that a run does not consist of nothing else.
const MAX_CRASHES: u64 = 25;
/// A process stands still at most so long.
pub(super) const LONGEST_PAUSE_MS: u64 = 60_000;
/// Calls that come round without anybody's doing; they get a quarter of the faults.
const POLLING: [&str; 7] =
    ["store.jobs", "store.dispatch", "store.unsent", "store.reap", "store.sweep", "store.job", "store.tasks"];

/// Probabilities in ten-thousandths, and when it is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Mix {
    pub fail_before: u32,
    pub fail_after: u32,
    pub delay: u32,
    /// Calls that take some milliseconds.
    pub jitter: u32,
    pub pause: u32,
    pub crash: u32,
    pub wakeup_lost: u32,
    pub wakeup_twice: u32,
    pub wakeup_late: u32,
    /// Wakeups that the broker keeps until it is restarted, or all is over.
    pub wakeup_held: u32,
    /// Objects that are written, read or deleted while the caller gets an error.
    pub applied: u32,
    pub torn: u32,
    pub hidden: u32,
    pub late: u32,
    pub infra: u32,
    pub media: u32,
    pub frame_missing: u32,
    pub slow: u32,
    /// How far a clock is off at most, in milliseconds; each start of a process draws anew.
    pub skew_ms: u64,
    /// When and how far all clocks are set.
    pub clock_step: ClockStep,
    /// Crashes at any moment, partitions, restarts and wipes of the doorbell, per minute.
    pub strikes_per_minute: u64,
    /// From then on nothing goes wrong any more; only jitter stays.
    pub calm_after: Duration,
}

impl Mix {
    /// Nothing ever goes wrong.
    pub(super) fn calm() -> Self {
        Mix::default()
    }

    /// The mix of a seed: each kind of fault is absent, rare or frequent.
    pub(super) fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let mut rate = |most: u64| {
            let share = dice.pick(&[0, 10, 40, 100]);
            u32::try_from(most * share / 100).unwrap_or(0)
        };
        Mix {
            fail_before: rate(1500),
            fail_after: rate(1500),
            delay: rate(4000),
            jitter: 2000,
            pause: rate(300),
            crash: rate(500),
            wakeup_lost: rate(5000),
            wakeup_twice: rate(4000),
            wakeup_late: rate(5000),
            wakeup_held: rate(3000),
            applied: rate(3000),
            torn: rate(6000),
            hidden: rate(3000),
            late: rate(2500),
            infra: rate(2500),
            media: rate(1000),
            frame_missing: rate(500),
            slow: rate(3000),
            skew_ms: u64::from(rate(3000)),
            // With one seed in four, further back than any wait is long, in the middle of the work.
            clock_step: match seed % 4 {
                0 => ClockStep { after: Duration::from_secs(3 + seed % 17), by_ms: -7_200_000 },
                _ => ClockStep::default(),
            },
            strikes_per_minute: u64::from(rate(30)),
            calm_after: dice.millis(10_000..60_000),
        }
    }
}

/// What becomes of a call, before or after its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    Nothing,
    Fail,
    Delay(Duration),
    /// The whole process stands still.
    Pause(Duration),
    Crash,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Whole,
    /// First a piece of it, the whole after a while.
    Torn(Duration),
    /// Readers see it after a while only.
    Hidden(Duration),
    /// The writer gets an error; long after that the object is written all the same, in pieces.
    Late(Duration),
}

pub(super) struct Chaos {
    started: Instant,
    mix: Mix,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    trace: VecDeque<String>,
    hash: u64,
    is_calm: bool,
    num_effects: u64,
    num_faults: u64,
    num_crashes: u64,
}

/// FNV-1a, continued from `hash`.
pub(super) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Where [`fnv`] starts.
pub(super) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

impl Chaos {
    pub(super) fn new(seed: u64, mix: Mix) -> Self {
        let state = State {
            dice: Dice::new(seed, 2),
            trace: VecDeque::new(),
            hash: FNV_START,
            is_calm: mix.calm_after.is_zero(),
            num_effects: 0,
            num_faults: 0,
            num_crashes: 0,
        };
        Chaos { started: Instant::now(), mix, state: Mutex::new(state) }
    }

    pub(super) fn mix(&self) -> &Mix {
        &self.mix
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Nothing goes wrong from now on.
    pub(super) fn calm_down(&self) {
        lock(&self.state).is_calm = true;
        self.note("all", || "calm".into());
    }

    pub(super) fn is_calm(&self) -> bool {
        lock(&self.state).is_calm
    }

    /// Adds a line to the trace.
    pub(super) fn note(&self, who: &str, what: impl FnOnce() -> String) {
        let line = format!("{:>7} ms  {who:<14} {}", self.elapsed_ms(), what());
        let mut state = lock(&self.state);
        state.hash = fnv(state.hash, line.as_bytes());
        if state.trace.len() == TRACE_LINES {
            state.trace.pop_front();
        }
        state.trace.push_back(line);
    }

    /// Draws for a call of a process.
    pub(super) fn stroke(&self, who: &str, op: &'static str, is_after: bool) -> Stroke {
        let mut state = lock(&self.state);
        state.num_effects += 1;
        state.hash = fnv(state.hash, op.as_bytes());
        // No fault, only the order of things: goes on when all is calm.
        let jitter =
            if state.dice.chance(self.mix.jitter) { Stroke::Delay(state.dice.millis(1..5)) } else { Stroke::Nothing };
        if state.is_calm {
            return jitter;
        }
        let scale = if POLLING.contains(&op) { 4 } else { 1 };
        let mix = &self.mix;
        let fail = match (is_after, op.starts_with("blobs.")) {
            (false, _) => mix.fail_before,
            (true, false) => mix.fail_after,
            (true, true) => mix.fail_after.max(mix.applied),
        };
        let stroke = if state.num_crashes < MAX_CRASHES && state.dice.chance(mix.crash / scale) {
            state.num_crashes += 1;
            Stroke::Crash
        } else if state.dice.chance(fail / scale) {
            Stroke::Fail
        } else if state.dice.chance(mix.pause / scale) {
            Stroke::Pause(state.dice.millis(1_000..LONGEST_PAUSE_MS))
        } else if state.dice.chance(mix.delay / scale) {
            let longest = state.dice.pick(&[20, 500, 4_000, 12_000]);
            Stroke::Delay(state.dice.millis(1..longest))
        } else {
            return jitter;
        };
        state.num_faults += 1;
        drop(state);
        self.note(who, || format!("{op}: {stroke:?} {}", if is_after { "after" } else { "before" }));
        stroke
    }

    pub(super) fn wakeup_verdict(&self) -> WakeupVerdict {
        let verdict = self.draw(|mix, dice| {
            if dice.chance(mix.wakeup_lost) {
                Some(WakeupVerdict::Drop)
            } else if dice.chance(mix.wakeup_twice) {
                Some(WakeupVerdict::Duplicate)
            } else {
                None
            }
        });
        verdict.unwrap_or(WakeupVerdict::Deliver)
    }

    /// Whether the broker keeps a wakeup for hours.
    pub(super) fn wakeup_is_held(&self) -> bool {
        self.draw(|mix, dice| dice.chance(mix.wakeup_held).then_some(())).is_some()
    }

    /// How late a wakeup arrives; later ones may overtake it.
    pub(super) fn wakeup_delay(&self) -> Option<Duration> {
        self.draw(|mix, dice| dice.chance(mix.wakeup_late).then(|| dice.millis(1..15_000)))
    }

    pub(super) fn write(&self) -> Write {
        let write = self.draw(|mix, dice| {
            if dice.chance(mix.torn) {
                Some(Write::Torn(dice.millis(1..3_000)))
            } else if dice.chance(mix.hidden) {
                Some(Write::Hidden(dice.millis(1..8_000)))
            } else if dice.chance(mix.late) {
                Some(Write::Late(dice.millis(1..LONGEST_PAUSE_MS)))
            } else {
                None
            }
        });
        write.unwrap_or(Write::Whole)
    }

    /// When and how far all clocks are set.
    pub(super) fn clock_step(&self) -> ClockStep {
        self.mix.clock_step
    }

    /// How far the clock of a machine is off, in milliseconds.
    pub(super) fn skew_ms(&self) -> i64 {
        let largest = i64::try_from(self.mix.skew_ms).unwrap_or(0);
        let drawn = self.choose(usize::try_from(2 * largest + 1).unwrap_or(1));
        i64::try_from(drawn).unwrap_or(0) - largest
    }

    /// One choice out of `n`, for things that differ without being faults.
    pub(super) fn choose(&self, n: usize) -> usize {
        let at = lock(&self.state).dice.within(0..n as u64);
        usize::try_from(at).unwrap_or(0)
    }

    fn draw<T>(&self, with: impl FnOnce(&Mix, &mut Dice) -> Option<T>) -> Option<T> {
        let mut state = lock(&self.state);
        if state.is_calm {
            return None;
        }
        let drawn = with(&self.mix, &mut state.dice);
        state.num_faults += u64::from(drawn.is_some());
        drawn
    }

    /// Effects, faults, crashes.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let state = lock(&self.state);
        (state.num_effects, state.num_faults, state.num_crashes)
    }

    pub(super) fn trace(&self) -> (Vec<String>, u64) {
        let state = lock(&self.state);
        (state.trace.iter().cloned().collect(), state.hash)
    }
}

impl Fate for Chaos {
    fn turn(&self) -> Turn {
        let turn = self.draw(|mix, dice| {
            let slowness_percent =
                if dice.chance(mix.slow) { u32::try_from(dice.within(200..3_000)).unwrap_or(100) } else { 100 };
            let mishap = if dice.chance(mix.infra) {
                Mishap::Infra
            } else if dice.chance(mix.media) {
                Mishap::Media
            } else if dice.chance(mix.frame_missing) {
                Mishap::FrameMissing
            } else {
                Mishap::None
            };
            let turn = Turn { mishap, slowness_percent };
            (turn != Turn::default()).then_some(turn)
        });
        turn.unwrap_or_default()
    }
}
