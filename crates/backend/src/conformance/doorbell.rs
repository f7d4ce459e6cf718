//! Behaviours of a doorbell in the absence of faults: then nothing is lost and nothing comes twice.

use super::DoorbellHarness;
use super::fixture::wakeup;
use crate::doorbell::{Queue, Wakeup};
use splitreel_core::task::TaskKind;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// Polls once; true when the future is pending.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// Many senders and many listeners: every wakeup is received once.
pub async fn each_ring_reaches_exactly_one_listener(harness: &dyn DoorbellHarness) {
    const EACH: u32 = 50;
    let mut listeners = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let bell = harness.open().await;
        listeners.spawn(async move {
            let mut heard = Vec::new();
            for _ in 0..EACH {
                heard.push(bell.next(Queue::Work).await.unwrap());
            }
            heard
        });
    }
    let mut senders = tokio::task::JoinSet::new();
    for job in 0..4 {
        let bell = harness.open().await;
        senders.spawn(async move {
            for number in 0..EACH {
                bell.notify(wakeup(job, number)).await.unwrap();
            }
        });
    }
    senders.join_all().await;
    let heard: Vec<Wakeup> = listeners.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = heard.iter().cloned().collect();
    let notified: BTreeSet<_> = (0..4).flat_map(|job| (0..EACH).map(move |number| wakeup(job, number))).collect();
    assert_eq!(heard.len(), notified.len());
    assert_eq!(distinct, notified);
}

/// Assemblers do not hear workers' wakeups, nor the other way round.
pub async fn queues_are_apart(harness: &dyn DoorbellHarness) {
    let bell = harness.open().await;
    let assemble = Wakeup { kind: TaskKind::Assemble, ..wakeup(1, 9) };
    bell.notify(assemble.clone()).await.unwrap();
    bell.notify(wakeup(1, 1)).await.unwrap();
    assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 1));
    assert_eq!(bell.next(Queue::Assemble).await.unwrap(), assemble);
}

/// A listener that goes away while it waits does not take a wakeup with it.
pub async fn a_cancelled_listener_takes_nothing(harness: &dyn DoorbellHarness) {
    let bell = harness.open().await;
    let mut first = bell.next(Queue::Work);
    let mut second = bell.next(Queue::Work);
    assert!(is_pending(&mut first).await);
    assert!(is_pending(&mut second).await);
    bell.notify(wakeup(1, 1)).await.unwrap();
    drop(first);
    assert_eq!(second.await.unwrap(), wakeup(1, 1));
    drop(bell.next(Queue::Work));
    bell.notify(wakeup(1, 2)).await.unwrap();
    drop(bell.next(Queue::Work));
    assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 2));
}

/// A wakeup wakes a listener that already waits.
pub async fn a_waiting_listener_is_woken(harness: &dyn DoorbellHarness) {
    let (bell, ears) = (harness.open().await, harness.open().await);
    let listener = tokio::spawn(async move { ears.next(Queue::Work).await });
    tokio::task::yield_now().await;
    bell.notify(wakeup(1, 1)).await.unwrap();
    assert_eq!(listener.await.unwrap().unwrap(), wakeup(1, 1));
}
