//! Writes nested boxes into one growing buffer; sizes are patched in when a box closes.

use super::{BmffError, FourCc};

/// Big-endian box writer.
#[derive(Debug, Default)]
pub struct BoxWriter {
    out: Vec<u8>,
    oversized: Option<FourCc>,
}

impl BoxWriter {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a box of type `kind` whose payload is what `body` writes.
    pub fn boxed(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        self.u32(0);
        self.bytes(kind);
        body(self);
        match u32::try_from(self.out.len() - start) {
            Ok(size) => self.patch(start, size),
            Err(_) => self.oversized = Some(FourCc(*kind)),
        }
    }

    /// Writes a full box: version and flags first (ISO/IEC 14496-12 §4.2.2).
    pub fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, body: impl FnOnce(&mut Self)) {
        self.boxed(kind, |w| {
            w.u32(u32::from(version) << 24 | (flags & 0x00ff_ffff));
            body(w);
        });
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// A 16-bit value.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// A 32-bit value.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// A signed 32-bit value.
    pub fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    /// A 64-bit value.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }

    /// Bytes written so far.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Overwrites the 32-bit value at `position`, which has been written before; elsewhere it does nothing.
    pub fn patch(&mut self, position: usize, value: u32) {
        if let Some(slot) = self.out.get_mut(position..position.saturating_add(4)) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`BmffError::Oversized`] when a box outgrew its 32-bit size.
    pub fn into_bytes(self) -> Result<Vec<u8>, BmffError> {
        match self.oversized {
            Some(kind) => Err(BmffError::Oversized { kind }),
            None => Ok(self.out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Boxes;
    use super::*;

    #[test]
    fn nested_boxes_read_back() {
        let mut w = BoxWriter::new();
        w.boxed(b"outr", |w| {
            w.full(b"innr", 1, 0x00_0203, |w| w.u64(7));
            w.boxed(b"zero", |w| w.zeros(3));
        });
        let bytes = w.into_bytes().unwrap();
        assert_eq!(bytes.len(), 8 + 20 + 11);
        let outer = Boxes::new(&bytes, 0).next().unwrap().unwrap();
        let mut fields = outer.require(b"innr").unwrap().fields();
        assert_eq!(fields.version_and_flags().unwrap(), (1, 0x203));
        assert_eq!(fields.u64().unwrap(), 7);
        assert_eq!(outer.require(b"zero").unwrap().payload, [0, 0, 0]);
    }
}
