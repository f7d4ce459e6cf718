//! What probing needs of an mp4 that lists its frames in its `moov` (ISO/IEC 14496-12 §8.2): the headers of its boxes,
//! the `moov`, and the first packets of each track.

use super::range::{Object, RangeError, Sink};
use super::scratch::{Scratch, ScratchFile, blocking};
use splitreel_core::ranges::merge;
use splitreel_core::source::ByteRange;
use splitreel_core::{Failure, FailureCode};
use splitreel_packaging::bmff::{Layout, ReadAt, ScanError, ScanLimits, read_box, scan};
use splitreel_packaging::movie::{Handler, Movie};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Fetched at once from the start, and where a header is looked for.
const LOOK_BYTES: u64 = 64 << 10;
/// Largest number of reads to find the boxes of an mp4; after that the source is read whole.
const MAX_LOOKS: usize = 12;
/// A larger `moov` is not worth a request of its own.
const MAX_MOOV_BYTES: u64 = 256 << 20;
/// First packets of each track.
const FIRST_PACKETS: usize = 48;
/// Ranges of first packets this close together are merged.
const NEAR_BYTES: u64 = 256 << 10;
/// Largest number of ranges of first packets to fetch.
const MAX_RANGES: usize = 6;

/// A file with holes, which are errors.
struct Holed {
    file: Arc<File>,
    bytes: u64,
    present: Vec<ByteRange>,
}

impl ReadAt for Holed {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let wanted = ByteRange { start: offset, end: offset.saturating_add(buf.len() as u64).min(self.bytes) };
        let is_present = self.present.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end);
        if !wanted.is_empty() && !is_present {
            return Err(std::io::Error::from(std::io::ErrorKind::WouldBlock));
        }
        self.file.read_at(buf, offset)
    }
}

/// A file that is being filled.
struct Filling<'a> {
    object: &'a Object<'a>,
    scratch: &'a Scratch,
    file: ScratchFile,
    present: Vec<ByteRange>,
}

impl Filling<'_> {
    /// Fetches what of `range` is missing.
    async fn add(&mut self, range: ByteRange) -> Result<(), RangeError> {
        let range = ByteRange { start: range.start, end: range.end.min(self.object.source.bytes) };
        if range.is_empty() || self.present.iter().any(|known| known.start <= range.start && range.end <= known.end) {
            return Ok(());
        }
        self.scratch.grow(&mut self.file, range.len()).await?;
        self.object.fetch(range, &mut Sink::File(&self.file, range.start)).await?;
        self.present.push(range);
        self.present = merge(std::mem::take(&mut self.present), 0);
        Ok(())
    }

    fn holed(&self) -> Holed {
        Holed { file: self.file.handle(), bytes: self.object.source.bytes, present: self.present.clone() }
    }

    /// The boxes of the file; `None` when they are not easily found.
    async fn layout(&mut self) -> Result<Option<Layout>, RangeError> {
        for _ in 0..MAX_LOOKS {
            let holed = self.holed();
            let found = blocking(move || Ok(scan(&holed, &ScanLimits::default()))).await;
            match found.map_err(|error| Failure::of(FailureCode::WorkerThread, error.to_string()))? {
                Ok(layout) => return Ok(Some(layout)),
                Err(ScanError::Read { offset, source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
                    self.add(ByteRange { start: offset, end: offset.saturating_add(LOOK_BYTES) }).await?;
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// Fetches the tables of a source into a sparse file of its size. `None` when the tables are not sufficient.
pub(super) async fn fetch_tables(
    object: &Object<'_>,
    scratch: &Scratch,
    file: ScratchFile,
) -> Result<Option<ScratchFile>, RangeError> {
    let mut filling = Filling { object, scratch, file, present: Vec::new() };
    filling.add(ByteRange { start: 0, end: LOOK_BYTES }).await?;
    let Some(layout) = filling.layout().await? else { return Ok(None) };
    let moov = layout.first(b"moov").copied().filter(|moov| moov.size <= MAX_MOOV_BYTES);
    let Some(moov) = moov.filter(|_| !layout.is_fragmented() && layout.missing_bytes == 0) else { return Ok(None) };
    filling.add(ByteRange { start: moov.offset, end: moov.offset.saturating_add(moov.size) }).await?;
    let holed = filling.holed();
    let first = blocking(move || {
        let limits = ScanLimits { max_box_bytes: MAX_MOOV_BYTES, ..ScanLimits::default() };
        let data = read_box(&holed, &moov, &limits).map_err(std::io::Error::other)?;
        let movie = Movie::parse(&data, moov.offset).map_err(std::io::Error::other)?;
        Ok((!movie.fragmented).then(|| first_packets(&movie)))
    });
    let Ok(Some(ranges)) = first.await else { return Ok(None) };
    if ranges.len() > MAX_RANGES {
        return Ok(None);
    }
    for range in ranges {
        filling.add(range).await?;
    }
    Ok(Some(filling.file))
}

fn first_packets(movie: &Movie) -> Vec<ByteRange> {
    let tracks = movie.tracks.iter().filter(|track| matches!(track.handler, Handler::Video | Handler::Audio));
    let samples = tracks.flat_map(|track| track.samples.iter().take(FIRST_PACKETS));
    let ranges = samples
        .map(|sample| ByteRange { start: sample.offset, end: sample.offset.saturating_add(u64::from(sample.size)) });
    merge(ranges.collect(), NEAR_BYTES)
}
