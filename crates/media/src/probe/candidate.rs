//! The frame list according to the container, and the doubts about it. Pure.

use splitreel_core::ranges::{Margins, PacketBytes, RunCollector};
use splitreel_core::source::{IndexEvidence, Keyframe, Opening};
use splitreel_core::{MediaTime, Rational};

/// Weight of a doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Usually harmless: decode everything when that is cheap enough.
    Mild,
    /// The list is probably not what a decoder shows.
    Strong,
    /// Strong, and seeking by timestamps cannot be trusted either.
    Structural,
}

/// A reason to distrust a frame list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) weight: Weight,
    pub(crate) reason: &'static str,
}

/// Doubt about a list in which packets have no presentation time.
const UNTIMED: &str = "packets have no presentation time";
/// Doubts about decode times.
const RUN_BACK: &str = "timestamps run back";
const JUMP: &str = "timestamps jump";

/// Frames as the container lists them.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Presentation times, strictly increasing, ticks of the stream.
    pub(crate) pts: Vec<i64>,
    /// Random-access points, by time.
    pub(crate) keyframes: Vec<Keyframe>,
    /// Duration of the last frame in ticks, 0 when unknown.
    pub(crate) last_duration: i64,
    /// Sum of the packets' sizes in bytes.
    pub(crate) bytes: u64,
    /// Size of each packet with a time, in the order of decoding.
    sizes: Vec<u32>,
    /// Where the list comes from.
    pub(crate) evidence: IndexEvidence,
    /// Some packets are shown before earlier ones.
    pub(crate) is_reordered: bool,
    /// Every packet has a decode time, and these neither run back nor jump.
    pub(crate) is_sequential: bool,
    pub(crate) doubts: Vec<Doubt>,
    /// Where the packets lie.
    pub(crate) runs: RunCollector,
}

impl Candidate {
    pub(crate) fn doubt(&mut self, weight: Weight, reason: &'static str) {
        if !self.doubts.iter().any(|doubt| doubt.reason == reason) {
            self.doubts.push(Doubt { weight, reason });
        }
    }

    /// The heaviest doubt.
    pub(crate) fn weight(&self) -> Option<Weight> {
        self.doubts.iter().map(|doubt| doubt.weight).max()
    }

    /// Whether decode times run back or jump.
    pub(crate) fn has_broken_clock(&self) -> bool {
        self.doubts.iter().any(|doubt| matches!(doubt.reason, RUN_BACK | JUMP))
    }

    /// Bits per second of the busiest `window` ticks of `timebase`; 0 where times repeat or there are none. The packet that
    /// is decoded n-th counts at the n-th time.
    pub(crate) fn peak_bits_per_second(&self, timebase: Rational, window: i64) -> u64 {
        let (Some(first), Some(last)) = (self.pts.first(), self.pts.last()) else { return 0 };
        if self.sizes.len() != self.pts.len() {
            return 0;
        }
        let (mut held, mut most) = (0u64, 0u64);
        let mut oldest = self.pts.iter().zip(&self.sizes).peekable();
        for (pts, size) in self.pts.iter().zip(&self.sizes) {
            held = held.saturating_add(u64::from(*size));
            while let Some((_, gone)) = oldest.next_if(|(old, _)| pts.saturating_sub(**old) >= window) {
                held = held.saturating_sub(u64::from(*gone));
            }
            most = most.max(held);
        }
        let length = last.saturating_sub(*first).saturating_add(self.last_duration).clamp(1, window.max(1));
        let seconds = MediaTime::new(length, timebase).seconds();
        if seconds > 0.0 { (most as f64 * 8.0 / seconds) as u64 } else { 0 }
    }

    /// Whether every packet has a presentation time: without that, only a decode lists the frames.
    pub(crate) fn is_timed(&self) -> bool {
        self.doubts.iter().all(|doubt| doubt.reason != UNTIMED)
    }
}

/// One packet or sample in decode order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) pts: Option<i64>,
    pub(crate) dts: Option<i64>,
    pub(crate) duration: i64,
    pub(crate) size: u64,
    pub(crate) position: Option<u64>,
    /// Byte behind the last one, where the container gives it exactly.
    pub(crate) end: Option<u64>,
    pub(crate) is_key: bool,
    /// To be decoded but not shown.
    pub(crate) is_discarded: bool,
    /// The demuxer says that it is damaged.
    pub(crate) is_corrupt: bool,
}

/// Collects packets in decode order into a [`Candidate`]. Holds 12 bytes per frame and 48 per keyframe.
pub(crate) struct Collector {
    pts: Vec<i64>,
    keyframes: Vec<Keyframe>,
    last: Option<(i64, i64)>,
    /// Latest time in front of the last keyframe.
    latest_before: Option<i64>,
    last_dts: Option<i64>,
    bytes: u64,
    num_packets: u64,
    max_frames: usize,
    max_gap: i64,
    out: Candidate,
}

