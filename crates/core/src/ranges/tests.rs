//! Ranges by example and property: every byte that a reader of a segment needs is in them.

use super::*;
use crate::planner::{Capabilities, plan};
use crate::profile::Profile;
use proptest::prelude::*;
use serde_json::json;

/// A packet of a fake file.
#[derive(Clone, Copy, Debug)]
struct Made {
    pts: i64,
    is_key: bool,
    start: u64,
    end: u64,
}

/// Groups of pictures in decode order; `leading` pictures of a group are shown before its keyframe (open GOPs).
fn packets(groups: &[(u8, u8)], sizes: &[u64], head: u64) -> Vec<Made> {
    let (mut made, mut at, mut shown) = (Vec::new(), head, 0i64);
    for (number, (leading, trailing)) in groups.iter().enumerate() {
        let leading = if number == 0 { 0 } else { i64::from(*leading) };
        let key = shown + leading;
        let mut times = vec![key];
        times.extend(shown..key);
        // B-pictures: the later one of each pair comes first.
        let after: Vec<i64> = (key + 1..=key + i64::from(*trailing)).collect();
        for pair in after.chunks(2) {
            times.extend(pair.iter().rev());
        }
        shown = key + i64::from(*trailing) + 1;
        for pts in times {
            let size = sizes[made.len() % sizes.len()];
            // Sound stands between the pictures.
            at += size / 7;
            made.push(Made { pts, is_key: pts == key, start: at, end: at + size });
            at += size;
        }
    }
    made
}

const LEAD_PACKETS: u32 = 10;

fn info(made: &[Made], has_ends: bool, layout: ByteLayout, tail: u64, run_in: i64) -> SourceInfo {
    let bytes = made.last().unwrap().end + tail;
    let mut collector = RunCollector::new(Margins { head_packets: 3, run_in, lead_packets: LEAD_PACKETS });
    for (number, packet) in made.iter().enumerate() {
        collector.push(PacketBytes {
            pts: Some(packet.pts),
            dts: Some(number as i64 - 3),
            is_key: packet.is_key,
            position: Some(packet.start),
            end: has_ends.then_some(packet.end),
        });
    }
    let (runs, head) = collector.finish(bytes).unwrap();
    let mut shared = vec![ByteRange { start: 0, end: head.end }];
    if tail > 0 {
        shared.push(ByteRange { start: bytes - tail, end: bytes });
    }
    let frames = made.len() as i64;
    let keyframes: Vec<_> = runs.iter().map(|run| json!({"pts": run.pts, "position": run.start})).collect();
    let index = ByteIndex { layout, shared: merge(shared, 0), runs, audio: vec![] };
    serde_json::from_value(json!({
        "container": "mov", "demuxer": "mov", "bytes": bytes, "audio": [], "unused": [], "byte_index": index,
        "video": {"stream": 0, "codec": "h264", "width": 640, "height": 360, "sar": [1, 1], "pix_fmt": "yuv420p", "bit_depth": 8,
            "color": {"range": "", "space": "", "transfer": "", "primaries": ""}, "rotation": 0, "interlaced": false,
            "timebase": [1, 30], "frame_rate": [30, 1], "bits_per_second": 0,
            "frames": {"pts": {"first": 0, "len": frames, "runs": [[1, frames - 1]]}, "last_duration": 1,
                "keyframes": keyframes, "evidence": "moov", "is_seekable": true}}
    }))
    .unwrap()
}

fn planned(info: &SourceInfo, seconds: f64) -> Plan {
    let mut profile = Profile::built_in("universal").unwrap();
    profile.split.segment_seconds = seconds;
    plan(info, &profile, &Capabilities::default()).unwrap()
}

/// Everything that decoding `[start, end)` from the keyframe at `from` takes: packets in decode order.
fn needed(made: &[Made], from: Option<i64>, end: Option<i64>) -> &[Made] {
    let first = from.map_or(0, |key| made.iter().position(|p| p.is_key && p.pts == key).unwrap());
    let last = end.map_or(made.len(), |end| made.iter().rposition(|p| p.pts < end).unwrap() + 1);
    &made[first..last.max(first)]
}

fn covers(fetch: &Fetch, made: &Made) -> bool {
    fetch.pieces.iter().map(|p| p.range).any(|r| r.start <= made.start && made.end <= r.end)
        || (made.start..made.end).all(|b| fetch.pieces.iter().any(|p| p.range.start <= b && b < p.range.end))
}

