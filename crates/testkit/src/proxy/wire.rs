//! One direction of a connection, with what was read beyond the last message kept for the next one.

use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, ErrorKind};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

/// No head of a message and no line within a chunked body is longer.
const LIMIT: usize = 64 * 1024;

/// The reading half of a connection.
pub(super) struct Inlet {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl Inlet {
    pub fn new(half: OwnedReadHalf) -> Self {
        Inlet { half, buffer: BytesMut::with_capacity(LIMIT) }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.half.read_buf(&mut self.buffer).await
    }

    /// Reads up to and with the end mark. `None`: the peer closed before the first byte.
    pub async fn until(&mut self, mark: &[u8]) -> io::Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            let found = self.buffer.get(searched..).and_then(|rest| rest.windows(mark.len()).position(|w| w == mark));
            if let Some(at) = found {
                return Ok(Some(self.buffer.split_to(searched + at + mark.len()).freeze()));
            }
            if self.buffer.len() > LIMIT {
                return Err(io::Error::new(ErrorKind::InvalidData, "head or line too long"));
            }
            searched = self.buffer.len().saturating_sub(mark.len() - 1);
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Some bytes, at most `limit`. `None`: the peer closed.
    pub async fn some(&mut self, limit: u64) -> io::Result<Option<Bytes>> {
        if !self.buffer.has_remaining() && self.fill().await? == 0 {
            return Ok(None);
        }
        let take = usize::try_from(limit).unwrap_or(usize::MAX).min(self.buffer.len());
        Ok(Some(self.buffer.split_to(take).freeze()))
    }
}
