//! Decides how the frame list of the video track is found: from the container alone, or by decoding it once; and
//! whether seeking can be trusted.

use super::bytes::{byte_index, outline};
use super::candidate::{Candidate, Weight};
use super::ebml::Outline;
use super::fraction::fraction;
use super::job::{Job, step_limits};
use super::margins::margins;
use super::moov::frames_of;
use super::scans::{Shown, Threading};
use super::tracks::is_intra_only;
use super::trial::{self, Entry};
use crate::process::RunError;
use crate::request::Effort;
use splitreel_core::clock::{Jump, TrackClock};
use splitreel_core::side_data::SideData;
use splitreel_core::source::{
    ByteIndex, Container, FieldOrder, FrameIndex, IndexEvidence, Keyframe, Opening, PacketFault, PtsList, Scan,
};
use splitreel_core::stamping::{Counted, Spaced, Stamping, Tail};
use splitreel_core::{MediaTime, Rational};
use std::collections::BTreeMap;

/// Length of the busiest part of a source, by which bit rates are chosen.
const PEAK_SECONDS: i64 = 2;

/// The outcome.
#[derive(Default)]
pub(crate) struct Indexed {
    /// `None`: no frame can be decoded.
    pub(crate) frames: Option<FrameIndex>,
    /// By the header, or by the flags of decoded frames.
    pub(crate) field_order: Option<FieldOrder>,
    /// A look at some of the frames.
    pub(crate) scan: Scan,
    pub(crate) bytes: u64,
    /// Bits per second of the busiest two seconds, 0 when unknown.
    pub(crate) peak_bits_per_second: u64,
    /// Light metadata of the first frame.
    pub(crate) light: SideData,
    /// Frames that the container lists and that do not decode.
    pub(crate) num_lost: u64,
    pub(crate) warnings: Vec<String>,
    /// ffprobe's words about the decode.
    pub(crate) tail: Vec<String>,
    /// Where the packets lie, when segments can be read alone.
    pub(crate) byte_index: Option<ByteIndex>,
    /// The clocks of all tracks, and the jumps of the source's clock.
    pub(crate) clocks: Option<Clocks>,
    /// Nothing is found yet: bytes that are not there would have to be read.
    pub(crate) needs_whole: bool,
}

/// The clocks of all tracks by stream, and the jumps that are closed.
pub(crate) type Clocks = (BTreeMap<u32, TrackClock>, Vec<Jump>);

/// Finds the frames.
pub(crate) async fn index(job: &Job<'_>, effort: &mut Effort) -> Result<Indexed, RunError> {
    let mut indexed = Indexed { field_order: job.stream.field_order(), ..Indexed::default() };
    let outline = outline(job).await;
    let Some(mut candidate) = candidate(job, outline.as_ref(), effort).await? else {
        indexed.needs_whole = true;
        return Ok(indexed);
    };
    add_doubts(job, &mut candidate);
    indexed.bytes = candidate.bytes;
    let window = MediaTime::new(PEAK_SECONDS, Rational::ONE).rescale(job.timebase()).ticks;
    indexed.peak_bits_per_second = candidate.peak_bits_per_second(job.timebase(), window);
    let runs = std::mem::take(&mut candidate.runs).finish(job.file_bytes);
    indexed.byte_index = match runs {
        Some(runs) if can_be_sought(job) => byte_index(job, outline, runs, candidate.evidence),
        _ => None,
    };
    let (mut needs_run_in, mut packet_fault) = (try_keyframes(job, &mut candidate, effort).await?, None);
    let is_full = is_scan_worthwhile(job, &candidate);
    if is_full && job.options.is_partial {
        indexed.needs_whole = true;
        return Ok(indexed);
    }
    indexed.clocks = clocks(job, &candidate, effort).await?;
    let clock = indexed.clocks.as_ref().and_then(|(clocks, _)| clocks.get(&job.stream.index));
    let scanned = decode(job, &candidate, (is_full, clock), effort).await;
    let (shown, tail) = match scanned {
        Ok(found) => found,
        Err(RunError::TimedOut { .. }) if !candidate.pts.is_empty() && candidate.is_timed() => {
            indexed.warnings.push(format!(
                "the video could not be decoded within {} s to list its frames; the container's list is used",
                job.options.scan_wall.as_secs()
            ));
            indexed.frames = from_candidate(job, candidate);
            indexed.clocks = None;
            return Ok(indexed);
        }
        Err(error) => return Err(error),
    };
    indexed.tail = tail;
    if shown.num_frames == 0 {
        // A hole would look the same.
        indexed.needs_whole = job.options.is_partial;
        return Ok(indexed);
    }
    if is_full {
        indexed.num_lost = num_lost(&shown, &candidate);
        needs_run_in = keep_true_keyframes(job, &mut candidate, &shown, effort).await?;
        indexed.warnings.extend(warnings(&shown, &candidate));
        packet_fault = fault_of_packets(&candidate, &shown);
        indexed.field_order = shown.field_order().filter(|_| shown.num_interlaced * 2 > shown.num_frames);
        indexed.frames = if shown.num_untimed > 0 {
            without_times(job, candidate, shown)
        } else if shown.unordered.is_empty() {
            from_decoder(job, candidate, shown)
        } else {
            out_of_order(job, candidate, shown)
        };
    } else {
        indexed.field_order = shown.field_order().or(indexed.field_order);
        indexed
            .warnings
            .extend(candidate.doubts.iter().map(|doubt| format!("the frame list may be inexact: {}", doubt.reason)));
        indexed.frames = from_candidate(job, candidate);
    }
    if let Some(frames) = &mut indexed.frames {
        frames.needs_run_in = needs_run_in;
        frames.packet_fault = packet_fault;
    }
    Ok(indexed)
}

