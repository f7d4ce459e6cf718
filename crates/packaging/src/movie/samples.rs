//! The sample table (ISO/IEC 14496-12 §8.6, §8.7) in the compact form it has in the file: runs stay runs. Samples are
//! expanded lazily, so that hostile counts cost neither memory nor time up front.

use crate::bmff::{BmffError, BoxRef, Fields, FourCc};

/// [`SampleTable::expand`] refuses more samples than this: 10 hours at 240 pictures a second fit, as 400 MB. A table
/// whose samples all have one size can claim billions without a byte behind them.
pub const MAX_SAMPLES: u64 = 10_000_000;
/// Decode times stay far from the limits of `i64`.
const MAX_TICKS: u64 = 1 << 60;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Decode time in track ticks, from 0.
    pub dts: i64,
    /// Position of the first byte in the file; saturates on hostile input.
    pub offset: u64,
    /// Composition time minus decode time, in track ticks.
    pub composition_offset: i32,
    /// Duration in track ticks.
    pub duration: u32,
    /// Size in bytes.
    pub size: u32,
    /// 0-based index into the sample entries of the track.
    pub sample_entry_index: u16,
    /// Whether it is a sync sample (`stss`).
    pub is_sync: bool,
}

impl Sample {
    /// Composition time in track ticks, before edits.
    pub fn pts(&self) -> i64 {
        self.dts.saturating_add(i64::from(self.composition_offset))
    }
}

/// Values that repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run<T> {
    count: u32,
    value: T,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sizes {
    Constant(u32),
    Each(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Offsets {
    Short(Vec<u32>),
    Long(Vec<u64>),
}

impl Offsets {
    fn len(&self) -> usize {
        match self {
            Self::Short(offsets) => offsets.len(),
            Self::Long(offsets) => offsets.len(),
        }
    }

    fn get(&self, index: usize) -> Option<u64> {
        match self {
            Self::Short(offsets) => offsets.get(index).copied().map(u64::from),
            Self::Long(offsets) => offsets.get(index).copied(),
        }
    }
}

/// A run of chunks with the same number of samples (`stsc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkRun {
    /// 0-based index of the first chunk.
    first: u32,
    samples: u32,
    entry_index: u16,
}

/// The samples of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleTable {
    durations: Vec<Run<u32>>,
    composition: Vec<Run<i32>>,
    sizes: Sizes,
    chunks: Vec<ChunkRun>,
    offsets: Offsets,
    /// 0-based, ascending; none: every sample is a sync sample.
    sync: Option<Vec<u32>>,
    len: u64,
    is_consistent: bool,
}

impl SampleTable {
    /// Parses the boxes of an `stbl`.
    pub(super) fn parse(stbl: &BoxRef<'_>) -> Result<Self, BmffError> {
        let (sizes, declared) = match (stbl.child(b"stsz")?, stbl.child(b"stz2")?) {
            (Some(stsz), _) => parse_stsz(&stsz)?,
            (None, Some(stz2)) => parse_stz2(&stz2)?,
            (None, None) => (Sizes::Constant(0), 0),
        };
        if declared == 0 {
            return Ok(Self::default());
        }
        let durations = parse_durations(&stbl.require(b"stts")?)?;
        let composition = match stbl.child(b"ctts")? {
            Some(ctts) => parse_runs(&ctts, |fields| fields.i32())?,
            None => Vec::new(),
        };
        let chunks = parse_stsc(&stbl.require(b"stsc")?)?;
        let offsets = match stbl.child(b"co64")? {
            Some(co64) => Offsets::Long(parse_list(&co64, 8, |fields| fields.u64())?),
            None => Offsets::Short(parse_list(&stbl.require(b"stco")?, 4, |fields| fields.u32())?),
        };
        let sync = stbl.child(b"stss")?.map(|stss| parse_stss(&stss)).transpose()?;
        let placed = placed_samples(&chunks, offsets.len() as u64);
        let timed: u64 = durations.iter().map(|run| u64::from(run.count)).sum();
        let len = declared.min(placed);
        let is_consistent = declared == placed && declared == timed;
        Ok(Self { durations, composition, sizes, chunks, offsets, sync, len, is_consistent })
    }

    /// Number of samples that have a size and a place.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether sizes, durations and chunks agree on the number of samples. When they do not (truncated or badly edited
    /// files), the table holds the samples that have a size and a place, and the last duration repeats.
    pub fn is_consistent(&self) -> bool {
        self.is_consistent
    }

