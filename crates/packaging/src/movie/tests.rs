//! Hand-made movies, sound and hostile; memory and speed of long ones.

use super::*;
use crate::bmff::BoxWriter;
use proptest::prelude::*;

/// Writes a movie with one video track whose sample tables are what `tables` writes.
fn movie_with(tables: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    let mut w = BoxWriter::new();
    w.boxed(b"moov", |w| {
        w.full(b"mvhd", 0, 0, |w| {
            w.zeros(8);
            w.u32(1000);
            w.u32(5000);
            w.zeros(80);
        });
        w.boxed(b"trak", |w| {
            w.full(b"tkhd", 0, 1, |w| {
                w.zeros(8);
                w.u32(7);
                w.zeros(24);
                for cell in [0, 0x1_0000, 0, -0x1_0000, 0, 0, 360 << 16, 0, 0x4000_0000] {
                    w.i32(cell);
                }
                w.u32(640 << 16);
                w.u32(360 << 16);
            });
            w.boxed(b"edts", |w| {
                w.full(b"elst", 1, 0, |w| {
                    w.u32(1);
                    w.u64(5000);
                    w.u64(512);
                    w.u32(0x1_0000);
                });
            });
            w.boxed(b"mdia", |w| {
                w.full(b"mdhd", 1, 0, |w| {
                    w.zeros(16);
                    w.u32(12_800);
                    w.u64(64_000);
                    w.u16(0x15c7);
                    w.u16(0);
                });
                w.full(b"hdlr", 0, 0, |w| {
                    w.u32(0);
                    w.bytes(b"vide");
                    w.zeros(13);
                });
                w.boxed(b"minf", |w| {
                    w.boxed(b"stbl", |w| {
                        w.full(b"stsd", 0, 0, |w| {
                            w.u32(1);
                            w.boxed(b"avc1", |w| w.zeros(78));
                        });
                        tables(w);
                    });
                });
            });
            w.boxed(b"udta", |w| {
                w.boxed(b"name", |w| w.bytes(b"Main \x07camera"));
                w.zeros(4);
            });
        });
    });
    w.into_bytes().unwrap()
}

fn list(w: &mut BoxWriter, kind: &[u8; 4], entries: &[&[u32]]) {
    w.full(kind, 0, 0, |w| {
        w.u32(u32::try_from(entries.len()).unwrap());
        entries.iter().flat_map(|entry| entry.iter()).for_each(|value| w.u32(*value));
    });
}

fn usual_tables(w: &mut BoxWriter) {
    list(w, b"stts", &[&[3, 512], &[2, 500]]);
    list(w, b"ctts", &[&[1, 512], &[2, 1024], &[2, u32::MAX]]);
    list(w, b"stss", &[&[1], &[4]]);
    list(w, b"stsc", &[&[1, 2, 1], &[3, 1, 1]]);
    w.full(b"stsz", 0, 0, |w| [0, 5, 10, 11, 12, 13, 14].into_iter().for_each(|value| w.u32(value)));
    list(w, b"stco", &[&[100], &[300], &[500]]);
}

#[test]
fn header_fields() {
    let movie = Movie::parse(&movie_with(usual_tables), 0).unwrap();
    assert_eq!((movie.timescale, movie.duration, movie.fragmented), (1000, 5000, false));
    assert!(movie.rejected.is_empty());
    let track = movie.track(7).unwrap();
    assert_eq!((track.timescale, track.duration, track.handler), (12_800, 64_000, Handler::Video));
    assert_eq!((track.width >> 16, track.height >> 16), (640, 360));
    assert_eq!(track.matrix.get(1), Some(&0x1_0000));
    assert_eq!(track.language_code(), "eng");
    assert_eq!(track.name.as_deref(), Some("Main camera"));
    assert!(track.enabled && !track.is_encrypted());
    assert_eq!(track.edits, [Edit { segment_duration: 5000, media_time: 512, rate: 0x1_0000 }]);
    assert_eq!(track.presentation(movie.timescale).present(512), Some(0));
}

