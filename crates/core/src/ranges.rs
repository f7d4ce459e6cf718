//! Which bytes of a source a task needs: pure. Runs between random-access points are collected once while probing,
//! turned into a few numbers per segment by the planner, and into ranges to fetch for each attempt. Fetches nothing.

use crate::plan::{AudioReads, Plan, Reads, SegmentReads, Timeline};
use crate::source::{ByteIndex, ByteLayout, ByteRange, ByteRun, SourceInfo};
use crate::time::SourceTicks;
use std::collections::VecDeque;

/// A task is fetched with at most this many requests when nothing goes wrong.
pub const MAX_REQUESTS: usize = 4;
/// Shared ranges of an index: what is left of [`MAX_REQUESTS`] beside the segment's own range.
pub const MAX_SHARED: usize = MAX_REQUESTS - 1;
/// Packets of a run-in that are remembered: two seconds of the fastest cameras.
const MAX_RECENT: usize = 512;
/// From this share of a source on (in percent), one request for all of it is better.
const WHOLE_FROM_PERCENT: u128 = 90;
/// Sources of fewer bytes are fetched whole: the headers of requests weigh more than their ranges save.
const WHOLE_BELOW_BYTES: u64 = 256 << 10;

/// One packet in decode order, as a container lists it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketBytes {
    /// Presentation time in ticks, when it is shown and has one.
    pub pts: Option<i64>,
    /// Decode time in ticks.
    pub dts: Option<i64>,
    /// A random-access point that is shown.
    pub is_key: bool,
    /// First byte, when known.
    pub position: Option<u64>,
    /// Byte behind its last one; `None` where the container does not tell: it then ends where the next one starts.
    pub end: Option<u64>,
}

/// What readers of a source take besides the packets that they are sent for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// Packets at the start of the source, which belong to what every reader needs.
    pub head_packets: u64,
    /// A seek to a keyframe starts at the last packet that is decoded this number of ticks before the keyframe is
    /// shown; 0 starts at the keyframe.
    pub run_in: i64,
    /// Packets behind a random-access point, and behind the last picture shown before it, that a decoder may want
    /// before it shows what is due. What it lacks of them it makes up at the end of its input, so this saves time where
    /// the input goes on, and decides nothing.
    pub lead_packets: u32,
}

/// Collects packets in decode order into runs. Holds some bytes per random-access point, nothing per packet.
#[derive(Clone, Debug, Default)]
pub struct RunCollector {
    margins: Margins,
    runs: Vec<ByteRun>,
    /// Runs whose lead still grows: index and packets to go.
    leads: VecDeque<(usize, u32)>,
    /// The packet before, whose end is not known yet: its start, and the runs whose lead it counts for.
    open: Option<(u64, Vec<usize>)>,
    /// Decode times and starts of the packets within the run-in, oldest first.
    recent: VecDeque<(i64, u64)>,
    num_packets: u64,
    head: Option<ByteRange>,
    is_unusable: bool,
}

impl RunCollector {
    /// For readers that take so much more.
    pub fn new(margins: Margins) -> Self {
        RunCollector { margins, ..RunCollector::default() }
    }

    /// Takes the next packet.
    pub fn push(&mut self, packet: PacketBytes) {
        self.num_packets += 1;
        let Some(position) = packet.position else {
            // Shares the bytes of a packet that has a position; a reader can not be sent to it.
            self.is_unusable |= packet.is_key;
            self.advance(packet.pts);
            return;
        };
        if packet.end.is_none() {
            // Without ends of their own, packets must follow each other in the file.
            self.is_unusable |= self.open.as_ref().is_some_and(|(start, _)| *start > position);
        }
        self.close(position);
        match &mut self.head {
            None => self.head = Some(ByteRange { start: position, end: u64::MAX }),
            Some(head) if head.end == u64::MAX && self.num_packets > self.margins.head_packets => {
                head.end = position.max(head.start);
            }
            Some(_) => {}
        }
        if let (true, Some(pts)) = (packet.is_key, packet.pts) {
            self.is_unusable |= self.runs.last().is_some_and(|last| last.pts >= pts);
            self.leads.push_back((self.runs.len(), self.margins.lead_packets));
            let start = self.run_in_start(pts).unwrap_or(position).min(position);
            self.runs.push(ByteRun { pts, start, end: position, lead_end: position });
        }
        if let Some(dts) = packet.dts.filter(|_| self.margins.run_in > 0) {
            self.recent.push_back((dts, position));
            if self.recent.len() > MAX_RECENT {
                self.recent.pop_front();
            }
        }
        let counted = self.advance(packet.pts);
        if let Some(run) = self.runs.last_mut() {
            run.start = run.start.min(position);
        }
        match packet.end {
            Some(end) => self.extend(end, &counted),
            None => self.open = Some((position, counted)),
        }
    }

