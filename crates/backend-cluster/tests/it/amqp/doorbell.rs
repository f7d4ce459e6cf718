//! The doorbell on a broker that works.

use super::broker::{Client, Place, bounded};
use lapin::options::{BasicNackOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use splitreel_backend::Doorbell;
use splitreel_backend::conformance::fixture::wakeup;
use splitreel_backend::doorbell::{Queue, Wakeup};
use splitreel_backend_cluster::amqp::{AmqpOptions, Health, QueueDepth};
use splitreel_core::Trace;
use std::collections::BTreeSet;
use std::sync::Arc;

splitreel_backend::doorbell_conformance!(Place::new());

/// The broker counts a little later than it confirms.
async fn depth_becomes(bell: &splitreel_backend_cluster::amqp::AmqpDoorbell, wanted: QueueDepth) {
    let mut depth = None;
    for _ in 0..2000 {
        depth = Some(bell.depth(Queue::Work).await.unwrap());
        if depth == Some(wanted) {
            return;
        }
    }
    panic!("{depth:?} instead of {wanted:?}");
}

#[tokio::test]
async fn a_ring_without_an_answer_goes_back_when_its_listener_closes() {
    let place = Place::new();
    bounded(async {
        let (first, second) = (place.bell(), place.bell());
        first.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(first.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        first.close().await;
        assert_eq!(second.next(Queue::Work).await.unwrap(), wakeup(1, 1));
    })
    .await;
}

#[tokio::test]
async fn an_answered_ring_does_not_come_again() {
    let place = Place::new();
    bounded(async {
        let (first, second) = (place.bell(), place.bell());
        first.notify(wakeup(1, 1)).await.unwrap();
        let heard = first.next(Queue::Work).await.unwrap();
        first.answered(&heard).await;
        // Closing hands in the answer, which is held back until then.
        first.close().await;
        second.notify(wakeup(1, 2)).await.unwrap();
        assert_eq!(second.next(Queue::Work).await.unwrap(), wakeup(1, 2));
        second.answered(&wakeup(1, 2)).await;
        depth_becomes(&second, QueueDepth { ready: 0, consumers: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn an_unanswered_ring_comes_again_at_once() {
    let place = Place::new();
    bounded(async {
        let (first, second) = (place.bell(), place.bell());
        first.notify(wakeup(1, 1)).await.unwrap();
        let heard = first.next(Queue::Work).await.unwrap();
        first.unanswered(&heard).await;
        assert_eq!(second.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        second.unanswered(&heard).await;
        assert_eq!(second.next(Queue::Work).await.unwrap(), wakeup(1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_busy_listener_keeps_no_ring_from_others() {
    let place = Place::new();
    bounded(async {
        let (busy, free) = (place.bell(), place.bell());
        busy.notify(wakeup(1, 1)).await.unwrap();
        let heard = busy.next(Queue::Work).await.unwrap();
        busy.answered(&heard).await;
        // From now on it works and asks for nothing.
        let wakeups: Vec<Wakeup> = (2..40).map(|number| wakeup(1, number)).collect();
        assert_eq!(free.notify_all(wakeups.clone()).await, wakeups);
        for wakeup in wakeups {
            assert_eq!(free.next(Queue::Work).await.unwrap(), wakeup);
            free.answered(&wakeup).await;
        }
        depth_becomes(&free, QueueDepth { ready: 0, consumers: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn a_ring_whose_listener_left_goes_to_another_process() {
    let place = Place::new();
    bounded(async {
        let (left, stays) = (place.bell(), place.bell());
        {
            let mut listening = left.next(Queue::Work);
            // Polled until its consumer is there, then dropped.
            let listened = async {
                while left.depth(Queue::Work).await.unwrap().consumers == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = &mut listening => panic!("nothing was notified"),
                () = listened => {}
            }
        }
        stays.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(stays.next(Queue::Work).await.unwrap(), wakeup(1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rings_are_confirmed_and_heard_once() {
    let place = Place::new();
    bounded(async {
        let bell = Arc::new(place.bell());
        let wakeups: Vec<Wakeup> = (0..1000).map(|number| wakeup(7, number)).collect();
        assert_eq!(bell.notify_all(wakeups.clone()).await, wakeups);
        depth_becomes(&bell, QueueDepth { ready: 1000, consumers: 0 }).await;
        let mut listeners = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let bell = Arc::clone(&bell);
            listeners.spawn(async move {
                let mut heard = Vec::new();
                for _ in 0..125 {
                    let wakeup = bell.next(Queue::Work).await.unwrap();
                    bell.answered(&wakeup).await;
                    heard.push(wakeup);
                }
                heard
            });
        }
        let heard: Vec<Wakeup> = listeners.join_all().await.into_iter().flatten().collect();
        assert_eq!(heard.len(), 1000);
        assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), wakeups.into_iter().collect());
        depth_becomes(&bell, QueueDepth { ready: 0, consumers: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn garbage_is_dropped_and_does_not_come_again() {
    let place = Place::new();
    bounded(async {
        let (bell, client) = (place.bell(), Client::connect().await);
        assert_eq!(bell.depth(Queue::Work).await.unwrap(), QueueDepth { ready: 0, consumers: 0 });
        for garbage in [&b""[..], b"\xff\xfe", b"{\"task\":1}", &[b'x'; 100_000]] {
            client.publish("", &place.queue(), garbage).await;
        }
        bell.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        bell.answered(&wakeup(1, 1)).await;
        bell.close().await;
        let again = place.bell();
        again.notify(wakeup(1, 2)).await.unwrap();
        assert_eq!(again.next(Queue::Work).await.unwrap(), wakeup(1, 2));
        again.answered(&wakeup(1, 2)).await;
        depth_becomes(&again, QueueDepth { ready: 0, consumers: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn a_ring_is_a_small_persistent_message_with_its_trace() {
    let place = Place::new();
    bounded(async {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let bell = place.bell();
        bell.notify(Wakeup { trace: Trace::new(Some(parent.to_owned())), ..wakeup(1, 1) }).await.unwrap();
        let client = Client::connect().await;
        let message = client.get(&place.queue()).await.unwrap();
        assert!(message.data.len() <= 1024);
        assert_eq!(serde_json::from_slice::<Wakeup>(&message.data).unwrap(), wakeup(1, 1));
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        let headers = message.properties.headers().as_ref().unwrap();
        assert_eq!(headers.inner().get("traceparent"), Some(&AMQPValue::LongString(parent.into())));
        message.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await.unwrap();
        assert_eq!(bell.next(Queue::Work).await.unwrap().trace.as_str(), Some(parent));
    })
    .await;
}

#[tokio::test]
async fn queues_are_durable_quorum_queues_without_other_arguments() {
    let place = Place::new();
    bounded(async {
        let bell = place.bell();
        bell.notify(wakeup(1, 1)).await.unwrap();
        let client = Client::connect().await;
        // The broker compares arguments, and refuses a declaration that differs.
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        for name in ["work", "assemble"] {
            let name = format!("{}.v1.{name}", place.prefix);
            client.channel.queue_declare(name.as_str().into(), durable, arguments.clone()).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_closed_doorbell_says_so() {
    let place = Place::new();
    bounded(async {
        let bell = Arc::new(place.bell());
        bell.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        let waiting = tokio::spawn({
            let bell = Arc::clone(&bell);
            async move { bell.next(Queue::Work).await }
        });
        tokio::task::yield_now().await;
        bell.close().await;
        assert!(waiting.await.unwrap().is_err());
        assert!(bell.next(Queue::Assemble).await.is_err());
        assert!(bell.notify(wakeup(1, 2)).await.is_err());
        assert!(bell.notify_all(vec![wakeup(1, 2)]).await.is_empty());
        bell.answered(&wakeup(1, 1)).await;
        assert_eq!(bell.link().health(), Health::Closed);
    })
    .await;
}

#[test]
fn the_password_is_not_shown() {
    let options = AmqpOptions::new("amqp://user:secret@127.0.0.1/%2f");
    assert!(!format!("{options:?}").contains("secret"));
}
