//! The outline of a Matroska file (RFC 9559): its level-1 elements, the time scale, and frame rate and cues of its one
//! video track. Reads headers and cues, never a block; trusts no length.

use splitreel_core::source::ByteRange;
use splitreel_packaging::bmff::{ReadAt, read_exact_at};

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1F43_B675;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CUES: u32 = 0x1C53_BB6B;
const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_TYPE: u32 = 0x83;
const DEFAULT_DURATION: u32 = 0x23_E383;
const CUE_POINT: u32 = 0xBB;
const CUE_TIME: u32 = 0xB3;
const CUE_TRACK_POSITIONS: u32 = 0xB7;
const CUE_TRACK: u32 = 0xF7;
const CUE_CLUSTER_POSITION: u32 = 0xF1;

/// `TrackType` of pictures (RFC 9559 §5.1.4.1.3).
const VIDEO: u64 = 1;
/// `TimestampScale` when there is none, in nanoseconds.
const DEFAULT_SCALE: u64 = 1_000_000;
/// Ten hours in clusters of a tenth of a second fit.
const MAX_ELEMENTS: usize = 500_000;
/// Largest element that is loaded.
const MAX_LOADED_BYTES: u64 = 64 << 20;

/// What is known of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Level-1 elements behind the first cluster that are no clusters.
    pub(crate) elements: Vec<ByteRange>,
    /// Where the first cluster starts.
    pub(crate) first_cluster: u64,
    /// Nanoseconds per tick.
    pub(crate) timestamp_scale: u64,
    /// `DefaultDuration` of the video track (RFC 9559 §5.1.4.1.13): nanoseconds per frame.
    pub(crate) frame_ns: Option<u64>,
    /// Of the video track, by time; at least one.
    pub(crate) cues: Vec<Cue>,
}

/// A place to start reading at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cue {
    /// Ticks.
    pub(crate) time: i64,
    /// Offset of its cluster in the file.
    pub(crate) cluster: u64,
}

/// An element's header.
struct Element {
    id: u32,
    data: u64,
    end: u64,
}

impl Outline {
    /// `None` when the file is no complete Matroska file with cues and one video track.
    ///
    /// # Errors
    /// Those of the medium.
    pub(crate) fn read(source: &impl ReadAt) -> std::io::Result<Option<Outline>> {
        let Some(head) = element(source, 0, source.len())?.filter(|head| head.id == EBML) else { return Ok(None) };
        let Some(segment) = segment(source, head.end)? else { return Ok(None) };
        let (mut at, mut first_cluster, mut elements) = (segment.data, None, Vec::new());
        let (mut scale, mut tracks, mut cues) = (DEFAULT_SCALE, Vec::new(), Vec::new());
        for _ in 0..MAX_ELEMENTS {
            if at >= segment.end {
                break;
            }
            // A length that is not known, or beyond the end: a live or broken recording.
            let Some(found) = element(source, at, segment.end)? else { return Ok(None) };
            match found.id {
                CLUSTER => first_cluster = first_cluster.or(Some(at)),
                _ if first_cluster.is_some() => elements.push(ByteRange { start: at, end: found.end }),
                _ => {}
            }
            if matches!(found.id, INFO | TRACKS | CUES) {
                let Some(data) = load(source, &found)? else { return Ok(None) };
                match found.id {
                    INFO => scale = number(&data, TIMESTAMP_SCALE).unwrap_or(DEFAULT_SCALE),
                    TRACKS => tracks = data,
                    _ => cues = data,
                }
            }
            at = found.end;
        }
        let (Some(first_cluster), Some(entry), true) = (first_cluster, only_video(&tracks), at >= segment.end) else {
            return Ok(None);
        };
        let Some(video) = number(entry, TRACK_NUMBER) else { return Ok(None) };
        let mut cues: Vec<Cue> = children(&cues, CUE_POINT)
            .filter_map(|point| {
                let position = children(point, CUE_TRACK_POSITIONS).find(|p| number(p, CUE_TRACK) == Some(video))?;
                let cluster = segment.data.checked_add(number(position, CUE_CLUSTER_POSITION)?)?;
                Some(Cue { time: i64::try_from(number(point, CUE_TIME)?).ok()?, cluster })
            })
            .filter(|cue| cue.cluster >= first_cluster && cue.cluster < segment.end)
            .collect();
        cues.sort_by_key(|cue| cue.time);
        let outline = Outline {
            elements,
            first_cluster,
            timestamp_scale: scale,
            frame_ns: number(entry, DEFAULT_DURATION),
            cues,
        };
        Ok((!outline.cues.is_empty()).then_some(outline))
    }
}

/// The segment; one of unknown length reaches to the end of the file.
fn segment(source: &impl ReadAt, at: u64) -> std::io::Result<Option<Element>> {
    let mut head = [0u8; 12];
    let count = read_exact_at(source, at, &mut head)?;
    let Some((id, size, used)) = head.get(..count).and_then(header) else { return Ok(None) };
    let data = at.saturating_add(used);
    let end = size.map_or(source.len(), |size| data.saturating_add(size).min(source.len()));
    Ok((id == SEGMENT).then_some(Element { id, data, end }))
}

/// The element at `at`, which must end by `limit`.
fn element(source: &impl ReadAt, at: u64, limit: u64) -> std::io::Result<Option<Element>> {
    let mut head = [0u8; 12];
    let count = read_exact_at(source, at, &mut head)?;
    let Some((id, Some(size), used)) = head.get(..count).and_then(header) else { return Ok(None) };
    let data = at.saturating_add(used);
    let end = data.checked_add(size).filter(|end| *end <= limit);
    Ok(end.map(|end| Element { id, data, end }))
}