#[test]
fn samples_expand() {
    let movie = Movie::parse(&movie_with(usual_tables), 0).unwrap();
    let table = &movie.track(7).unwrap().samples;
    assert!(table.is_consistent());
    let samples = table.expand().unwrap();
    let column = |get: fn(&Sample) -> i64| samples.iter().map(get).collect::<Vec<i64>>();
    assert_eq!(column(|s| s.dts), [0, 512, 1024, 1536, 2036]);
    assert_eq!(column(Sample::pts), [512, 1536, 2048, 1535, 2035]);
    assert_eq!(column(|s| i64::from(s.duration)), [512, 512, 512, 500, 500]);
    assert_eq!(column(|s| i64::from(s.size)), [10, 11, 12, 13, 14]);
    assert_eq!(column(|s| i64::try_from(s.offset).unwrap()), [100, 110, 300, 312, 500]);
    assert_eq!(column(|s| i64::from(s.is_sync)), [1, 0, 0, 1, 0]);
    assert_eq!(table.iter().collect::<Vec<_>>(), samples);
}

#[test]
fn compact_sizes_of_stz2() {
    for (bits, data) in [(4u8, &[0x12u8, 0x30][..]), (8, &[1, 2, 3]), (16, &[0, 1, 0, 2, 0, 3])] {
        let moov = movie_with(|w| {
            list(w, b"stts", &[&[3, 1]]);
            list(w, b"stsc", &[&[1, 3, 1]]);
            w.full(b"stz2", 0, 0, |w| {
                w.zeros(3);
                w.u8(bits);
                w.u32(3);
                w.bytes(data);
            });
            w.full(b"co64", 0, 0, |w| {
                w.u32(1);
                w.u64(1 << 40);
            });
        });
        let movie = Movie::parse(&moov, 0).unwrap();
        let samples = movie.track(7).unwrap().samples.expand().unwrap();
        assert_eq!(samples.iter().map(|s| s.size).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(samples.last().unwrap().offset, (1 << 40) + 3);
    }
}

#[test]
fn tables_that_disagree_keep_what_is_placed() {
    let moov = movie_with(|w| {
        list(w, b"stts", &[&[2, 10]]);
        list(w, b"stsc", &[&[1, 4, 1]]);
        w.full(b"stsz", 0, 0, |w| [7, 100].into_iter().for_each(|value| w.u32(value)));
        list(w, b"stco", &[&[0], &[50]]);
    });
    let movie = Movie::parse(&moov, 0).unwrap();
    let table = &movie.track(7).unwrap().samples;
    assert!(!table.is_consistent());
    assert_eq!(table.len(), 8);
    assert_eq!(table.iter().last().unwrap().dts, 70);
}

#[test]
fn huge_constant_counts_allocate_nothing() {
    let moov = movie_with(|w| {
        list(w, b"stts", &[&[u32::MAX, 1]]);
        list(w, b"stsc", &[&[1, u32::MAX, 1]]);
        w.full(b"stsz", 0, 0, |w| [4, u32::MAX].into_iter().for_each(|value| w.u32(value)));
        list(w, b"stco", &[&[0]]);
    });
    let movie = Movie::parse(&moov, 0).unwrap();
    let table = &movie.track(7).unwrap().samples;
    assert_eq!(table.len(), u64::from(u32::MAX));
    assert!(table.heap_bytes() < 200);
    assert!(matches!(table.expand(), Err(BmffError::TooMany { .. })));
    assert_eq!(table.iter().take(3).last().unwrap().offset, 8);
}

#[test]
fn hostile_tables_reject_only_their_track() {
    type Tables = fn(&mut BoxWriter);
    let hostile: [(&str, Tables); 6] = [
        ("counts without bytes", |w| w.full(b"stsz", 0, 0, |w| [0, u32::MAX].into_iter().for_each(|v| w.u32(v)))),
        ("no chunk table", |w| w.full(b"stsz", 0, 0, |w| [1, 1].into_iter().for_each(|v| w.u32(v)))),
        ("chunk numbers go back", |w| {
            list(w, b"stsc", &[&[1, 1, 1], &[1, 1, 1]]);
            list(w, b"stts", &[&[1, 1]]);
            list(w, b"stco", &[&[0]]);
            w.full(b"stsz", 0, 0, |w| [1, 1].into_iter().for_each(|v| w.u32(v)));
        }),
        ("sample entry 0", |w| {
            list(w, b"stsc", &[&[1, 1, 0]]);
            list(w, b"stts", &[&[1, 1]]);
            list(w, b"stco", &[&[0]]);
            w.full(b"stsz", 0, 0, |w| [1, 1].into_iter().for_each(|v| w.u32(v)));
        }),
        ("negative delta", |w| {
            list(w, b"stts", &[&[1, u32::MAX]]);
            w.full(b"stsz", 0, 0, |w| [1, 1].into_iter().for_each(|v| w.u32(v)));
        }),
        ("time beyond 60 bits", |w| {
            list(w, b"stts", &[&[u32::MAX, i32::MAX as u32]]);
            w.full(b"stsz", 0, 0, |w| [1, 1].into_iter().for_each(|v| w.u32(v)));
        }),
    ];
    for (name, tables) in hostile {
        let movie = Movie::parse(&movie_with(tables), 0).unwrap();
        assert!(movie.tracks.is_empty(), "{name}");
        assert_eq!(movie.rejected.len(), 1, "{name}");
    }
}

#[test]
fn no_movie_header_no_movie() {
    assert!(matches!(Movie::parse(b"\0\0\0\x08moov", 40), Err(BmffError::MissingBox { offset: 40, .. })));
    assert!(Movie::parse(b"", 0).is_err());
    assert!(Movie::parse(b"\0\0\0\x08free", 0).is_err());
}

#[test]
fn ten_hours_at_thirty_frames_stay_small_and_expand_fast() {
    const NUM: u32 = 1_080_000;
    let moov = movie_with(|w| {
        list(w, b"stts", &[&[NUM, 1001]]);
        // The worst case: a run per sample.
        let offsets: Vec<[u32; 2]> = (0..NUM).map(|i| [1, (i % 4) * 1001]).collect();
        list(w, b"ctts", &offsets.iter().map(|entry| entry.as_slice()).collect::<Vec<_>>());
        let keys: Vec<[u32; 1]> = (0..NUM / 60).map(|i| [i * 60 + 1]).collect();
        list(w, b"stss", &keys.iter().map(|entry| entry.as_slice()).collect::<Vec<_>>());
        list(w, b"stsc", &[&[1, 30, 1]]);
        w.full(b"stsz", 0, 0, |w| {
            w.u32(0);
            w.u32(NUM);
            (0..NUM).for_each(|i| w.u32(i % 5000));
        });
        w.full(b"co64", 0, 0, |w| {
            w.u32(NUM / 30);
            (0..u64::from(NUM / 30)).for_each(|i| w.u64(i * 200_000));
        });
    });
    let movie = Movie::parse(&moov, 0).unwrap();
    let table = &movie.track(7).unwrap().samples;
    let samples = table.expand().unwrap();
    assert_eq!(samples.len(), NUM as usize);
    assert_eq!(samples.iter().filter(|sample| sample.is_sync).count(), NUM as usize / 60);
    let total = table.heap_bytes() + samples.capacity() * size_of::<Sample>();
    assert!(total < 60_000_000, "{total} bytes");
}

proptest! {
    #[test]
    fn mutated_movies_never_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut moov = movie_with(usual_tables);
        for (at, value) in changes {
            let at = at.index(moov.len());
            if let Some(byte) = moov.get_mut(at) { *byte = value; }
        }
        let end = cut.index(moov.len() * 4).min(moov.len());
        if let Ok(movie) = Movie::parse(moov.get(..end).unwrap(), 0) {
            for track in &movie.tracks {
                let map = track.presentation(movie.timescale);
                for sample in track.samples.iter().take(1000) {
                    prop_assert!(map.present_all(sample.pts()).count() <= track.edits.len().max(1));
                }
            }
        }
    }
}
