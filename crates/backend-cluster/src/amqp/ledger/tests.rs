//! The ledger by example, and against a broker that does what RabbitMQ promises.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use super::*;
use proptest::prelude::*;
use splitreel_backend::conformance::fixture::wakeup;
use std::collections::{BTreeMap, BTreeSet};

const LINGER: Duration = Duration::from_millis(100);
const RENEW: Duration = Duration::from_secs(5);

fn ledger(limit: usize) -> (Ledger<u32>, Instant) {
    (Ledger::new(limit, LINGER, LINGER, RENEW), Instant::now())
}

#[test]
fn a_seat_is_opened_per_listener_up_to_the_limit() {
    let (mut ledger, now) = ledger(2);
    assert!(ledger.steps(now).is_empty());
    ledger.wait();
    assert_eq!(ledger.steps(now), [Step::Open { seat: 1 }]);
    ledger.wait();
    ledger.wait();
    assert_eq!(ledger.steps(now), [Step::Open { seat: 2 }]);
    assert!(ledger.steps(now).is_empty());
}

#[test]
fn a_large_worker_opens_its_seats_by_and_by() {
    let (mut ledger, now) = ledger(100);
    (0..40).for_each(|_| ledger.wait());
    let mut opened = Vec::new();
    while ledger.due(now) == Some(now) {
        opened.push(ledger.steps(now).len());
    }
    assert_eq!(opened, [OPENED_AT_ONCE, OPENED_AT_ONCE, 40 - 2 * OPENED_AT_ONCE]);
    assert!(ledger.steps(now).is_empty());
}

#[test]
fn what_was_answered_is_kept_for_longer_than_what_nobody_wants() {
    const KEEP: Duration = Duration::from_secs(1);
    let (mut ledger, now): (Ledger<u32>, _) = (Ledger::new(8, LINGER, KEEP, RENEW), Instant::now());
    ledger.wait();
    ledger.steps(now);
    ledger.deliver(1, wakeup(1, 1), 10, now);
    ledger.take();
    ledger.answer(&wakeup(1, 1), Answer::Done, now);
    assert!(ledger.steps(now + LINGER).is_empty());
    assert_eq!(ledger.due(now + LINGER), Some(now + KEEP));
    assert_eq!(ledger.steps(now + KEEP).len(), 1);
    ledger.wait();
    ledger.steps(now);
    ledger.deliver(2, wakeup(1, 2), 11, now);
    ledger.unwait();
    assert_eq!(ledger.due(now), Some(now + LINGER));
    assert_eq!(ledger.steps(now + LINGER).len(), 1);
}

#[test]
fn a_listener_that_comes_back_soon_reuses_its_seat() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    ledger.deliver(1, wakeup(1, 1), 10, now);
    assert_eq!(ledger.take(), Some(wakeup(1, 1)));
    assert!(ledger.answer(&wakeup(1, 1), Answer::Done, now));
    assert!(ledger.steps(now).is_empty(), "held back");
    assert_eq!(ledger.due(now), Some(now + LINGER));
    ledger.wait();
    assert_eq!(ledger.steps(now), [Step::Settle { seat: 1, token: 10, answer: Answer::Done, close: false }]);
    assert_eq!(ledger.due(now), Some(now + RENEW));
}

#[test]
fn a_busy_listener_gives_its_seat_up() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    ledger.deliver(1, wakeup(1, 1), 10, now);
    ledger.take();
    ledger.answer(&wakeup(1, 1), Answer::Done, now);
    let closed = [Step::Settle { seat: 1, token: 10, answer: Answer::Done, close: true }];
    assert_eq!(ledger.steps(now + LINGER), closed);
    ledger.wait();
    assert_eq!(ledger.steps(now + LINGER), [Step::Open { seat: 2 }]);
}

#[test]
fn a_ring_without_an_answer_goes_back_at_once() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    ledger.deliver(1, wakeup(1, 1), 10, now);
    ledger.take();
    assert!(ledger.answer(&wakeup(1, 1), Answer::Again, now));
    assert_eq!(ledger.steps(now), [Step::Settle { seat: 1, token: 10, answer: Answer::Again, close: true }]);
    assert!(!ledger.answer(&wakeup(1, 1), Answer::Again, now), "an answer counts once");
}

