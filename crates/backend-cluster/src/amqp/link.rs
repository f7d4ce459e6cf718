//! The only connection of a process and its supervisor. Any error ends the whole connection, and the supervisor opens a
//! new one, without limit. What the connection carries is not known here.

use super::{AmqpError, AmqpOptions, one_line, within};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Event};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// Interval of a check of the connection: lapin reports most, but not all, ends of a connection by an event.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Whether messages can be sent and received, for readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Connected,
    /// Connected, but the broker takes no messages for lack of memory or disk space.
    Blocked,
    /// No connection.
    Down {
        /// Why the last connection ended or failed; none before the first attempt has ended.
        last_error: Option<String>,
    },
    /// Closed for good.
    Closed,
}

/// A handle on the process's connection to the broker. Clones share the connection, which is closed by
/// [`AmqpLink::close`] or when the last handle is dropped (doorbells, event publishers and inboxes hold one).
#[derive(Clone)]
pub struct AmqpLink {
    pub(super) shared: Arc<Shared>,
    _close_when_dropped: Arc<DropGuard>,
}

/// What supervisor and users of the connection share.
pub(super) struct Shared {
    pub options: AmqpOptions,
    uri: AMQPUri,
    state: watch::Sender<State>,
    /// Users stop and send the answers that they hold; then the supervisor closes the connection.
    pub closing: CancellationToken,
    /// Tasks of users that send answers before the connection is closed.
    pub users: TaskTracker,
    supervisor: TaskTracker,
}

enum State {
    Down(Option<String>),
    Up(Arc<Live>),
    Closed,
}

/// One connection.
pub(super) struct Live {
    connection: Connection,
    /// A user found the connection unusable.
    pub broken: CancellationToken,
    reason: Mutex<Option<String>>,
    answer_timeout: Duration,
}

impl Live {
    /// Marks the connection as unusable: the supervisor opens a new one.
    pub(super) fn fail(&self, error: &AmqpError) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| one_line(error));
        self.broken.cancel();
    }

    pub(super) async fn channel(&self) -> Result<Channel, AmqpError> {
        within(self.answer_timeout, "open a channel", self.connection.create_channel()).await
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }
}

impl AmqpLink {
    /// Starts connecting and returns at once. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`AmqpError::Url`].
    pub fn open(options: AmqpOptions) -> Result<Self, AmqpError> {
        let mut uri: AMQPUri = options.url.parse().map_err(|reason: String| AmqpError::Url { reason })?;
        let heartbeat = u16::try_from(options.heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
        uri.query.heartbeat = Some(heartbeat);
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            options,
            uri,
            state: watch::Sender::new(State::Down(None)),
            closing: closing.clone(),
            users: TaskTracker::new(),
            supervisor: TaskTracker::new(),
        });
        shared.supervisor.spawn(supervise(Arc::clone(&shared)));
        shared.supervisor.close();
        Ok(AmqpLink { shared, _close_when_dropped: Arc::new(closing.drop_guard()) })
    }

    /// Whether messages can be sent and received now.
    pub fn health(&self) -> Health {
        match &*self.shared.state.borrow() {
            State::Up(live) if live.is_blocked() => Health::Blocked,
            State::Up(_) => Health::Connected,
            State::Down(last) => Health::Down { last_error: last.clone() },
            State::Closed => Health::Closed,
        }
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// [`AmqpError::Down`] when there is none within `limit`; [`AmqpError::Closed`].
    pub async fn connected(&self, limit: Duration) -> Result<(), AmqpError> {
        self.shared.live_within(limit).await.map(drop)
    }

    /// Lets doorbells send their answers, then closes the connection: unanswered wakeups go back to the broker at once.
    /// Bounded in time; afterwards every user of this link gets [`AmqpError::Closed`].
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.supervisor.wait().await;
    }
}

impl Shared {
    /// Waits for a connection without a time limit.
    pub(super) async fn live(&self) -> Result<Arc<Live>, AmqpError> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                // A failed connection stays visible until the supervisor has replaced it.
                State::Up(live) if !live.broken.is_cancelled() => return Ok(Arc::clone(live)),
                State::Up(_) | State::Down(_) => {}
                State::Closed => return Err(AmqpError::Closed),
            }
            state.changed().await.map_err(|_| AmqpError::Closed)?;
        }
    }

    pub(super) async fn live_within(&self, limit: Duration) -> Result<Arc<Live>, AmqpError> {
        match tokio::time::timeout(limit, self.live()).await {
            Ok(live) => live,
            Err(_) => {
                let last = match &*self.state.borrow() {
                    State::Down(Some(last)) => last.clone(),
                    _ => "still connecting".to_owned(),
                };
                Err(AmqpError::Down { last })
            }
        }
    }

    fn backoff(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::default()
            .with_min_delay(MIN_RECONNECT_DELAY)
            .with_max_delay(self.options.max_reconnect_delay)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

async fn supervise(shared: Arc<Shared>) {
    let mut delays = shared.backoff();
    while !shared.closing.is_cancelled() {
        let why = tokio::select! {
            biased;
            () = shared.closing.cancelled() => break,
            connected = connect(&shared) => match connected {
                Ok((connection, socket)) => {
                    let since = Instant::now();
                    let why = serve(&shared, connection, socket).await;
                    // A connection that fails at once, say because a queue has other arguments, keeps its back-off.
                    if since.elapsed() > shared.options.max_reconnect_delay {
                        delays = shared.backoff();
                    }
                    why
                }
                Err(error) => Some(one_line(&error)),
            },
        };
        let Some(why) = why else { break };
        tracing::warn!(error = %why, "broker connection failed; reconnecting");
        shared.state.send_replace(State::Down(Some(why)));
        let delay = delays.next().unwrap_or(shared.options.max_reconnect_delay);
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => break,
            () = tokio::time::sleep(delay) => {}
        }
    }
    shared.state.send_replace(State::Closed);
}