    /// Where the run-in of a keyframe starts; forgets what is older.
    fn run_in_start(&mut self, pts: i64) -> Option<u64> {
        let until = pts.saturating_sub(self.margins.run_in);
        while self.recent.get(1).is_some_and(|(dts, _)| *dts <= until) {
            self.recent.pop_front();
        }
        self.recent.front().map(|(_, position)| *position)
    }

    /// Counts the packet for the leads that still grow; names them.
    fn advance(&mut self, pts: Option<i64>) -> Vec<usize> {
        let mut counted = Vec::with_capacity(self.leads.len());
        let (runs, lead) = (&self.runs, self.margins.lead_packets);
        self.leads.retain_mut(|(run, left)| {
            counted.push(*run);
            let is_leading = pts.is_some_and(|pts| runs.get(*run).is_some_and(|run| pts < run.pts));
            *left = if is_leading { lead } else { left.saturating_sub(1) };
            *left > 0
        });
        counted
    }

    fn close(&mut self, end: u64) {
        if let Some((_, counted)) = self.open.take() {
            self.extend(end, &counted);
        }
    }

    fn extend(&mut self, end: u64, counted: &[usize]) {
        // A lead that still grows reaches into later runs; a packet belongs to the newest run there was with it.
        for run in counted {
            if let Some(run) = self.runs.get_mut(*run) {
                run.lead_end = run.lead_end.max(end);
            }
        }
        if let Some(run) = self.runs.last_mut() {
            run.end = run.end.max(end);
        }
    }

    /// The runs, and the bytes of the packets at the start (to the end of the source when there are no more of them).
    /// `None` when the positions do not tell where to read.
    pub fn finish(mut self, source_bytes: u64) -> Option<(Vec<ByteRun>, ByteRange)> {
        self.close(source_bytes);
        let is_inside = self.runs.iter().all(|run| run.start <= run.end && run.end.max(run.lead_end) <= source_bytes);
        let is_usable = !self.is_unusable && !self.runs.is_empty() && is_inside;
        let head = self.head.filter(|_| is_usable)?;
        Some((self.runs, ByteRange { start: head.start, end: head.end.min(source_bytes) }))
    }
}

/// Sorts ranges and merges ranges that overlap or are at most `gap` bytes apart.
pub fn merge(mut ranges: Vec<ByteRange>, gap: u64) -> Vec<ByteRange> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// The parts of `range` that are in none of `taken` (sorted, disjoint).
fn without(range: ByteRange, taken: &[ByteRange]) -> Vec<ByteRange> {
    let mut left = Vec::new();
    let mut at = range.start;
    for other in taken.iter().filter(|other| other.end > range.start && other.start < range.end) {
        left.push(ByteRange { start: at, end: other.start });
        at = at.max(other.end);
    }
    left.push(ByteRange { start: at, end: range.end });
    left.retain(|range| range.start < range.end);
    left
}

/// What a task reads of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// All of it.
    Whole,
    /// Enough of it to find its tracks and frames, when its own tables list them.
    Tables,
    /// Some ranges.
    Ranges(Fetch),
}

/// Ranges of a source, and how they are laid out in a local file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// Where the ranges go.
    pub layout: ByteLayout,
    /// Sorted, disjoint, not empty, within the source; at most [`MAX_REQUESTS`].
    pub pieces: Vec<Piece>,
}

/// One range to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub range: ByteRange,
    /// The same for all segments of the source: worth keeping.
    pub is_shared: bool,
}

impl Fetch {
    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.range.len()).fold(0, u64::saturating_add)
    }

    /// Size of the local file in bytes.
    pub fn file_bytes(&self) -> u64 {
        match self.layout {
            ByteLayout::Sparse => self.source_bytes,
            ByteLayout::Compact => self.bytes(),
        }
    }

    /// Each piece with its place in the local file.
    pub fn placed(&self) -> impl Iterator<Item = (Piece, u64)> + '_ {
        let mut next = 0u64;
        self.pieces.iter().map(move |piece| {
            let at = match self.layout {
                ByteLayout::Sparse => piece.range.start,
                ByteLayout::Compact => next,
            };
            next = next.saturating_add(piece.range.len());
            (*piece, at)
        })
    }
}