#[test]
fn a_ring_whose_listener_left_waits_for_another_and_then_goes_back() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    ledger.unwait();
    ledger.deliver(1, wakeup(1, 1), 10, now);
    assert!(ledger.steps(now).is_empty());
    assert_eq!(ledger.due(now), Some(now + LINGER));
    assert_eq!(ledger.steps(now + LINGER), [Step::Settle { seat: 1, token: 10, answer: Answer::Again, close: true }]);
    ledger.wait();
    assert_eq!(ledger.take(), None);
}

#[test]
fn a_seat_that_nobody_wants_is_closed() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    ledger.unwait();
    assert!(ledger.steps(now).is_empty());
    assert_eq!(ledger.due(now), Some(now + LINGER));
    assert_eq!(ledger.steps(now + LINGER), [Step::Close { seat: 1 }]);
    // A wakeup that was on its way is still heard, and its seat is not closed twice.
    ledger.deliver(1, wakeup(1, 1), 10, now + LINGER);
    ledger.wait();
    assert_eq!(ledger.take(), Some(wakeup(1, 1)));
    ledger.answer(&wakeup(1, 1), Answer::Done, now + LINGER);
    let settled = [Step::Settle { seat: 2, token: 10, answer: Answer::Done, close: false }];
    assert_eq!(ledger.steps(now + LINGER), settled);
}

#[test]
fn a_consumer_that_the_broker_ended_is_replaced() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    assert!(ledger.ended(1));
    assert!(!ledger.ended(1));
    assert_eq!(ledger.steps(now), [Step::Open { seat: 2 }]);
}

#[test]
fn seats_that_may_be_deaf_are_replaced_when_no_ring_is_in_hand() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.wait();
    ledger.steps(now);
    assert_eq!(ledger.due(now), Some(now + RENEW));
    assert!(!ledger.is_stale(now));
    let late = now + RENEW;
    ledger.deliver(1, wakeup(1, 1), 10, late);
    ledger.take();
    assert!(!ledger.is_stale(late), "a listener has a wakeup");
    assert_eq!(ledger.due(late), None);
    ledger.answer(&wakeup(1, 1), Answer::Done, late);
    assert!(ledger.is_stale(late));
    assert_eq!(ledger.drain(), [(10, Answer::Done)]);
    assert_eq!(ledger.steps(late), [Step::Open { seat: 3 }]);
}

#[test]
fn a_ring_for_a_seat_that_holds_one_is_kept_beside_it() {
    let (mut ledger, now) = ledger(8);
    ledger.wait();
    ledger.steps(now);
    ledger.deliver(1, wakeup(1, 1), 10, now);
    ledger.take();
    ledger.deliver(1, wakeup(1, 2), 11, now);
    ledger.wait();
    assert_eq!(ledger.take(), Some(wakeup(1, 2)));
    assert!(ledger.answer(&wakeup(1, 1), Answer::Again, now));
    assert!(ledger.answer(&wakeup(1, 2), Answer::Done, now));
    let settled = ledger.steps(now);
    assert!(settled.contains(&Step::Settle { seat: 1, token: 10, answer: Answer::Again, close: true }), "{settled:?}");
    assert!(settled.contains(&Step::Settle { seat: 2, token: 11, answer: Answer::Done, close: false }), "{settled:?}");
}

#[test]
fn held_back_answers_are_handed_in_at_the_end() {
    let (mut ledger, now) = ledger(8);
    for seat in 1..=3 {
        ledger.wait();
        ledger.steps(now);
        ledger.deliver(seat, wakeup(1, u32::try_from(seat).unwrap()), u32::try_from(seat).unwrap(), now);
    }
    ledger.take();
    ledger.take();
    ledger.answer(&wakeup(1, 2), Answer::Done, now);
    assert_eq!(ledger.drain(), [(2, Answer::Done)]);
    assert!(!ledger.answer(&wakeup(1, 1), Answer::Done, now), "its channel is closed");
}

/// What happens from outside, in any order.
#[derive(Clone, Debug)]
enum Move {
    Wait,
    Leave,
    Take,
    Answer { which: usize, answer: Answer },
    Send { which: usize },
    BrokerEnds { which: usize },
    Pass { millis: u64 },
    Disconnect,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let answer = prop_oneof![3 => Just(Answer::Done), 1 => Just(Answer::Again)];
    let one = prop_oneof![
        6 => Just(Move::Wait),
        2 => Just(Move::Leave),
        6 => Just(Move::Take),
        5 => (any::<usize>(), answer).prop_map(|(which, answer)| Move::Answer { which, answer }),
        8 => any::<usize>().prop_map(|which| Move::Send { which }),
        1 => any::<usize>().prop_map(|which| Move::BrokerEnds { which }),
        3 => (0_u64..150).prop_map(|millis| Move::Pass { millis }),
        1 => Just(Move::Disconnect),
    ];
    prop::collection::vec(one, 0..120)
}

