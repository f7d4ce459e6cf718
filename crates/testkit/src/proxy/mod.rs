//! A proxy on loopback between a client and a server, which does what networks and busy servers do: be late, break
//! off, refuse, stall, lose the answer to a request that was carried out. And it counts.
//!
//! [`HttpProxy`] understands as much HTTP/1.1 (RFC 9112) as it takes to tell requests apart; it changes no header of
//! what it lets through, so that signatures stay valid. [`TcpProxy`] passes bytes of any protocol.

mod fault;
mod forward;
mod message;
mod tally;
mod tcp;
#[cfg(test)]
mod tests;
mod wire;

pub use fault::{Exchange, Fault, Gate, Mix, Rule, seeded};
pub use tally::{Count, Tally};
pub use tcp::{Link, TcpProxy};

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all connections of a proxy share.
struct Shared {
    upstreams: Vec<SocketAddr>,
    /// Index of the one that took the last connection.
    serving: AtomicUsize,
    turns: watch::Sender<()>,
    rule: Mutex<Rule>,
    tally: Mutex<Tally>,
}

impl Shared {
    fn rule(&self) -> Rule {
        lock(&self.rule).clone()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// A connection to the server that took the last one, or else to the next that takes it.
    async fn connect(&self) -> io::Result<TcpStream> {
        let mut refused = io::Error::from(io::ErrorKind::NotConnected);
        let first = self.serving.load(Ordering::SeqCst);
        for (at, upstream) in self.upstreams.iter().enumerate().cycle().skip(first).take(self.upstreams.len()) {
            match TcpStream::connect(upstream).await {
                Ok(stream) => {
                    self.serving.store(at, Ordering::SeqCst);
                    return stream.set_nodelay(true).map(|()| stream);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running HTTP proxy. Dropping it closes the listener and all connections.
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl HttpProxy {
    /// Listens on a free loopback port and passes everything on, until a rule is set.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_before(vec![upstream]).await
    }

    /// The same before servers that can stand in for each other: all connections go to one of them, the first to
    /// begin with, until it takes no more.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_before(upstreams: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstreams,
            serving: AtomicUsize::new(0),
            turns: watch::Sender::new(()),
            rule: Mutex::new(Arc::new(|_| Fault::None)),
            tally: Mutex::new(Tally::default()),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (connections, stopped, each) = (tasks.clone(), stop.clone(), shared.clone());
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (stopped, shared) = (stopped.clone(), each.clone());
                let mut turns = shared.turns.subscribe();
                connections.spawn(async move {
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        _ = turns.changed() => {}
                        // A connection ends by an error of either side or by a fault: both are seen by the client.
                        _ = forward::serve(stream, &shared) => {}
                    }
                });
            }
        });
        Ok(HttpProxy { address, shared, stop, tasks })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections; new ones go to the server with this index, as long as it takes them.
    pub fn turn_to(&self, server: usize) {
        self.shared.serving.store(server, Ordering::SeqCst);
        self.shared.turns.send_replace(());
    }

    /// From now on, decides about each request. Requests under way are not affected.
    pub fn set_rule(&self, rule: impl Fn(&Exchange) -> Fault + Send + Sync + 'static) {
        *lock(&self.shared.rule) = Arc::new(rule);
    }

    /// From now on, everything is passed on.
    pub fn clear_rule(&self) {
        self.set_rule(|_| Fault::None);
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Forgets what was counted.
    pub fn reset_tally(&self) {
        *self.shared.tally() = Tally::default();
    }

    /// Ends all connections and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
