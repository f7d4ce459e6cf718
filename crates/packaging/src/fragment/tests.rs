//! Round trips and hostile segments.

use super::*;
use crate::bmff::BoxWriter;
use crate::movie::SampleDefaults;
use proptest::prelude::*;

fn no_defaults(_: u32) -> SampleDefaults {
    SampleDefaults::default()
}

fn segment(spec: &FragmentSpec<'_>) -> Vec<u8> {
    let header = write_fragment(spec).unwrap();
    let total = usize::try_from(header.total_bytes()).unwrap();
    let mut bytes = header.bytes;
    bytes.resize(total, 0xab);
    bytes
}

fn video() -> Vec<SampleSpec> {
    (0u32..5)
        .map(|i| SampleSpec {
            duration: 512,
            size: 100 + i,
            is_sync: i == 0,
            composition_offset: i32::try_from(i).unwrap() * 512,
        })
        .collect()
}

#[test]
fn usual_video_fragment_states_constants_once() {
    let samples = video();
    let spec = FragmentSpec { sequence_number: 7, track_id: 1, base_decode_time: 1 << 40, samples: &samples };
    let bytes = segment(&spec);
    // Two fields per sample remain: size and composition offset.
    assert_eq!(write_fragment(&spec).unwrap().bytes.len(), 32 + 8 + 16 + 8 + 24 + 20 + 24 + 5 * 8 + 8);
    let index = index_segment(&bytes, &no_defaults).unwrap();
    let [fragment] = index.fragments.as_slice() else { panic!("one fragment expected") };
    assert_eq!((fragment.moof_offset, fragment.sequence_number), (32, 7));
    let [run] = fragment.tracks.as_slice() else { panic!("one run expected") };
    assert_eq!((run.track_id, run.base_decode_time, run.duration()), (1, Some(1 << 40), 5 * 512));
    assert_eq!(run.samples.first().unwrap().flags, SYNC_FLAGS);
    assert_eq!(run.samples.get(1).unwrap().flags, NON_SYNC_FLAGS);
    let end = run.samples.last().map(|s| s.offset + u64::from(s.size));
    assert_eq!(end, Some(bytes.len() as u64));
}

#[test]
fn constant_audio_needs_no_bytes_per_sample() {
    let one = SampleSpec { duration: 1024, size: 300, is_sync: true, composition_offset: 0 };
    let few = vec![one; 2];
    let many = vec![one; 100];
    let header = |samples: &[SampleSpec]| {
        write_fragment(&FragmentSpec { sequence_number: 1, track_id: 2, base_decode_time: 0, samples }).unwrap()
    };
    assert_eq!(header(&few).bytes.len(), header(&many).bytes.len());
    assert_eq!(header(&many).payload_bytes, 30_000);
}

#[test]
fn large_media_data_gets_a_64_bit_size() {
    let samples = [SampleSpec { duration: 1, size: u32::MAX - 7, is_sync: true, composition_offset: 0 }];
    let spec = FragmentSpec { sequence_number: 1, track_id: 1, base_decode_time: 0, samples: &samples };
    let header = write_fragment(&spec).unwrap();
    let tail: Vec<u8> = header.bytes.iter().rev().take(16).rev().copied().collect();
    assert_eq!(tail.get(..8), Some(b"\0\0\0\x01mdat".as_slice()));
    let prefix = parse_segment(&header.bytes, header.total_bytes(), &no_defaults).unwrap();
    let Parsed::Complete(index) = prefix else { panic!("the headers are complete") };
    assert_eq!(index.samples(1).next().unwrap().offset, header.bytes.len() as u64);
}

#[test]
fn nothing_to_write_is_an_error() {
    let spec = FragmentSpec { sequence_number: 3, track_id: 1, base_decode_time: 0, samples: &[] };
    assert_eq!(write_fragment(&spec), Err(FragmentError::Empty { sequence_number: 3 }));
}

#[test]
fn a_prefix_says_what_it_lacks() {
    let samples = video();
    let mut bytes = Vec::new();
    for sequence_number in 1..3 {
        let spec = FragmentSpec { sequence_number, track_id: 1, base_decode_time: 0, samples: &samples };
        bytes.extend(segment(&spec));
    }
    let total = bytes.len() as u64;
    let mut have = 0usize;
    let mut rounds = 0;
    let index = loop {
        match parse_segment(bytes.get(..have).unwrap(), total, &no_defaults).unwrap() {
            Parsed::Complete(index) => break index,
            Parsed::NeedsPrefix(needed) => {
                assert!(needed > have as u64 && needed <= total);
                have = usize::try_from(needed).unwrap();
            }
        }
        rounds += 1;
    };
    assert!(rounds < 20);
    assert!((have as u64) < total - 500, "the last media data is not needed");
    assert_eq!(index, index_segment(&bytes, &no_defaults).unwrap());
    assert_eq!(index.samples(1).count(), 10);
}

