//! Number of wakeups to request from the broker: the listeners, consumers and wakeups of one queue. Pure: the clock is an
//! argument, and `consumer` carries out the steps.
//!
//! A *seat* is one consumer with prefetch 1. There are as many free seats as waiting listeners, so a wakeup is never
//! delivered to a process that cannot claim it at once while another process could. An answered seat is kept,
//! unacknowledged, for a while: the broker sends it nothing, and a listener that returns in that time costs one
//! acknowledgement instead of a new consumer.
//!
//! A free seat can be deaf: RabbitMQ 3.10 sometimes neither cancels nor feeds a consumer whose quorum queue was deleted
//! and declared again at once. Seats that received nothing for a long time are therefore replaced, over a new channel.

use splitreel_backend::doorbell::Wakeup;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Maximum number of seats opened at once: while the broker opens the seats of a large worker, no wakeup is received.
const OPENED_AT_ONCE: usize = 16;

/// A listener's answer to its wakeup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Acknowledge it.
    Done,
    /// Requeue it for another listener.
    Again,
}

/// A request to the broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// Start a consumer.
    Open { seat: u64 },
    /// End a consumer that holds no wakeup.
    Close { seat: u64 },
    /// Acknowledge or requeue; with `close`, end the consumer first, so that it receives no further wakeup.
    Settle { seat: u64, token: T, answer: Answer, close: bool },
}

#[derive(Debug)]
enum Holds<T> {
    Nothing,
    Heard { wakeup: Wakeup, token: T, since: Instant },
    Taken { wakeup: Wakeup, token: T },
    Answered { token: T, answer: Answer, since: Instant },
}

#[derive(Debug)]
struct Seat<T> {
    /// The broker may deliver to it.
    is_open: bool,
    /// When it last became free.
    free_since: Instant,
    holds: Holds<T>,
}

/// The state of one queue in this process; `T` acknowledges one delivery.
#[derive(Debug)]
pub(super) struct Ledger<T> {
    limit: usize,
    linger: Duration,
    keep: Duration,
    renew: Duration,
    waiting: usize,
    seats: BTreeMap<u64, Seat<T>>,
    heard: VecDeque<u64>,
    last_seat: u64,
    surplus_since: Option<Instant>,
}

impl<T> Ledger<T> {
    /// A ledger with at most `limit` unacknowledged wakeups. Unneeded wakeups are returned after `linger`, answered ones
    /// acknowledged after `keep`; a seat that has been free for `renew` may be deaf.
    pub(super) fn new(limit: usize, linger: Duration, keep: Duration, renew: Duration) -> Self {
        Ledger {
            limit: limit.max(1),
            linger,
            keep,
            renew,
            waiting: 0,
            seats: BTreeMap::new(),
            heard: VecDeque::new(),
            last_seat: 0,
            surplus_since: None,
        }
    }

    /// Adds a waiting listener.
    pub(super) fn wait(&mut self) {
        self.waiting = self.waiting.saturating_add(1);
    }

    /// Removes a waiting listener that got no wakeup.
    pub(super) fn unwait(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Gives the oldest wakeup to a waiting listener.
    pub(super) fn take(&mut self) -> Option<Wakeup> {
        while let Some(seat) = self.heard.pop_front() {
            let Some(seat) = self.seats.get_mut(&seat) else { continue };
            match std::mem::replace(&mut seat.holds, Holds::Nothing) {
                Holds::Heard { wakeup, token, .. } => {
                    seat.holds = Holds::Taken { wakeup: wakeup.clone(), token };
                    self.unwait();
                    return Some(wakeup);
                }
                other => seat.holds = other,
            }
        }
        None
    }

    /// Records a wakeup that the broker delivered to a seat. When the seat was closed meanwhile, or holds another wakeup
    /// (its queue was replaced), the wakeup gets a closed seat of its own.
    pub(super) fn deliver(&mut self, seat: u64, wakeup: Wakeup, token: T, now: Instant) {
        let holds = Holds::Heard { wakeup, token, since: now };
        match self.seats.get_mut(&seat) {
            Some(free) if matches!(free.holds, Holds::Nothing) => {
                free.holds = holds;
                self.heard.push_back(seat);
            }
            _ => {
                self.last_seat += 1;
                self.seats.insert(self.last_seat, Seat { is_open: false, free_since: now, holds });
                self.heard.push_back(self.last_seat);
            }
        }
    }

    /// Records a listener's answer. False: the wakeup is not held here, because its connection is gone.
    pub(super) fn answer(&mut self, wakeup: &Wakeup, answer: Answer, now: Instant) -> bool {
        for seat in self.seats.values_mut() {
            match std::mem::replace(&mut seat.holds, Holds::Nothing) {
                Holds::Taken { wakeup: taken, token } if taken == *wakeup => {
                    seat.holds = Holds::Answered { token, answer, since: now };
                    return true;
                }
                other => seat.holds = other,
            }
        }
        false
    }

    /// Records the end of a consumer. True: the end was not requested, so the queue is gone.
    pub(super) fn ended(&mut self, seat: u64) -> bool {
        let Some(entry) = self.seats.get_mut(&seat) else { return false };
        let was_open = std::mem::replace(&mut entry.is_open, false);
        if matches!(entry.holds, Holds::Nothing) {
            self.seats.remove(&seat);
        }
        was_open
    }

    /// Drops all seats after the loss of the connection; their wakeups are redelivered, here or elsewhere.
    pub(super) fn clear(&mut self) {
        self.seats.clear();
        self.heard.clear();
        self.surplus_since = None;
    }

    /// The requests to send now. The ledger assumes that they succeed.
    pub(super) fn steps(&mut self, now: Instant) -> Vec<Step<T>> {
        let mut steps = Vec::new();
        let need = self.waiting.saturating_sub(self.heard.len());
        let mut free = self.free_seats().count();
        self.return_surplus(now);
        let answered: Vec<u64> =
            self.seats.iter().filter(|(_, s)| matches!(s.holds, Holds::Answered { .. })).map(|(id, _)| *id).collect();
        for seat in answered {
            let keep = free < need && self.seats.get(&seat).is_some_and(|s| s.is_open);
            if let Some(step) = self.settle(seat, keep, now) {
                free += usize::from(keep);
                steps.push(step);
            }
        }
        let mut num_opened = 0;
        while free < need && self.seats.len() < self.limit && num_opened < OPENED_AT_ONCE {
            num_opened += 1;
            self.last_seat += 1;
            self.seats.insert(self.last_seat, Seat { is_open: true, free_since: now, holds: Holds::Nothing });
            steps.push(Step::Open { seat: self.last_seat });
            free += 1;
        }
        self.close_surplus_seats(free.saturating_sub(need), now, &mut steps);
        steps
    }

    /// Whether a seat may be deaf and all can be replaced because no listener holds an unanswered wakeup.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let is_quiet = |s: &Seat<T>| matches!(s.holds, Holds::Nothing | Holds::Answered { .. });
        self.free_seats().any(|s| now >= s.free_since + self.renew) && self.seats.values().all(is_quiet)
    }

