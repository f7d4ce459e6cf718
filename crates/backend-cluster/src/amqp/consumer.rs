//! Listens on one queue: a task per queue that keeps as many consumers as the ledger wants, over one channel, and
//! starts over on each new connection. What a wakeup means is not known here.

use super::ledger::{Answer, Ledger, Step};
use super::link::{Live, Shared};
use super::message::decode;
use super::topology::{Topology, queue_name};
use super::{AmqpError, one_line, within};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};
use splitreel_backend::doorbell::{Queue, Wakeup};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a free consumer or a wakeup without a listener is kept. Long against the time from an answer to the next
/// question, short against an encode.
const LINGER: Duration = Duration::from_millis(250);

/// What listeners and the task of a queue share.
pub(super) struct Tap {
    queue: Queue,
    ledger: Mutex<Ledger<Acker>>,
    arrived: Notify,
    changed: Notify,
    closing: CancellationToken,
}

/// A listener in the ledger, for as long as it waits.
struct Waiting<'a> {
    tap: &'a Tap,
    is_served: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_served {
            self.tap.lock().unwait();
            self.tap.changed.notify_one();
        }
    }
}

impl Tap {
    /// Starts listening; at most `limit` wakeups are unacknowledged at a time.
    pub(super) fn open(shared: &Arc<Shared>, queue: Queue, limit: usize, closing: CancellationToken) -> Arc<Self> {
        let tap = Arc::new(Tap {
            queue,
            ledger: Mutex::new(Ledger::new(limit, LINGER, shared.options.keep_answered, shared.options.renew_after)),
            arrived: Notify::new(),
            changed: Notify::new(),
            closing,
        });
        shared.users.spawn(listen(Arc::clone(shared), Arc::clone(&tap)));
        tap
    }

    /// Cancel-safe: a wakeup leaves the ledger only in the poll that answers it.
    pub(super) async fn next(&self) -> Result<Wakeup, AmqpError> {
        self.lock().wait();
        let mut waiting = Waiting { tap: self, is_served: false };
        self.changed.notify_one();
        loop {
            let arrived = self.arrived.notified();
            if self.closing.is_cancelled() {
                return Err(AmqpError::Closed);
            }
            if let Some(wakeup) = self.lock().take() {
                waiting.is_served = true;
                return Ok(wakeup);
            }
            tokio::select! {
                () = arrived => {}
                () = self.closing.cancelled() => {}
            }
        }
    }

