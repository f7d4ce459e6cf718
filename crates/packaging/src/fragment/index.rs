//! Reads the headers of a media segment: when, how large and where each sample is. Media data is hopped over.

use super::FragmentSample;
use crate::bmff::{BmffError, BoxRef, Boxes, FourCc, Header, Parse, ReadAt, read_exact_at};
use crate::movie::SampleDefaults;

/// A segment may describe this many samples.
pub const MAX_SEGMENT_SAMPLES: usize = 4_000_000;
/// A `moof` larger than this is refused.
const MAX_MOOF_BYTES: u64 = 64 << 20;
/// A segment may consist of this many top-level boxes.
const MAX_BOXES: usize = 200_000;
/// Tracks whose decode time is carried from one fragment to the next.
const MAX_TRACKS: usize = 64;
/// Decode times stay far from the limits of `i64`.
const MAX_TICKS: u64 = 1 << 60;

/// Samples of one track in one fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRun {
    /// `track_ID`.
    pub track_id: u32,
    /// Decode time of the first sample from `tfdt`, in track ticks; none when the box is missing.
    pub base_decode_time: Option<u64>,
    /// Samples in decode order.
    pub samples: Vec<FragmentSample>,
}

impl TrackRun {
    /// Sum of the durations in track ticks.
    pub fn duration(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.duration)).sum()
    }
}

/// One `moof`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentIndex {
    /// Its first byte, from the start of the segment.
    pub moof_offset: u64,
    /// `mfhd` sequence number.
    pub sequence_number: u32,
    /// One entry per `traf`, in file order.
    pub tracks: Vec<TrackRun>,
}

/// All fragments of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentIndex {
    /// In file order.
    pub fragments: Vec<FragmentIndex>,
}

impl SegmentIndex {
    /// The samples of one track over all fragments, in decode order.
    pub fn samples(&self, track_id: u32) -> impl Iterator<Item = &FragmentSample> {
        self.runs(track_id).flat_map(|run| &run.samples)
    }

    /// The runs of one track, in decode order.
    pub fn runs(&self, track_id: u32) -> impl Iterator<Item = &TrackRun> {
        self.fragments.iter().flat_map(|fragment| &fragment.tracks).filter(move |run| run.track_id == track_id)
    }
}

/// Result of reading a segment from its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// All headers were inside the given bytes.
    Complete(SegmentIndex),
    /// This number of bytes from the start of the segment is needed.
    NeedsPrefix(u64),
}

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
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
    /// A box is malformed.
    #[error(transparent)]
    Box(#[from] BmffError),
    /// The segment has no `moof`.
    #[error("the segment has no movie fragment")]
    NoFragment,
    /// A sample is not inside media data.
    #[error("a sample of track {track_id}, {size} bytes at byte {offset}, lies outside all media data")]
    SampleOutsideMedia {
        /// Its track.
        track_id: u32,
        /// Where it should be.
        offset: u64,
        /// Its size in bytes.
        size: u32,
    },
}

/// Reads a segment of `total_bytes` from `prefix`, its first bytes. `defaults` gives the `trex` values of a track (see
/// [`crate::movie::Movie::sample_defaults`]). A segment with one fragment needs its `moof` and the `mdat` header only.
///
/// # Errors
/// [`IndexError`].
pub fn parse_segment(
    prefix: &[u8],
    total_bytes: u64,
    defaults: &dyn Fn(u32) -> SampleDefaults,
) -> Result<Parsed, IndexError> {
    walk(prefix, total_bytes, defaults)
}

/// Reads a whole segment (or the fragments of a whole file) by hopping from box to box.
///
/// # Errors
/// [`IndexError`].
pub fn index_segment(
    source: &(impl ReadAt + ?Sized),
    defaults: &dyn Fn(u32) -> SampleDefaults,
) -> Result<SegmentIndex, IndexError> {
    let available = source.len();
    match walk(source, available, defaults)? {
        Parsed::Complete(index) => Ok(index),
        Parsed::NeedsPrefix(needed) => {
            Err(BmffError::Truncated { kind: FourCc::new(b"moof"), offset: 0, needed, available }.into())
        }
    }
}