/// Tries the keyframes of a source that is not decoded whole; true when decoding has to start one keyframe earlier. Adds a
/// doubt, which leads to a decode, where it cannot start at them.
async fn try_keyframes(job: &Job<'_>, candidate: &mut Candidate, effort: &mut Effort) -> Result<bool, RunError> {
    let is_listed = !is_scan_worthwhile(job, candidate) && !job.options.is_partial;
    if !is_listed || !has_claimed_keyframes(job, candidate) {
        return Ok(false);
    }
    let entry = trial::entry(job, &candidate.keyframes, &candidate.pts, effort).await?;
    if entry == Entry::Nowhere {
        candidate.doubt(Weight::Strong, "decoding cannot start at its keyframes");
    }
    Ok(entry == Entry::KeyframeBefore)
}

/// Whether seeks depend on what the container calls a keyframe.
fn has_claimed_keyframes(job: &Job<'_>, candidate: &Candidate) -> bool {
    can_be_sought(job)
        && candidate.is_timed()
        && candidate.weight() != Some(Weight::Structural)
        && candidate.keyframes.len() > 1
        && is_predicting(job)
}

/// Whether pictures refer to others.
fn is_predicting(job: &Job<'_>) -> bool {
    let is_intra_profile = job.stream.profile.as_deref().is_some_and(|profile| profile.contains("Intra"));
    !is_intra_only(job.stream.codec()) && !is_intra_profile
}

/// Leaves only those keyframes that decoding can start at; true when it has to start one keyframe earlier.
async fn keep_true_keyframes(
    job: &Job<'_>,
    candidate: &mut Candidate,
    shown: &Shown,
    effort: &mut Effort,
) -> Result<bool, RunError> {
    if !has_claimed_keyframes(job, candidate) {
        return Ok(false);
    }
    let is_among = |list: &[i64], keyframe: &Keyframe| list.binary_search(&keyframe.pts).is_ok();
    let claimed: Vec<Keyframe> =
        candidate.keyframes.iter().filter(|keyframe| is_among(&shown.pts, keyframe)).copied().collect();
    let known: Vec<Keyframe> =
        claimed.iter().filter(|keyframe| is_among(&shown.keyframes, keyframe)).copied().collect();
    // A few that are none are common where streams were cut; gradual refresh has none but the first.
    let entry = match known.len() {
        all if all == claimed.len() => return Ok(false),
        most if most * 2 > claimed.len() => Entry::Nowhere,
        _ => trial::entry(job, &claimed, &shown.pts, effort).await?,
    };
    if entry == Entry::Nowhere {
        candidate.keyframes = known;
    }
    Ok(entry == Entry::KeyframeBefore)
}

