//! A small HTTP/1.1 server for one object: ranges, conditions, counting, and faults on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What befalls a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// This number of bytes of the body, then the connection is closed.
    Cut(usize),
    /// This number of bytes of the body, then nothing.
    Stall(usize),
    /// No answer at all.
    Silence,
    /// Another status.
    Status(u16),
    /// The whole object, whatever range is asked for.
    WholeObject,
    /// Other bytes than those asked for.
    OtherBytes,
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<Fault>,
    requests: Vec<(u64, u64)>,
    bytes: u64,
    etag: String,
    data: Arc<Vec<u8>>,
    conditions: Vec<Option<String>>,
}

/// The server; ends when dropped.
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    pub async fn start(data: Vec<u8>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/object?signature=secret", listener.local_addr().unwrap());
        let state = State { etag: "\"v1\"".into(), data: Arc::new(data), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Server { url, state, _task: AbortOnDropHandle::new(task) }
    }

    /// The next requests go wrong in this order.
    pub fn faults(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Puts another object in its place.
    pub fn replace(&self, data: Vec<u8>, etag: &str) {
        let mut state = self.state.lock().unwrap();
        state.data = Arc::new(data);
        state.etag = etag.into();
    }

    /// Number of requests and bytes sent since the last time.
    pub fn take_counts(&self) -> (usize, u64) {
        let mut state = self.state.lock().unwrap();
        (std::mem::take(&mut state.requests).len(), std::mem::take(&mut state.bytes))
    }

    /// `If-Match` of all requests so far.
    pub fn conditions(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().conditions.clone()
    }
}

/// One keep-alive connection.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Some(head) = request(&mut stream).await {
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        assert!(head.starts_with("GET /object?signature=secret HTTP/1.1"), "{head}");
        assert_eq!(header("x-grant").as_deref(), Some("yes"));
        let range = header("range").map(|text| {
            let (start, end) = text.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            (start.parse::<usize>().unwrap(), end.parse::<usize>().unwrap() + 1)
        });
        let (fault, data, etag) = {
            let mut state = state.lock().unwrap();
            state.requests.push(range.map_or((0, 0), |(start, end)| (start as u64, end as u64)));
            state.conditions.push(header("if-match"));
            (state.faults.pop_front(), Arc::clone(&state.data), state.etag.clone())
        };
        if let Some(Fault::Silence) = fault {
            return std::future::pending().await;
        }
        let is_changed = header("if-match").is_some_and(|wanted| wanted != etag);
        let total = data.len();
        let (mut start, mut end) = range.unwrap_or((0, total));
        end = end.min(total);
        let mut status = if range.is_some() { 206 } else { 200 };
        match fault {
            Some(Fault::Status(other)) => status = other,
            Some(Fault::WholeObject) => (status, start, end) = (200, 0, total),
            Some(Fault::OtherBytes) => (start, end) = (start + 1, end),
            _ if is_changed => status = 412,
            _ if start >= total => status = 416,
            _ => {}
        }
        let content_range = match status {
            206 => format!("content-range: bytes {start}-{}/{total}\r\n", end - 1),
            416 => format!("content-range: bytes */{total}\r\n"),
            _ => String::new(),
        };
        let body = if status < 300 { &data[start..end] } else { &[] };
        let answer =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\netag: {etag}\r\n{content_range}\r\n", body.len());
        let (sent, is_open) = match fault {
            Some(Fault::Cut(after) | Fault::Stall(after)) => (&body[..after.min(body.len())], false),
            _ => (body, true),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.write_all(sent).await.is_err() {
            return;
        }
        state.lock().unwrap().bytes += sent.len() as u64;
        if let Some(Fault::Stall(_)) = fault {
            return std::future::pending().await;
        }
        if !is_open {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(head.len() < 16_384);
        let byte = stream.read_u8().await.ok()?;
        head.push(byte);
    }
    String::from_utf8(head).ok()
}
