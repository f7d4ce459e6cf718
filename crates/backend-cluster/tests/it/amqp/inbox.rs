//! Upload events that others send.

use super::broker::{Client, Place, bounded};
use super::proxy::{Mode, Proxy};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use splitreel_backend_cluster::amqp::{AmqpError, AmqpInbox, AmqpLink, AmqpOptions, Binding, InboxOptions};
use std::time::Duration;

fn options(place: &Place) -> InboxOptions {
    InboxOptions { queue: format!("{}.inbox", place.prefix), bind: None, prefetch: 4 }
}

/// The queue is declared by the first `next`, which somebody has to poll for that.
async fn first_message(inbox: &AmqpInbox, sent: impl Future<Output = ()>) -> Vec<u8> {
    let (heard, ()) = tokio::join!(inbox.next(), sent);
    let heard = heard.unwrap();
    let body = heard.body.clone();
    assert!(heard.ack().await);
    body
}

#[tokio::test]
async fn messages_are_given_out_until_they_are_dealt_with() {
    let place = Place::new();
    bounded(async {
        let (inbox, client) =
            (AmqpInbox::new(AmqpLink::open(place.options()).unwrap(), options(&place)), Client::connect().await);
        let queue = options(&place).queue;
        assert_eq!(first_message(&inbox, client.publish_once_declared(&queue, b"\xff\x00one")).await, b"\xff\x00one");
        client.publish("", &queue, b"two").await;
        let two = inbox.next().await.unwrap();
        assert_eq!((two.body.as_slice(), two.is_redelivered), (&b"two"[..], false));
        assert!(two.reject(true).await);
        let two = inbox.next().await.unwrap();
        assert_eq!((two.body.as_slice(), two.is_redelivered), (&b"two"[..], true));
        assert!(two.reject(false).await);
        client.publish("", &queue, b"three").await;
        let three = inbox.next().await.unwrap();
        assert_eq!(three.body, b"three");
        assert!(three.ack().await);
    })
    .await;
}

#[tokio::test]
async fn a_bound_exchange_feeds_the_queue() {
    let place = Place::new();
    bounded(async {
        let exchange = format!("{}.uploads", place.prefix);
        let bind = Some(Binding { exchange: exchange.clone(), routing_key: "bucket.#".to_owned() });
        let inbox = AmqpInbox::new(AmqpLink::open(place.options()).unwrap(), InboxOptions { bind, ..options(&place) });
        let client = Client::connect().await;
        let queue = options(&place).queue;
        first_message(&inbox, client.publish_once_declared(&queue, b"ready")).await;
        client.publish(&exchange, "bucket.films.put", b"uploaded").await;
        let heard = inbox.next().await.unwrap();
        assert_eq!((heard.body.as_slice(), heard.routing_key.as_str()), (&b"uploaded"[..], "bucket.films.put"));
        assert!(heard.ack().await);
    })
    .await;
}

#[tokio::test]
async fn a_queue_of_another_kind_is_used_as_it_is() {
    let place = Place::new();
    bounded(async {
        let client = Client::connect().await;
        let queue = options(&place).queue;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        client.channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
        client.publish("", &queue, b"classic").await;
        let inbox = AmqpInbox::new(AmqpLink::open(place.options()).unwrap(), options(&place));
        assert_eq!(first_message(&inbox, async {}).await, b"classic");
    })
    .await;
}

#[tokio::test]
async fn a_cut_and_a_deleted_queue_are_survived() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        // The broker does not always tell a consumer that its queue is gone.
        let renewing = AmqpOptions { renew_after: Duration::from_millis(500), ..place.options_over(proxy.port) };
        let link = AmqpLink::open(renewing).unwrap();
        let inbox = AmqpInbox::new(link.clone(), options(&place));
        let client = Client::connect().await;
        let queue = options(&place).queue;
        first_message(&inbox, client.publish_once_declared(&queue, b"one")).await;
        client.publish("", &queue, b"two").await;
        let before = inbox.next().await.unwrap();
        proxy.cut();
        proxy.closed(1).await;
        let after = inbox.next().await.unwrap();
        assert_eq!((after.body.as_slice(), after.is_redelivered), (&b"two"[..], true));
        assert!(!before.ack().await, "its connection is gone");
        assert!(after.ack().await);
        client.delete(&queue).await;
        assert_eq!(first_message(&inbox, client.publish_once_declared(&queue, b"three")).await, b"three");
        link.close().await;
        assert!(matches!(inbox.next().await, Err(AmqpError::Closed)));
    })
    .await;
}
