//! Job events as another system sees them.

use super::broker::{Client, Place, bounded};
use super::proxy::{Mode, Proxy};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use splitreel_backend::conformance::fixture::job_id;
use splitreel_backend_cluster::amqp::{AmqpEvents, AmqpLink, AmqpOptions};
use splitreel_core::event::{Event, EventKind};
use std::time::Duration;

fn event(seq: i64, what: EventKind) -> Event {
    Event { seq, job: job_id(1), at_ms: 5, what }
}

#[tokio::test]
async fn events_reach_those_who_bind_a_queue() {
    let place = Place::new();
    bounded(async {
        let events = AmqpEvents::new(AmqpLink::open(place.options()).unwrap());
        events.publish(&[event(1, EventKind::Submitted)]).await.unwrap();
        let client = Client::connect().await;
        let queue = format!("{}.inbox", place.prefix);
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        client.channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
        let exchange = format!("{}.v1.events", place.prefix);
        for key in ["job.planned", "job.published"] {
            let bound = client.channel.queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bound.await.unwrap();
        }
        let planned = event(2, EventKind::Planned { num_tasks: 3 });
        let published = event(4, EventKind::Published);
        events.publish(&[planned.clone(), event(3, EventKind::Paused), published.clone()]).await.unwrap();
        for wanted in [planned, published] {
            let message = client.get(&queue).await.unwrap();
            assert_eq!(serde_json::from_slice::<Event>(&message.data).unwrap(), wanted);
            assert_eq!(*message.properties.delivery_mode(), Some(2));
        }
        assert_eq!(client.get(&queue).await, None);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_confirmed_is_told() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let options = AmqpOptions { confirm_timeout: Duration::from_millis(500), ..place.options_over(proxy.port) };
        let link = AmqpLink::open(options).unwrap();
        let events = AmqpEvents::new(link.clone());
        let batch = [event(1, EventKind::Submitted), event(2, EventKind::Published)];
        events.publish(&batch).await.unwrap();
        proxy.set(Mode::Swallow);
        let error = events.publish(&batch).await.unwrap_err();
        assert_eq!(error.accepted, 0);
        proxy.set(Mode::Pass);
        proxy.cut();
        link.connected(Duration::from_secs(30)).await.unwrap();
        events.publish(&batch).await.unwrap();
    })
    .await;
}
