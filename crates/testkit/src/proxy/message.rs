//! Heads and bodies of HTTP/1.1 messages (RFC 9112), as far as finding their ends takes.

use super::wire::Inlet;
use bytes::Bytes;
use std::io::{self, ErrorKind};

/// A start line and headers.
pub(super) struct Head {
    /// As they came, with the empty line.
    pub raw: Bytes,
    /// The start line.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one. `None`: the peer closed instead.
    pub async fn read(inlet: &mut Inlet) -> io::Result<Option<Self>> {
        let Some(raw) = inlet.until(b"\r\n\r\n").await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&raw);
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head { raw, start, headers }))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Method, path and query of a request.
    pub fn target(&self) -> (&str, &str, &str) {
        let mut words = self.start.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (method, path, query)
    }

    /// Status of an answer; 0 when there is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// Whether the connection ends after this message.
    pub fn closes(&self) -> bool {
        self.start.contains("HTTP/1.0") || self.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }

    /// The body of a request.
    pub fn request_body(&self) -> Body {
        self.framed(Body::Length(0))
    }

    /// The body of an answer to a request with this method.
    pub fn answer_body(&self, method: &str) -> Body {
        match self.status() {
            204 | 304 => Body::Length(0),
            _ if method == "HEAD" => Body::Length(0),
            _ => self.framed(Body::UntilClose),
        }
    }

    fn framed(&self, otherwise: Body) -> Body {
        if self.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Body::Chunked(Chunk::Size);
        }
        self.header("content-length").and_then(|v| v.parse().ok()).map_or(otherwise, Body::Length)
    }

    /// The same head that announces a body of this length.
    pub fn with_length(&self, bytes: u64) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            if name != "content-length" && name != "transfer-encoding" {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str(&format!("content-length: {bytes}\r\n\r\n"));
        head.into_bytes()
    }
}

/// Where a chunked body stands.
pub(super) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What is left of a body.
pub(super) enum Body {
    /// This number of bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// All until the peer closes.
    UntilClose,
}

/// Bytes as they came, and how many of them are payload (all or none).
pub(super) struct Piece {
    pub raw: Bytes,
    pub payload: u64,
}

impl Body {
    /// The length when it was announced.
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Length(bytes) => Some(*bytes),
            Body::Chunked(_) | Body::UntilClose => None,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self, inlet: &mut Inlet) -> io::Result<Option<Piece>> {
        let eof = || io::Error::from(ErrorKind::UnexpectedEof);
        match self {
            Body::Length(0) | Body::Chunked(Chunk::Done) => Ok(None),
            Body::Length(left) | Body::Chunked(Chunk::Data(left)) => {
                let raw = inlet.some(*left).await?.ok_or_else(eof)?;
                let payload = raw.len() as u64;
                *left -= payload;
                if let Body::Chunked(state @ Chunk::Data(0)) = self {
                    *state = Chunk::DataEnd;
                }
                Ok(Some(Piece { raw, payload }))
            }
            Body::UntilClose => {
                let Some(raw) = inlet.some(u64::MAX).await? else { return Ok(None) };
                let payload = raw.len() as u64;
                Ok(Some(Piece { raw, payload }))
            }
            Body::Chunked(state) => {
                let raw = inlet.until(b"\r\n").await?.ok_or_else(eof)?;
                *state = match state {
                    Chunk::Size => match chunk_size(&raw)? {
                        0 => Chunk::Trailers,
                        bytes => Chunk::Data(bytes),
                    },
                    Chunk::Trailers if raw.len() > 2 => Chunk::Trailers,
                    Chunk::Trailers => Chunk::Done,
                    Chunk::Data(_) | Chunk::DataEnd | Chunk::Done => Chunk::Size,
                };
                Ok(Some(Piece { raw, payload: 0 }))
            }
        }
    }
}

/// Size in hexadecimal before any extension (RFC 9112 §7.1).
fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}