/// Serves a connection until it is unusable (answers why) or the link is closed (`None`).
async fn serve(shared: &Shared, connection: Connection, socket: Arc<Socket>) -> Option<String> {
    // Subscribed before the first look at the state, so that no end is missed.
    let mut events = Box::pin(connection.events_listener());
    let live = Arc::new(Live {
        connection,
        broken: CancellationToken::new(),
        reason: Mutex::new(None),
        answer_timeout: shared.options.answer_timeout,
    });
    shared.state.send_replace(State::Up(Arc::clone(&live)));
    tracing::info!("connected to the broker");
    let mut check = tokio::time::interval(CHECK_EVERY);
    let why = loop {
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => break None,
            () = live.broken.cancelled() => {
                let reason = live.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
                break Some(reason.unwrap_or_else(|| "given up".to_owned()));
            }
            event = events.next() => match event {
                // Errors of a channel arrive here too; the user of the channel handles them.
                Some(Event::Error(error)) if !live.connection.status().connected() => break Some(one_line(&error)),
                Some(Event::ConnectionBlocked(reason)) => tracing::warn!(%reason, "broker blocks publishing; messages wait in the outbox"),
                Some(Event::ConnectionUnblocked) => tracing::info!("broker accepts messages again"),
                Some(_) => {}
                None => break Some("the connection ended".to_owned()),
            },
            _ = check.tick() => if !live.connection.status().connected() {
                break Some("the connection ended".to_owned());
            },
        }
    };
    if why.is_none() {
        shared.users.close();
        let sent = tokio::time::timeout(shared.options.answer_timeout, shared.users.wait()).await;
        if sent.is_err() {
            tracing::warn!("acknowledgements not sent before close; messages will be redelivered");
        }
    }
    live.broken.cancel();
    // A connection that is replaced is not closed cleanly: a silent broker would delay its replacement.
    if why.is_none() && live.connection.status().connected() {
        let closed = live.connection.close(200, "OK".into());
        if let Err(error) = within(shared.options.answer_timeout, "close the connection", closed).await {
            tracing::debug!(error = %one_line(&error), "broker connection not closed cleanly");
        }
    }
    socket.cut();
    why
}

/// The socket below a connection. lapin's reading thread ends only with its socket, which a peer that neither answers
/// nor hangs up would keep open for ever.
#[derive(Default)]
struct Socket(Mutex<Held>);

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Open(std::net::TcpStream),
    Cut,
}

impl Socket {
    fn hold(&self, stream: &impl AsFd) -> std::io::Result<()> {
        let stream = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *held {
            Held::Cut => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Held::Nothing | Held::Open(_) => {
                *held = Held::Open(stream);
                Ok(())
            }
        }
    }

    fn cut(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Held::Open(stream) = std::mem::replace(&mut *held, Held::Cut) {
            // An error means that the peer has closed the socket.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Cuts the socket of an abandoned attempt to connect.
struct CutOnDrop(Option<Arc<Socket>>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.cut();
        }
    }
}

async fn connect(shared: &Shared) -> Result<(Connection, Arc<Socket>), AmqpError> {
    const DOING: &str = "connect";
    let limit = shared.options.connect_timeout;
    let runtime = lapin::runtime::default_runtime().map_err(|source| AmqpError::Broker { doing: DOING, source })?;
    let properties =
        ConnectionProperties::default().with_connection_name(shared.options.connection_name.as_str().into());
    let socket = Arc::new(Socket::default());
    let mut attempt = CutOnDrop(Some(Arc::clone(&socket)));
    let held = Arc::clone(&socket);
    let connected = Connection::connector(
        shared.uri.clone(),
        runtime,
        async move |uri, runtime| {
            use lapin::tcp::AMQPUriTcpExt;
            // Runs on lapin's own thread, which is never cancelled: it needs a time limit of its own.
            let opened = tokio::time::timeout(limit, uri.connect_async(&runtime)).await;
            let stream = opened.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            match &stream {
                AsyncTcpStream::Plain(plain) => held.hold(plain.get_ref())?,
                AsyncTcpStream::Rustls(tls) => held.hold(tls.get_ref().0.get_ref())?,
                _ => {}
            }
            Ok(stream)
        },
        properties,
    );
    let connection = within(limit, DOING, connected).await?;
    attempt.0 = None;
    Ok((connection, socket))
}