    /// The samples in decode order, computed as they are asked for.
    pub fn iter(&self) -> Samples<'_> {
        Samples {
            table: self,
            index: 0,
            dts: 0,
            durations: RunCursor::new(&self.durations),
            composition: RunCursor::new(&self.composition),
            chunk: 0,
            chunk_run: 0,
            left_in_chunk: 0,
            entry_index: 0,
            offset: 0,
            next_sync: 0,
        }
    }

    /// All samples in decode order.
    ///
    /// # Errors
    /// [`BmffError::TooMany`] beyond [`MAX_SAMPLES`]; use [`SampleTable::iter`] for those (uncompressed sound).
    pub fn expand(&self) -> Result<Vec<Sample>, BmffError> {
        if self.len > MAX_SAMPLES {
            return Err(BmffError::TooMany {
                kind: FourCc::new(b"stsz"),
                what: "samples",
                count: self.len,
                limit: MAX_SAMPLES,
            });
        }
        let mut samples = Vec::with_capacity(self.len as usize);
        samples.extend(self.iter());
        Ok(samples)
    }

    /// Bytes of heap memory that the table holds.
    pub fn heap_bytes(&self) -> usize {
        let sizes = match &self.sizes {
            Sizes::Constant(_) => 0,
            Sizes::Each(sizes) => size_of_val(sizes.as_slice()),
        };
        let offsets = match &self.offsets {
            Offsets::Short(offsets) => size_of_val(offsets.as_slice()),
            Offsets::Long(offsets) => size_of_val(offsets.as_slice()),
        };
        sizes
            + offsets
            + size_of_val(self.durations.as_slice())
            + size_of_val(self.composition.as_slice())
            + size_of_val(self.chunks.as_slice())
            + self.sync.as_ref().map_or(0, |sync| size_of_val(sync.as_slice()))
    }
}

impl Default for SampleTable {
    /// A table without samples, as in fragmented files.
    fn default() -> Self {
        Self {
            durations: Vec::new(),
            composition: Vec::new(),
            sizes: Sizes::Constant(0),
            chunks: Vec::new(),
            offsets: Offsets::Short(Vec::new()),
            sync: None,
            len: 0,
            is_consistent: true,
        }
    }
}

impl<'a> IntoIterator for &'a SampleTable {
    type Item = Sample;
    type IntoIter = Samples<'a>;

    fn into_iter(self) -> Samples<'a> {
        self.iter()
    }
}

#[derive(Debug, Clone)]
struct RunCursor<'a, T> {
    runs: &'a [Run<T>],
    left: u32,
    last: T,
}

impl<'a, T: Copy + Default> RunCursor<'a, T> {
    fn new(runs: &'a [Run<T>]) -> Self {
        Self { runs, left: 0, last: T::default() }
    }

    /// The next value; the last one for ever when the runs are used up and `repeat` is set, else the default.
    fn next(&mut self, repeat: bool) -> T {
        while self.left == 0 {
            let Some((run, rest)) = self.runs.split_first() else {
                return if repeat { self.last } else { T::default() };
            };
            self.runs = rest;
            if run.count > 0 {
                (self.left, self.last) = (run.count, run.value);
            }
        }
        self.left -= 1;
        self.last
    }
}

/// Iterator over the samples of a table.
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    table: &'a SampleTable,
    index: u64,
    dts: i64,
    durations: RunCursor<'a, u32>,
    composition: RunCursor<'a, i32>,
    chunk: usize,
    chunk_run: usize,
    left_in_chunk: u32,
    entry_index: u16,
    offset: u64,
    next_sync: usize,
}

impl Samples<'_> {
    /// Enters the next chunk that holds samples.
    fn enter_chunk(&mut self) -> Option<()> {
        while self.left_in_chunk == 0 {
            self.offset = self.table.offsets.get(self.chunk)?;
            if let Some(next) = self.table.chunks.get(self.chunk_run + 1)
                && next.first as usize <= self.chunk
            {
                self.chunk_run += 1;
            }
            let run = self.table.chunks.get(self.chunk_run)?;
            (self.left_in_chunk, self.entry_index) = (run.samples, run.entry_index);
            self.chunk += 1;
        }
        Some(())
    }

    fn is_sync(&mut self) -> bool {
        match &self.table.sync {
            None => true,
            Some(sync) => {
                let found = sync.get(self.next_sync).is_some_and(|index| u64::from(*index) == self.index);
                self.next_sync += usize::from(found);
                found
            }
        }
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        if self.index >= self.table.len {
            return None;
        }
        self.enter_chunk()?;
        let size = match &self.table.sizes {
            Sizes::Constant(size) => *size,
            Sizes::Each(sizes) => *sizes.get(usize::try_from(self.index).ok()?)?,
        };
        let sample = Sample {
            dts: self.dts,
            offset: self.offset,
            composition_offset: self.composition.next(false),
            duration: self.durations.next(true),
            size,
            sample_entry_index: self.entry_index,
            is_sync: self.is_sync(),
        };
        self.index += 1;
        self.left_in_chunk -= 1;
        self.dts = self.dts.saturating_add(i64::from(sample.duration));
        self.offset = self.offset.saturating_add(u64::from(size));
        Some(sample)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.table.len - self.index).unwrap_or(usize::MAX);
        (0, Some(left))
    }
}

