//! The header read back through the movie parser; sizes and offsets beyond 32 bits.

use super::*;
use crate::fragment::{FragmentSpec, NON_SYNC_FLAGS, SYNC_FLAGS, SampleSpec, index_segment, write_fragment};
use crate::init::{UNITY, parse_init};
use crate::movie::{Handler, SampleDefaults};
use proptest::prelude::*;

fn track(id: u32, timescale: u32, delay: u64, presentation_duration: u64) -> ProgressiveTrack {
    let mut w = BoxWriter::new();
    let handler = if id == 1 { Handler::Video } else { Handler::Audio };
    w.boxed(if id == 1 { b"avc1" } else { b"mp4a" }, |w| w.zeros(if id == 1 { 78 } else { 28 }));
    let header = TrackHeader {
        id,
        handler,
        timescale,
        language: "und".into(),
        sample_entry: w.into_bytes().unwrap(),
        width: 0,
        height: 0,
        sar: (1, 1),
        matrix: UNITY,
        delay,
        name: "Track".into(),
    };
    ProgressiveTrack { header, leading_empty: (0, 1), presentation_duration }
}

fn sample(offset: u64, size: u32, flags: u32) -> FragmentSample {
    FragmentSample { offset, duration: 100, size, flags, composition_offset: 200 }
}

#[test]
fn whole_segment_objects_become_one_playable_file() {
    let mut builder = ProgressiveBuilder::new(vec![track(1, 2500, 200, 900), track(2, 48_000, 1024, 20_000)]).unwrap();
    let mut media = Vec::new();
    let mut payloads = Vec::new();
    for number in 0..3u32 {
        for id in 1..3u32 {
            let samples: Vec<SampleSpec> = (0..3u32)
                .map(|i| SampleSpec {
                    duration: if id == 1 { 100 } else { 1024 },
                    size: 10 + number * 3 + i + id,
                    is_sync: i == 0 || id == 2,
                    composition_offset: if id == 1 { 200 } else { 0 },
                })
                .collect();
            let step = if id == 1 { 300 } else { 3072 };
            let spec = FragmentSpec {
                sequence_number: number + 1,
                track_id: id,
                base_decode_time: u64::from(number) * step,
                samples: &samples,
            };
            let header = write_fragment(&spec).unwrap();
            let mut object = header.bytes;
            for (at, sample) in samples.iter().enumerate() {
                let byte = u8::try_from(number * 20 + id * 3 + u32::try_from(at).unwrap()).unwrap();
                let payload = vec![byte; sample.size as usize];
                object.extend_from_slice(&payload);
                payloads.push((id, payload));
            }
            let index = index_segment(&object, &|_| SampleDefaults::default()).unwrap();
            let samples: Vec<FragmentSample> = index.samples(id).copied().collect();
            builder.push_segment(id, object.len() as u64, spec.base_decode_time, &samples).unwrap();
            media.extend(object);
        }
    }
    let header = builder.finish().unwrap();
    assert_eq!(header.payload_bytes, media.len() as u64);
    let mut file = header.bytes.clone();
    file.extend(media);
    let movie = parse_init(&file).unwrap();
    assert!(!movie.fragmented && movie.rejected.is_empty());
    for track in &movie.tracks {
        assert!(track.samples.is_consistent());
        let expected: Vec<&Vec<u8>> = payloads.iter().filter(|(id, _)| *id == track.id).map(|(_, p)| p).collect();
        assert_eq!(track.samples.len(), expected.len() as u64);
        for (sample, expected) in track.samples.iter().zip(expected) {
            let start = usize::try_from(sample.offset).unwrap();
            assert_eq!(file.get(start..start + sample.size as usize), Some(expected.as_slice()));
        }
        let map = track.presentation(movie.timescale);
        assert_eq!(map.present(i64::from(if track.id == 1 { 200u32 } else { 1024 })), Some(0));
    }
    let video = movie.track(1).unwrap();
    assert_eq!(video.duration, 900);
    assert_eq!(video.samples.iter().map(|s| s.is_sync).collect::<Vec<_>>(), [true, false, false].repeat(3));
    assert_eq!(movie.timescale, 240_000);
    assert_eq!(movie.duration, 20_000 * 5);
}