fn assert_sound(fetch: &Fetch) {
    assert!(fetch.pieces.len() <= MAX_REQUESTS && !fetch.pieces.is_empty());
    assert!(fetch.pieces.iter().all(|p| !p.range.is_empty() && p.range.end <= fetch.source_bytes));
    assert!(fetch.pieces.is_sorted_by(|a, b| a.range.end <= b.range.start), "{fetch:?}");
    let placed: u64 = fetch.placed().map(|(piece, at)| at + piece.range.len()).max().unwrap();
    assert!(placed <= fetch.file_bytes());
}

proptest! {
    #[test]
    fn ranges_hold_every_packet_that_a_segment_needs(
        groups in prop::collection::vec((0u8..4, 0u8..40), 4..40),
        sizes in prop::collection::vec(1u64..60_000, 1..50),
        seconds in prop::sample::select(vec![1.0, 2.0, 5.0]),
        has_ends in any::<bool>(),
        layout in prop::sample::select(vec![ByteLayout::Sparse, ByteLayout::Compact]),
        tail in prop::sample::select(vec![0u64, 5_000]),
        run_in in prop::sample::select(vec![0i64, 8, 50]),
    ) {
        let made = packets(&groups, &sizes, 700);
        let info = info(&made, has_ends, layout, tail, run_in);
        let plan = planned(&info, seconds);
        for segment in &plan.timeline.as_ref().unwrap().segments {
            for look_back in 0..4 {
                let Need::Ranges(fetch) = video_need(&plan, segment.index, look_back) else { continue };
                assert_sound(&fetch);
                let level = segment.seek_level(look_back, false);
                let from = segment.seek.get(level as usize).map(|key| key.get());
                // A reader with a run-in looks for the last packet that is decoded so much earlier.
                let found = made.iter().enumerate().rposition(|(n, _)| from.is_some_and(|f| n as i64 - 3 <= f - run_in));
                if run_in > 0 && let Some(found) = found {
                    prop_assert!(covers(&fetch, &made[found]));
                }
                for packet in needed(&made, from, segment.end.map(|end| end.get())) {
                    prop_assert!(covers(&fetch, packet), "{packet:?} of {segment:?} at {look_back} is not in {fetch:?}");
                }
                prop_assert!(fetch.pieces.iter().filter(|p| p.is_shared).count() >= 1);
            }
        }
    }

    #[test]
    fn merged_ranges_hold_the_same_bytes(list in prop::collection::vec((0u64..300, 0u64..40), 0..20)) {
        let ranges: Vec<_> = list.iter().map(|(at, len)| ByteRange { start: *at, end: at + len }).collect();
        let merged = merge(ranges.clone(), 0);
        let has = |list: &[ByteRange], byte: u64| list.iter().any(|r| r.start <= byte && byte < r.end);
        for byte in 0..400 {
            prop_assert_eq!(has(&ranges, byte), has(&merged, byte));
        }
        prop_assert!(merged.is_sorted_by(|a, b| a.end < b.start));
        let all = ByteRange { start: 0, end: 400 };
        let left = without(all, &merged);
        for byte in 0..400 {
            prop_assert!(has(&left, byte) != has(&merged, byte));
        }
    }

    #[test]
    fn any_packets_are_survived(list in prop::collection::vec((any::<Option<i64>>(), any::<bool>(), any::<Option<u64>>(), any::<Option<u64>>()), 0..60), bytes in any::<u64>()) {
        let mut collector = RunCollector::new(Margins { head_packets: 5, run_in: 7, lead_packets: LEAD_PACKETS });
        for (pts, is_key, position, end) in list {
            collector.push(PacketBytes { pts, dts: pts, is_key, position, end });
        }
        if let Some((runs, _)) = collector.finish(bytes) {
            prop_assert!(runs.is_sorted_by(|a, b| a.pts < b.pts));
            prop_assert!(runs.iter().all(|r| r.start <= r.end && r.end <= bytes && r.lead_end <= bytes));
        }
    }
}

/// 120 s in closed groups of 2 s, of 10 kB pictures.
fn long() -> (Vec<Made>, SourceInfo) {
    let made = packets(&[(0, 59); 60], &[10_000], 700);
    let info = info(&made, true, ByteLayout::Sparse, 40_000, 0);
    (made, info)
}

