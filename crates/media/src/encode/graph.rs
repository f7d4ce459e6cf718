//! The filter graph of one segment in ffmpeg's syntax: one decode, operations that several renditions share done once,
//! one branch for each rendition. Pure.

use super::stamps::stamp_filters;
use splitreel_core::plan::{FrameRule, Segment, Timeline, VideoOp, slot_ratio};

/// PQ or HLG to linear light, mapped, and back as BT.709.
const TONE_MAP: &str =
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv";
const SCALER_FLAGS: &str = "bicubic+accurate_rnd+bitexact";

/// The graph from the timeline's stream to one pad `[vN]` for each list of operations.
pub(super) fn graph(timeline: &Timeline, segment: &Segment, renditions: &[&[VideoOp]]) -> String {
    let chains: Vec<(usize, Vec<String>)> =
        renditions.iter().map(|ops| filters(timeline, segment, ops)).enumerate().collect();
    let chains: Vec<(usize, &[String])> = chains.iter().map(|(number, chain)| (*number, chain.as_slice())).collect();
    let mut out = Vec::new();
    branch(&mut out, &format!("[0:{}]", timeline.stream), &chains, 0);
    out.join(";")
}

/// The filters of one rendition in order. Frames of other segments are trimmed off behind the last operation that reads
/// neighbouring frames.
fn filters(timeline: &Timeline, segment: &Segment, ops: &[VideoOp]) -> Vec<String> {
    let cut = ops.iter().rposition(VideoOp::reads_neighbours).map_or(0, |at| at + 1);
    let (before, after) = ops.split_at_checked(cut).unwrap_or((&[], ops));
    let (start, first) = (segment.start.get(), timeline.first.get());
    let before: Vec<String> = before.iter().filter_map(|op| filter(op, timeline, first.saturating_neg())).collect();
    let after = after.iter().filter_map(|op| filter(op, timeline, start.saturating_sub(first)));
    trimmed(timeline, segment, before, after)
}

/// Filters of a segment: filters that need neighbouring frames, then the trimming, then all other filters. Frames get
/// their times before all of them.
fn trimmed(
    timeline: &Timeline,
    segment: &Segment,
    before: Vec<String>,
    after: impl Iterator<Item = String>,
) -> Vec<String> {
    let mut chain = stamp_filters(timeline);
    let reads_neighbours = !before.is_empty();
    chain.extend(before);
    if reads_neighbours {
        // Deinterlacers count in half ticks; trim and setpts below expect the source's ticks.
        chain.push(format!("settb={}/{}", timeline.source_timebase.num(), timeline.source_timebase.den()));
    }
    let end = segment.end.map(|end| format!(":end_pts={end}")).unwrap_or_default();
    chain.push(format!("trim=start_pts={}{end}", segment.start));
    chain.push(format!("setpts=PTS-({})", segment.start));
    chain.extend(after);
    chain
}

/// One operation; `None` when it changes nothing. `offset`: what to add to a frame's time for the ticks since the first
/// frame of the source.
fn filter(op: &VideoOp, timeline: &Timeline, offset: i64) -> Option<String> {
    Some(match op {
        VideoOp::ToneMap => TONE_MAP.to_owned(),
        VideoOp::Choose { rule: FrameRule::All } => return None,
        // Segments start on frames of the list, so that counting starts anew in each.
        VideoOp::Choose { rule: FrameRule::EverySecond } => r"select=not(mod(n\,2))".to_owned(),
        VideoOp::Choose { rule: FrameRule::FirstOfSlot { rate } } => {
            // The slot of `FrameRule::slot`. Doubles hold these integers exactly, and so does their quotient's floor.
            let (num, den) = slot_ratio(*rate, timeline.source_timebase);
            let slot = |pts: &str| format!("floor((({pts}+({offset}))*2+1)*{num}/{})", i128::from(den) * 2);
            format!(r"select=isnan(prev_selected_pts)+gt({}\,{})", slot("pts"), slot("prev_selected_pts"))
        }
        VideoOp::Scale { width, height } => format!("scale=w={width}:h={height}:flags={SCALER_FLAGS}"),
        VideoOp::Format { pixel_format } => format!("format={pixel_format}"),
        VideoOp::SampleAspect { sar } => format!("setsar={}/{}", sar.num(), sar.den()),
    })
}

/// Writes the chains from `input` on: what all have in common, then a split into groups that go on alike.
fn branch(out: &mut Vec<String>, input: &str, chains: &[(usize, &[String])], depth: usize) {
    let shared = common_prefix(chains);
    let rests: Vec<(usize, &[String])> =
        chains.iter().map(|(number, chain)| (*number, chain.get(shared.len()..).unwrap_or_default())).collect();
    if let [(number, _)] = chains {
        out.push(format!("{input}{}[v{number}]", shared.join(",")));
        return;
    }
    let mut groups: Vec<Vec<(usize, &[String])>> = Vec::new();
    for rest in rests {
        let alike = groups
            .iter_mut()
            .find(|g| !rest.1.is_empty() && g.first().is_some_and(|(_, chain)| chain.first() == rest.1.first()));
        match alike {
            Some(group) => group.push(rest),
            None => groups.push(vec![rest]),
        }
    }
    let pads: Vec<String> = groups.iter().map(|group| pad(group, depth)).collect();
    let split = format!("split={}{}", groups.len(), pads.concat());
    out.push(format!(
        "{input}{}",
        shared.iter().map(String::as_str).chain([split.as_str()]).collect::<Vec<_>>().join(",")
    ));
    for (group, pad) in groups.iter().zip(&pads) {
        if !matches!(group.as_slice(), [(_, [])]) {
            branch(out, pad, group, depth + 1);
        }
    }
}