impl Collector {
    /// `max_gap` is the distance of decode times, in ticks, beyond which the timeline has a break.
    pub(crate) fn new(evidence: IndexEvidence, max_frames: usize, max_gap: i64, margins: Margins) -> Self {
        let out = Candidate {
            pts: Vec::new(),
            keyframes: Vec::new(),
            last_duration: 0,
            bytes: 0,
            sizes: Vec::new(),
            evidence,
            is_reordered: false,
            is_sequential: true,
            doubts: Vec::new(),
            runs: RunCollector::new(margins),
        };
        Collector {
            pts: Vec::new(),
            keyframes: Vec::new(),
            last: None,
            latest_before: None,
            last_dts: None,
            bytes: 0,
            num_packets: 0,
            max_frames,
            max_gap: max_gap.max(1),
            out,
        }
    }

    pub(crate) fn num_packets(&self) -> u64 {
        self.num_packets
    }

    /// Takes a packet that is decoded, but not in the presentation.
    pub(crate) fn push_hidden(&mut self, position: Option<u64>, end: Option<u64>) {
        self.out.runs.push(PacketBytes { pts: None, dts: None, is_key: false, position, end });
    }

    /// Takes the next packet; false when there are more than are supported.
    pub(crate) fn push(&mut self, packet: Packet) -> bool {
        if self.pts.len() >= self.max_frames {
            self.out.doubt(Weight::Structural, "more frames than are supported");
            return false;
        }
        self.num_packets += 1;
        self.bytes = self.bytes.saturating_add(packet.size);
        if self.num_packets == 1 && !packet.is_key {
            self.out.doubt(Weight::Strong, "the first packet is no keyframe");
        }
        if packet.is_corrupt {
            self.out.doubt(Weight::Strong, "packets are damaged");
        }
        self.check_decode_time(packet.dts);
        let pts = packet.pts.filter(|_| !packet.is_discarded);
        let Packet { dts, is_key, position, end, .. } = packet;
        self.out.runs.push(PacketBytes { pts, dts, is_key, position, end });
        if packet.is_discarded {
            self.out.doubt(Weight::Strong, "packets are marked as not to be shown");
            return true;
        }
        let Some(pts) = packet.pts else {
            self.out.doubt(Weight::Structural, UNTIMED);
            return true;
        };
        if packet.is_key {
            self.latest_before = self.last.map(|(latest, _)| latest);
            self.keyframes.push(Keyframe { pts, position: packet.position, opening: Opening::Closed });
        }
        self.place(pts);
        if self.last.is_none_or(|(last, _)| pts > last) {
            self.last = Some((pts, packet.duration));
        } else {
            self.out.is_reordered = true;
        }
        self.pts.push(pts);
        self.out.sizes.push(u32::try_from(packet.size).unwrap_or(u32::MAX));
        true
    }

    /// Notes how a frame lies to its keyframe and to the frames in front of that.
    fn place(&mut self, pts: i64) {
        let Some(keyframe) = self.keyframes.last_mut() else { return };
        if self.latest_before.is_some_and(|latest| pts <= latest) {
            keyframe.opening = Opening::Mixed;
        } else if keyframe.first_shown().is_some_and(|first| pts < first) {
            keyframe.opening = Opening::Leading { ticks: keyframe.pts.saturating_sub(pts) };
        }
    }

    fn check_decode_time(&mut self, dts: Option<i64>) {
        let Some(dts) = dts else {
            self.out.is_sequential = false;
            return;
        };
        let step = self.last_dts.map_or(Some(0), |before| dts.checked_sub(before));
        let fault = match step {
            Some(step) if step < 0 => Some(RUN_BACK),
            Some(step) if step <= self.max_gap => None,
            _ => Some(JUMP),
        };
        if let Some(fault) = fault {
            self.out.is_sequential = false;
            self.out.doubt(Weight::Structural, fault);
        }
        self.last_dts = Some(dts);
    }

