//! Behaviours of a doorbell in the absence of faults: then nothing is lost and nothing comes twice.

use super::DoorbellHarness;
use super::fixture::ring;
use crate::doorbell::{Queue, Ring};
use splitreel_core::task::TaskKind;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// Polls once; true when the future is pending.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// Many ringers and many listeners: every ring is heard once.
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
    let mut ringers = tokio::task::JoinSet::new();
    for job in 0..4 {
        let bell = harness.open().await;
        ringers.spawn(async move {
            for number in 0..EACH {
                bell.ring(ring(job, number)).await.unwrap();
            }
        });
    }
    ringers.join_all().await;
    let heard: Vec<Ring> = listeners.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = heard.iter().cloned().collect();
    let rung: BTreeSet<_> = (0..4).flat_map(|job| (0..EACH).map(move |number| ring(job, number))).collect();
    assert_eq!(heard.len(), rung.len());
    assert_eq!(distinct, rung);
}

/// Assemblers do not hear workers' rings, nor the other way round.
pub async fn queues_are_apart(harness: &dyn DoorbellHarness) {
    let bell = harness.open().await;
    let assemble = Ring { kind: TaskKind::Assemble, ..ring(1, 9) };
    bell.ring(assemble.clone()).await.unwrap();
    bell.ring(ring(1, 1)).await.unwrap();
    assert_eq!(bell.next(Queue::Work).await.unwrap(), ring(1, 1));
    assert_eq!(bell.next(Queue::Assemble).await.unwrap(), assemble);
}

/// A listener that goes away while it waits does not take a ring with it.
pub async fn a_cancelled_listener_takes_nothing(harness: &dyn DoorbellHarness) {
    let bell = harness.open().await;
    let mut first = bell.next(Queue::Work);
    let mut second = bell.next(Queue::Work);
    assert!(is_pending(&mut first).await);
    assert!(is_pending(&mut second).await);
    bell.ring(ring(1, 1)).await.unwrap();
    drop(first);
    assert_eq!(second.await.unwrap(), ring(1, 1));
    drop(bell.next(Queue::Work));
    bell.ring(ring(1, 2)).await.unwrap();
    drop(bell.next(Queue::Work));
    assert_eq!(bell.next(Queue::Work).await.unwrap(), ring(1, 2));
}

/// A ring wakes a listener that already waits.
pub async fn a_waiting_listener_is_woken(harness: &dyn DoorbellHarness) {
    let (bell, ears) = (harness.open().await, harness.open().await);
    let listener = tokio::spawn(async move { ears.next(Queue::Work).await });
    tokio::task::yield_now().await;
    bell.ring(ring(1, 1)).await.unwrap();
    assert_eq!(listener.await.unwrap().unwrap(), ring(1, 1));
}
