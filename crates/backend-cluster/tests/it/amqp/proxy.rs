//! A TCP proxy on the loopback that cuts connections and swallows answers.

use super::broker::url;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Both ways.
    Pass,
    /// Nothing that the broker says arrives.
    Swallow,
    /// A connection is closed as soon as it is made.
    Refuse,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

struct Shared {
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    opened: watch::Sender<usize>,
    closed: watch::Sender<usize>,
}

impl Proxy {
    pub async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(mode),
            cuts: watch::Sender::new(0),
            opened: watch::Sender::new(0),
            closed: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy { port, shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Ends all connections, without a word of AMQP.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub async fn opened(&self, count: usize) {
        self.shared.opened.subscribe().wait_for(|opened| *opened >= count).await.unwrap();
    }

    /// Waits until `count` connections have been closed, by either side.
    pub async fn closed(&self, count: usize) {
        self.shared.closed.subscribe().wait_for(|closed| *closed >= count).await.unwrap();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        shared.opened.send_modify(|opened| *opened += 1);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if *shared.mode.borrow() != Mode::Refuse {
                forward(client, &shared).await;
            }
            shared.closed.send_modify(|closed| *closed += 1);
        });
    }
}

async fn forward(client: TcpStream, shared: &Shared) {
    let mut cuts = shared.cuts.subscribe();
    let address = url::Url::parse(&url()).unwrap();
    let upstream = (address.host_str().unwrap(), address.port().unwrap_or(5672));
    let server = TcpStream::connect(upstream).await.unwrap();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let always = watch::Sender::new(Mode::Pass).subscribe();
    tokio::select! {
        () = copy(client_read, server_write, always) => {}
        () = copy(server_read, client_write, shared.mode.subscribe()) => {}
        _ = cuts.changed() => {}
    }
}

/// Until either side is closed. What is read while swallowing is dropped.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *mode.borrow() != Mode::Swallow && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