/// Decodes all frames, or the first one. A healthy source decodes fast; where anything is amiss the result must be
/// that of workers, who decode frame by frame.
async fn decode(
    job: &Job<'_>,
    candidate: &Candidate,
    (is_full, clock): (bool, Option<&TrackClock>),
    effort: &mut Effort,
) -> Result<(Shown, Vec<String>), RunError> {
    let limits = job.limits(if is_full { job.options.max_frames } else { 1 }, job.options.scan_wall);
    let track = (job.demuxer, job.stream.index);
    if is_full && candidate.weight() <= Some(Weight::Mild) {
        let (shown, output) = job.subject.frames(track, Threading::Fast, limits, clock, job.progress.clone()).await?;
        effort.add(&output);
        if shown.pts == candidate.pts && shown.num_untimed == 0 && output.stderr_tail.is_empty() {
            return Ok((shown, output.stderr_tail));
        }
    }
    let (shown, output) = job.subject.frames(track, Threading::Exact, limits, clock, job.progress.clone()).await?;
    effort.add(&output);
    Ok((shown, output.stderr_tail))
}

/// Looks at the packets of all tracks where the video's own say that the clock may jump.
async fn clocks(job: &Job<'_>, candidate: &Candidate, effort: &mut Effort) -> Result<Option<Clocks>, RunError> {
    let limits = step_limits(job.demuxer, job.timebase(), job.options).filter(|_| candidate.has_broken_clock());
    let Some(limits) = limits else { return Ok(None) };
    let (scan, output) = job.subject.clock(job.demuxer, limits, job.options.scan_wall).await?;
    effort.add(&output);
    Ok(scan.finish(Some(job.stream.index)))
}

/// The container's own list: the `moov` where it has everything, a packet scan otherwise. `None` when there are not
/// all bytes to scan.
async fn candidate(
    job: &Job<'_>,
    outline: Option<&Outline>,
    effort: &mut Effort,
) -> Result<Option<Candidate>, RunError> {
    if let Some(found) = from_moov(job) {
        return Ok(Some(found));
    }
    if job.options.is_partial {
        return Ok(None);
    }
    let limits = job.limits(job.options.max_frames, job.options.scan_wall);
    let margins = margins(job.container, job.timebase(), outline);
    let track = (job.demuxer, job.stream.index);
    let (found, output) = job.subject.packets(track, limits, margins, job.progress.clone()).await?;
    effort.add(&output);
    Ok(Some(found))
}

fn from_moov(job: &Job<'_>) -> Option<Candidate> {
    let boxed = job.boxed.filter(|boxed| job.container == Container::Mov && !boxed.is_fragmented())?;
    let id = job.stream.id.as_deref()?.strip_prefix("0x")?;
    let (movie, track) = boxed.track(u32::from_str_radix(id, 16).ok()?)?;
    if Some(job.timebase()) != Rational::new(1, i64::from(track.timescale)) {
        return None;
    }
    let mut found = frames_of(movie, track, job.file_bytes, job.options.max_frames);
    if job.stream.start_pts.is_some_and(|start| found.pts.first() != Some(&start)) {
        found.doubt(Weight::Strong, "ffmpeg and the moov disagree on the first frame");
    }
    Some(found)
}

fn add_doubts(job: &Job<'_>, candidate: &mut Candidate) {
    let codec = job.stream.codec();
    match job.container {
        Container::Mov => {
            if candidate.evidence == IndexEvidence::PacketScan {
                candidate.doubt(Weight::Mild, "the file is fragmented");
            }
        }
        Container::Matroska => {}
        Container::MpegTs | Container::Avi => candidate.doubt(Weight::Mild, "the container does not list its frames"),
        Container::Other => candidate.doubt(Weight::Strong, "the container does not list its frames"),
    }
    if job.stream.is_interlaced() && !is_intra_only(codec) {
        let weight = if job.container == Container::Mov { Weight::Mild } else { Weight::Strong };
        candidate.doubt(weight, "fields may be coded separately");
    }
    match codec {
        "vp8" => candidate.doubt(Weight::Strong, "packets may hold frames that are not shown"),
        "vp9" | "av1" => candidate.doubt(Weight::Mild, "packets may hold frames that are not shown"),
        "mpeg4" | "msmpeg4v3" if job.container == Container::Avi => {
            candidate.doubt(Weight::Strong, "packets may hold several frames");
        }
        _ => {}
    }
    if job.boxed.is_some_and(|boxed| boxed.layout.missing_bytes > 0) {
        candidate.doubt(Weight::Strong, "the file ends before its last frame");
    }
    if candidate.pts.is_empty() {
        candidate.doubt(Weight::Structural, "the container lists no frames");
    }
    let is_all_keyframes = candidate.pts.len() > 1 && candidate.keyframes.len() == candidate.pts.len();
    if job.options.is_partial && is_all_keyframes && is_predicting(job) {
        // The bytes for a trial are not there.
        candidate.doubt(Weight::Strong, "every frame is called a keyframe");
    }
    let is_reordered = job.stream.has_b_frames > 0 && !candidate.is_reordered && candidate.is_timed();
    if is_reordered && is_predicting(job) {
        candidate.doubt(Weight::Mild, "times are in decode order");
    }
}

