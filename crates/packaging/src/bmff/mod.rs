//! ISO base media file format boxes (ISO/IEC 14496-12 §4.2): types, errors, reading, writing, locating.
//!
//! Knows box framing only; what the boxes mean belongs to `movie`, `fragment` and `init`.

mod read;
mod scan;
mod write;

pub use read::{BoxRef, Boxes, Fields, MAX_DEPTH};
pub(crate) use read::{Header, Parse};
pub use scan::{Layout, ReadAt, ScanError, ScanLimits, TopBox, read_box, read_exact_at, scan};
pub use write::BoxWriter;

/// A four-character box or brand code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    /// The code spelled by four bytes, as in `FourCc::new(b"moov")`.
    pub const fn new(code: &[u8; 4]) -> Self {
        Self(*code)
    }
}

impl std::fmt::Display for FourCc {
    /// Printable ASCII as it is; anything else as `\xNN`, so that hostile codes cannot disturb a terminal or a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0 {
            if byte == b' ' || byte.is_ascii_graphic() {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for FourCc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{self}'")
    }
}

/// Why a box could not be read or written. Offsets are absolute in the coordinates the caller gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmffError {
    /// The data ends inside the box.
    #[error("box '{kind}' at byte {offset} is truncated: {needed} bytes needed, {available} present")]
    Truncated {
        /// Type of the box.
        kind: FourCc,
        /// Where the missing bytes should start.
        offset: u64,
        /// Bytes the structure asks for.
        needed: u64,
        /// Bytes that are there.
        available: u64,
    },
    /// The size field is smaller than the box header.
    #[error("box '{kind}' at byte {offset} has the impossible size {size}")]
    BadSize {
        /// Type of the box.
        kind: FourCc,
        /// Start of the box.
        offset: u64,
        /// Its size field.
        size: u64,
    },
    /// Fewer than eight bytes that are not zero padding stand where a box should start.
    #[error("{length} stray bytes at byte {offset}")]
    StrayBytes {
        /// Start of the bytes.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Boxes are nested deeper than [`MAX_DEPTH`].
    #[error("box '{kind}' at byte {offset} is nested too deep")]
    TooDeep {
        /// Type of the box.
        kind: FourCc,
        /// Start of the box.
        offset: u64,
    },
    /// A mandatory box is absent.
    #[error("box '{parent}' at byte {offset} has no '{kind}'")]
    MissingBox {
        /// The box that should contain it.
        parent: FourCc,
        /// Start of the parent.
        offset: u64,
        /// The absent box.
        kind: FourCc,
    },
    /// A field holds a value that makes no sense.
    #[error("box '{kind}' at byte {offset} has an invalid {field}: {value}")]
    BadValue {
        /// Type of the box.
        kind: FourCc,
        /// Start of the box or of the field.
        offset: u64,
        /// Name of the field in the standard.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A count is larger than what is supported.
    #[error("'{kind}' asks for {count} {what}, the limit is {limit}")]
    TooMany {
        /// Type of the box.
        kind: FourCc,
        /// What is counted.
        what: &'static str,
        /// The count found.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// A box that was being written outgrew its 32-bit size field.
    #[error("box '{kind}' would be larger than 4 GiB")]
    Oversized {
        /// Type of the box.
        kind: FourCc,
    },
}
