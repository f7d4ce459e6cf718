//! Serves one client connection: reads a request, asks the rule, passes it on or does not.

use super::fault::{Exchange, Fault};
use super::message::{Body, Head};
use super::wire::Inlet;
use super::{Shared, Tally};
use std::io::{self, ErrorKind};
use std::pin::pin;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// The connection to the server, kept for the next request.
struct Upstream {
    inlet: Inlet,
    outlet: OwnedWriteHalf,
}

/// Where counts of one request go.
struct Meter<'a> {
    shared: &'a Shared,
    exchange: &'a Exchange,
}

impl Meter<'_> {
    fn add(&self, what: impl FnOnce(&mut super::Count)) {
        let mut tally = self.shared.tally();
        what(Tally::count(&mut tally, &self.exchange.method, &self.exchange.path));
    }
}

/// Whether the client's connection can be used again.
#[derive(PartialEq)]
enum Next {
    Keep,
    Close,
}

/// Serves requests until either side closes or a fault ends the connection.
pub(super) async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (inlet, mut outlet) = client.into_split();
    let mut inlet = Inlet::new(inlet);
    let mut upstream = None;
    while let Some(head) = Head::read(&mut inlet).await? {
        let (method, path, query) = head.target();
        let (number, earlier) = shared.tally().begin(method, path);
        let exchange = Exchange {
            number,
            earlier,
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: head.headers.clone(),
        };
        let fault = shared.rule()(&exchange);
        let meter = Meter { shared, exchange: &exchange };
        if fault != Fault::None {
            meter.add(|count| count.faults += 1);
        }
        if one(&head, &fault, &meter, &mut inlet, &mut outlet, &mut upstream).await? == Next::Close || head.closes() {
            return Ok(());
        }
    }
    Ok(())
}

async fn one(
    head: &Head,
    fault: &Fault,
    meter: &Meter<'_>,
    inlet: &mut Inlet,
    outlet: &mut OwnedWriteHalf,
    upstream: &mut Option<Upstream>,
) -> io::Result<Next> {
    let mut body = head.request_body();
    match fault {
        Fault::Refuse { status, code } => {
            // A client that expects 100-continue waits for the answer, and must not send its body when refused.
            if !head.headers.iter().any(|(name, _)| name == "expect") {
                while body.next(inlet).await?.is_some() {}
            }
            answer(outlet, &meter.exchange.method, *status, code).await?;
            return Ok(Next::Close);
        }
        Fault::Delay(pause) => tokio::time::sleep(*pause).await,
        Fault::Hold(gate) => gate.passed().await?,
        _ => {}
    }
    let server = match upstream {
        Some(server) => server,
        None => {
            let (read, write) = meter.shared.connect().await?.into_split();
            upstream.insert(Upstream { inlet: Inlet::new(read), outlet: write })
        }
    };
    server.outlet.write_all(&head.raw).await?;
    let cut = match fault {
        Fault::CutRequest { after } => Some(*after),
        _ => None,
    };
    let mut sending = pin!(send(&mut body, inlet, &mut server.outlet, cut, meter));
    let mut receiving = pin!(receive(&mut server.inlet, outlet, fault, meter));
    tokio::select! {
        sent = &mut sending => { sent?; }
        // An answer before the end of the request: the rest of the request has nowhere to go.
        early = &mut receiving => { early?; return Ok(Next::Close); }
    }
    receiving.await
}

/// Passes the body of a request on.
async fn send(
    body: &mut Body,
    inlet: &mut Inlet,
    outlet: &mut OwnedWriteHalf,
    cut: Option<u64>,
    meter: &Meter<'_>,
) -> io::Result<()> {
    let mut left = cut.unwrap_or(u64::MAX);
    while let Some(piece) = body.next(inlet).await? {
        let take = piece.payload.min(left);
        left -= take;
        let keep = if piece.payload == 0 { piece.raw.len() } else { usize::try_from(take).unwrap_or(usize::MAX) };
        outlet.write_all(&piece.raw.slice(..keep.min(piece.raw.len()))).await?;
        meter.add(|count| count.sent_bytes += take);
        if left == 0 {
            return Err(ErrorKind::ConnectionAborted.into());
        }
    }
    if cut.is_some() { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}

/// Passes an answer on, or does to it what the fault says.
async fn receive(inlet: &mut Inlet, outlet: &mut OwnedWriteHalf, fault: &Fault, meter: &Meter<'_>) -> io::Result<Next> {
    let eof = || io::Error::from(ErrorKind::UnexpectedEof);
    let head = loop {
        let head = Head::read(inlet).await?.ok_or_else(eof)?;
        if !(100..200).contains(&head.status()) {
            break head;
        }
        outlet.write_all(&head.raw).await?;
    };
    let mut body = head.answer_body(&meter.exchange.method);
    let (mut cut, mut stall) = (u64::MAX, None);
    match fault {
        Fault::ApplyThenFail { .. } | Fault::ApplyThenCut => {
            while body.next(inlet).await?.is_some() {}
            if let Fault::ApplyThenFail { status } = fault {
                answer(outlet, &meter.exchange.method, *status, "InternalError").await?;
            }
            return Ok(Next::Close);
        }
        Fault::CutAnswer { after } => cut = *after,
        Fault::HoldAnswer(gate) => gate.passed().await?,
        Fault::Stall { after: 0, pause } => tokio::time::sleep(*pause).await,
        Fault::Stall { after, pause } => stall = Some((*after, *pause)),
        Fault::Truncate { after } if body.length().is_some_and(|length| length > *after) => {
            outlet.write_all(&head.with_length(*after)).await?;
            cut = *after;
        }
        _ => {}
    }
    if !matches!(fault, Fault::Truncate { .. }) || cut == u64::MAX {
        outlet.write_all(&head.raw).await?;
    }
    let mut passed = 0u64;
    while passed < cut {
        let Some(piece) = body.next(inlet).await? else {
            let closes = head.closes() || matches!(body, Body::UntilClose);
            return Ok(if closes { Next::Close } else { Next::Keep });
        };
        let take = piece.payload.min(cut - passed);
        let keep = if piece.payload == 0 { piece.raw.len() } else { usize::try_from(take).unwrap_or(usize::MAX) };
        let mut raw = piece.raw.slice(..keep.min(piece.raw.len()));
        if let Some((after, pause)) = stall.filter(|(after, _)| passed + take >= *after && piece.payload > 0) {
            let before = usize::try_from(after.saturating_sub(passed)).unwrap_or(usize::MAX).min(raw.len());
            outlet.write_all(&raw.split_to(before)).await?;
            tokio::time::sleep(pause).await;
            stall = None;
        }
        outlet.write_all(&raw).await?;
        passed += take;
        meter.add(|count| count.received_bytes += take);
    }
    Ok(Next::Close)
}

/// An answer of the proxy itself, in the form of S3's errors.
async fn answer(outlet: &mut OwnedWriteHalf, method: &str, status: u16, code: &str) -> io::Result<()> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    let body = if method == "HEAD" { "" } else { document.as_str() };
    let head = format!(
        "HTTP/1.1 {status} Fault\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        document.len()
    );
    outlet.write_all(format!("{head}{body}").as_bytes()).await?;
    outlet.shutdown().await
}
