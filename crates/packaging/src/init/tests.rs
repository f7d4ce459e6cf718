//! Headers read back, normalised sample entries, senseless input.

use super::*;
use proptest::prelude::*;

fn visual(kind: &[u8; 4], tail: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    let mut w = BoxWriter::new();
    w.boxed(kind, |w| {
        w.zeros(6);
        w.u16(1);
        w.zeros(16);
        w.u16(640);
        w.u16(360);
        w.zeros(50);
        tail(w);
    });
    w.into_bytes().unwrap()
}

fn header(handler: Handler, id: u32, sample_entry: Vec<u8>) -> TrackHeader {
    TrackHeader {
        id,
        handler,
        timescale: 90_000,
        language: "deu".into(),
        sample_entry,
        width: 640,
        height: 360,
        sar: (4, 3),
        matrix: UNITY,
        delay: 6000,
        name: "Video".into(),
    }
}

fn hvcc(arrays: &[(u8, &[u8])]) -> Vec<u8> {
    let mut config = vec![0; 22];
    config.push(u8::try_from(arrays.len()).unwrap());
    for (kind, unit) in arrays {
        config.extend([*kind, 0, 1]);
        config.extend(u16::try_from(unit.len()).unwrap().to_be_bytes());
        config.extend_from_slice(unit);
    }
    config
}

#[test]
fn only_tracks_whose_sample_entry_does_not_state_the_priming_get_the_comment() {
    let of = |kind: &[u8; 4], priming| Gapless::of(&visual(kind, |_| {}), priming, 48_000, 46_500);
    assert_eq!(of(b"ac-3", 1_024), Some(Gapless { priming: 1_024, padding: 476, num_samples: 46_500 }));
    assert_eq!(of(b"ac-3", 0), None);
    assert_eq!(of(b"Opus", 312), None);
}

#[test]
fn header_reads_back() {
    let entry = visual(b"avc1", |w| {
        w.boxed(b"avcC", |w| w.bytes(&[1, 100, 0, 30]));
        w.boxed(b"btrt", |w| w.zeros(12));
    });
    let bytes = write_init(&[header(Handler::Video, 1, entry)], None).unwrap();
    assert_eq!(bytes.get(4..12), Some(b"ftypcmfc".as_slice()));
    let movie = parse_init(&bytes).unwrap();
    assert!(movie.fragmented && movie.rejected.is_empty());
    let track = movie.track(1).unwrap();
    assert_eq!((track.handler, track.timescale, track.duration), (Handler::Video, 90_000, 0));
    assert_eq!((track.width, track.height), ((640 * 4 * 0x1_0000u32 + 1) / 3, 360 << 16));
    assert_eq!(track.language_code(), "deu");
    assert!(track.samples.is_empty() && track.enabled);
    assert_eq!(track.presentation(movie.timescale).present(6000), Some(0));
    assert_eq!(track.defaults.description_index, 1);
    let [entry] = track.sample_entries.as_slice() else { panic!("one entry expected") };
    assert_eq!((entry.width, entry.height), (640, 360));
    assert_eq!(entry.raw.len(), 86 + 12);
    assert!(!bytes.windows(4).any(|window| window == b"btrt"));
}

#[test]
fn bcp47_languages_go_into_elng() {
    let mut track = header(Handler::Text, 3, {
        let mut w = BoxWriter::new();
        w.boxed(b"wvtt", |w| w.zeros(8));
        w.into_bytes().unwrap()
    });
    track.language = "pt-BR".into();
    let bytes = write_init(&[track], None).unwrap();
    assert!(bytes.windows(10).any(|window| window == b"\0\0\0\0pt-BR\0"));
    assert_eq!(parse_init(&bytes).unwrap().track(3).unwrap().language_code(), "und");
}

#[test]
fn delay_beyond_32_bits_uses_version_1() {
    let mut track = header(Handler::Video, 1, visual(b"avc1", |_| {}));
    track.delay = 1 << 33;
    let movie = parse_init(&write_init(&[track], None).unwrap()).unwrap();
    assert_eq!(movie.track(1).unwrap().edits.first().unwrap().media_time, 1 << 33);
}

#[test]
fn hev1_becomes_hvc1_only_with_all_parameter_sets() {
    let full = hvcc(&[(0xa0, b"vps"), (0xa1, b"sps"), (0xa2, b"pps")]);
    let entry = visual(b"hev1", |w| w.boxed(b"hvcC", |w| w.bytes(&full)));
    let normal = normalise_sample_entry(&entry).unwrap();
    assert_eq!(normal.get(4..8), Some(b"hvc1".as_slice()));
    assert_eq!(normal.get(8..), entry.get(8..));
    assert_eq!(normalise_sample_entry(&normal).unwrap(), normal);
    for partial in [hvcc(&[(0xa0, b"vps"), (0xa1, b"sps")]), hvcc(&[(0xa0, b"v"), (0xa1, b"s"), (0xa2, b"")]), vec![]] {
        let entry = visual(b"hev1", |w| w.boxed(b"hvcC", |w| w.bytes(&partial)));
        assert_eq!(normalise_sample_entry(&entry).unwrap(), entry);
    }
}

#[test]
fn unknown_entries_stay_and_broken_ones_are_errors() {
    let mut w = BoxWriter::new();
    w.boxed(b"stpp", |w| w.bytes(b"12345678http://example\0"));
    let raw = w.into_bytes().unwrap();
    assert_eq!(normalise_sample_entry(&raw).unwrap(), raw);
    let broken = visual(b"avc1", |w| w.bytes(b"\0\0\0\x20avcC"));
    assert!(matches!(normalise_sample_entry(&broken), Err(BmffError::Truncated { .. })));
    assert!(normalise_sample_entry(&[]).is_err());
}

#[test]
fn senseless_headers_are_refused() {
    let good = header(Handler::Video, 1, visual(b"avc1", |_| {}));
    assert_eq!(write_init(&[], None), Err(InitError::NoTracks));
    assert_eq!(write_init(&[good.clone(), good.clone()], None), Err(InitError::DuplicateTrack { id: 1 }));
    let bad = TrackHeader { sar: (1, 0), ..good };
    assert_eq!(write_init(&[bad], None), Err(InitError::BadTrack { id: 1, field: "sample aspect ratio" }));
}

proptest! {
    #[test]
    fn any_entry_is_answered(
        which in 0usize..4,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut w = BoxWriter::new();
        let kind: &[u8; 4] = [b"hev1", b"mp4a", b"wvtt", b"stpp"].get(which).unwrap();
        w.boxed(kind, |w| w.bytes(&payload));
        if let Ok(normal) = normalise_sample_entry(&w.into_bytes().unwrap()) {
            prop_assert_eq!(normalise_sample_entry(&normal).unwrap(), normal);
        }
        let _ = parse_init(&payload);
    }
}
