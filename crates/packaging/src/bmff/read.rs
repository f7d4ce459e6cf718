//! Walks boxes in a byte slice. Never allocates, never recurses by itself; nesting is bounded by [`MAX_DEPTH`].

use super::{BmffError, FourCc};

/// Boxes may be nested this deep; real files need about ten levels.
pub const MAX_DEPTH: u8 = 16;

/// The header of a box (ISO/IEC 14496-12 §4.2.2).
pub(crate) struct Header {
    pub(crate) kind: FourCc,
    /// Size of the whole box in bytes, at least that of its header.
    pub(crate) size: u64,
    /// 8, or 16 with a 64-bit size.
    pub(crate) header_bytes: u8,
}

/// Size and type from the first bytes of a box.
pub(crate) enum Parse {
    Header(Header),
    /// More bytes are needed to know.
    Short {
        kind: FourCc,
        needed: u64,
    },
}

impl Header {
    /// Parses the first bytes of a box at `offset`; `to_end` bytes lie between there and the end of what contains it.
    pub(crate) fn parse(head: &[u8], offset: u64, to_end: u64) -> Result<Parse, BmffError> {
        let Some((&[a, b, c, d, e, f, g, h], tail)) = head.split_first_chunk::<8>() else {
            return Ok(Parse::Short { kind: FourCc([b'?'; 4]), needed: 8 });
        };
        let kind = FourCc([e, f, g, h]);
        let (size, header_bytes) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (to_end, 8u8),
            1 => match tail.first_chunk::<8>() {
                Some(large) => (u64::from_be_bytes(*large), 16),
                None => return Ok(Parse::Short { kind, needed: 16 }),
            },
            size => (u64::from(size), 8),
        };
        if size < u64::from(header_bytes) {
            return Err(BmffError::BadSize { kind, offset, size });
        }
        Ok(Parse::Header(Self { kind, size, header_bytes }))
    }
}

/// One box inside a byte slice.
#[derive(Debug, Clone, Copy)]
pub struct BoxRef<'a> {
    /// Its type.
    pub kind: FourCc,
    /// Absolute offset of its first header byte.
    pub offset: u64,
    /// The whole box, header included.
    pub raw: &'a [u8],
    /// What follows the header (for `uuid` boxes the 16-byte user type comes first).
    pub payload: &'a [u8],
    depth: u8,
}

impl<'a> BoxRef<'a> {
    /// Absolute offset of the first payload byte.
    pub fn payload_offset(&self) -> u64 {
        self.offset.saturating_add((self.raw.len() - self.payload.len()) as u64)
    }

    /// The boxes in the payload.
    ///
    /// # Errors
    /// [`BmffError::TooDeep`] beyond [`MAX_DEPTH`].
    pub fn children(&self) -> Result<Boxes<'a>, BmffError> {
        self.children_after(0)
    }

    /// The boxes that follow the first `skip` payload bytes (full boxes, sample entries).
    ///
    /// # Errors
    /// [`BmffError::TooDeep`], or [`BmffError::Truncated`] when the payload is shorter than `skip`.
    pub fn children_after(&self, skip: usize) -> Result<Boxes<'a>, BmffError> {
        if self.depth >= MAX_DEPTH {
            return Err(BmffError::TooDeep { kind: self.kind, offset: self.offset });
        }
        let data = self.payload.get(skip..).ok_or(BmffError::Truncated {
            kind: self.kind,
            offset: self.payload_offset(),
            needed: skip as u64,
            available: self.payload.len() as u64,
        })?;
        Ok(Boxes {
            data,
            base: self.payload_offset().saturating_add(skip as u64),
            position: 0,
            depth: self.depth + 1,
            failed: false,
        })
    }

    /// The first child of type `kind`.
    ///
    /// # Errors
    /// A framing error met before it is found.
    pub fn child(&self, kind: &[u8; 4]) -> Result<Option<BoxRef<'a>>, BmffError> {
        for found in self.children()? {
            let found = found?;
            if &found.kind.0 == kind {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first child of type `kind`, which has to be there.
    ///
    /// # Errors
    /// [`BmffError::MissingBox`], or a framing error met before it is found.
    pub fn require(&self, kind: &[u8; 4]) -> Result<BoxRef<'a>, BmffError> {
        self.child(kind)?.ok_or(BmffError::MissingBox {
            parent: self.kind,
            offset: self.offset,
            kind: FourCc::new(kind),
        })
    }

    /// A cursor over the payload.
    pub fn fields(&self) -> Fields<'a> {
        Fields { kind: self.kind, base: self.payload_offset(), data: self.payload, position: 0 }
    }

    /// An error about one of this box's fields.
    pub fn bad_value(&self, field: &'static str, value: u64) -> BmffError {
        BmffError::BadValue { kind: self.kind, offset: self.offset, field, value }
    }
}