#[test]
fn offsets_and_media_data_beyond_32_bits() {
    let mut builder = ProgressiveBuilder::new(vec![track(1, 1000, 0, 300), track(2, 1000, 0, 100)]).unwrap();
    let first = [sample(100, 50, SYNC_FLAGS)];
    builder.push_segment(2, 1000, 0, &first).unwrap();
    for number in 0..3u64 {
        builder.push_segment(1, 3 << 30, number * 100, &[sample(100, 1000, SYNC_FLAGS)]).unwrap();
    }
    let header = builder.finish().unwrap();
    let tail = header.bytes.len() - 16;
    assert_eq!(header.bytes.get(tail..tail + 8), Some(b"\0\0\0\x01mdat".as_slice()));
    let movie = parse_init(header.bytes.get(..tail).unwrap()).unwrap();
    let start = header.bytes.len() as u64;
    let offsets = |id| movie.track(id).unwrap().samples.iter().map(|s| s.offset).collect::<Vec<_>>();
    assert_eq!(offsets(2), [start + 100]);
    assert_eq!(offsets(1), (0..3).map(|n| start + 1000 + n * (3 << 30) + 100).collect::<Vec<u64>>());
    let count = |kind: &[u8; 4]| header.bytes.windows(4).filter(|window| window == kind).count();
    assert_eq!((count(b"co64"), count(b"stco")), (1, 1));
}

#[test]
fn header_growth_can_itself_force_wide_offsets() {
    // The last offset fits 32 bits only as long as the header is not counted.
    let mut builder = ProgressiveBuilder::new(vec![track(1, 1000, 0, 200)]).unwrap();
    builder.push_segment(1, u64::from(u32::MAX) - 300, 0, &[sample(0, 5, SYNC_FLAGS)]).unwrap();
    builder.push_segment(1, 5, 100, &[sample(0, 5, SYNC_FLAGS)]).unwrap();
    let header = builder.finish().unwrap();
    let movie = parse_init(header.bytes.get(..header.bytes.len() - 8).unwrap()).unwrap();
    let last = movie.track(1).unwrap().samples.iter().last().unwrap();
    assert_eq!(last.offset, header.bytes.len() as u64 + u64::from(u32::MAX) - 300);
}

#[test]
fn leading_silence_is_exact() {
    let mut video = track(1, 30_000, 0, 1001);
    video.leading_empty = (1001, 24_000);
    let mut builder = ProgressiveBuilder::new(vec![video]).unwrap();
    assert_eq!(builder.movie_timescale(), 120_000);
    builder.push_segment(1, 10, 77, &[sample(0, 5, SYNC_FLAGS)]).unwrap();
    let header = builder.finish().unwrap();
    let movie = parse_init(header.bytes.get(..header.bytes.len() - 8).unwrap()).unwrap();
    let track = movie.track(1).unwrap();
    let edits: Vec<(u64, i64)> = track.edits.iter().map(|edit| (edit.segment_duration, edit.media_time)).collect();
    assert_eq!(edits, [(5005, -1), (4004, 0)]);
    assert_eq!(movie.duration, 9009);
}

#[test]
fn unrelated_clocks_fall_back() {
    let tracks = vec![track(1, 999_983, 0, 1), track(2, 999_979, 0, 1)];
    assert_eq!(ProgressiveBuilder::new(tracks).unwrap().movie_timescale(), 90_000);
}