/// A broker that sends one wakeup per open consumer, and complains about whatever RabbitMQ would.
#[derive(Default)]
struct Broker {
    /// Open consumers and the delivery that each holds.
    consumers: BTreeMap<u64, Option<u32>>,
    /// Deliveries not acknowledged.
    unsettled: BTreeSet<u32>,
    sent: u32,
}

impl Broker {
    fn take(&mut self, steps: Vec<Step<u32>>) {
        for step in steps {
            match step {
                Step::Open { seat } => assert_eq!(self.consumers.insert(seat, None), None, "a tag is used once"),
                Step::Close { seat } => assert_eq!(self.consumers.remove(&seat), Some(None), "open and empty"),
                Step::Settle { seat, token, close, .. } => {
                    assert!(self.unsettled.remove(&token), "settled once");
                    match close {
                        true => assert_eq!(self.consumers.remove(&seat), Some(Some(token))),
                        false => {
                            if let Some(holds) = self.consumers.get_mut(&seat) {
                                assert_eq!(holds.take(), Some(token));
                            }
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_ring_is_lost_and_no_listener_forgotten(limit in 1_usize..6, moves in moves()) {
        let (mut ledger, mut now) = ledger(limit);
        let mut broker = Broker::default();
        let mut waiting = 0_usize;
        let mut taken: Vec<Wakeup> = Vec::new();
        for one in moves {
            match one {
                Move::Wait => {
                    ledger.wait();
                    waiting += 1;
                }
                Move::Leave => if waiting > 0 {
                    ledger.unwait();
                    waiting -= 1;
                },
                Move::Take => if waiting > 0 && let Some(wakeup) = ledger.take() {
                    waiting -= 1;
                    taken.push(wakeup);
                },
                Move::Answer { which, answer } => if !taken.is_empty() {
                    let wakeup = taken.swap_remove(which % taken.len());
                    prop_assert!(ledger.answer(&wakeup, answer, now));
                },
                Move::Send { which } => {
                    let free: Vec<u64> =
                        broker.consumers.iter().filter(|(_, holds)| holds.is_none()).map(|(seat, _)| *seat).collect();
                    if !free.is_empty() {
                        let seat = free[which % free.len()];
                        broker.sent += 1;
                        broker.consumers.insert(seat, Some(broker.sent));
                        broker.unsettled.insert(broker.sent);
                        ledger.deliver(seat, wakeup(1, broker.sent), broker.sent, now);
                    }
                }
                Move::BrokerEnds { which } => if !broker.consumers.is_empty() {
                    let seat = *broker.consumers.keys().nth(which % broker.consumers.len()).unwrap();
                    broker.consumers.remove(&seat);
                    prop_assert!(ledger.ended(seat));
                },
                Move::Pass { millis } => now += Duration::from_millis(millis),
                Move::Disconnect => {
                    ledger.clear();
                    broker.consumers.clear();
                    broker.unsettled.clear();
                    for wakeup in taken.drain(..) {
                        prop_assert!(!ledger.answer(&wakeup, Answer::Done, now));
                    }
                }
            }
            broker.take(ledger.steps(now));
            prop_assert!(broker.unsettled.len() <= limit);
            let free = broker.consumers.values().filter(|holds| holds.is_none()).count();
            let served = free + ledger.heard.len();
            let full = ledger.seats.len() >= limit;
            prop_assert!(served >= waiting || full, "a listener waits while a seat could be opened");
            prop_assert!(ledger.steps(now).is_empty(), "one round of steps is enough");
        }
        // Left alone, everything that no listener holds goes back, and nothing more is due.
        for _ in 0..waiting {
            ledger.unwait();
        }
        for _ in 0..4 {
            now += LINGER;
            broker.take(ledger.steps(now));
        }
        prop_assert_eq!(broker.unsettled.len(), taken.len());
        prop_assert!(broker.consumers.values().all(|holds| holds.is_some()));
        prop_assert_eq!(ledger.due(now), None);
    }
}