fn is_scan_worthwhile(job: &Job<'_>, candidate: &Candidate) -> bool {
    let side = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let area = side(job.stream.width).saturating_mul(side(job.stream.height));
    let pixels = area.saturating_mul(candidate.pts.len() as u64);
    let budget = match candidate.weight() {
        None => job.options.scan_pixels,
        Some(Weight::Mild) => job.options.scan_pixels.saturating_mul(job.options.mild_doubt_factor),
        Some(Weight::Strong | Weight::Structural) => u64::MAX,
    };
    pixels <= budget
}

/// Frames that the container lists and that do not decode.
fn num_lost(shown: &Shown, candidate: &Candidate) -> u64 {
    (candidate.pts.len() as u64).saturating_sub(shown.num_frames)
}

fn fault_of_packets(candidate: &Candidate, shown: &Shown) -> Option<PacketFault> {
    let packets = candidate.pts.len() as u64;
    if !candidate.is_timed() {
        return Some(PacketFault::Untimed);
    }
    (shown.num_frames < packets).then_some(PacketFault::Undecodable { packets, frames: shown.num_frames })
}

fn warnings(shown: &Shown, candidate: &Candidate) -> Vec<String> {
    let mut warnings = Vec::new();
    if shown.num_untimed > 0 {
        warnings.push(format!("{} frames have no time; they are placed by the frame rate", shown.num_untimed));
    } else if permuted(shown).is_some() {
        warnings.push("the frames' times are not in the order of the frames; they are placed by the frame rate".into());
    } else if !shown.unordered.is_empty() {
        warnings.push(format!(
            "{} frames have a time that repeats or runs back; they are placed between their neighbours",
            shown.unordered.len()
        ));
    }
    let lost = num_lost(shown, candidate);
    if lost > 0 {
        warnings.push(format!(
            "{lost} of {} frames cannot be decoded (damaged, or cut off from their keyframe)",
            candidate.pts.len()
        ));
    }
    warnings
}

fn can_be_sought(job: &Job<'_>) -> bool {
    !matches!(job.container, Container::Other)
}

fn from_candidate(job: &Job<'_>, candidate: Candidate) -> Option<FrameIndex> {
    let is_seekable =
        can_be_sought(job) && candidate.weight() != Some(Weight::Structural) && !candidate.keyframes.is_empty();
    let last_duration = last_duration(job, &candidate.pts, candidate.last_duration);
    Some(FrameIndex {
        pts: PtsList::from_sorted(candidate.pts).ok()?,
        last_duration,
        keyframes: candidate.keyframes,
        evidence: candidate.evidence,
        is_seekable,
        needs_run_in: false,
        packet_fault: None,
        stamping: Stamping::Own,
    })
}

fn from_decoder(job: &Job<'_>, candidate: Candidate, shown: Shown) -> Option<FrameIndex> {
    let listed = candidate.keyframes.len();
    let keyframes: Vec<_> =
        candidate.keyframes.iter().filter(|keyframe| shown.pts.binary_search(&keyframe.pts).is_ok()).copied().collect();
    // Frames that no packet announced, or keyframes that are not shown where they should be: timestamps lie.
    let is_announced = shown.pts.iter().all(|pts| candidate.pts.binary_search(pts).is_ok());
    let is_seekable = can_be_sought(job)
        && is_announced
        && candidate.weight() != Some(Weight::Structural)
        && !keyframes.is_empty()
        && keyframes.len() * 2 > listed;
    let same_end = shown.pts.last() == candidate.pts.last();
    let last_duration = last_duration(job, &shown.pts, if same_end { candidate.last_duration } else { 0 });
    Some(FrameIndex {
        pts: PtsList::from_sorted(shown.pts).ok().filter(|list| !list.is_empty())?,
        last_duration,
        keyframes,
        evidence: IndexEvidence::DecodeScan,
        is_seekable,
        needs_run_in: false,
        packet_fault: None,
        stamping: Stamping::Own,
    })
}

