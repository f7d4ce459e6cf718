//! Both proxies before a small server that answers `/bytes/N` and `/chunked/N` with N bytes and counts what it did.

use super::message::Head;
use super::wire::Inlet;
use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

struct Upstream {
    address: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let counter = served.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, counter.clone()));
            }
        });
        Upstream { address, served }
    }
}

async fn serve(stream: TcpStream, served: Arc<AtomicU64>) {
    let (read, mut write) = stream.into_split();
    let mut inlet = Inlet::new(read);
    while let Ok(Some(head)) = Head::read(&mut inlet).await {
        let mut body = head.request_body();
        loop {
            match body.next(&mut inlet).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        served.fetch_add(1, Ordering::SeqCst);
        let (_, path, _) = head.target();
        let (kind, len) = path.trim_start_matches('/').split_once('/').unwrap();
        let content = vec![b'x'; len.parse().unwrap()];
        let answer = if kind == "chunked" {
            let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for chunk in content.chunks(1000) {
                answer.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
                answer.extend_from_slice(chunk);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\ntrailer: 1\r\n\r\n");
            answer
        } else {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
            [head.into_bytes(), content].concat()
        };
        if write.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A connection of a client.
struct Client {
    inlet: Inlet,
    outlet: tokio::net::tcp::OwnedWriteHalf,
}

impl Client {
    async fn connect(to: SocketAddr) -> Self {
        let (read, outlet) = TcpStream::connect(to).await.unwrap().into_split();
        Client { inlet: Inlet::new(read), outlet }
    }

    /// Status and length of the payload.
    async fn ask(&mut self, method: &str, path: &str, body: usize) -> io::Result<(u16, u64)> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: there\r\ncontent-length: {body}\r\n\r\n");
        self.outlet.write_all(head.as_bytes()).await?;
        // The peer may have gone on purpose.
        let _ = self.outlet.write_all(&vec![b'y'; body]).await;
        let head = Head::read(&mut self.inlet).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (mut answer, mut len) = (head.answer_body(method), 0);
        while let Some(piece) = answer.next(&mut self.inlet).await? {
            len += piece.payload;
        }
        Ok((head.status(), len))
    }
}

async fn pair() -> (Upstream, HttpProxy) {
    let upstream = Upstream::start().await;
    let proxy = HttpProxy::start(upstream.address).await.unwrap();
    (upstream, proxy)
}

#[tokio::test]
async fn what_is_spared_passes_and_is_counted() {
    let (upstream, proxy) = pair().await;
    let mut client = Client::connect(proxy.address()).await;
    assert_eq!(client.ask("GET", "/bytes/200000", 0).await.unwrap(), (200, 200_000));
    assert_eq!(client.ask("PUT", "/chunked/3500", 150_000).await.unwrap(), (200, 3_500));
    assert_eq!(client.ask("PUT", "/bytes/0?x=1", 10).await.unwrap(), (200, 0));
    assert_eq!(upstream.served.load(Ordering::SeqCst), 3);
    let tally = proxy.tally();
    assert_eq!(tally.of("PUT", "/"), Count { requests: 2, sent_bytes: 150_010, received_bytes: 3_500, faults: 0 });
    assert_eq!(tally.of("GET", "/bytes").received_bytes, 200_000);
    proxy.reset_tally();
    assert_eq!(proxy.tally().total(), Count::default());
    proxy.stop().await;
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_server() {
    let (upstream, proxy) = pair().await;
    proxy.set_rule(|request| match request.earlier {
        0 | 1 => Fault::Refuse { status: 503, code: "SlowDown" },
        _ => Fault::None,
    });
    for expected in [503, 503, 200] {
        let mut client = Client::connect(proxy.address()).await;
        assert_eq!(client.ask("PUT", "/bytes/5", 1_000).await.unwrap().0, expected);
    }
    assert_eq!(upstream.served.load(Ordering::SeqCst), 1);
    assert_eq!(proxy.tally().total().faults, 2);
    assert_eq!(proxy.tally().total().sent_bytes, 1_000);
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_deed() {
    let (upstream, proxy) = pair().await;
    proxy.set_rule(|request| match request.number {
        0 => Fault::ApplyThenFail { status: 500 },
        _ => Fault::ApplyThenCut,
    });
    assert_eq!(Client::connect(proxy.address()).await.ask("PUT", "/bytes/5", 10).await.unwrap().0, 500);
    assert!(Client::connect(proxy.address()).await.ask("PUT", "/bytes/5", 10).await.is_err());
    assert_eq!(upstream.served.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn bodies_are_cut_and_truncated_where_the_rule_says() {
    let (upstream, proxy) = pair().await;
    proxy.set_rule(|_| Fault::CutAnswer { after: 70_000 });
    assert!(Client::connect(proxy.address()).await.ask("GET", "/bytes/100000", 0).await.is_err());
    assert_eq!(proxy.tally().total().received_bytes, 70_000);
    proxy.reset_tally();
    assert!(Client::connect(proxy.address()).await.ask("GET", "/chunked/100000", 0).await.is_err());
    assert_eq!(proxy.tally().total().received_bytes, 70_000);
    proxy.set_rule(|_| Fault::Truncate { after: 70_000 });
    assert_eq!(Client::connect(proxy.address()).await.ask("GET", "/bytes/100000", 0).await.unwrap(), (200, 70_000));
    proxy.reset_tally();
    proxy.set_rule(|_| Fault::CutRequest { after: 1_000 });
    assert!(Client::connect(proxy.address()).await.ask("PUT", "/bytes/1", 50_000).await.is_err());
    assert_eq!(proxy.tally().total().sent_bytes, 1_000);
    assert_eq!(upstream.served.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn stalls_and_delays_last_and_end() {
    let (_upstream, proxy) = pair().await;
    let pause = Duration::from_millis(50);
    for fault in [Fault::Delay(pause), Fault::Stall { after: 0, pause }, Fault::Stall { after: 500, pause }] {
        proxy.set_rule(move |_| fault.clone());
        let begun = Instant::now();
        let answer = Client::connect(proxy.address()).await.ask("GET", "/bytes/1000", 0).await.unwrap();
        assert_eq!(answer, (200, 1_000));
        assert!(begun.elapsed() >= pause);
    }
}

#[tokio::test]
async fn gates_hold_requests_and_answers_until_they_open() {
    let (upstream, proxy) = pair().await;
    let mut served = 0;
    for (is_answer, opens) in [(false, true), (true, true), (false, false), (true, false)] {
        let gate = Gate::default();
        let held = gate.clone();
        proxy.set_rule(move |_| if is_answer { Fault::HoldAnswer(held.clone()) } else { Fault::Hold(held.clone()) });
        let address = proxy.address();
        let asking = tokio::spawn(async move { Client::connect(address).await.ask("GET", "/bytes/10", 0).await });
        while gate.num_seen() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!asking.is_finished());
        served += u64::from(is_answer);
        assert_eq!(upstream.served.load(Ordering::SeqCst), served);
        if opens {
            gate.open();
            served += u64::from(!is_answer);
            assert_eq!(asking.await.unwrap().unwrap(), (200, 10));
        } else {
            gate.cut();
            assert!(asking.await.unwrap().is_err());
        }
        assert_eq!(upstream.served.load(Ordering::SeqCst), served);
    }
}

#[tokio::test]
async fn one_server_serves_until_it_takes_no_more() {
    let (first, second) = (TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Upstream::start().await);
    let gone = first.local_addr().unwrap();
    drop(first);
    let third = Upstream::start().await;
    let proxy = HttpProxy::start_before(vec![gone, second.address, third.address]).await.unwrap();
    let served = || [&second, &third].map(|upstream| upstream.served.load(Ordering::SeqCst));
    let mut kept = Client::connect(proxy.address()).await;
    for _ in 0..2 {
        kept.ask("GET", "/bytes/10", 0).await.unwrap();
        Client::connect(proxy.address()).await.ask("GET", "/bytes/10", 0).await.unwrap();
    }
    assert_eq!(served(), [4, 0]);
    proxy.turn_to(2);
    assert!(kept.ask("GET", "/bytes/10", 0).await.is_err());
    Client::connect(proxy.address()).await.ask("GET", "/bytes/10", 0).await.unwrap();
    assert_eq!(served(), [4, 1]);
}

#[tokio::test]
async fn a_tcp_line_goes_down_and_up() {
    let upstream = Upstream::start().await;
    let proxy = TcpProxy::start(upstream.address).await.unwrap();
    let mut client = Client::connect(proxy.address()).await;
    assert_eq!(client.ask("GET", "/bytes/1000", 0).await.unwrap(), (200, 1_000));
    assert!(proxy.bytes().1 > 1_000 && proxy.bytes().0 > 20);
    proxy.cut();
    assert!(client.ask("GET", "/bytes/1000", 0).await.is_err());
    proxy.set_link(Link::Down);
    let mut refused = Client::connect(proxy.address()).await;
    assert!(refused.ask("GET", "/bytes/1", 0).await.is_err());
    proxy.set_link(Link::Up);
    let mut client = Client::connect(proxy.address()).await;
    assert_eq!(client.ask("GET", "/bytes/7", 0).await.unwrap(), (200, 7));
    assert_eq!(proxy.num_connections(), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn a_deaf_line_carries_requests_and_keeps_answers() {
    let upstream = Upstream::start().await;
    let proxy = TcpProxy::start(upstream.address).await.unwrap();
    proxy.set_link(Link::Deaf);
    let mut client = Client::connect(proxy.address()).await;
    let asked = tokio::spawn(async move { client.ask("GET", "/bytes/9", 0).await });
    let served = async {
        while upstream.served.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.unwrap();
    assert!(!asked.is_finished());
    assert_eq!(proxy.bytes().1, 0);
    proxy.set_link(Link::Up);
    assert_eq!(asked.await.unwrap().unwrap(), (200, 9));
}