    fn free_seats(&self) -> impl Iterator<Item = &Seat<T>> {
        self.seats.values().filter(|s| s.is_open && matches!(s.holds, Holds::Nothing))
    }

    /// When to call `steps` and `is_stale` again if nothing happens before.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let need = self.waiting.saturating_sub(self.heard.len());
        if self.seats.len() < self.limit && self.free_seats().count() < need {
            return Some(now);
        }
        let answered = self.seats.values().filter_map(|s| match s.holds {
            Holds::Answered { since, .. } => Some(since + self.keep),
            _ => None,
        });
        let oldest = self.heard.front().and_then(|id| self.seats.get(id)).and_then(|s| match s.holds {
            Holds::Heard { since, .. } => Some(since),
            _ => None,
        });
        let unheard = oldest.filter(|_| self.heard.len() > self.waiting);
        let linger = unheard.into_iter().chain(self.surplus_since).map(|since| since + self.linger).chain(answered);
        // An overdue seat waits for an answer, which triggers a call.
        let stale = self.free_seats().map(|s| s.free_since + self.renew).filter(|due| *due > now);
        linger.chain(stale).min()
    }

    /// Takes the answers that were held back, when the connection is about to close.
    pub(super) fn drain(&mut self) -> Vec<(T, Answer)> {
        let seats = std::mem::take(&mut self.seats);
        self.clear();
        seats
            .into_values()
            .filter_map(|s| match s.holds {
                Holds::Answered { token, answer, .. } => Some((token, answer)),
                _ => None,
            })
            .collect()
    }

    /// Returns wakeups that no listener asked for.
    fn return_surplus(&mut self, now: Instant) {
        while self.heard.len() > self.waiting {
            let Some(seat) = self.heard.front().and_then(|id| self.seats.get_mut(id)) else {
                self.heard.pop_front();
                continue;
            };
            match std::mem::replace(&mut seat.holds, Holds::Nothing) {
                Holds::Heard { token, since, .. } if now >= since + self.linger => {
                    seat.holds = Holds::Answered { token, answer: Answer::Again, since };
                    self.heard.pop_front();
                }
                other => {
                    seat.holds = other;
                    break;
                }
            }
        }
    }

    fn settle(&mut self, id: u64, keep: bool, now: Instant) -> Option<Step<T>> {
        let seat = self.seats.get_mut(&id)?;
        match std::mem::replace(&mut seat.holds, Holds::Nothing) {
            Holds::Answered { token, answer, since }
                if keep || !seat.is_open || answer == Answer::Again || now >= since + self.keep =>
            {
                let close = seat.is_open && !keep;
                seat.free_since = now;
                if !keep {
                    self.seats.remove(&id);
                }
                Some(Step::Settle { seat: id, token, answer, close })
            }
            other => {
                seat.holds = other;
                None
            }
        }
    }

    fn close_surplus_seats(&mut self, surplus: usize, now: Instant, steps: &mut Vec<Step<T>>) {
        if surplus == 0 {
            self.surplus_since = None;
            return;
        }
        let since = *self.surplus_since.get_or_insert(now);
        if now < since + self.linger {
            return;
        }
        self.surplus_since = None;
        let free: Vec<u64> = self
            .seats
            .iter()
            .filter(|(_, s)| s.is_open && matches!(s.holds, Holds::Nothing))
            .map(|(id, _)| *id)
            .take(surplus)
            .collect();
        for seat in free {
            self.seats.remove(&seat);
            steps.push(Step::Close { seat });
        }
    }
}

#[cfg(test)]
mod tests;
