//! The doorbell while connections break, queues vanish and the broker goes silent.

use super::broker::{Client, Place, bounded};
use super::proxy::{Mode, Proxy};
use splitreel_backend::Doorbell;
use splitreel_backend::conformance::fixture::wakeup;
use splitreel_backend::doorbell::{Queue, Wakeup};
use splitreel_backend_cluster::amqp::{AmqpDoorbell, AmqpError, AmqpLink, AmqpOptions, Health};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(500);

/// As the outbox relay does: what was not accepted is sent again.
async fn notify_until_accepted(bell: &AmqpDoorbell, wakeup: Wakeup) {
    for _ in 0..50 {
        if bell.notify(wakeup.clone()).await.is_ok() {
            return;
        }
    }
    panic!("the doorbell did not come back");
}

/// Until each was heard. An answer that was under way when its queue was replaced may count for a wakeup of the new
/// queue, so what is missing is notified again, as the sweeper does.
async fn hear_all(bell: &AmqpDoorbell, wakeups: Vec<Wakeup>) {
    let mut missing: BTreeSet<Wakeup> = wakeups.into_iter().collect();
    while !missing.is_empty() {
        match tokio::time::timeout(SHORT, bell.next(Queue::Work)).await {
            Ok(heard) => {
                let heard = heard.unwrap();
                missing.remove(&heard);
                bell.answered(&heard).await;
            }
            Err(_) => drop(bell.notify_all(missing.iter().cloned().collect()).await),
        }
    }
}

#[tokio::test]
async fn a_ring_of_a_listener_that_dies_goes_to_another() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let (dies, lives) = (place.bell_with(place.options_over(proxy.port)), place.bell());
        lives.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(dies.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        proxy.set(Mode::Refuse);
        proxy.cut();
        assert_eq!(lives.next(Queue::Work).await.unwrap(), wakeup(1, 1));
    })
    .await;
}

#[tokio::test]
async fn publishing_and_listening_survive_a_cut() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let bell = place.bell_with(place.options_over(proxy.port));
        for round in 0..3 {
            let (before, after) = (wakeup(1, 2 * round), wakeup(1, 2 * round + 1));
            bell.notify(before.clone()).await.unwrap();
            assert_eq!(bell.next(Queue::Work).await.unwrap(), before);
            let waiting = bell.next(Queue::Work);
            proxy.cut();
            notify_until_accepted(&bell, after.clone()).await;
            let mut heard = BTreeSet::from([waiting.await.unwrap()]);
            // The one without an answer comes again; one whose confirmation was cut off may come twice.
            while !(heard.contains(&before) && heard.contains(&after)) {
                heard.insert(bell.next(Queue::Work).await.unwrap());
            }
            for wakeup in &heard {
                bell.answered(wakeup).await;
            }
        }
        assert_eq!(bell.link().health(), Health::Connected);
    })
    .await;
}

#[tokio::test]
async fn an_answer_after_the_connection_is_gone_is_harmless() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let bell = place.bell_with(place.options_over(proxy.port));
        bell.notify(wakeup(1, 1)).await.unwrap();
        let heard = bell.next(Queue::Work).await.unwrap();
        proxy.cut();
        proxy.closed(1).await;
        proxy.opened(2).await;
        bell.link().connected(Duration::from_secs(30)).await.unwrap();
        // Over the new connection nothing was given out yet: the answer is to a wakeup that is nobody's.
        bell.answered(&heard).await;
        bell.answered(&heard).await;
        assert_eq!(bell.next(Queue::Work).await.unwrap(), heard);
        bell.answered(&heard).await;
        notify_until_accepted(&bell, wakeup(1, 2)).await;
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 2));
    })
    .await;
}