    pub(super) fn answer(&self, wakeup: &Wakeup, answer: Answer) {
        if self.lock().answer(wakeup, answer, Instant::now()) {
            self.changed.notify_one();
        } else {
            tracing::debug!(task = %wakeup.task, "the connection of this wakeup is gone; it will come again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger<Acker>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(shared: Arc<Shared>, tap: Arc<Tap>) {
    loop {
        let live = tokio::select! {
            biased;
            () = tap.closing.cancelled() => return,
            live = shared.live() => live,
        };
        let Ok(live) = live else { return };
        let ended = Listening { shared: &shared, tap: &tap, live: &live }.run().await;
        tap.lock().clear();
        if let Err(error) = ended {
            live.fail(&error);
        }
    }
}

/// What a consumer says; none when it has ended.
type Heard = (u64, Option<lapin::Result<Delivery>>);
type Consumers = SelectAll<BoxStream<'static, Heard>>;

/// Listening on one connection.
struct Listening<'a> {
    shared: &'a Shared,
    tap: &'a Tap,
    live: &'a Live,
}

impl Listening<'_> {
    /// Until it is closed, the connection is of no use any more, or it is time for new consumers.
    async fn run(&self) -> Result<(), AmqpError> {
        let limit = self.shared.options.answer_timeout;
        let channel = self.live.channel().await?;
        self.declare(&channel).await?;
        // Without `global` it counts for each consumer apart, the only kind that RabbitMQ 4.3 still knows.
        within(limit, "set the prefetch", channel.basic_qos(1, BasicQosOptions::default())).await?;
        let mut consumers = Consumers::new();
        loop {
            let (steps, is_stale, due) = {
                let (mut ledger, now) = (self.tap.lock(), Instant::now());
                (ledger.steps(now), ledger.is_stale(now), ledger.due(now))
            };
            let opened = futures::future::try_join_all(steps.into_iter().map(|step| self.take(step, &channel))).await?;
            consumers.extend(opened.into_iter().flatten());
            if is_stale {
                return self.hand_in(&channel).await;
            }
            tokio::select! {
                biased;
                () = self.tap.closing.cancelled() => return self.hand_in(&channel).await,
                () = self.live.broken.cancelled() => return Err(AmqpError::Down { last: "given up".to_owned() }),
                Some((seat, heard)) = consumers.next() => match heard {
                    Some(Ok(delivery)) => self.heard(seat, delivery).await?,
                    Some(Err(source)) => return Err(AmqpError::Broker { doing: "listen", source }),
                    None => if self.tap.lock().ended(seat) {
                        tracing::warn!(queue = ?self.tap.queue, "the broker ended a consumer, its queue may be gone");
                        self.declare(&channel).await?;
                    },
                },
                () = self.tap.changed.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    async fn declare(&self, channel: &Channel) -> Result<(), AmqpError> {
        let topology = Topology::Wakeups { prefix: self.shared.options.prefix.clone() };
        topology.declare(channel, self.shared.options.answer_timeout).await
    }

    async fn take(&self, step: Step<Acker>, channel: &Channel) -> Result<Option<BoxStream<'static, Heard>>, AmqpError> {
        match step {
            Step::Open { seat } => return self.consume(seat, channel).await.map(Some),
            Step::Close { seat } => self.cancel(seat, channel).await?,
            Step::Settle { seat, token, answer, close } => {
                if close {
                    self.cancel(seat, channel).await?;
                }
                self.settle(&token, answer).await?;
            }
        }
        Ok(None)
    }

    async fn consume(&self, seat: u64, channel: &Channel) -> Result<BoxStream<'static, Heard>, AmqpError> {
        let name = queue_name(&self.shared.options.prefix, self.tap.queue);
        let asked =
            channel.basic_consume(name.into(), tag(seat), BasicConsumeOptions::default(), FieldTable::default());
        let consumer = within(self.shared.options.answer_timeout, "listen", asked).await?;
        let heard = consumer.map(move |delivery| (seat, Some(delivery)));
        Ok(heard.chain(futures::stream::once(async move { (seat, None) })).boxed())
    }

    /// A wakeup that was on its way is still heard afterwards.
    async fn cancel(&self, seat: u64, channel: &Channel) -> Result<(), AmqpError> {
        let asked = channel.basic_cancel(tag(seat), BasicCancelOptions::default());
        within(self.shared.options.answer_timeout, "stop listening", asked).await
    }

    async fn heard(&self, seat: u64, delivery: Delivery) -> Result<(), AmqpError> {
        match decode(&delivery.data, self.tap.queue) {
            Ok(wakeup) => {
                self.tap.lock().deliver(seat, wakeup, delivery.acker, Instant::now());
                self.tap.arrived.notify_one();
                Ok(())
            }
            Err(reason) => {
                // Back in the queue, it would come again for ever.
                tracing::warn!(%reason, bytes = delivery.data.len(), "a message that is not a wakeup is dropped");
                self.settle(&delivery.acker, Answer::Done).await
            }
        }
    }

    async fn settle(&self, acker: &Acker, answer: Answer) -> Result<(), AmqpError> {
        let limit = self.shared.options.answer_timeout;
        let is_taken = match answer {
            Answer::Done => within(limit, "acknowledge", acker.ack(BasicAckOptions::default())).await?,
            Answer::Again => {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                within(limit, "give a wakeup back", acker.nack(options)).await?
            }
        };
        if !is_taken {
            tracing::debug!("a wakeup's channel was gone before its answer; it will come again");
        }
        Ok(())
    }

    /// Answers that were held back are worth sending; everything else goes back by closing the channel.
    async fn hand_in(&self, channel: &Channel) -> Result<(), AmqpError> {
        let held = self.tap.lock().drain();
        futures::future::try_join_all(held.iter().map(|(token, answer)| self.settle(token, *answer))).await?;
        let closed = channel.close(200, "OK".into());
        if let Err(error) = within(self.shared.options.answer_timeout, "close a channel", closed).await {
            tracing::debug!(error = %one_line(&error), "the channel of a queue was not closed in good order");
        }
        Ok(())
    }
}

fn tag(seat: u64) -> lapin::types::ShortString {
    format!("seat-{seat}").into()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