fn walk(
    source: &(impl ReadAt + ?Sized),
    total: u64,
    defaults: &dyn Fn(u32) -> SampleDefaults,
) -> Result<Parsed, IndexError> {
    let mut reader = Reader { index: SegmentIndex::default(), num_samples: 0, next_times: Vec::new(), defaults };
    let mut media: Vec<(u64, u64)> = Vec::new();
    let mut offset = 0u64;
    let mut num_boxes = 0;
    while offset < total {
        num_boxes += 1;
        if num_boxes > MAX_BOXES {
            let kind = FourCc::new(b"moof");
            let (count, limit) = (num_boxes as u64, MAX_BOXES as u64);
            return Err(BmffError::TooMany { kind, what: "boxes beside it", count, limit }.into());
        }
        let mut head = [0u8; 16];
        let got = read(source, offset, &mut head)?;
        let head = head.get(..got).unwrap_or(&[]);
        let Header { kind, size, header_bytes } = match Header::parse(head, offset, total - offset)? {
            Parse::Header(header) => header,
            Parse::Short { kind, needed } => return needs(offset + needed, total, kind, offset),
        };
        let Some(end) = offset.checked_add(size).filter(|end| *end <= total) else {
            return Err(BmffError::Truncated { kind, offset, needed: size, available: total - offset }.into());
        };
        match &kind.0 {
            b"mdat" => media.push((offset + u64::from(header_bytes), end)),
            b"moof" => match load_moof(source, offset, size)? {
                Some(data) => reader.fragment(&data, offset)?,
                None => return needs(end, total, kind, offset),
            },
            _ => {}
        }
        offset = end;
    }
    if reader.index.fragments.is_empty() {
        return Err(IndexError::NoFragment);
    }
    check_places(&reader.index, &media)?;
    Ok(Parsed::Complete(reader.index))
}

/// The bytes of a `moof`, unless the source ends before them.
fn load_moof(source: &(impl ReadAt + ?Sized), offset: u64, size: u64) -> Result<Option<Vec<u8>>, IndexError> {
    if size > MAX_MOOF_BYTES {
        let (kind, count, limit) = (FourCc::new(b"moof"), size, MAX_MOOF_BYTES);
        return Err(BmffError::TooMany { kind, what: "bytes", count, limit }.into());
    }
    let mut data = vec![0u8; usize::try_from(size).unwrap_or(0)];
    let got = read(source, offset, &mut data)?;
    Ok((got == data.len()).then_some(data))
}

fn needs(end: u64, total: u64, kind: FourCc, offset: u64) -> Result<Parsed, IndexError> {
    if end <= total {
        Ok(Parsed::NeedsPrefix(end))
    } else {
        Err(BmffError::Truncated { kind, offset, needed: end - offset, available: total - offset }.into())
    }
}

fn read(source: &(impl ReadAt + ?Sized), offset: u64, buf: &mut [u8]) -> Result<usize, IndexError> {
    let length = buf.len() as u64;
    read_exact_at(source, offset, buf).map_err(|source| IndexError::Read { offset, length, source })
}

fn check_places(index: &SegmentIndex, media: &[(u64, u64)]) -> Result<(), IndexError> {
    for run in index.fragments.iter().flat_map(|fragment| &fragment.tracks) {
        for &FragmentSample { offset, size, .. } in &run.samples {
            let after = media.partition_point(|(start, _)| *start <= offset);
            let home = after.checked_sub(1).and_then(|at| media.get(at));
            let is_inside = home.is_some_and(|(_, end)| offset.checked_add(size.into()).is_some_and(|e| e <= *end));
            if !is_inside {
                return Err(IndexError::SampleOutsideMedia { track_id: run.track_id, offset, size });
            }
        }
    }
    Ok(())
}

struct Reader<'d> {
    index: SegmentIndex,
    num_samples: usize,
    next_times: Vec<(u32, u64)>,
    defaults: &'d dyn Fn(u32) -> SampleDefaults,
}

/// `tfhd` with the values that hold for the whole `traf`.
struct TrackFragmentHeader {
    track_id: u32,
    base: u64,
    defaults: SampleDefaults,
}

