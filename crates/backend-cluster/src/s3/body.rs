//! Reading an object: in pieces, under a stall time-out, resumed where it broke off.

use super::connection::S3Connection;
use super::failure::{S3Error, failed, status_of};
use super::locator::S3Locator;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use std::io::{self, ErrorKind};

const READ: &str = "read";
/// Bytes that allow one more resumption: a large object may break off more often than a small one.
const BYTES_PER_RESUMPTION: u64 = 8 << 20;

/// A range of an object on its way here.
pub(super) struct Reading<'a> {
    connection: &'a S3Connection,
    object: &'a S3Locator,
    next: u64,
    /// Exclusive; known to be within the object after the first answer.
    end: u64,
    /// Size of the whole object, after the first answer.
    total: Option<u64>,
    etag: Option<String>,
    body: Option<ByteStream>,
    received: u64,
    failures: u32,
}

impl<'a> Reading<'a> {
    /// A range; `end` may lie beyond the object.
    pub fn new(connection: &'a S3Connection, object: &'a S3Locator, start: u64, end: u64) -> Self {
        Reading { connection, object, next: start, end, total: None, etag: None, body: None, received: 0, failures: 0 }
    }

    /// Sends the first request. False when the object exists and has no byte in the range.
    pub async fn open(&mut self) -> Result<bool, S3Error> {
        // Positions are signed 64-bit numbers to many servers; no object reaches that far.
        let (start, last) = (self.next, self.end.saturating_sub(1).min(i64::MAX.unsigned_abs()));
        let request = self.connection.client().get_object().bucket(&self.object.bucket).key(&self.object.key);
        let answer = Box::pin(request.range(format!("bytes={start}-{last}")).send()).await;
        match answer {
            Ok(output) => self.accept(output).map(|()| self.next < self.end),
            Err(error) if status_of(&error) == Some(416) && self.total.is_none() => Ok(false),
            Err(error) => Err(failed(READ, self.object)(error)),
        }
    }

    fn accept(&mut self, output: GetObjectOutput) -> Result<(), S3Error> {
        let length = output.content_length.and_then(|length| u64::try_from(length).ok());
        let (first, total) = match output.content_range.as_deref() {
            Some(range) => content_range(range)
                .ok_or_else(|| S3Error::other(READ, self.object, format!("not a content range: {range}")))?,
            // The whole object, whatever was asked for.
            None => {
                let total = length.ok_or_else(|| S3Error::other(READ, self.object, "an answer without a length"))?;
                (0, total)
            }
        };
        let is_same = self.total.is_none_or(|before| before == total)
            && (self.etag.is_none() || output.e_tag.is_none() || self.etag == output.e_tag);
        if !is_same {
            return Err(S3Error::Replaced { object: self.object.clone() });
        }
        if first != self.next && total > self.next {
            return Err(S3Error::other(READ, self.object, format!("asked for byte {}, given {first}", self.next)));
        }
        self.total = Some(total);
        self.etag = output.e_tag;
        self.end = self.end.min(total);
        self.body = Some(output.body);
        Ok(())
    }

    /// Size of the whole object, once a piece was read.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next piece; `None` at the end of the range or of the object.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            if self.total.is_some() && self.next >= self.end {
                self.body = None;
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                match self.open().await {
                    Ok(true) => continue,
                    Ok(false) => return Ok(None),
                    // The client has repeated what can be repeated.
                    Err(error) => return Err(error),
                }
            };
            let broken = match tokio::time::timeout(self.connection.options().stall_timeout, body.next()).await {
                Ok(Some(Ok(mut bytes))) => {
                    bytes.truncate(usize::try_from(self.end - self.next).unwrap_or(usize::MAX));
                    self.next += bytes.len() as u64;
                    self.received += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(Some(Err(error))) => io::Error::other(error),
                Ok(None) => io::Error::new(ErrorKind::UnexpectedEof, "the answer was shorter than announced"),
                Err(_) => io::Error::new(ErrorKind::TimedOut, "the answer stalled"),
            };
            self.body = None;
            self.failures += 1;
            let earned = self.received / BYTES_PER_RESUMPTION;
            if u64::from(self.failures) >= u64::from(self.connection.options().max_attempts) + earned {
                return Err(S3Error::io(READ, self.object, broken));
            }
            tracing::debug!(object = %self.object, at = self.next, error = %broken, "reading is resumed");
            tokio::time::sleep(self.connection.pause(self.failures)).await;
        }
    }

    /// All of the range that exists.
    pub async fn all(&mut self) -> Result<Bytes, S3Error> {
        let Some(first) = self.piece().await? else { return Ok(Bytes::new()) };
        if self.next >= self.end {
            return Ok(first);
        }
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let mut whole = BytesMut::with_capacity(first.len().saturating_add(left));
        whole.extend_from_slice(&first);
        while let Some(piece) = self.piece().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// First byte and size of the whole from `bytes 0-9/100` (RFC 9110 §14.4).
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0, 100)));
        assert_eq!(content_range("bytes 99-99/100"), Some((99, 100)));
        for bad in ["bytes */100", "bytes 5-4/100", "bytes 0-100/100", "items 0-9/100", "bytes 0-9/*", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
