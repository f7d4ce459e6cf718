//! Tests of the chunk planner and manifest.

use proptest::prelude::*;

use super::*;

fn units(sizes: &[u64]) -> Vec<ChunkUnit> {
    let unit = |(&bytes, start)| ChunkUnit { bytes, start, duration: 1 };
    sizes.iter().zip(0..).map(unit).collect()
}

fn manifest() -> ChunkManifest {
    let codec = mime_type(true, &["avc1.64001f", "mp4a.40.2"]);
    let chunk = |duration, bytes, fill| WrittenChunk { duration, bytes, sha256: [fill; 32] };
    let written = [chunk(1_001, 700, 0xab), chunk(24_000, 800, 1), chunk(500, 9, 2)];
    ChunkManifest::new("my film", codec, 24_000, &written).unwrap()
}

#[test]
fn json_form() {
    insta::assert_snapshot!(manifest().to_json().unwrap());
}

#[test]
fn limits_are_mebibytes() {
    assert_eq!(chunk_limit_bytes(0).unwrap(), None);
    assert_eq!(chunk_limit_bytes(DEFAULT_CHUNK_MB).unwrap(), Some(48 * 1024 * 1024));
    assert!(chunk_limit_bytes(16).is_ok() && chunk_limit_bytes(128).is_ok());
    assert!(chunk_limit_bytes(15).is_err() && chunk_limit_bytes(129).is_err());
}

#[test]
fn cuts_where_the_next_unit_does_not_fit() {
    assert_eq!(plan_chunks(&units(&[4, 4, 4]), 10, 2), [0..2, 2..3]);
    assert_eq!(plan_chunks(&units(&[50, 1, 1]), 10, 2), [0..1, 1..3]);
    assert_eq!(plan_chunks(&units(&[1, 50, 1]), 10, 2), [0..1, 1..2, 2..3]);
    assert!(plan_chunks(&[], 10, 2).is_empty());
    assert_eq!(plan_chunks(&units(&[u64::MAX, u64::MAX]), 10, 2), [0..1, 1..2]);
}

#[test]
fn names_sort_in_playback_order() {
    assert_eq!(chunk_file_name("a", 0, 3).unwrap(), "a.part0001.mp4");
    assert_eq!(chunk_file_name("a", 9_998, 9_999).unwrap(), "a.part9999.mp4");
    assert_eq!(chunk_file_name("a", 0, 10_000).unwrap(), "a.part00001.mp4");
    assert_eq!(chunk_folder("a b").unwrap(), "a b.wp.chunks");
    for bad in ["", "..", "a/b", "a\\b", "a\n"] {
        assert!(chunk_folder(bad).is_err() && chunk_file_name(bad, 0, 1).is_err(), "{bad:?}");
    }
}

#[test]
fn version_one_without_the_extra_fields_is_read() {
    let text = r#"{"version":1,"base":"","codec":"video/mp4; codecs=\"avc1.64001f\"",
        "totalDuration":12.5,"totalBytes":3,"chunks":[
        {"url":"a.mp4","bytes":1,"startTime":0,"duration":6.2505,"sha256":""},
        {"url":"b.mp4","bytes":2,"startTime":6.251,"duration":6.249,"sha256":""}]}"#;
    let got = ChunkManifest::from_json(text).unwrap();
    assert_eq!((got.timestamps, got.init), (None, None));
    assert_eq!(got.chunks[1].start_time, Seconds { micros: 6_251_000 });
}

#[test]
fn broken_manifests_are_refused() {
    let refuse = |change: &dyn Fn(&mut ChunkManifest)| {
        let mut m = manifest();
        change(&mut m);
        ChunkManifest::from_json(&m.to_json().unwrap()).unwrap_err()
    };
    assert!(matches!(refuse(&|m| m.version = 2), ChunkError::UnsupportedVersion { version: 2 }));
    assert!(matches!(refuse(&|m| m.chunks.clear()), ChunkError::Empty));
    assert!(matches!(refuse(&|m| m.total_bytes = 1), ChunkError::WrongTotal { field: "totalBytes" }));
    assert!(matches!(
        refuse(&|m| m.total_duration.micros += 20_000),
        ChunkError::WrongTotal { field: "totalDuration" }
    ));
    assert!(matches!(refuse(&|m| m.chunks[1].start_time.micros += 2_001), ChunkError::NotContiguous { index: 1, .. }));
    for url in ["/a", "../a", "http://x/a", ""] {
        let error = refuse(&|m| m.chunks[2].url = url.to_owned());
        assert!(matches!(error, ChunkError::UnsafeUrl { index: 2, .. }), "{url}");
    }
    assert!(ChunkManifest::from_json(r#"{"version":1}"#).is_err());
    let negative = manifest().to_json().unwrap().replace("\"startTime\": 0", "\"startTime\": -1");
    assert!(matches!(ChunkManifest::from_json(&negative), Err(ChunkError::Json(_))));
}

proptest! {
    #[test]
    fn plans_cover_everything_once_within_the_limit(
        sizes in prop::collection::vec(1_u64..100, 0..80),
        limit in 1_u64..300,
        init in 0_u64..30,
    ) {
        let units = units(&sizes);
        let plan = plan_chunks(&units, limit, init);
        let flat: Vec<_> = plan.iter().cloned().flatten().collect();
        prop_assert_eq!(flat, (0..sizes.len()).collect::<Vec<_>>());
        for range in &plan {
            prop_assert!(!range.is_empty());
            prop_assert!(range.len() == 1 || chunk_bytes(&units, range, init) <= limit);
        }
        for pair in plan.windows(2) {
            let merged = pair[0].start..pair[0].end + 1;
            prop_assert!(chunk_bytes(&units, &merged, init) > limit);
        }
        let ticks: u64 = plan.iter().map(|r| chunk_ticks(&units, r)).sum();
        prop_assert_eq!(ticks, units.len() as u64);
    }

    #[test]
    fn manifests_round_trip_and_are_contiguous(
        durations in prop::collection::vec(1_u64..100_000_000, 1..50),
        timescale in 1_u32..200_000,
    ) {
        let chunk = |&duration: &u64| WrittenChunk { duration, bytes: duration, sha256: [7; 32] };
        let written: Vec<_> = durations.iter().map(chunk).collect();
        let m = ChunkManifest::new("x", mime_type(false, &["opus"]), timescale, &written).unwrap();
        let mut at = 0;
        for chunk in &m.chunks {
            prop_assert_eq!(chunk.start_time.micros, at);
            at += chunk.duration.micros;
        }
        prop_assert_eq!(m.total_duration.micros, at);
        let text = m.to_json().unwrap();
        prop_assert_eq!(ChunkManifest::from_json(&text).unwrap(), m);
    }
}