/// The boxes that follow each other in a byte slice. Ends after the first error. Up to seven zero bytes at the end are
/// padding (QuickTime closes some containers with a 32-bit zero).
#[derive(Debug, Clone)]
pub struct Boxes<'a> {
    data: &'a [u8],
    base: u64,
    position: usize,
    depth: u8,
    failed: bool,
}

impl<'a> Boxes<'a> {
    /// Walks `data`, whose first byte has the absolute offset `base`.
    pub fn new(data: &'a [u8], base: u64) -> Self {
        Self { data, base, position: 0, depth: 0, failed: false }
    }

    /// The first box of type `kind` from here on.
    ///
    /// # Errors
    /// A framing error met before it is found.
    pub fn find_kind(&mut self, kind: &[u8; 4]) -> Result<Option<BoxRef<'a>>, BmffError> {
        for found in self {
            let found = found?;
            if &found.kind.0 == kind {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Option<BoxRef<'a>>, BmffError> {
        let rest = self.data.get(self.position..).unwrap_or(&[]);
        let offset = self.base.saturating_add(self.position as u64);
        if rest.len() < 8 {
            if rest.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            return Err(BmffError::StrayBytes { offset, length: rest.len() as u64 });
        }
        let available = rest.len() as u64;
        let Header { kind, size, header_bytes } = match Header::parse(rest, offset, available)? {
            Parse::Header(header) => header,
            Parse::Short { kind, needed } => {
                return Err(BmffError::Truncated { kind, offset, needed, available });
            }
        };
        let truncated = BmffError::Truncated { kind, offset, needed: size, available };
        let length = usize::try_from(size).map_err(|_| truncated.clone())?;
        let raw = rest.get(..length).ok_or(truncated)?;
        self.position += length;
        Ok(Some(BoxRef {
            kind,
            offset,
            raw,
            payload: raw.get(usize::from(header_bytes)..).unwrap_or(&[]),
            depth: self.depth,
        }))
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<BoxRef<'a>, BmffError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

/// A cursor over the big-endian fields of a box. Every read is checked.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    kind: FourCc,
    base: u64,
    data: &'a [u8],
    position: usize,
}

macro_rules! integer {
    ($($name:ident: $type:ty),*) => {$(
        #[doc = concat!("The next big-endian `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// [`BmffError::Truncated`].
        pub fn $name(&mut self) -> Result<$type, BmffError> {
            self.array().map(<$type>::from_be_bytes)
        }
    )*};
}

impl<'a> Fields<'a> {
    integer!(u8: u8, u16: u16, u32: u32, u64: u64, i32: i32, i64: i64);

    fn truncated(&self, needed: usize) -> BmffError {
        BmffError::Truncated {
            kind: self.kind,
            offset: self.offset(),
            needed: needed as u64,
            available: self.remaining() as u64,
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BmffError> {
        match self.rest().first_chunk::<N>() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// Absolute offset of the next field.
    pub fn offset(&self) -> u64 {
        self.base.saturating_add(self.position as u64)
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.position..).unwrap_or(&[])
    }

    /// Number of bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.data.len().saturating_sub(self.position)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`BmffError::Truncated`].
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], BmffError> {
        let bytes = self.rest().get(..length).ok_or_else(|| self.truncated(length))?;
        self.position += length;
        Ok(bytes)
    }

    /// Leaves out `length` bytes.
    ///
    /// # Errors
    /// [`BmffError::Truncated`].
    pub fn skip(&mut self, length: usize) -> Result<(), BmffError> {
        self.bytes(length).map(drop)
    }

    /// Version and 24-bit flags of a full box (ISO/IEC 14496-12 §4.2.2).
    ///
    /// # Errors
    /// [`BmffError::Truncated`].
    pub fn version_and_flags(&mut self) -> Result<(u8, u32), BmffError> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0x00ff_ffff))
    }