/// The frames' own times in increasing order, where they are no more than permuted: a muxer has stored the times in
/// decode order. A decoder makes up its mind about such times as it goes, so that its choice says nothing.
fn permuted(shown: &Shown) -> Option<Vec<Option<i64>>> {
    if shown.unordered.is_empty() || shown.num_departed == 0 || shown.own.contains(&None) {
        return None;
    }
    let mut own = shown.own.clone();
    own.sort_unstable();
    own.is_sorted_by(|a, b| a < b).then_some(own)
}

/// The list of a source in which times repeat or run back: every frame is kept.
fn out_of_order(job: &Job<'_>, candidate: Candidate, mut shown: Shown) -> Option<FrameIndex> {
    if let Some(known) = permuted(&shown) {
        return counted(job, &known);
    }
    let usual = PtsList::from_sorted(shown.pts.iter().copied()).ok()?.nominal_delta();
    let usual = usual.unwrap_or_else(|| last_duration(job, &[], 0));
    let (rule, times) = Spaced::new(&shown.all_times(), usual);
    shown.pts.retain(|pts| times.binary_search(pts).is_ok());
    let is_stable = shown.num_departed == 0;
    let mut index = from_decoder(job, candidate, shown)?;
    index.pts = PtsList::from_sorted(times).ok()?;
    index.last_duration = usual;
    index.is_seekable &= is_stable;
    index.stamping = Stamping::Spaced(rule);
    Some(index)
}

/// The list of a source with frames that have no time. When only the last frames lack one, the others keep theirs;
/// otherwise only a decode from the start identifies the frames, by their number.
fn without_times(job: &Job<'_>, candidate: Candidate, mut shown: Shown) -> Option<FrameIndex> {
    let is_tail = shown.num_trailing == shown.num_untimed && shown.unordered.is_empty();
    let timed = PtsList::from_sorted(shown.pts.iter().copied()).ok()?;
    if let (true, Some(after), Some(step)) = (is_tail, timed.last(), timed.nominal_delta()) {
        let tail = (1..=i64::try_from(shown.num_trailing).ok()?).map(|n| after.saturating_add(step.saturating_mul(n)));
        shown.pts.extend(tail);
        return Some(FrameIndex {
            pts: PtsList::from_sorted(shown.pts).ok()?,
            last_duration: step,
            is_seekable: job.container == Container::Avi && candidate.is_sequential && !shown.keyframes.is_empty(),
            keyframes: shown
                .keyframes
                .into_iter()
                .map(|pts| Keyframe { pts, position: None, opening: Opening::Closed })
                .collect(),
            evidence: IndexEvidence::DecodeScan,
            needs_run_in: false,
            packet_fault: None,
            stamping: Stamping::Tail(Tail { after, step }),
        });
    }
    counted(job, &shown.own)
}

/// The list of frames that a decode from the start identifies by their number, given the times that are known.
fn counted(job: &Job<'_>, known: &[Option<i64>]) -> Option<FrameIndex> {
    let counted = Counted::new(known, &job.ticks_per_frame());
    let pts = PtsList::from_sorted((0u64..).zip(known).map(|(frame, _)| counted.time(frame))).ok()?;
    Some(FrameIndex {
        last_duration: last_duration(job, &[], pts.nominal_delta().unwrap_or(0)),
        pts,
        keyframes: Vec::new(),
        evidence: IndexEvidence::DecodeScan,
        is_seekable: false,
        needs_run_in: false,
        packet_fault: None,
        stamping: Stamping::Counted(counted),
    })
}

/// The container's word for the last frame's duration, unless it is out of all proportion.
fn last_duration(job: &Job<'_>, pts: &[i64], told: i64) -> i64 {
    const LONGEST_RATIO: i64 = 100;
    let nominal = PtsList::from_sorted(pts.iter().copied()).ok().and_then(|list| list.nominal_delta());
    match nominal {
        Some(nominal) if told <= 0 || told / LONGEST_RATIO > nominal => nominal,
        _ if told > 0 => told,
        _ => {
            let rate = job.stream.avg_frame_rate.as_deref().and_then(|text| fraction(text, '/'));
            let frame = rate.filter(|rate| rate.is_positive()).and_then(|rate| Rational::ONE.over(rate));
            frame.map_or(1, |frame| MediaTime::new(1, frame).rescale(job.timebase()).ticks.max(1))
        }
    }
}