#[test]
fn thirty_second_segments_are_read_little_more_than_once() {
    let (_, info) = long();
    let plan = planned(&info, 30.0);
    let reads = plan.reads.as_ref().unwrap();
    assert_eq!(reads.segments.len(), 4);
    let own: u64 = (0..4)
        .map(|segment| match video_need(&plan, segment, 0) {
            Need::Ranges(fetch) => {
                assert!(fetch.pieces.len() <= 3);
                fetch.bytes()
            }
            need => panic!("{need:?}"),
        })
        .sum();
    let amplification = own as f64 / info.bytes as f64;
    assert!((1.0..1.03).contains(&amplification), "{amplification}");
}

#[test]
fn the_plan_of_one_segment_needs_the_same_bytes() {
    let (_, info) = long();
    let plan = planned(&info, 30.0);
    for segment in 0..4 {
        let part = plan.for_segment(segment).unwrap();
        assert_eq!(
            part.timeline.as_ref().unwrap().segments,
            [plan.timeline.as_ref().unwrap().segments[segment as usize].clone()]
        );
        assert!(serde_json::to_string(&part).unwrap().len() < serde_json::to_string(&plan).unwrap().len());
        for look_back in 0..3 {
            assert_eq!(video_need(&part, segment, look_back), video_need(&plan, segment, look_back));
        }
        assert_eq!(part.for_segment(segment + 1), None);
    }
    let whole = planned(&info, 500.0);
    assert_eq!(video_need(&whole.for_segment(0).unwrap(), 0, 0), Need::Whole);
}

#[test]
fn a_segment_between_keyframes_takes_the_group_it_ends_in() {
    let (made, info) = long();
    let index = info.byte_index.as_ref().unwrap();
    // Frames 90 to 150 lie in the groups of 60 and 120.
    let reads = segment_reads(index, Some(SourceTicks(150)), &[SourceTicks(60), SourceTicks(0)]).unwrap();
    assert_eq!(reads.starts, [index.runs[1].start, index.runs[0].start]);
    assert!(reads.end >= index.runs[2].end && reads.end < index.runs[3].end);
    assert!(made.iter().filter(|p| p.pts < 150 && p.pts >= 60).all(|p| p.end <= reads.end));
    assert_eq!(segment_reads(index, None, &[SourceTicks(60), SourceTicks(59)]), None);
}

#[test]
fn the_last_resort_and_what_does_not_pay_are_whole() {
    let (_, info) = long();
    let mut plan = planned(&info, 30.0);
    assert_eq!(video_need(&plan, 2, 2), Need::Whole);
    assert_eq!(video_need(&plan, 7, 0), Need::Whole);
    assert!(matches!(video_need(&plan, 2, 1), Need::Ranges(_)));
    assert_eq!(audio_need(&plan, 0), Need::Whole);
    plan.reads.as_mut().unwrap().segments[2].starts[0] = 0;
    plan.reads.as_mut().unwrap().segments[2].end = info.bytes;
    assert_eq!(video_need(&plan, 2, 0), Need::Whole);
    plan.reads = None;
    assert_eq!(video_need(&plan, 1, 0), Need::Whole);
    let whole = planned(&info, 500.0);
    assert_eq!(video_need(&whole, 0, 0), Need::Whole);
}

#[test]
fn compact_files_hold_one_range_behind_the_other() {
    let range = |start, end| ByteRange { start, end };
    let reads = Reads {
        layout: ByteLayout::Compact,
        source_bytes: 1000,
        shared: vec![range(0, 188)],
        segments: vec![],
        audio: vec![],
    };
    let fetch = fetch(&reads, &[range(100, 376), range(376, 564)]).unwrap();
    let placed: Vec<_> = fetch.placed().map(|(piece, at)| (piece.range, piece.is_shared, at)).collect();
    assert_eq!(placed, [(range(0, 188), true, 0), (range(188, 564), false, 188)]);
    assert_eq!((fetch.bytes(), fetch.file_bytes()), (564, 564));
    assert_eq!(super::fetch(&reads, &[range(0, 950)]), None);
}

#[test]
fn an_index_is_small_and_old_documents_have_none() {
    let (_, info) = long();
    let text = serde_json::to_string(&info.byte_index).unwrap();
    assert!(text.len() < 60 * 60, "{} bytes", text.len());
    let mut old = serde_json::to_value(&info).unwrap();
    old.as_object_mut().unwrap().remove("byte_index");
    let old: SourceInfo = serde_json::from_value(old).unwrap();
    let plan = planned(&old, 30.0);
    assert_eq!((old.byte_index, plan.reads.as_ref()), (None, None));
    assert!(!serde_json::to_string(&plan).unwrap().contains("\"reads\""));
}
