//! Changes boxes of MP4 files that ffmpeg made, with `moov` behind the media.

use std::path::Path;

/// A box.
pub fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len() + 8).unwrap();
    [&size.to_be_bytes()[..], kind, payload].concat()
}

/// Where each child box of `data[from..to]` starts and ends, with its kind.
fn children(data: &[u8], from: usize, to: usize) -> Vec<([u8; 4], usize, usize)> {
    let mut found = Vec::new();
    let mut at = from;
    while at + 8 <= to {
        let size = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        assert!(size >= 8, "a box of {size} bytes");
        found.push((data[at + 4..at + 8].try_into().unwrap(), at, at + size));
        at += size;
    }
    found
}

/// Starts of the nested boxes on the way to the first sample entry of the first track, and its end.
fn way_to_entry(data: &[u8], entry: &[u8; 4]) -> Option<(Vec<usize>, usize)> {
    let mut way = Vec::new();
    let (mut from, mut to) = (0, data.len());
    for kind in [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", entry] {
        let (_, start, end) = children(data, from, to).into_iter().find(|(found, ..)| found == kind)?;
        way.push(start);
        from = start + if kind == b"stsd" { 16 } else { 8 };
        to = end;
    }
    Some((way, to))
}

/// Payload of a child box of the first track's video sample entry.
pub fn entry_child(data: &[u8], entry: &[u8; 4], kind: &[u8; 4]) -> Option<Vec<u8>> {
    const VISUAL_ENTRY: usize = 8 + 78;
    let (way, end) = way_to_entry(data, entry)?;
    let found = children(data, way.last()? + VISUAL_ENTRY, end).into_iter().find(|(found, ..)| found == kind)?;
    Some(data[found.1 + 8..found.2].to_vec())
}

/// The file with one more box in the sample entry of its first track.
pub fn with_entry_child(path: &Path, entry: &[u8; 4], child: &[u8]) -> Vec<u8> {
    let mut data = std::fs::read(path).unwrap();
    let (way, end) = way_to_entry(&data, entry).expect("a sample entry");
    for start in way {
        let size = u32::from_be_bytes(data[start..start + 4].try_into().unwrap()) + child.len() as u32;
        data[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }
    data.splice(end..end, child.iter().copied());
    data
}

/// The file with a, b, c and d of its first track's display matrix.
pub fn with_matrix(path: &Path, [a, b, c, d]: [i32; 4]) -> Vec<u8> {
    let mut data = std::fs::read(path).unwrap();
    let at = data.windows(4).position(|word| word == b"tkhd").expect("a track header");
    assert_eq!(data[at + 4], 0, "version of the track header");
    // Behind version, times, id, reserved fields, layer, group and volume.
    let matrix = at + 4 + 4 + 20 + 8 + 8;
    for (place, value) in [(0, a), (1, b), (3, c), (4, d)] {
        data[matrix + place * 4..][..4].copy_from_slice(&value.to_be_bytes());
    }
    data
}