#[test]
fn mistakes_are_refused_and_leave_the_builder_usable() {
    let mut builder = ProgressiveBuilder::new(vec![track(1, 1000, 0, 200)]).unwrap();
    let samples = [sample(0, 5, SYNC_FLAGS), sample(5, 5, NON_SYNC_FLAGS)];
    assert_eq!(builder.push_segment(9, 10, 0, &samples), Err(ProgressiveError::UnknownTrack { track_id: 9 }));
    assert!(matches!(builder.push_segment(1, 9, 0, &samples), Err(ProgressiveError::SampleOutsideObject { .. })));
    builder.push_segment(1, 10, 0, &samples).unwrap();
    assert_eq!(
        builder.push_segment(1, 10, 201, &samples),
        Err(ProgressiveError::NotContiguous { track_id: 1, segment: 1, expected: 200, found: 201 })
    );
    assert!(matches!(builder.push_segment(1, 1 << 62, 200, &samples), Err(ProgressiveError::Overflow { segment: 1 })));
    builder.push_segment(1, 10, 200, &samples).unwrap();
    assert_eq!(builder.finish().unwrap().payload_bytes, 20);
    let empty = ProgressiveBuilder::new(vec![track(1, 1000, 0, 0)]).unwrap();
    assert_eq!(empty.finish(), Err(ProgressiveError::EmptyTrack { track_id: 1 }));
    let mut bad = track(1, 1000, 0, 0);
    bad.leading_empty = (1, 0);
    assert!(matches!(ProgressiveBuilder::new(vec![bad]), Err(ProgressiveError::BadLeadingEdit { track_id: 1 })));
}

#[test]
fn ten_hours_stay_small() {
    let mut builder = ProgressiveBuilder::new(vec![track(1, 30_000, 2002, 1), track(2, 48_000, 1024, 1)]).unwrap();
    let reorder = [2002, 5005, 2002, 0, 1001];
    for segment in 0..9000u64 {
        let video: Vec<FragmentSample> = (0..120u64)
            .map(|i| FragmentSample {
                offset: 900 + i * 4000,
                duration: 1001,
                size: 4000,
                flags: if i == 0 { SYNC_FLAGS } else { NON_SYNC_FLAGS },
                composition_offset: *reorder.iter().cycle().nth(usize::try_from(i % 5).unwrap()).unwrap(),
            })
            .collect();
        builder.push_segment(1, 900 + 120 * 4000, segment * 120 * 1001, &video).unwrap();
    }
    let audio: Vec<FragmentSample> = (0..1000u64).map(|i| sample(i * 300, 300, SYNC_FLAGS)).collect();
    for segment in 0..1700u64 {
        builder.push_segment(2, 300_000, segment * 100_000, &audio).unwrap();
    }
    assert!(builder.heap_bytes() < 60_000_000, "{} bytes", builder.heap_bytes());
    let header = builder.finish().unwrap();
    assert!(header.bytes.len() < 20_000_000);
    let movie = parse_init(header.bytes.get(..header.bytes.len() - 16).unwrap()).unwrap();
    assert_eq!(movie.track(1).unwrap().samples.len(), 1_080_000);
}

proptest! {
    #[test]
    fn any_samples_read_back(
        segments in proptest::collection::vec(
            proptest::collection::vec((0u32..500, 1u32..90_000, any::<bool>(), 0i32..1 << 20, 0u64..3), 1..12), 1..8),
    ) {
        let mut builder = ProgressiveBuilder::new(vec![track(1, 90_000, 0, 1)]).unwrap();
        let mut time = 0u64;
        let mut base = 0u64;
        let mut expected = Vec::new();
        for segment in &segments {
            let mut offset = 60;
            let mut samples = Vec::new();
            let start = time;
            for &(size, duration, is_sync, composition_offset, gap) in segment {
                offset += gap;
                let flags = if is_sync { SYNC_FLAGS } else { NON_SYNC_FLAGS };
                samples.push(FragmentSample { offset, duration, size, flags, composition_offset });
                expected.push((time, base + offset, size, duration, composition_offset, is_sync));
                offset += u64::from(size);
                time += u64::from(duration);
            }
            builder.push_segment(1, offset + 7, start, &samples).unwrap();
            base += offset + 7;
        }
        let header = builder.finish().unwrap();
        let start = header.bytes.len() as u64;
        let movie = parse_init(header.bytes.get(..header.bytes.len() - 8).unwrap()).unwrap();
        let found: Vec<_> = movie.track(1).unwrap().samples.iter()
            .map(|s| (s.dts as u64, s.offset - start, s.size, s.duration, s.composition_offset, s.is_sync))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