/// What the plan keeps of a byte index. `None`: every task reads the whole source. `timeline` is that of a video that is
/// encoded; copies read everything.
pub(crate) fn reads(info: &SourceInfo, timeline: Option<&Timeline>) -> Option<Reads> {
    let index = info.byte_index.as_ref()?;
    if info.fragmented || info.bytes < WHOLE_BELOW_BYTES || index.shared.len() > MAX_SHARED {
        return None;
    }
    let segments = match timeline.filter(|t| t.segments.len() > 1) {
        Some(split) => {
            split.segments.iter().map(|s| segment_reads(index, s.end, &s.seek)).collect::<Option<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    let audio = index.audio.iter().map(|a| AudioReads { stream: a.stream, ranges: a.ranges.clone() }).collect();
    Some(Reads { layout: index.layout, source_bytes: info.bytes, shared: index.shared.clone(), segments, audio })
}

/// What a segment that ends in front of the frame at `end` needs when it is sought by `seek`.
fn segment_reads(index: &ByteIndex, end: Option<SourceTicks>, seek: &[SourceTicks]) -> Option<SegmentReads> {
    let runs = &index.runs;
    // Pictures shown before `end` may stand behind the random-access point that follows them.
    let next = end.map_or(runs.len(), |end| runs.partition_point(|run| run.pts < end.get()));
    let mut starts = Vec::with_capacity(seek.len());
    let mut high = runs.get(next).map_or(0, |run| run.lead_end);
    let mut first = next;
    for key in seek {
        let at = runs.binary_search_by_key(&key.get(), |run| run.pts).ok()?;
        first = first.min(at);
        starts.push(runs.get(at..=next.min(runs.len() - 1))?.iter().map(|run| run.start).min()?);
    }
    if seek.is_empty() {
        first = 0;
    }
    high = runs.get(first..next)?.iter().map(|run| run.end).fold(high, u64::max);
    Some(SegmentReads { starts, end: high })
}

/// What video segment `segment` needs. `look_back` is the level that decoding starts from, as toolkits take it.
pub fn video_need(plan: &Plan, segment: u32, look_back: u32) -> Need {
    let found = || {
        let (reads, timeline) = (plan.reads.as_ref()?, plan.timeline.as_ref()?);
        let place = timeline.place(segment)?;
        let (planned, bytes) = (timeline.segments.get(place)?, reads.segments.get(place)?);
        let level = usize::try_from(planned.seek_level(look_back, plan.reads_neighbours())).ok()?;
        if look_back > 0 && level >= bytes.starts.len() {
            // Nothing nearer helped: no more doubts about bytes.
            return None;
        }
        let start = bytes.starts.get(level).copied().unwrap_or(0);
        fetch(reads, &[ByteRange { start, end: bytes.end }])
    };
    found().map_or(Need::Whole, Need::Ranges)
}

/// What the task of a whole track needs.
pub fn audio_need(plan: &Plan, index: u32) -> Need {
    let found = || {
        let reads = plan.reads.as_ref()?;
        let stream = plan.whole_track(index)?.source_stream;
        let own = reads.audio.iter().find(|a| a.stream == stream)?;
        fetch(reads, &own.ranges)
    };
    found().map_or(Need::Whole, Need::Ranges)
}

/// `None` when it is better to fetch everything.
fn fetch(reads: &Reads, own: &[ByteRange]) -> Option<Fetch> {
    let inside = |range: &ByteRange| ByteRange { start: range.start, end: range.end.min(reads.source_bytes) };
    let shared = merge(reads.shared.iter().map(inside).collect(), 0);
    let own = merge(own.iter().map(inside).collect(), 0);
    let rest = own.into_iter().flat_map(|range| without(range, &shared));
    let mut pieces: Vec<Piece> = rest.map(|range| Piece { range, is_shared: false }).collect();
    pieces.extend(shared.iter().map(|range| Piece { range: *range, is_shared: true }));
    pieces.sort_unstable_by_key(|piece| piece.range.start);
    let fetch = Fetch { source_bytes: reads.source_bytes, layout: reads.layout, pieces };
    let is_most = u128::from(fetch.bytes()) * 100 >= u128::from(reads.source_bytes) * WHOLE_FROM_PERCENT;
    (!is_most && !fetch.pieces.is_empty() && fetch.pieces.len() <= MAX_REQUESTS).then_some(fetch)
}

#[cfg(test)]
mod tests;
