//! Listens on one queue: a task per queue that keeps as many consumers as the ledger asks for, over one channel, and
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

/// Time that a free consumer or a wakeup without a listener is kept: long against the time from an answer to the next
/// request, short against an encode.
const LINGER: Duration = Duration::from_millis(250);

/// State shared by the listeners and the task of a queue.
pub(super) struct Tap {
    queue: Queue,
    ledger: Mutex<Ledger<Acker>>,
    arrived: Notify,
    changed: Notify,
    closing: CancellationToken,
}

/// A waiting listener in the ledger.
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
    /// Starts listening, with at most `limit` unacknowledged wakeups.
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

    /// Waits for a wakeup. Cancel-safe: a wakeup leaves the ledger only in the poll that returns it.
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
            tracing::debug!(task = %wakeup.task, "connection of a wakeup is gone; it will be redelivered");
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

/// A message of a consumer; none when the consumer has ended.
type Heard = (u64, Option<lapin::Result<Delivery>>);
type Consumers = SelectAll<BoxStream<'static, Heard>>;

/// Listening on one connection.
struct Listening<'a> {
    shared: &'a Shared,
    tap: &'a Tap,
    live: &'a Live,
}

impl Listening<'_> {
    /// Runs until the doorbell is closed, the connection fails, or the consumers are stale.
    async fn run(&self) -> Result<(), AmqpError> {
        let limit = self.shared.options.answer_timeout;
        let channel = self.live.channel().await?;
        self.declare(&channel).await?;
        // Without `global` the limit applies to each consumer, the only kind that RabbitMQ 4.3 still supports.
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
                        tracing::warn!(queue = ?self.tap.queue, "broker cancelled a consumer; declaring its queue again");
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

    /// Ends a consumer. A wakeup already on its way may still arrive afterwards.
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
                // Requeued, the message would be redelivered for ever.
                tracing::warn!(%reason, bytes = delivery.data.len(), "unparsable message dropped");
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
                within(limit, "requeue a wakeup", acker.nack(options)).await?
            }
        };
        if !is_taken {
            tracing::debug!("channel closed before a wakeup was answered; it will be redelivered");
        }
        Ok(())
    }

    /// Sends the answers that were held back; closing the channel returns all other wakeups.
    async fn hand_in(&self, channel: &Channel) -> Result<(), AmqpError> {
        let held = self.tap.lock().drain();
        futures::future::try_join_all(held.iter().map(|(token, answer)| self.settle(token, *answer))).await?;
        let closed = channel.close(200, "OK".into());
        if let Err(error) = within(self.shared.options.answer_timeout, "close a channel", closed).await {
            tracing::debug!(error = %one_line(&error), "channel of a queue not closed cleanly");
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
