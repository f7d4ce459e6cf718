//! Events by queue: acknowledged after they are followed, poison rejected, what storage did not answer about given back.

use crate::fixture::{Deployment, rule};
use async_trait::async_trait;
use bytes::Bytes;
use splitreel_backend::inbox::{Delivery, EventInbox, InboxError};
use splitreel_coordinator::triggers::listen;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct TestInbox {
    waiting: Mutex<VecDeque<Delivery>>,
    told: Mutex<Vec<String>>,
    stop: CancellationToken,
    /// Answers an error once.
    is_flaky: std::sync::atomic::AtomicBool,
}

impl TestInbox {
    fn push(&self, tag: u64, body: &str) {
        self.waiting.lock().unwrap().push_back(Delivery { tag, body: Bytes::from(body.to_owned()) });
    }
}

#[async_trait]
impl EventInbox for TestInbox {
    async fn next(&self) -> Result<Delivery, InboxError> {
        if self.is_flaky.swap(false, Ordering::SeqCst) {
            return Err(InboxError { what: "connection lost".into() });
        }
        let next = self.waiting.lock().unwrap().pop_front();
        match next {
            Some(delivery) => Ok(delivery),
            None => {
                self.stop.cancel();
                std::future::pending().await
            }
        }
    }

    async fn ack(&self, tag: u64) -> Result<(), InboxError> {
        self.told.lock().unwrap().push(format!("ack {tag}"));
        Ok(())
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Result<(), InboxError> {
        self.told.lock().unwrap().push(format!("reject {tag} requeue={requeue}"));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_answered_by_what_became_of_them() {
    let here = Deployment::new();
    here.save_rule("studio", "r", &rule()).await;
    here.grants.set("s3://media-in/in/a.mp4", 9, "v");
    let good = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"media-in"},"object":{"key":"in/a.mp4"}}}]}"#;
    let inbox = TestInbox::default();
    inbox.is_flaky.store(true, Ordering::SeqCst);
    for (tag, body) in [(1, good), (2, "poison"), (3, r#"{"Event":"s3:TestEvent"}"#), (4, good)] {
        inbox.push(tag, body);
    }
    listen(&inbox, &here.intake, &inbox.stop).await;
    let told = std::mem::take(&mut *inbox.told.lock().unwrap());
    assert_eq!(told, ["ack 1", "reject 2 requeue=false", "ack 3", "ack 4"]);
    assert_eq!(here.jobs().await.len(), 1);

    here.grants.is_down.store(true, Ordering::SeqCst);
    let inbox = TestInbox::default();
    inbox.push(5, good);
    listen(&inbox, &here.intake, &inbox.stop).await;
    assert_eq!(*inbox.told.lock().unwrap(), ["reject 5 requeue=true"]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_whose_profile_is_gone_does_not_block_the_queue() {
    let here = Deployment::new();
    let mut broken = rule();
    broken.profile = "removed".into();
    here.save_rule("studio", "r", &broken).await;
    here.grants.set("s3://media-in/in/a.mp4", 9, "v");
    let inbox = TestInbox::default();
    inbox.push(1, r#"{"EventName":"s3:ObjectCreated:Put","Key":"media-in/in/a.mp4"}"#);
    listen(&inbox, &here.intake, &inbox.stop).await;
    assert_eq!(*inbox.told.lock().unwrap(), ["reject 1 requeue=false"]);
}