#[tokio::test]
async fn deleted_queues_are_declared_again() {
    let place = Place::new();
    bounded(async {
        // The broker does not always tell a consumer that its queue was replaced.
        let options = AmqpOptions { renew_after: SHORT, ..place.options() };
        let (bell, client) = (place.bell_with(options), Client::connect().await);
        bell.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        bell.answered(&wakeup(1, 1)).await;
        for round in 0..2 {
            for name in ["work", "assemble"] {
                client.delete(&format!("{}.v1.{name}", place.prefix)).await;
            }
            // More than a window's worth, all into the void at first.
            let wakeups: Vec<Wakeup> = (0..520).map(|number| wakeup(2 + round, number)).collect();
            assert_eq!(bell.notify_all(wakeups.clone()).await, wakeups);
            hear_all(&bell, wakeups).await;
        }
        // Also while a listener waits and no wakeup is sent.
        let sender = place.bell();
        client.delete(&place.queue()).await;
        tokio::join!(hear_all(&bell, vec![wakeup(9, 9)]), notify_until_accepted(&sender, wakeup(9, 9)));
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_does_not_confirm_has_not_accepted() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let options = AmqpOptions { confirm_timeout: SHORT, ..place.options_over(proxy.port) };
        let bell = place.bell_with(options);
        notify_until_accepted(&bell, wakeup(1, 1)).await;
        proxy.set(Mode::Swallow);
        let started = Instant::now();
        let error = bell.notify(wakeup(1, 2)).await.unwrap_err();
        assert!(error.what.contains("did not answer"), "{error}");
        assert!(started.elapsed() < SHORT * 10, "{:?}", started.elapsed());
        assert!(bell.notify_all(vec![wakeup(1, 3), wakeup(1, 4)]).await.is_empty());
        // The silent connection is given up, and cut even though nobody answers its farewell.
        proxy.closed(1).await;
        proxy.set(Mode::Pass);
        proxy.cut();
        notify_until_accepted(&bell, wakeup(1, 5)).await;
        let mut heard = BTreeSet::new();
        while !heard.contains(&wakeup(1, 5)) {
            let wakeup = bell.next(Queue::Work).await.unwrap();
            bell.answered(&wakeup).await;
            heard.insert(wakeup);
        }
        assert!(heard.contains(&wakeup(1, 1)));
    })
    .await;
}

#[tokio::test]
async fn attempts_to_reach_a_silent_broker_leave_nothing_behind() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Swallow).await;
    bounded(async {
        let options = AmqpOptions {
            connect_timeout: SHORT,
            max_reconnect_delay: Duration::from_millis(50),
            ..place.options_over(proxy.port)
        };
        let link = AmqpLink::open(options).unwrap();
        let error = link.connected(SHORT / 2).await.unwrap_err();
        assert!(matches!(error, AmqpError::Down { .. }), "{error}");
        proxy.closed(2).await;
        assert!(matches!(link.health(), Health::Down { last_error: Some(_) }), "{:?}", link.health());
        proxy.set(Mode::Pass);
        link.connected(Duration::from_secs(30)).await.unwrap();
        assert_eq!(link.health(), Health::Connected);
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_refuses_is_tried_again_and_again() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Refuse).await;
    bounded(async {
        let bell = place.bell_with(AmqpOptions {
            max_reconnect_delay: Duration::from_millis(20),
            ..place.options_over(proxy.port)
        });
        // More often than lapin itself would.
        proxy.opened(20).await;
        assert!(bell.notify(wakeup(1, 1)).await.is_err());
        proxy.set(Mode::Pass);
        notify_until_accepted(&bell, wakeup(1, 2)).await;
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 2));
    })
    .await;
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let bell = place.bell_with(place.options_over(proxy.port));
        bell.notify(wakeup(1, 1)).await.unwrap();
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        drop(bell);
        proxy.closed(1).await;
        assert_eq!(place.bell().next(Queue::Work).await.unwrap(), wakeup(1, 1));
    })
    .await;
}

#[tokio::test]
async fn closing_is_bounded_when_the_broker_is_silent() {
    let place = Place::new();
    let proxy = Proxy::start(Mode::Pass).await;
    bounded(async {
        let bell = place.bell_with(AmqpOptions { answer_timeout: SHORT, ..place.options_over(proxy.port) });
        notify_until_accepted(&bell, wakeup(1, 1)).await;
        assert_eq!(bell.next(Queue::Work).await.unwrap(), wakeup(1, 1));
        proxy.set(Mode::Swallow);
        let started = Instant::now();
        bell.close().await;
        assert!(started.elapsed() < SHORT * 10, "{:?}", started.elapsed());
        proxy.closed(1).await;
    })
    .await;
}

#[test]
fn an_address_that_is_none_is_refused() {
    let refused = |url: &str| matches!(AmqpLink::open(AmqpOptions::new(url)), Err(AmqpError::Url { .. }));
    assert!(refused("http://127.0.0.1"));
    assert!(refused("not an address"));
}
