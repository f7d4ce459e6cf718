//! Publishing with confirmation. A message counts as accepted only when the broker has confirmed it and not returned it;
//! everything else, a late answer included, is "not accepted", and the caller sends again.

use super::link::{Live, Shared};
use super::message::Message;
use super::topology::Topology;
use super::{AmqpError, within};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// Maximum number of unconfirmed messages.
const WINDOW: usize = 512;
/// Time that a publication waits for a connection: publishers have other work to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// Publishes over a channel of its own.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    topology: Topology,
    /// Locked for a whole window: lapin attaches a returned message to the next confirmation, whichever that is, so that
    /// only the window as a whole knows which messages came back.
    channel: Mutex<Option<Open>>,
}

struct Open {
    live: Arc<Live>,
    channel: Channel,
    /// Id of the last message.
    id: u64,
}

type Outcome = Result<(), AmqpError>;

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, topology: Topology) -> Arc<Self> {
        Arc::new(Publisher { shared, topology, channel: Mutex::new(None) })
    }

    /// Publishes in order; one outcome per message. Completes even when the caller is dropped.
    pub(super) async fn publish(self: &Arc<Self>, messages: Vec<Message>) -> Vec<Outcome> {
        let (publisher, count) = (Arc::clone(self), messages.len());
        let task = tokio::spawn(async move {
            let mut outcomes: Vec<Outcome> = Vec::with_capacity(messages.len());
            for window in messages.chunks(WINDOW) {
                let made = match outcomes.iter().rev().find_map(|o| o.as_ref().err()) {
                    // An error of one window would repeat for the next one: do not wait for it again.
                    Some(error) => vec![Err(error.clone()); window.len()],
                    None => publisher.window(window).await,
                };
                outcomes.extend(made);
            }
            outcomes
        });
        // Only a runtime that shuts down ends the task early.
        task.await.unwrap_or_else(|_| vec![Err(AmqpError::Closed); count])
    }

    /// Publishes one window within the time limit for confirmations.
    async fn window(&self, messages: &[Message]) -> Vec<Outcome> {
        let limit = self.shared.options.confirm_timeout;
        let deadline = Instant::now() + limit;
        let late = || AmqpError::Timeout { doing: "publish", after: limit };
        let Ok(mut open) = timeout_at(deadline, self.channel.lock()).await else {
            return vec![Err(late()); messages.len()];
        };
        match timeout_at(deadline, self.opened(&mut open)).await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {}
            Err(error) => return vec![Err(error); messages.len()],
        }
        let Some(on) = open.as_mut() else { return vec![Err(late()); messages.len()] };
        let mut outcomes = send(on, messages, deadline, &late).await;
        self.send_refused(on, messages, &mut outcomes, deadline, &late).await;
        let lost = outcomes.iter().find_map(|outcome| match outcome {
            Err(error @ (AmqpError::Broker { .. } | AmqpError::Timeout { .. })) => Some(error),
            _ => None,
        });
        if let Some(error) = lost {
            if on.live.is_blocked() {
                // The connection works, but the broker does not read from it until the alarm is over.
                return outcomes.into_iter().map(|o| o.map_err(|_| AmqpError::Blocked)).collect();
            }
            on.live.fail(error);
            *open = None;
        }
        outcomes
    }

    /// Ensures an open channel on the current connection, with all queues and exchanges declared.
    async fn opened(&self, open: &mut Option<Open>) -> Result<(), AmqpError> {
        if open.as_ref().is_none_or(|on| on.live.broken.is_cancelled()) {
            *open = None;
            let live = self.shared.live_within(PATIENCE).await?;
            if live.is_blocked() {
                return Err(AmqpError::Blocked);
            }
            *open = Some(self.open_on(live).await?);
        }
        match open {
            Some(on) if on.live.is_blocked() => Err(AmqpError::Blocked),
            _ => Ok(()),
        }
    }

    async fn open_on(&self, live: Arc<Live>) -> Result<Open, AmqpError> {
        let limit = self.shared.options.answer_timeout;
        let opened = async {
            let channel = live.channel().await?;
            within(limit, "ask for confirmations", channel.confirm_select(ConfirmSelectOptions::default())).await?;
            self.topology.declare(&channel, limit).await?;
            Ok(channel)
        };
        match opened.await {
            Ok(channel) => Ok(Open { live, channel, id: 0 }),
            Err(error) => {
                live.fail(&error);
                Err(error)
            }
        }
    }

    /// Sends messages again that a working broker refused. A missing queue is declared first; a queue that is being created
    /// or elects a leader refuses for a moment.
    async fn send_refused(
        &self,
        on: &mut Open,
        messages: &[Message],
        outcomes: &mut [Outcome],
        deadline: Instant,
        late: &impl Fn() -> AmqpError,
    ) {
        let is_refused = |o: &Outcome| matches!(o, Err(AmqpError::Returned | AmqpError::Nacked));
        let patience = deadline.min(Instant::now() + PATIENCE);
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(5))
            .with_max_delay(Duration::from_millis(250))
            .without_max_times()
            .build();
        while outcomes.iter().any(is_refused) && Instant::now() < patience {
            let mut declared = Ok(());
            if outcomes.iter().any(|o| matches!(o, Err(AmqpError::Returned))) {
                tracing::warn!("queues are missing; declaring them again");
                let asked = self.topology.declare(&on.channel, self.shared.options.answer_timeout);
                declared = timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(late()));
            }
            let again: Vec<Message> =
                outcomes.iter().zip(messages).filter(|(o, _)| is_refused(o)).map(|(_, m)| m.clone()).collect();
            let outcome_of_again = match declared {
                Ok(()) => {
                    tokio::time::sleep(pauses.next().unwrap_or_default()).await;
                    send(on, &again, deadline, late).await
                }
                Err(error) => vec![Err(error); again.len()],
            };
            for (outcome, second) in outcomes.iter_mut().filter(|o| is_refused(o)).zip(outcome_of_again) {
                *outcome = second;
            }
        }
    }
}