fn placed_samples(chunks: &[ChunkRun], num_chunks: u64) -> u64 {
    let ends = chunks.iter().skip(1).map(|run| u64::from(run.first)).chain([u64::MAX]);
    chunks
        .iter()
        .zip(ends)
        .map(|(run, end)| {
            end.min(num_chunks).saturating_sub(u64::from(run.first)).saturating_mul(u64::from(run.samples))
        })
        .fold(0, u64::saturating_add)
}

fn parse_list<T>(
    found: &BoxRef<'_>,
    entry_bytes: usize,
    read: impl Fn(&mut Fields<'_>) -> Result<T, BmffError>,
) -> Result<Vec<T>, BmffError> {
    let mut fields = found.fields();
    fields.skip(4)?;
    let count = fields.count(entry_bytes)?;
    (0..count).map(|_| read(&mut fields)).collect()
}

fn parse_runs<T>(
    found: &BoxRef<'_>,
    read: impl Fn(&mut Fields<'_>) -> Result<T, BmffError>,
) -> Result<Vec<Run<T>>, BmffError> {
    parse_list(found, 8, |fields| Ok(Run { count: fields.u32()?, value: read(fields)? }))
}

/// `stts`. Deltas above `i32::MAX` are negative numbers of broken writers; players disagree about them, so they are
/// refused rather than guessed.
fn parse_durations(stts: &BoxRef<'_>) -> Result<Vec<Run<u32>>, BmffError> {
    let runs = parse_runs(stts, |fields| fields.u32())?;
    let mut total = 0u64;
    for run in &runs {
        if run.value > i32::MAX as u32 {
            return Err(stts.bad_value("sample_delta", run.value.into()));
        }
        total = total.saturating_add(u64::from(run.count) * u64::from(run.value));
    }
    if total > MAX_TICKS {
        return Err(stts.bad_value("total duration", total));
    }
    Ok(runs)
}

fn parse_stsz(stsz: &BoxRef<'_>) -> Result<(Sizes, u64), BmffError> {
    let mut fields = stsz.fields();
    fields.skip(4)?;
    let constant = fields.u32()?;
    if constant != 0 {
        return Ok((Sizes::Constant(constant), u64::from(fields.u32()?)));
    }
    let count = fields.count(4)?;
    let sizes = (0..count).map(|_| fields.u32()).collect::<Result<Vec<_>, _>>()?;
    Ok((Sizes::Each(sizes), count as u64))
}

/// Compact sizes of 4, 8 or 16 bits (§8.7.3.3).
fn parse_stz2(stz2: &BoxRef<'_>) -> Result<(Sizes, u64), BmffError> {
    let mut fields = stz2.fields();
    fields.skip(7)?;
    let bits = fields.u8()?;
    let count = fields.u32()? as usize;
    let data = match bits {
        4 => fields.bytes(count.div_ceil(2))?,
        8 => fields.bytes(count)?,
        16 => fields.bytes(count.saturating_mul(2))?,
        _ => return Err(stz2.bad_value("field_size", bits.into())),
    };
    let mut sizes: Vec<u32> = match bits {
        4 => data.iter().flat_map(|byte| [u32::from(byte >> 4), u32::from(byte & 15)]).collect(),
        8 => data.iter().map(|byte| u32::from(*byte)).collect(),
        _ => data.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).collect(),
    };
    sizes.truncate(count);
    Ok((Sizes::Each(sizes), count as u64))
}

fn parse_stsc(stsc: &BoxRef<'_>) -> Result<Vec<ChunkRun>, BmffError> {
    let mut expected_after = 0u32;
    parse_list(stsc, 12, |fields| Ok([fields.u32()?, fields.u32()?, fields.u32()?]))?
        .into_iter()
        .enumerate()
        .map(|(index, [first, samples, entry])| {
            if first <= expected_after || (index == 0 && first != 1) {
                return Err(stsc.bad_value("first_chunk", first.into()));
            }
            expected_after = first;
            let entry_index = entry.checked_sub(1).and_then(|entry| u16::try_from(entry).ok());
            let entry_index = entry_index.ok_or_else(|| stsc.bad_value("sample_description_index", entry.into()))?;
            Ok(ChunkRun { first: first - 1, samples, entry_index })
        })
        .collect()
}

fn parse_stss(stss: &BoxRef<'_>) -> Result<Vec<u32>, BmffError> {
    let mut numbers = parse_list(stss, 4, |fields| fields.u32())?;
    // Sample numbers count from 1; 0 is written by some and means nothing.
    numbers.retain(|number| *number > 0);
    for number in &mut numbers {
        *number -= 1;
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}