    pub(crate) fn finish(mut self) -> Candidate {
        self.pts.sort_unstable();
        let all = self.pts.len();
        self.pts.dedup();
        if self.pts.len() != all {
            self.out.doubt(Weight::Strong, "several packets have the same presentation time");
        }
        self.keyframes.sort_unstable_by_key(|keyframe| keyframe.pts);
        self.keyframes.dedup_by_key(|keyframe| keyframe.pts);
        if self.keyframes.is_empty() && all > 0 {
            self.out.doubt(Weight::Structural, "no keyframe is marked");
        }
        Candidate {
            pts: self.pts,
            keyframes: self.keyframes,
            last_duration: self.last.map_or(0, |(_, duration)| duration.max(0)),
            bytes: self.bytes,
            ..self.out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARGINS: Margins = Margins { head_packets: 1, run_in: 0, lead_packets: 1 };

    fn packet(pts: i64, dts: i64, is_key: bool) -> Packet {
        Packet { pts: Some(pts), dts: Some(dts), duration: 1, size: 10, is_key, ..Packet::default() }
    }

    fn collect(packets: &[Packet]) -> Candidate {
        let mut collector = Collector::new(IndexEvidence::PacketScan, 1000, 100, MARGINS);
        for packet in packets {
            assert!(collector.push(*packet));
        }
        collector.finish()
    }

    #[test]
    fn a_healthy_list_has_no_doubts() {
        let found = collect(&[packet(0, -2, true), packet(3, -1, false), packet(1, 0, false), packet(2, 1, false)]);
        assert_eq!((found.pts, found.doubts, found.bytes), (vec![0, 1, 2, 3], vec![], 40));
        assert_eq!(found.keyframes.len(), 1);
        assert_eq!(found.last_duration, 1);
    }

    #[test]
    fn leading_pictures_belong_to_the_keyframe_that_they_are_decoded_behind() {
        let openings = |list: &[(i64, bool)]| {
            let packets: Vec<Packet> = (0..).zip(list).map(|(dts, (pts, is_key))| packet(*pts, dts, *is_key)).collect();
            collect(&packets).keyframes.iter().map(|keyframe| keyframe.opening).collect::<Vec<_>>()
        };
        let closed = [(0, true), (2, false), (1, false), (3, true), (5, false), (4, false)];
        assert_eq!(openings(&closed), [Opening::Closed, Opening::Closed]);
        let open = [(0, true), (1, false), (4, true), (3, false), (2, false), (5, false)];
        assert_eq!(openings(&open), [Opening::Closed, Opening::Leading { ticks: 2 }]);
        let mixed = [(0, true), (3, false), (4, true), (2, false), (5, false), (6, true)];
        assert_eq!(openings(&mixed), [Opening::Closed, Opening::Mixed, Opening::Closed]);
    }

    #[test]
    fn doubts_are_named() {
        let weight = |packets: &[Packet]| collect(packets).weight();
        assert_eq!(weight(&[packet(0, 0, false), packet(1, 1, true)]), Some(Weight::Strong));
        assert_eq!(weight(&[packet(0, 0, true), packet(0, 1, false)]), Some(Weight::Strong));
        assert_eq!(weight(&[packet(0, 0, true), packet(1, 500, false)]), Some(Weight::Structural));
        assert_eq!(weight(&[packet(0, 5, true), packet(1, 4, false)]), Some(Weight::Structural));
        assert_eq!(
            weight(&[packet(0, 0, true), Packet { pts: None, ..packet(0, 1, false) }]),
            Some(Weight::Structural)
        );
        assert_eq!(
            weight(&[packet(0, 0, true), Packet { is_discarded: true, ..packet(1, 1, false) }]),
            Some(Weight::Strong)
        );
    }

    #[test]
    fn the_busiest_seconds_give_the_peak() {
        let packets = |sizes: &[u64]| {
            let sized = |(at, size): (i64, &u64)| Packet { size: *size, ..packet(at, at, at == 0) };
            collect(&(0..).zip(sizes).map(sized).collect::<Vec<_>>())
        };
        let second = Rational::ONE;
        assert_eq!(packets(&[100, 1, 1, 50, 60, 1]).peak_bits_per_second(second, 2), 110 * 4);
        assert_eq!(packets(&[100, 1, 1, 50, 60, 1]).peak_bits_per_second(second, 1), 100 * 8);
        assert_eq!(packets(&[10]).peak_bits_per_second(second, 2), 80);
        assert_eq!(packets(&[]).peak_bits_per_second(second, 2), 0);
    }

    #[test]
    fn the_number_of_frames_is_bounded() {
        let mut collector = Collector::new(IndexEvidence::PacketScan, 2, 10, MARGINS);
        assert!(collector.push(packet(0, 0, true)) && collector.push(packet(1, 1, false)));
        assert!(!collector.push(packet(2, 2, false)));
        assert_eq!(collector.finish().pts.len(), 2);
    }

    proptest! {
        #[test]
        fn any_packets_give_a_strictly_increasing_list(
            list in prop::collection::vec((any::<Option<i64>>(), any::<Option<i64>>(), any::<bool>()), 0..50),
        ) {
            let packets: Vec<Packet> =
                list.iter().map(|(pts, dts, is_key)| Packet { pts: *pts, dts: *dts, is_key: *is_key, ..Packet::default() }).collect();
            let found = collect(&packets);
            prop_assert!(found.pts.is_sorted_by(|a, b| a < b));
            prop_assert!(found.keyframes.is_sorted_by(|a, b| a.pts < b.pts));
        }
    }
}
