//! A proxy for any protocol over TCP (databases, brokers): it passes bytes, or stops doing so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// State of the line, for all connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes pass.
    Up,
    /// Connections stay, bytes wait: what a frozen peer or a dropped route looks like.
    Frozen,
    /// Bytes to the server pass, its answers wait: what was asked happens, and nobody learns of it.
    Deaf,
    /// Connections are closed, new ones at once.
    Down,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A running TCP proxy for one upstream server. Dropping it closes the listener and all connections.
pub struct TcpProxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    cuts: watch::Sender<u64>,
    counters: Arc<Counters>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl TcpProxy {
    /// Listens on a free loopback port, with the line up.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (link, cuts) = (watch::Sender::new(Link::Up), watch::Sender::new(0));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let counters = Arc::new(Counters::default());
        let proxy = TcpProxy { address, link, cuts, counters, stop, tasks };
        let (stop, tasks, counters) = (proxy.stop.clone(), proxy.tasks.clone(), proxy.counters.clone());
        let (link, cuts) = (proxy.link.subscribe(), proxy.cuts.subscribe());
        proxy.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = accepted else { continue };
                counters.connections.fetch_add(1, Ordering::Relaxed);
                let (stop, counters, link, mut cuts) = (stop.clone(), counters.clone(), link.clone(), cuts.clone());
                cuts.mark_unchanged();
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = cuts.changed() => {}
                        _ = pass(client, upstream, link, &counters) => {}
                    }
                });
            }
        });
        Ok(proxy)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the state of the line.
    pub fn set_link(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Closes all connections that are open now; new ones are served.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many connections were made.
    pub fn num_connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    /// Bytes passed to the server, and bytes passed to clients.
    pub fn bytes(&self) -> (u64, u64) {
        (self.counters.sent.load(Ordering::Relaxed), self.counters.received.load(Ordering::Relaxed))
    }

    /// Ends all connections and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Passes bytes both ways until one side closes or the line goes down.
async fn pass(
    client: TcpStream,
    upstream: SocketAddr,
    mut link: watch::Receiver<Link>,
    counters: &Counters,
) -> io::Result<()> {
    // A new connection while the line is frozen is accepted by the kernel and then waits.
    if *wait(&mut link, |link| matches!(link, Link::Up | Link::Deaf | Link::Down)).await? == Link::Down {
        return Ok(());
    }
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let up = |link: &Link| matches!(link, Link::Up | Link::Deaf);
    let down = |link: &Link| matches!(link, Link::Up);
    let mut fate = link.clone();
    tokio::select! {
        _ = wait(&mut fate, |link| *link == Link::Down) => Ok(()),
        ended = pump(from_client, to_server, link.clone(), up, &counters.sent) => ended,
        ended = pump(from_server, to_client, link.clone(), down, &counters.received) => ended,
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    open: impl Fn(&Link) -> bool,
    passed: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        wait(&mut link, &open).await?;
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        passed.fetch_add(read as u64, Ordering::Relaxed);
    }
}

async fn wait<'a>(
    link: &'a mut watch::Receiver<Link>,
    until: impl FnMut(&Link) -> bool,
) -> io::Result<watch::Ref<'a, Link>> {
    link.wait_for(until).await.map_err(io::Error::other)
}