/// Name of the pad that a group of chains goes on from; that of the output where nothing follows.
fn pad(group: &[(usize, &[String])], depth: usize) -> String {
    match (group, depth) {
        ([(number, [])], _) => format!("[v{number}]"),
        ([(number, _), ..], 0) => format!("[s{number}]"),
        ([(number, _), ..], _) => format!("[s{depth}_{number}]"),
        ([], _) => String::new(),
    }
}

fn common_prefix<'a>(chains: &[(usize, &'a [String])]) -> &'a [String] {
    let Some(((_, first), others)) = chains.split_first() else { return &[] };
    let shared = |other: &[String]| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let length = others.iter().map(|(_, other)| shared(other)).min().unwrap_or(first.len());
    first.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::Rational;
    use splitreel_core::source::IndexEvidence;
    use splitreel_core::time::{OutputTicks, SourceTicks};

    fn timeline() -> Timeline {
        Timeline {
            stream: 0,
            evidence: IndexEvidence::Moov,
            source_timebase: Rational::new(1, 90_000).unwrap(),
            clock: None,
            stamping: Default::default(),
            timescale: 90_000,
            first: SourceTicks(1_000),
            output_start: OutputTicks(0),
            output_end: OutputTicks(0),
            segments: vec![],
        }
    }

    fn segment() -> Segment {
        Segment {
            index: 1,
            start: SourceTicks(91_000),
            end: Some(SourceTicks(181_000)),
            output_start: OutputTicks(90_000),
            output_end: OutputTicks(180_000),
            seek: vec![],
            seek_limit: None,
        }
    }

    fn scale(height: u32) -> VideoOp {
        VideoOp::Scale { width: height * 2, height }
    }

    fn text(renditions: &[&[VideoOp]]) -> String {
        graph(&timeline(), &segment(), renditions)
            .replace("trim=start_pts=91000:end_pts=181000,setpts=PTS-(91000)", "TRIM")
    }

    #[test]
    fn a_single_rendition_has_no_split() {
        assert_eq!(text(&[&[scale(10)]]), format!("[0:0]TRIM,scale=w=20:h=10:flags={SCALER_FLAGS}[v0]"));
    }

    #[test]
    fn shared_operations_are_done_once_at_each_level() {
        let half = VideoOp::Choose { rule: FrameRule::EverySecond };
        let graph = text(&[&[scale(40)], &[VideoOp::ToneMap, scale(20)], &[VideoOp::ToneMap, half, scale(10)]]);
        let lines: Vec<&str> = graph.split(';').collect();
        assert_eq!(lines[0], format!("[0:0]TRIM,split=2[s0][s1]"));
        assert_eq!(lines[1], format!("[s0]scale=w=80:h=40:flags={SCALER_FLAGS}[v0]"));
        assert_eq!(lines[2], format!("[s1]{TONE_MAP},split=2[s1_1][s1_2]"));
        assert_eq!(lines[3], format!("[s1_1]scale=w=40:h=20:flags={SCALER_FLAGS}[v1]"));
        assert_eq!(lines[4], format!(r"[s1_2]select=not(mod(n\,2)),scale=w=20:h=10:flags={SCALER_FLAGS}[v2]"));
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn equal_renditions_are_split_at_the_end() {
        let graph = text(&[&[scale(10)], &[scale(10)]]);
        assert_eq!(graph, format!("[0:0]TRIM,scale=w=20:h=10:flags={SCALER_FLAGS},split=2[v0][v1]"));
    }

    #[test]
    fn slots_count_from_the_first_frame_of_the_source() {
        let rate = Rational::new(30_000, 1001).unwrap();
        let graph = text(&[&[VideoOp::Choose { rule: FrameRule::FirstOfSlot { rate } }]]);
        let slot = |pts: &str| format!("floor((({pts}+(90000))*2+1)*1/6006)");
        let wanted = format!(
            r"[0:0]TRIM,select=isnan(prev_selected_pts)+gt({}\,{})[v0]",
            slot("pts"),
            slot("prev_selected_pts")
        );
        assert_eq!(graph, wanted);
    }

    #[test]
    fn trimming_follows_filters_that_read_neighbours() {
        let (before, after) = (vec!["yadif=0".to_owned()], ["format=yuv420p".to_owned()]);
        let chain = trimmed(&timeline(), &segment(), before, after.into_iter());
        let wanted =
            ["yadif=0", "settb=1/90000", "trim=start_pts=91000:end_pts=181000", "setpts=PTS-(91000)", "format=yuv420p"];
        assert_eq!(chain, wanted);
        assert_eq!(trimmed(&timeline(), &segment(), vec![], std::iter::empty()).len(), 2);
    }
}