fn load(source: &impl ReadAt, found: &Element) -> std::io::Result<Option<Vec<u8>>> {
    let length = found.end.saturating_sub(found.data);
    let Some(length) = usize::try_from(length).ok().filter(|_| length <= MAX_LOADED_BYTES) else { return Ok(None) };
    let mut data = vec![0; length];
    let count = read_exact_at(source, found.data, &mut data)?;
    Ok((count == length).then_some(data))
}

/// Id, length (`None`: unknown) and number of bytes of an element's header (RFC 8794 §4, §5, §6).
fn header(bytes: &[u8]) -> Option<(u32, Option<u64>, u64)> {
    let first = *bytes.first()?;
    let id_bytes = first.leading_zeros() as usize + 1;
    let id = bytes.get(..id_bytes).filter(|_| id_bytes <= 4)?;
    let id = id.iter().fold(0u32, |id, byte| (id << 8) | u32::from(*byte));
    let rest = bytes.get(id_bytes..)?;
    let first = *rest.first()?;
    let size_bytes = first.leading_zeros() as usize + 1;
    let size = rest.get(..size_bytes).filter(|_| size_bytes <= 8)?;
    let all = size.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    let mask = u64::MAX >> (64 - 7 * size_bytes);
    let value = all & mask;
    Some((id, (value != mask).then_some(value), (id_bytes + size_bytes) as u64))
}

/// The contents of the children with this id.
fn children(mut data: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let (id, size, used) = header(data)?;
            let rest = data.get(usize::try_from(used).ok()?..)?;
            let content = rest.get(..usize::try_from(size?).ok()?)?;
            data = rest.get(content.len()..)?;
            if id == wanted {
                return Some(content);
            }
        }
    })
}

/// The first child with this id as an unsigned number.
fn number(data: &[u8], wanted: u32) -> Option<u64> {
    let content = children(data, wanted).next().filter(|content| content.len() <= 8)?;
    Some(content.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

/// The entry of the one video track.
fn only_video(tracks: &[u8]) -> Option<&[u8]> {
    let mut videos = children(tracks, TRACK_ENTRY).filter(|entry| number(entry, TRACK_TYPE) == Some(VIDEO));
    let found = videos.next();
    if videos.next().is_some() { None } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(id: u32, content: &[u8]) -> Vec<u8> {
        let bytes = id.to_be_bytes();
        let mut out: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        out.extend((0x1000_0000u32 | content.len() as u32).to_be_bytes());
        out.extend(content);
        out
    }

    fn file(cues_first: bool) -> (Vec<u8>, usize) {
        let entry = |number: u8, kind: u8| {
            let frame = made(DEFAULT_DURATION, &[kind, 0, 0, 0]);
            made(TRACK_ENTRY, &[made(TRACK_NUMBER, &[number]), made(TRACK_TYPE, &[kind]), frame].concat())
        };
        let tracks = made(TRACKS, &[entry(1, 2), entry(2, 1)].concat());
        let info = made(INFO, &made(TIMESTAMP_SCALE, &[0x0F, 0x42, 0x40]));
        let clusters = [made(CLUSTER, &[0; 100]), made(CLUSTER, &[0; 300])];
        let point = |time: u8, at: u16| {
            let place = |track: u8| [made(CUE_TRACK, &[track]), made(CUE_CLUSTER_POSITION, &at.to_be_bytes())].concat();
            let places = [made(CUE_TRACK_POSITIONS, &place(1)), made(CUE_TRACK_POSITIONS, &place(2))].concat();
            made(CUE_POINT, &[made(CUE_TIME, &[time]), places].concat())
        };
        let first = (info.len() + tracks.len()) as u16;
        let cues_bytes = made(CUES, &[point(40, 0), point(0, 0)].concat()).len() as u16;
        let base = first + if cues_first { cues_bytes } else { 0 };
        let second = base + clusters[0].len() as u16;
        let cues = made(CUES, &[point(40, second), point(0, base)].concat());
        let body = if cues_first {
            [info, tracks, cues, clusters.concat()].concat()
        } else {
            [info, tracks, clusters.concat(), cues].concat()
        };
        ([made(EBML, &[0; 10]), made(SEGMENT, &body)].concat(), cues_bytes as usize)
    }

    #[test]
    fn cues_of_the_video_track_are_found_on_both_sides() {
        for cues_first in [true, false] {
            let (data, cues_bytes) = file(cues_first);
            let outline = Outline::read(&data).unwrap().unwrap();
            let at = |place: u64| u32::from_be_bytes(data[place as usize..place as usize + 4].try_into().unwrap());
            assert_eq!(outline.cues.iter().map(|cue| cue.time).collect::<Vec<_>>(), [0, 40]);
            assert!(outline.cues.iter().all(|cue| at(cue.cluster) == CLUSTER));
            assert_eq!((outline.cues[0].cluster, outline.timestamp_scale), (outline.first_cluster, 1_000_000));
            assert_eq!(outline.frame_ns, Some(1 << 24));
            let behind = (data.len() - cues_bytes) as u64..data.len() as u64;
            let elements: &[_] = &[ByteRange { start: behind.start, end: behind.end }];
            assert_eq!(outline.elements, if cues_first { &[] } else { elements });
        }
    }

    #[test]
    fn recordings_without_an_end_have_no_outline() {
        let (data, _) = file(false);
        assert_eq!(Outline::read(&data[..data.len() - 1].to_vec()).unwrap(), None);
        assert_eq!(Outline::read(&b"\x00\x00\x00\x18ftypisom".to_vec()).unwrap(), None);
        assert_eq!(Outline::read(&Vec::new()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(at in 0usize..600, value in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let (mut data, _) = file(false);
            let place = at % data.len();
            data[place] = value;
            let _ = Outline::read(&data).unwrap();
            let _ = Outline::read(&noise).unwrap();
        }
    }
}
