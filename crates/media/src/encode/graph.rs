//! The filter graph of one segment in ffmpeg's syntax: one decode, operations that several renditions share done once,
//! one branch for each rendition. Pure.

use super::stamps::stamp_filters;
use splitreel_core::content::{HEIGHT, WIDTH};
use splitreel_core::plan::{FrameRule, Levels, Segment, Timeline, VideoOp, slot_ratio};
use splitreel_core::source::{Color, FieldOrder};

/// PQ or HLG to linear light, mapped, and back as BT.709.
const TONE_MAP: &str = "t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,\
zscale=t=bt709:m=bt709:r=tv,format=yuv420p";
const SCALER_FLAGS: &str = "bicubic+accurate_rnd+bitexact";

/// What becomes of the frames behind a list of operations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use<'a> {
    /// They are encoded.
    Encoded,
    /// They are shrunk for comparison, as the given samples.
    Shrunk(&'a Levels),
    /// They are shrunk for comparison, by their own tags.
    ShrunkByTags,
}

/// The graph from the timeline's stream to one pad `[vN]` for each list of operations.
pub(super) fn graph(timeline: &Timeline, segment: &Segment, outputs: &[(&[VideoOp], Use<'_>)]) -> String {
    let chain = |(ops, wanted): &(&[VideoOp], Use<'_>)| {
        let mut chain = filters(timeline, segment, ops);
        chain.extend(match wanted {
            Use::Encoded => None,
            Use::Shrunk(levels) => Some(shrink(&source_end(levels))),
            Use::ShrunkByTags => {
                Some(shrink(&scaler_matrix(&timeline.assumed_matrix).map(in_matrix).unwrap_or_default()))
            }
        });
        chain
    };
    let chains: Vec<(usize, Vec<String>)> = outputs.iter().map(chain).enumerate().collect();
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
        // Deinterlacers count in half ticks; trim and setpts below expect the ticks of the timeline, which are half ticks of
        // the source where each field becomes a frame.
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
        // All frames: flags of frames are as unreliable as headers.
        VideoOp::Deinterlace { order, each_field } => {
            let mode = if *each_field { "send_field" } else { "send_frame" };
            let parity = match order {
                FieldOrder::TopFirst => "tff",
                FieldOrder::BottomFirst => "bff",
            };
            format!("bwdif=mode={mode}:parity={parity}:deint=all")
        }
        VideoOp::Flatten { pixel_format } => flatten(pixel_format),
        VideoOp::ToneMap { from } => tone_map(from),
        VideoOp::Choose { rule: FrameRule::All } => return None,
        // Segments start on frames of the list, so that counting starts anew in each.
        VideoOp::Choose { rule: FrameRule::EverySecond } => r"select=not(mod(n\,2))".to_owned(),
        VideoOp::Choose { rule: FrameRule::FirstOfSlot { rate } } => {
            // The slot of `FrameRule::slot`. Doubles hold these integers exactly, and so does their quotient's floor.
            let (num, den) = slot_ratio(*rate, timeline.source_timebase);
            let slot = |pts: &str| format!("floor((({pts}+({offset}))*2+1)*{num}/{})", i128::from(den) * 2);
            format!(r"select=isnan(prev_selected_pts)+gt({}\,{})", slot("pts"), slot("prev_selected_pts"))
        }
        VideoOp::Scale { width, height, from, to } => {
            format!("scale=w={width}:h={height}:flags={SCALER_FLAGS}{}", conversion(from, to))
        }
        VideoOp::Format { pixel_format } => format!("format={pixel_format}"),
        // Without a maximum the filter takes the nearest ratio of numbers up to 100.
        VideoOp::SampleAspect { sar } => format!("setsar=sar={}/{}:max={}", sar.num(), sar.den(), u16::MAX),
    })
}

/// Colours times alpha, which is the frame over black. The filter takes planar formats only.
fn flatten(pixel_format: &str) -> String {
    let (planar, opaque) = match pixel_format.strip_prefix("yuva") {
        Some(rest) => (pixel_format, format!("yuv{rest}")),
        None if pixel_format.contains("64") || pixel_format.contains("16") => ("gbrap16le", "gbrp16le".to_owned()),
        None if pixel_format.starts_with("gbrap") => (pixel_format, pixel_format.replacen("gbrap", "gbrp", 1)),
        None => ("gbrap", "gbrp".to_owned()),
    };
    format!("format={planar},premultiply=inplace=1,format={opaque}")
}

/// PQ or HLG to linear light, mapped, and back as BT.709. The frames' own tags may be incomplete; zscale needs all.
fn tone_map(from: &Color) -> String {
    let Color { range, space, transfer, primaries } = from;
    format!("zscale=tin={transfer}:min={space}:pin={primaries}:rin={range}:{TONE_MAP}")
}

/// Options that make the scaler convert range and matrix. Without them it leaves frames of the same size and format
/// alone, whatever their range, and takes untagged frames for BT.601.
fn conversion(from: &Levels, to: &Levels) -> String {
    let mut options = format!("{}:out_range={}", source_end(from), range(to));
    // A matrix that the scaler does not know is kept as it is.
    let is_kept = from.matrix == to.matrix && scaler_matrix(&from.matrix).is_none();
    if let Some(matrix) = scaler_matrix(&to.matrix).filter(|_| !is_kept) {
        options.push_str(&format!(":out_color_matrix={matrix}"));
    }
    options
}

/// The scaler's options for the samples that it is given.
fn source_end(from: &Levels) -> String {
    let matrix = scaler_matrix(&from.matrix).map(in_matrix).unwrap_or_default();
    format!(":in_range={}{matrix}", range(from))
}

