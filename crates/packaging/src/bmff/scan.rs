//! Finds the top-level boxes of a file by hopping from header to header, so that a `moov` at either end is located
//! without reading media. Reads only what it needs, within limits that the caller sets.

use super::{BmffError, FourCc, Header, Parse};

/// Random access to a source of known length.
pub trait ReadAt {
    /// Total length in bytes.
    fn len(&self) -> u64;

    /// Whether the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `buf.len()` bytes from `offset`; 0 means that nothing is there.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize>;
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or(&[]);
        let length = rest.len().min(buf.len());
        if let (Some(target), Some(from)) = (buf.get_mut(..length), rest.get(..length)) {
            target.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        (**self).read_at(offset, buf)
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.as_slice().read_at(offset, buf)
    }
}

/// Fills as much of `buf` as the source has from `offset`; returns the number of bytes.
///
/// # Errors
/// Whatever the medium reports, except interruptions, which are retried.
pub fn read_exact_at(source: &(impl ReadAt + ?Sized), offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(target) = buf.get_mut(filled..).filter(|target| !target.is_empty()) {
        match source.read_at(offset.saturating_add(filled as u64), target) {
            Ok(0) => break,
            Ok(count) => filled += count.min(target.len()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Limits of a scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanLimits {
    /// Top-level boxes to list; 200,000 unless changed (10 hours in fragments of half a second fit).
    pub max_boxes: usize,
    /// Largest box that [`read_box`] loads; 512 MiB unless changed.
    pub max_box_bytes: u64,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self { max_boxes: 200_000, max_box_bytes: 512 << 20 }
    }
}

/// Why a source could not be scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The medium failed.
    #[error("reading {length} bytes at byte {offset} failed")]
    Read {
        /// Where.
        offset: u64,
        /// How much was wanted.
        length: u64,
        /// What the medium said.
        #[source]
        source: std::io::Error,
    },
    /// The first bytes are no box: not an ISO BMFF or QuickTime file.
    #[error("the source does not start with a box")]
    NotBoxes,
    /// More boxes than [`ScanLimits::max_boxes`].
    #[error("more than {limit} top-level boxes")]
    TooManyBoxes {
        /// The limit.
        limit: usize,
    },
    /// A box larger than [`ScanLimits::max_box_bytes`] was asked for.
    #[error("box '{kind}' has {size} bytes, the limit is {limit}")]
    BoxTooLarge {
        /// Its type.
        kind: FourCc,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The box runs past the end of the source.
    #[error(transparent)]
    Box(#[from] BmffError),
}

/// A top-level box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopBox {
    /// Its type.
    pub kind: FourCc,
    /// Offset of its first byte in the source.
    pub offset: u64,
    /// Declared size in bytes, header included; may reach past the end of a truncated source.
    pub size: u64,
    /// Bytes of its header: 8, or 16 with a 64-bit size.
    pub header_bytes: u8,
}

/// The top level of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The boxes in file order.
    pub boxes: Vec<TopBox>,
    /// Length of the source in bytes.
    pub size: u64,
    /// Offset of bytes after the last box that are no box; trailing junk, which players ignore.
    pub stray_at: Option<u64>,
    /// Bytes that the last box declares beyond the end of the source.
    pub missing_bytes: u64,
}

impl Layout {
    /// The first box of type `kind`.
    pub fn first(&self, kind: &[u8; 4]) -> Option<&TopBox> {
        self.boxes.iter().find(|found| &found.kind.0 == kind)
    }

    /// Whether movie fragments stand at the top level (ISO/IEC 14496-12 §8.8). A file may still declare fragments in
    /// its `mvex` without having one; see [`crate::movie::Movie::fragmented`].
    pub fn is_fragmented(&self) -> bool {
        self.first(b"moof").is_some()
    }

    /// Whether `moov` precedes all media data, so that playback can start while the file arrives.
    pub fn is_faststart(&self) -> bool {
        match (self.first(b"moov"), self.first(b"mdat")) {
            (Some(moov), Some(mdat)) => moov.offset < mdat.offset,
            (moov, _) => moov.is_some(),
        }
    }
}

/// Lists the top-level boxes of `source`.
///
/// # Errors
/// [`ScanError::NotBoxes`] when not even the first box has a sound header; read failures; too many boxes.
pub fn scan(source: &(impl ReadAt + ?Sized), limits: &ScanLimits) -> Result<Layout, ScanError> {
    let size = source.len();
    let mut layout = Layout { boxes: Vec::new(), size, stray_at: None, missing_bytes: 0 };
    let mut offset = 0u64;
    while offset < size {
        if layout.boxes.len() >= limits.max_boxes {
            return Err(ScanError::TooManyBoxes { limit: limits.max_boxes });
        }
        let Some(found) = read_header(source, offset, size)? else {
            if layout.boxes.is_empty() {
                return Err(ScanError::NotBoxes);
            }
            layout.stray_at = Some(offset);
            break;
        };
        layout.boxes.push(found);
        let end = offset.saturating_add(found.size);
        layout.missing_bytes = end.saturating_sub(size);
        offset = end;
    }
    if layout.boxes.is_empty() {
        return Err(ScanError::NotBoxes);
    }
    Ok(layout)
}

/// The box header at `offset`, or nothing when the bytes there cannot be one.
fn read_header(source: &(impl ReadAt + ?Sized), offset: u64, end: u64) -> Result<Option<TopBox>, ScanError> {
    let mut head = [0u8; 16];
    let got =
        read_exact_at(source, offset, &mut head).map_err(|source| ScanError::Read { offset, length: 16, source })?;
    let head = head.get(..got).unwrap_or(&[]);
    let Ok(Parse::Header(Header { kind, size, header_bytes })) = Header::parse(head, offset, end - offset) else {
        return Ok(None);
    };
    if !kind.0.iter().all(|byte| *byte == 0xa9 || (0x20..0x7f).contains(byte)) {
        return Ok(None);
    }
    Ok(Some(TopBox { kind, offset, size, header_bytes }))
}

/// Loads one whole box, header included.
///
/// # Errors
/// [`ScanError::BoxTooLarge`] beyond the limit; [`BmffError::Truncated`] when the source ends inside the box.
pub fn read_box(source: &(impl ReadAt + ?Sized), found: &TopBox, limits: &ScanLimits) -> Result<Vec<u8>, ScanError> {
    let available = source.len().saturating_sub(found.offset);
    if found.size > available {
        return Err(
            BmffError::Truncated { kind: found.kind, offset: found.offset, needed: found.size, available }.into()
        );
    }
    let too_large = || ScanError::BoxTooLarge { kind: found.kind, size: found.size, limit: limits.max_box_bytes };
    if found.size > limits.max_box_bytes {
        return Err(too_large());
    }
    let mut data = vec![0u8; usize::try_from(found.size).map_err(|_| too_large())?];
    let got = read_exact_at(source, found.offset, &mut data).map_err(|source| ScanError::Read {
        offset: found.offset,
        length: found.size,
        source,
    })?;
    if (got as u64) < found.size {
        return Err(BmffError::Truncated {
            kind: found.kind,
            offset: found.offset,
            needed: found.size,
            available: got as u64,
        }
        .into());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    struct Counting<'a>(&'a [u8], Cell<u64>);

    impl ReadAt for Counting<'_> {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
            // One byte at a time, as a slow medium may do.
            let got = self.0.read_at(offset, buf.get_mut(..1).unwrap())?;
            self.1.set(self.1.get() + got as u64);
            Ok(got)
        }
    }

    fn boxed(kind: &[u8; 4], payload: usize) -> Vec<u8> {
        let mut data = u32::try_from(payload + 8).unwrap().to_be_bytes().to_vec();
        data.extend_from_slice(kind);
        data.resize(payload + 8, 0);
        data
    }

    #[test]
    fn finds_moov_behind_media_without_reading_it() {
        let mut file = boxed(b"ftyp", 8);
        file.extend(boxed(b"mdat", 1_000_000));
        file.extend(boxed(b"moov", 40));
        let source = Counting(&file, Cell::new(0));
        let layout = scan(&source, &ScanLimits::default()).unwrap();
        assert_eq!(source.1.get(), 48);
        assert!(!layout.is_faststart() && !layout.is_fragmented());
        let moov = layout.first(b"moov").unwrap();
        assert_eq!(moov.offset, 16 + 1_000_008);
        assert_eq!(read_box(&source, moov, &ScanLimits::default()).unwrap().len(), 48);
        let tight = ScanLimits { max_box_bytes: 47, ..ScanLimits::default() };
        assert!(matches!(read_box(&source, moov, &tight), Err(ScanError::BoxTooLarge { .. })));
    }

    #[test]
    fn tells_truncation_junk_and_foreign_files() {
        let mut file = boxed(b"moov", 8);
        file.extend(boxed(b"mdat", 100));
        file.truncate(60);
        let layout = scan(&file, &ScanLimits::default()).unwrap();
        assert_eq!(layout.missing_bytes, 64);
        assert!(read_box(&file, layout.first(b"mdat").unwrap(), &ScanLimits::default()).is_err());

        let mut junk = boxed(b"moov", 8);
        junk.extend_from_slice(b"\0\0\0\x04junk");
        assert_eq!(scan(&junk, &ScanLimits::default()).unwrap().stray_at, Some(16));

        assert!(matches!(
            scan(b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0".as_slice(), &ScanLimits::default()),
            Err(ScanError::NotBoxes)
        ));
        assert!(matches!(scan([].as_slice(), &ScanLimits::default()), Err(ScanError::NotBoxes)));
    }

    #[test]
    fn number_of_boxes_is_bounded() {
        let file: Vec<u8> = (0..50).flat_map(|_| boxed(b"free", 0)).collect();
        let limits = ScanLimits { max_boxes: 49, ..ScanLimits::default() };
        assert!(matches!(scan(&file, &limits), Err(ScanError::TooManyBoxes { limit: 49 })));
        assert_eq!(scan(&file, &ScanLimits::default()).unwrap().boxes.len(), 50);
    }

    proptest! {
        #[test]
        fn scanning_any_bytes_ends(data in proptest::collection::vec(any::<u8>(), 0..200), good in 0usize..3) {
            let mut file: Vec<u8> = (0..good).flat_map(|_| boxed(b"free", 3)).collect();
            file.extend(data);
            let Ok(layout) = scan(&file, &ScanLimits::default()) else { return Ok(()) };
            let mut next = 0;
            for found in &layout.boxes {
                prop_assert_eq!(found.offset, next);
                next = next.saturating_add(found.size);
            }
            let end = layout.stray_at.unwrap_or(layout.size + layout.missing_bytes);
            prop_assert_eq!(next, end);
        }
    }
}
