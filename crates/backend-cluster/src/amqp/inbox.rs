//! Upload events from other systems, such as an object store's notifications: bytes from a named queue. The consumer
//! understands them and acknowledges each; their content is not known here.

use super::link::{AmqpLink, Live};
use super::topology::{declare_queue, found};
use super::{AmqpError, one_line, within};
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Consumer, ExchangeKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The queue to consume.
#[derive(Clone, Debug)]
pub struct InboxOptions {
    /// Name of the queue. An existing queue is used as it is; a missing one is declared as a durable quorum queue.
    pub queue: String,
    /// Where its messages come from; `None` = the operator has bound the queue.
    pub bind: Option<Binding>,
    /// Maximum number of unacknowledged messages (at least 1).
    pub prefetch: u16,
}

/// An exchange that feeds the queue.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Name of the exchange. An existing exchange is used as it is; a missing one is declared as a durable topic exchange.
    pub exchange: String,
    /// Routing key of the messages to receive; `#` = all.
    pub routing_key: String,
}

/// A message and the means to answer it. A message dropped without an answer is redelivered when the connection ends.
pub struct Delivery {
    /// The message.
    pub body: Vec<u8>,
    /// Routing key that the sender used.
    pub routing_key: String,
    /// The message was delivered before, here or elsewhere, and may have been processed.
    pub is_redelivered: bool,
    acker: Acker,
    live: Arc<Live>,
    limit: Duration,
    /// Counts messages without an answer.
    _channel: Arc<Channel>,
}

impl Delivery {
    /// Acknowledges a processed message. False: its connection is gone, and the message will be redelivered.
    pub async fn ack(self) -> bool {
        self.answer(self.acker.ack(BasicAckOptions::default())).await
    }

    /// Rejects a message that cannot be processed now (`requeue`: it is redelivered at once) or ever (it is dropped, or
    /// goes where the queue's policy sends dead letters). False: as for [`Delivery::ack`].
    pub async fn reject(self, requeue: bool) -> bool {
        self.answer(self.acker.reject(BasicRejectOptions { requeue })).await
    }

    async fn answer(&self, sent: impl Future<Output = lapin::Result<bool>>) -> bool {
        match within(self.limit, "answer a message", sent).await {
            Ok(is_taken) => is_taken,
            Err(error) => {
                tracing::warn!(error = %one_line(&error), "message could not be answered; it will be redelivered");
                self.live.fail(&error);
                false
            }
        }
    }
}

/// Consumes one queue; survives the loss of the connection and of the queue.
pub struct AmqpInbox {
    link: AmqpLink,
    options: InboxOptions,
    consuming: Mutex<Option<Consuming>>,
}

struct Consuming {
    live: Arc<Live>,
    /// Open until all its messages are answered.
    channel: Arc<Channel>,
    consumer: Consumer,
}

impl AmqpInbox {
    /// An inbox over this connection; consuming starts with the first [`AmqpInbox::next`].
    pub fn new(link: AmqpLink, options: InboxOptions) -> Self {
        AmqpInbox { link, options, consuming: Mutex::new(None) }
    }

    /// Waits for the next message, through outages. Cancel-safe.
    ///
    /// # Errors
    /// [`AmqpError::Closed`] only.
    pub async fn next(&self) -> Result<Delivery, AmqpError> {
        let shared = &self.link.shared;
        let mut consuming = self.consuming.lock().await;
        loop {
            if consuming.as_ref().is_none_or(|on| on.live.broken.is_cancelled()) {
                *consuming = None;
                let live = shared.live().await?;
                match self.consume(&live).await {
                    Ok(on) => *consuming = Some(on),
                    Err(error) => {
                        live.fail(&error);
                        continue;
                    }
                }
            }
            let Some(on) = consuming.as_mut() else { continue };
            let heard = tokio::select! {
                biased;
                () = shared.closing.cancelled() => return Err(AmqpError::Closed),
                () = on.live.broken.cancelled() => continue,
                heard = on.consumer.next() => heard,
                // As in the doorbell: the consumer may be deaf. A new channel would take unanswered messages back.
                () = tokio::time::sleep(shared.options.renew_after), if Arc::strong_count(&on.channel) == 1 => None,
            };
            match heard {
                Some(Ok(delivery)) => {
                    return Ok(Delivery {
                        body: delivery.data,
                        routing_key: delivery.routing_key.as_str().to_owned(),
                        is_redelivered: delivery.redelivered,
                        acker: delivery.acker,
                        live: Arc::clone(&on.live),
                        limit: shared.options.answer_timeout,
                        _channel: Arc::clone(&on.channel),
                    });
                }
                Some(Err(source)) => on.live.fail(&AmqpError::Broker { doing: "consume", source }),
                None => *consuming = None,
            }
        }
    }

    async fn consume(&self, live: &Arc<Live>) -> Result<Consuming, AmqpError> {
        let limit = self.link.shared.options.answer_timeout;
        let queue = self.options.queue.as_str();
        if !self.exists(live).await? {
            declare_queue(&live.channel().await?, queue, limit).await?;
        }
        if let Some(binding) = &self.options.bind {
            self.bind(live, binding).await?;
        }
        let channel = live.channel().await?;
        let qos = channel.basic_qos(self.options.prefetch.max(1), BasicQosOptions::default());
        within(limit, "set the prefetch", qos).await?;
        let asked =
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let consumer = within(limit, "consume", asked).await?;
        Ok(Consuming { live: Arc::clone(live), channel: Arc::new(channel), consumer })
    }

    async fn exists(&self, live: &Live) -> Result<bool, AmqpError> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = live.channel().await?;
        let asked = channel.queue_declare(self.options.queue.as_str().into(), passive, FieldTable::default());
        let asked = within(self.link.shared.options.answer_timeout, "look at a queue", asked).await;
        found(asked).map(|queue| queue.is_some())
    }

    async fn bind(&self, live: &Live, binding: &Binding) -> Result<(), AmqpError> {
        let limit = self.link.shared.options.answer_timeout;
        let exchange = || binding.exchange.as_str().into();
        let declare = async |passive: bool| {
            let channel = live.channel().await?;
            let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
            let asked = channel.exchange_declare(exchange(), ExchangeKind::Topic, options, FieldTable::default());
            within(limit, "declare an exchange", asked).await
        };
        if found(declare(true).await)?.is_none() {
            declare(false).await?;
        }
        let channel = live.channel().await?;
        let bound = channel.queue_bind(
            self.options.queue.as_str().into(),
            exchange(),
            binding.routing_key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within(limit, "bind a queue", bound).await
    }
}