/// Sends all, then waits for all confirmations.
async fn send(on: &mut Open, messages: &[Message], deadline: Instant, late: &impl Fn() -> AmqpError) -> Vec<Outcome> {
    const DOING: &str = "publish";
    let first = on.id.wrapping_add(1);
    let mut pending: FuturesUnordered<_> = messages
        .iter()
        .zip(first..)
        .enumerate()
        .map(|(index, (message, id))| {
            let options = BasicPublishOptions { mandatory: message.is_mandatory, ..BasicPublishOptions::default() };
            let (exchange, key) = (message.exchange.as_str().into(), message.routing_key.as_str().into());
            let sent = on.channel.basic_publish(exchange, key, options, &message.body, message.properties(id));
            async move { (index, id, async { sent.await?.await }.await) }
        })
        .collect();
    on.id = on.id.wrapping_add(u64::try_from(messages.len()).unwrap_or(u64::MAX));
    let mut outcomes: Vec<(u64, Outcome)> = messages.iter().zip(first..).map(|(_, id)| (id, Err(late()))).collect();
    let mut returned: HashSet<u64> = HashSet::new();
    while let Ok(Some((index, id, confirmed))) = timeout_at(deadline, pending.next()).await {
        let (outcome, back) = match confirmed {
            Ok(Confirmation::Ack(back)) => (Ok(()), back),
            Ok(Confirmation::Nack(back)) => (Err(AmqpError::Nacked), back),
            Ok(Confirmation::NotRequested) => (Err(AmqpError::Nacked), None),
            Err(source) => (Err(AmqpError::Broker { doing: DOING, source }), None),
        };
        returned.extend(back.as_ref().and_then(id_of));
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = (id, outcome);
        }
    }
    let answered = |(id, outcome): (u64, Outcome)| match outcome {
        Ok(()) if returned.contains(&id) => Err(AmqpError::Returned),
        other => other,
    };
    outcomes.into_iter().map(answered).collect()
}

fn id_of(returned: &BasicReturnMessage) -> Option<u64> {
    returned.delivery.properties.message_id().as_ref()?.as_str().parse().ok()
}