fn range(levels: &Levels) -> &'static str {
    if levels.is_full { "pc" } else { "tv" }
}

fn in_matrix(name: &str) -> String {
    format!(":in_color_matrix={name}")
}

/// Makes the small pictures of [`splitreel_core::content`].
pub(crate) fn shrink(options: &str) -> String {
    format!("scale=w={WIDTH}:h={HEIGHT}:flags=area+accurate_rnd+full_chroma_int+bitexact{options},format=rgb24")
}

/// The scaler's name for matrix coefficients; `None` for RGB and for coefficients that it does not know.
fn scaler_matrix(name: &str) -> Option<&'static str> {
    Some(match name {
        "bt709" => "bt709",
        "fcc" => "fcc",
        "bt470bg" => "bt470",
        "smpte170m" => "smpte170m",
        "smpte240m" => "smpte240m",
        "bt2020nc" | "bt2020c" => "bt2020",
        _ => return None,
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
            assumed_matrix: String::new(),
            decoder: String::new(),
            stated: None,
            timescale: 90_000,
            first: SourceTicks(1_000),
            output_start: OutputTicks(0),
            held: OutputTicks(0),
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

    /// Flags and conversion of a scaler that changes no levels.
    const KEPT: &str = "bicubic+accurate_rnd+bitexact:in_range=tv:out_range=tv";

    fn scale(height: u32) -> VideoOp {
        VideoOp::Scale { width: height * 2, height, from: Levels::default(), to: Levels::default() }
    }

    fn text(renditions: &[&[VideoOp]]) -> String {
        let outputs: Vec<(&[VideoOp], Use<'_>)> = renditions.iter().map(|ops| (*ops, Use::Encoded)).collect();
        graph(&timeline(), &segment(), &outputs)
            .replace("trim=start_pts=91000:end_pts=181000,setpts=PTS-(91000)", "TRIM")
    }

    #[test]
    fn a_single_rendition_has_no_split() {
        assert_eq!(text(&[&[scale(10)]]), format!("[0:0]TRIM,scale=w=20:h=10:flags={KEPT}[v0]"));
    }

    #[test]
    fn shared_operations_are_done_once_at_each_level() {
        let half = VideoOp::Choose { rule: FrameRule::EverySecond };
        let [range, space, transfer, primaries] = ["tv", "bt2020nc", "smpte2084", "bt2020"].map(str::to_owned);
        let map = VideoOp::ToneMap { from: Color { range, space, transfer, primaries } };
        let graph = text(&[&[scale(40)], &[map.clone(), scale(20)], &[map, half, scale(10)]]);
        let lines: Vec<&str> = graph.split(';').collect();
        assert_eq!(lines[0], format!("[0:0]TRIM,split=2[s0][s1]"));
        assert_eq!(lines[1], format!("[s0]scale=w=80:h=40:flags={KEPT}[v0]"));
        assert_eq!(
            lines[2],
            format!("[s1]zscale=tin=smpte2084:min=bt2020nc:pin=bt2020:rin=tv:{TONE_MAP},split=2[s1_1][s1_2]")
        );
        assert_eq!(lines[3], format!("[s1_1]scale=w=40:h=20:flags={KEPT}[v1]"));
        assert_eq!(lines[4], format!(r"[s1_2]select=not(mod(n\,2)),scale=w=20:h=10:flags={KEPT}[v2]"));
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn equal_renditions_are_split_at_the_end() {
        let graph = text(&[&[scale(10)], &[scale(10)]]);
        assert_eq!(graph, format!("[0:0]TRIM,scale=w=20:h=10:flags={KEPT},split=2[v0][v1]"));
    }

    #[test]
    fn pictures_for_comparison_branch_off_where_their_operations_end() {
        let ops = [VideoOp::Deinterlace { order: FieldOrder::TopFirst, each_field: false }, scale(10)];
        let limited = Levels::default();
        let outputs: [(&[VideoOp], Use<'_>); 3] =
            [(&ops, Use::Encoded), (&ops, Use::Shrunk(&limited)), (&ops[..1], Use::ShrunkByTags)];
        let timeline = Timeline { assumed_matrix: "bt709".into(), ..timeline() };
        let graph = graph(&timeline, &segment(), &outputs);
        let lines: Vec<&str> = graph.split(';').collect();
        assert!(lines[0].ends_with("setpts=PTS-(91000),split=2[s0][s2]"), "{graph}");
        assert_eq!(lines[1], format!("[s0]scale=w=20:h=10:flags={KEPT},split=2[v0][s1_1]"));
        assert_eq!(lines[2], format!("[s1_1]{}[v1]", shrink(":in_range=tv")));
        assert_eq!(lines[3], format!("[s2]{}[v2]", shrink(":in_color_matrix=bt709")));
    }

    #[test]
    fn both_ends_of_a_conversion_are_stated() {
        let levels = |is_full, matrix: &str| Levels { is_full, matrix: matrix.into() };
        let full = conversion(&levels(true, "bt709"), &levels(false, "bt709"));
        assert_eq!(full, ":in_range=pc:in_color_matrix=bt709:out_range=tv:out_color_matrix=bt709");
        let screen = conversion(&levels(true, "gbr"), &levels(false, "bt709"));
        assert_eq!(screen, ":in_range=pc:out_range=tv:out_color_matrix=bt709");
        let unknown = conversion(&levels(false, "ycgco"), &levels(false, "ycgco"));
        assert_eq!(unknown, ":in_range=tv:out_range=tv");
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