impl Reader<'_> {
    fn fragment(&mut self, data: &[u8], offset: u64) -> Result<(), BmffError> {
        let kind = FourCc::new(b"moof");
        let moof = Boxes::new(data, offset).next().transpose()?;
        let moof = moof.ok_or(BmffError::MissingBox { parent: kind, offset, kind })?;
        let mut mfhd = moof.require(b"mfhd")?.fields();
        mfhd.skip(4)?;
        let mut fragment = FragmentIndex { moof_offset: moof.offset, sequence_number: mfhd.u32()?, tracks: Vec::new() };
        // Without base-data-offset and default-base-is-moof, a traf continues where the one before it ended (§8.8.7.1).
        let mut implied_base = moof.offset;
        for child in moof.children()? {
            let child = child?;
            if &child.kind.0 == b"traf" {
                let (run, end) = self.track_fragment(&child, moof.offset, implied_base)?;
                implied_base = end;
                fragment.tracks.push(run);
            }
        }
        self.index.fragments.push(fragment);
        Ok(())
    }

    fn track_fragment(&mut self, traf: &BoxRef<'_>, moof: u64, implied: u64) -> Result<(TrackRun, u64), BmffError> {
        let header = self.header(&traf.require(b"tfhd")?, moof, implied)?;
        let mut run = TrackRun { track_id: header.track_id, base_decode_time: None, samples: Vec::new() };
        let mut at = header.base;
        for child in traf.children()? {
            let child = child?;
            match &child.kind.0 {
                b"tfdt" => {
                    let mut fields = child.fields();
                    let (version, _) = fields.version_and_flags()?;
                    let time = fields.sized(version)?;
                    if time > MAX_TICKS {
                        return Err(child.bad_value("baseMediaDecodeTime", time));
                    }
                    run.base_decode_time = Some(time);
                }
                b"trun" => at = self.samples(&child, &header, at, &mut run.samples)?,
                _ => {}
            }
        }
        // A traf without tfdt continues its track (§8.8.12).
        let known = self.next_times.iter().copied().find(|(id, _)| *id == run.track_id);
        let start = run.base_decode_time.or(known.map(|(_, time)| time));
        let next = start.unwrap_or(0).saturating_add(run.duration());
        if let Some((_, time)) = self.next_times.iter_mut().find(|(id, _)| *id == run.track_id) {
            *time = next;
        } else if self.next_times.len() < MAX_TRACKS {
            self.next_times.push((run.track_id, next));
        }
        run.base_decode_time = start;
        Ok((run, at))
    }

    fn header(&self, tfhd: &BoxRef<'_>, moof: u64, implied: u64) -> Result<TrackFragmentHeader, BmffError> {
        let mut fields = tfhd.fields();
        let (_, flags) = fields.version_and_flags()?;
        let track_id = fields.u32()?;
        let mut defaults = (self.defaults)(track_id);
        let base = match flags {
            f if f & 0x1 != 0 => fields.u64()?,
            f if f & 0x2_0000 != 0 => moof,
            _ => implied,
        };
        let targets = [
            (0x02, &mut defaults.description_index),
            (0x08, &mut defaults.duration),
            (0x10, &mut defaults.size),
            (0x20, &mut defaults.flags),
        ];
        for (flag, target) in targets {
            if flags & flag != 0 {
                *target = fields.u32()?;
            }
        }
        Ok(TrackFragmentHeader { track_id, base, defaults })
    }

    /// Reads one `trun`; returns where its data ends.
    fn samples(
        &mut self,
        trun: &BoxRef<'_>,
        header: &TrackFragmentHeader,
        continued: u64,
        samples: &mut Vec<FragmentSample>,
    ) -> Result<u64, BmffError> {
        let mut fields = trun.fields();
        let (_, flags) = fields.version_and_flags()?;
        let count = fields.u32()? as usize;
        self.num_samples = self.num_samples.saturating_add(count);
        if self.num_samples > MAX_SEGMENT_SAMPLES {
            let (count, limit) = (self.num_samples as u64, MAX_SEGMENT_SAMPLES as u64);
            return Err(BmffError::TooMany { kind: trun.kind, what: "samples", count, limit });
        }
        let mut at = continued;
        if flags & 0x1 != 0 {
            let delta = i64::from(fields.i32()?);
            at = header.base.checked_add_signed(delta).ok_or_else(|| trun.bad_value("data_offset", delta as u64))?;
        }
        let first_flags = if flags & 0x4 != 0 { Some(fields.u32()?) } else { None };
        for index in 0..count {
            let defaults = header.defaults;
            let duration = if flags & 0x100 != 0 { fields.u32()? } else { defaults.duration };
            let size = if flags & 0x200 != 0 { fields.u32()? } else { defaults.size };
            let own_flags = if flags & 0x400 != 0 { Some(fields.u32()?) } else { None };
            let first = first_flags.filter(|_| index == 0);
            // Version 0 is unsigned by the letter, but writers put negative offsets there and readers take them so.
            let composition_offset = if flags & 0x800 != 0 { fields.i32()? } else { 0 };
            let flags = own_flags.or(first).unwrap_or(defaults.flags);
            samples.push(FragmentSample { offset: at, duration, size, flags, composition_offset });
            at = at.checked_add(size.into()).ok_or_else(|| trun.bad_value("sample_size", size.into()))?;
        }
        Ok(at)
    }
}