#[test]
fn boxes_around_and_implied_values_are_understood() {
    let mut w = BoxWriter::new();
    w.full(b"emsg", 0, 0, |w| w.zeros(30));
    w.full(b"sidx", 0, 0, |w| w.zeros(40));
    let moof = w.position();
    let mut at = 0;
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(9));
        for id in 1..3 {
            w.boxed(b"traf", |w| {
                w.full(b"tfhd", 0, 0, |w| w.u32(id));
                w.full(b"tfdt", 0, 0, |w| w.u32(77));
                w.full(b"trun", 0, if id == 1 { 1 } else { 0 }, |w| {
                    w.u32(2);
                    if id == 1 {
                        at = w.position();
                        w.u32(0);
                    }
                });
            });
        }
    });
    let data = w.position() + 8 - moof;
    w.patch(at, u32::try_from(data).unwrap());
    w.boxed(b"mdat", |w| w.zeros(40));
    let bytes = w.into_bytes().unwrap();
    let defaults = |_| SampleDefaults { description_index: 1, duration: 5, size: 10, flags: NON_SYNC_FLAGS };
    let index = index_segment(&bytes, &defaults).unwrap();
    let offsets: Vec<u64> = (1..3).flat_map(|id| index.samples(id).map(|s| s.offset)).collect();
    let start = (bytes.len() - 40) as u64;
    assert_eq!(offsets, [start, start + 10, start + 20, start + 30]);
    assert!(index.samples(1).all(|s| !s.is_sync() && s.duration == 5));
}

#[test]
fn samples_outside_media_data_are_errors() {
    let samples = video();
    let spec = FragmentSpec { sequence_number: 1, track_id: 1, base_decode_time: 0, samples: &samples };
    let mut bytes = segment(&spec);
    let at = bytes.windows(4).position(|w| w == b"trun").unwrap() + 12;
    bytes.get_mut(at..at + 4).unwrap().copy_from_slice(&8u32.to_be_bytes());
    assert!(matches!(index_segment(&bytes, &no_defaults), Err(IndexError::SampleOutsideMedia { track_id: 1, .. })));
    assert!(matches!(index_segment(b"\0\0\0\x08free".as_slice(), &no_defaults), Err(IndexError::NoFragment)));
}

#[test]
fn sample_counts_without_bytes_behind_them_are_bounded() {
    let mut w = BoxWriter::new();
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(1));
        w.boxed(b"traf", |w| {
            w.full(b"tfhd", 0, 0, |w| w.u32(1));
            w.full(b"trun", 0, 0, |w| w.u32(u32::MAX));
        });
    });
    let bytes = w.into_bytes().unwrap();
    let error = index_segment(&bytes, &no_defaults).unwrap_err();
    assert!(error.to_string().contains("samples, the limit is"), "{error}");
}

prop_compose! {
    fn any_sample()(duration in any::<u32>(), size in 0u32..2000, is_sync in any::<bool>(), composition_offset in any::<i32>()) -> SampleSpec {
        SampleSpec { duration, size, is_sync, composition_offset }
    }
}

proptest! {
    #[test]
    fn any_samples_round_trip(
        samples in proptest::collection::vec(any_sample(), 1..30),
        base in 0u64..1 << 59,
        sequence_number in any::<u32>(),
    ) {
        let spec = FragmentSpec { sequence_number, track_id: 4, base_decode_time: base, samples: &samples };
        let index = index_segment(&segment(&spec), &no_defaults).unwrap();
        let back: Vec<SampleSpec> = index
            .samples(4)
            .map(|s| SampleSpec { duration: s.duration, size: s.size, is_sync: s.is_sync(), composition_offset: s.composition_offset })
            .collect();
        prop_assert_eq!(back, samples);
        prop_assert_eq!(index.runs(4).next().and_then(|run| run.base_decode_time), Some(base));
    }

    #[test]
    fn mutated_segments_never_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<proptest::sample::Index>(),
        total in any::<u64>(),
    ) {
        let samples = video();
        let mut bytes = segment(&FragmentSpec { sequence_number: 1, track_id: 1, base_decode_time: 0, samples: &samples });
        bytes.truncate(240);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(Parsed::Complete(index)) = parse_segment(&bytes, total, &no_defaults) {
            prop_assert!(!index.fragments.is_empty());
        }
        let _ = index_segment(&bytes, &no_defaults);
    }
}