    /// A 64-bit field in version 1 of a box, a 32-bit one in version 0.
    ///
    /// # Errors
    /// [`BmffError::Truncated`].
    pub fn sized(&mut self, version: u8) -> Result<u64, BmffError> {
        if version == 1 { self.u64() } else { self.u32().map(u64::from) }
    }

    /// A 32-bit entry count, backed by the bytes that follow it.
    ///
    /// # Errors
    /// [`BmffError::Truncated`] when fewer than `count * entry_bytes` bytes follow.
    pub fn count(&mut self, entry_bytes: usize) -> Result<usize, BmffError> {
        let count = self.u32()? as usize;
        match count.checked_mul(entry_bytes) {
            Some(needed) if needed <= self.remaining() => Ok(count),
            needed => Err(self.truncated(needed.unwrap_or(usize::MAX))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(data: &[u8]) -> Vec<Result<String, BmffError>> {
        Boxes::new(data, 0).map(|found| found.map(|b| format!("{}+{}", b.kind, b.payload.len()))).collect()
    }

    #[test]
    fn sizes_of_all_three_kinds() {
        let mut data = b"\0\0\0\x0aabcdXY".to_vec();
        data.extend_from_slice(b"\0\0\0\x01efgh\0\0\0\0\0\0\0\x11Z");
        data.extend_from_slice(b"\0\0\0\0ijkltail");
        let found: Vec<String> = kinds(&data).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, ["abcd+2", "efgh+1", "ijkl+4"]);
    }

    #[test]
    fn errors_name_the_box_and_stop_the_walk() {
        let found = kinds(b"\0\0\0\x08good\0\0\0\x20badd\0\0");
        assert_eq!(found.len(), 2);
        assert_eq!(
            found.get(1),
            Some(&Err(BmffError::Truncated { kind: FourCc::new(b"badd"), offset: 8, needed: 32, available: 10 }))
        );
        assert_eq!(
            kinds(b"\0\0\0\x07badd"),
            [Err(BmffError::BadSize { kind: FourCc::new(b"badd"), offset: 0, size: 7 })]
        );
        assert_eq!(kinds(b"abc"), [Err(BmffError::StrayBytes { offset: 0, length: 3 })]);
        assert_eq!(kinds(b"\0\0\0\x08good\0\0\0\0").len(), 1);
        let huge = b"\0\0\0\x01huge\xff\xff\xff\xff\xff\xff\xff\xff";
        assert!(matches!(kinds(huge).as_slice(), [Err(BmffError::Truncated { needed: u64::MAX, .. })]));
    }

    #[test]
    fn nesting_is_bounded() {
        let mut data = Vec::new();
        for level in 1..40u32 {
            let mut outer = (level * 8).to_be_bytes().to_vec();
            outer.extend_from_slice(b"nest");
            outer.append(&mut data);
            data = outer;
        }
        let mut current = Boxes::new(&data, 0).next().unwrap().unwrap();
        let mut depth = 0;
        let error = loop {
            match current.child(b"nest") {
                Ok(Some(next)) => current = next,
                Ok(None) => panic!("the walk ended before the limit"),
                Err(error) => break error,
            }
            depth += 1;
        };
        assert_eq!(depth, usize::from(MAX_DEPTH));
        assert!(matches!(error, BmffError::TooDeep { .. }));
    }

    #[test]
    fn counts_need_bytes_behind_them() {
        let data = b"\0\0\0\x10abcd\xff\xff\xff\xff\0\0\0\0";
        let found = Boxes::new(data, 0).next().unwrap().unwrap();
        assert!(matches!(found.fields().count(8), Err(BmffError::Truncated { .. })));
    }

    #[test]
    fn odd_codes_are_escaped() {
        assert_eq!(FourCc([0xa9, b'n', b'a', 0x1b]).to_string(), "\\xa9na\\x1b");
    }

    proptest! {
        #[test]
        fn walking_any_bytes_ends(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut total = 0u64;
            for found in Boxes::new(&data, 0).flatten() {
                total += found.raw.len() as u64;
                for inner in found.children().unwrap().flatten() {
                    prop_assert!(inner.offset >= found.offset);
                }
            }
            prop_assert!(total <= data.len() as u64);
        }
    }
}
