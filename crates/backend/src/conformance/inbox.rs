//! Behaviours of an event inbox.

use super::InboxHarness;
use crate::inbox::{Delivery, EventInbox};
use std::time::Duration;

/// Patience with a message that must arrive.
const SOON: Duration = Duration::from_secs(30);
/// Time after which a message that may not arrive counts as absent.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

async fn next(inbox: &dyn EventInbox) -> Delivery {
    tokio::time::timeout(SOON, inbox.next()).await.expect("no message arrived").unwrap()
}

async fn assert_empty(inbox: &dyn EventInbox) {
    let found = tokio::time::timeout(LONG_ENOUGH, inbox.next()).await;
    assert!(found.is_err(), "{found:?}");
}

/// Messages arrive with their bytes, and an acknowledged one is never delivered again, to any process.
pub async fn acknowledged_messages_are_delivered_once(harness: &dyn InboxHarness) {
    let inbox = harness.open().await;
    for body in [&b"{}"[..], b"\xff\x00 any bytes", b""] {
        harness.send(body).await;
        let delivery = next(&*inbox).await;
        assert_eq!(delivery.body, body);
        inbox.ack(delivery.tag).await.unwrap();
    }
    assert_empty(&*inbox).await;
    harness.disconnect().await;
    assert_empty(&*harness.open().await).await;
}

/// A message that is rejected with `requeue` is delivered again, one rejected without it is not.
pub async fn rejected_messages_come_back_only_when_requeued(harness: &dyn InboxHarness) {
    let inbox = harness.open().await;
    harness.send(b"later").await;
    let delivery = next(&*inbox).await;
    inbox.reject(delivery.tag, true).await.unwrap();
    let again = next(&*inbox).await;
    assert_eq!(again.body, delivery.body);
    inbox.reject(again.tag, false).await.unwrap();
    assert_empty(&*inbox).await;
    harness.disconnect().await;
    assert_empty(&*harness.open().await).await;
}

/// Messages without an answer are delivered again after their process has gone.
pub async fn unanswered_messages_are_delivered_again(harness: &dyn InboxHarness) {
    let inbox = harness.open().await;
    harness.send(b"one").await;
    harness.send(b"two").await;
    let (first, second) = (next(&*inbox).await, next(&*inbox).await);
    assert_eq!((&first.body[..], &second.body[..]), (&b"one"[..], &b"two"[..]));
    inbox.ack(second.tag).await.unwrap();
    harness.disconnect().await;
    let inbox = harness.open().await;
    let again = next(&*inbox).await;
    assert_eq!(again.body, first.body);
    inbox.ack(again.tag).await.unwrap();
    assert_empty(&*inbox).await;
}

/// Messages can be answered in any order, each once.
pub async fn each_message_is_answered_by_its_tag_once(harness: &dyn InboxHarness) {
    let inbox = harness.open().await;
    for body in [b"a", b"b", b"c"] {
        harness.send(body).await;
    }
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(next(&*inbox).await);
    }
    let [a, b, c] = all.as_slice() else { unreachable!("three messages") };
    assert!(a.tag != b.tag && b.tag != c.tag && a.tag != c.tag);
    inbox.ack(c.tag).await.unwrap();
    inbox.reject(b.tag, true).await.unwrap();
    inbox.ack(a.tag).await.unwrap();
    for answered in [a, b, c] {
        assert!(inbox.ack(answered.tag).await.is_err(), "{answered:?} was answered before");
    }
    let again = next(&*inbox).await;
    assert_eq!(again.body, b.body);
    inbox.ack(again.tag).await.unwrap();
    assert_empty(&*inbox).await;
}

/// A caller that stops waiting loses no message.
pub async fn a_cancelled_wait_loses_nothing(harness: &dyn InboxHarness) {
    let inbox = harness.open().await;
    for n in 0..20_u8 {
        let impatient = Duration::from_millis(u64::from(n % 5));
        let cut_off = tokio::time::timeout(impatient, inbox.next()).await;
        assert!(cut_off.is_err(), "{cut_off:?}");
        harness.send(&[n]).await;
        let delivery = next(&*inbox).await;
        assert_eq!(delivery.body, &[n][..]);
        inbox.ack(delivery.tag).await.unwrap();
    }
    assert_empty(&*inbox).await;
}
